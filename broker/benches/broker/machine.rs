//! Description of the machine.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rantai_load::failure::Failure;
use rantai_load::machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::target;

/// Returns the resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64, Failure> {
    // smaps_rollup counts page by page; VmRSS may be inaccurate by some pages per thread.
    let rollup = || {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Rss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    rollup()
        .or_else(|| machine::status_kib(pid, "VmRSS"))
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| Failure::new("the memory of the process cannot be read on this system"))
}

/// Raises the limit of descriptors to `descriptors`, or as far as possible. Children inherit the limit. Measurements
/// that need more report their own error.
pub(crate) fn raise_descriptor_limit(descriptors: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < descriptors) {
        let current = limit.maximum.map_or(descriptors, |hard| hard.min(descriptors));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}

/// Returns the machine and the versions as a Markdown list.
pub(crate) fn describe() -> String {
    let mosquitto = target::mosquitto().map_or_else(
        || "**not installed: nothing below is compared with it**".to_owned(),
        |program| {
            let help = first_line(Command::new(program).arg("-h"));
            help.strip_prefix("mosquitto version ").unwrap_or(&help).to_owned()
        },
    );
    let rumqttd = if cfg!(feature = "rumqttd") { "0.20" } else { "left out (feature `rumqttd`)" };
    format!(
        "- Machine: {} cores, {}, {} of memory, kernel {}, {}\n\
         - Date: {}; load average before the first scenario: {}\n\
         - Versions: rantai-broker {} ({}), mosquitto {mosquitto}, rumqttd {rumqttd}, {}\n",
        machine::cores(),
        machine::processor().as_deref().unwrap_or("CPU model unknown"),
        memory(),
        machine::kernel(),
        std::env::consts::ARCH,
        today(),
        machine::load_average(),
        env!("CARGO_PKG_VERSION"),
        commit(),
        first_line(Command::new("rustc").arg("-V")),
    )
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total.map_or_else(|| "unknown".to_owned(), |kibibytes| format!("{} GiB", (kibibytes + (1 << 19)) >> 20))
}

fn commit() -> String {
    let short = first_line(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    if short.is_empty() { "no commit known".to_owned() } else { format!("commit {short}") }
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}

/// Returns today's date in UTC, from the days since 1970 (Howard Hinnant's `civil_from_days`).
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let shifted = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
