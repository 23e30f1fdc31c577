//! What the numbers were measured on.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;
use crate::target;

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64, Failure> {
    let find = |file: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    // smaps_rollup counts page by page; VmRSS may lag behind by some pages per thread.
    find("smaps_rollup", "Rss:")
        .or_else(|| find("status", "VmRSS:"))
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| Failure::new("the memory of the process cannot be read on this system"))
}

/// The machine and the versions, one line of Markdown each.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mosquitto = target::mosquitto().map_or_else(
        || "**not installed: nothing below is compared with it**".to_owned(),
        |program| {
            let help = first_line(Command::new(program).arg("-h"));
            help.strip_prefix("mosquitto version ").unwrap_or(&help).to_owned()
        },
    );
    let rumqttd = if cfg!(feature = "rumqttd") { "0.20" } else { "left out (feature `rumqttd`)" };
    format!(
        "- Machine: {cores} cores, {}, {} of memory, kernel {}, {}\n\
         - Date: {}; load average before the first scenario: {}\n\
         - Versions: rantai-broker {} ({}), mosquitto {mosquitto}, rumqttd {rumqttd}, {}\n",
        cpu(),
        memory(),
        kernel.trim(),
        std::env::consts::ARCH,
        today(),
        load(),
        env!("CARGO_PKG_VERSION"),
        commit(),
        first_line(Command::new("rustc").arg("-V")),
    )
}

/// The load average of the last minute: other people's work, while nothing of ours runs yet.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("CPU model unknown", |(_, model)| model).to_owned()
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

/// Today in UTC, from the days since 1970 (Howard Hinnant's `civil_from_days`).
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
