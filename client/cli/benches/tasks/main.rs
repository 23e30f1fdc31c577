//! Measures how many tasks per second are stored, with broker and ledger as separate processes, compared with the
//! number of commits of this disk, and writes docs/performance-tasks.md.
//!
//! `cargo bench -p rantai-cli --bench tasks` is the whole run; `-- --quick` a short one that writes nothing, and `--
//! --celery PYTHON` adds Celery with Redis, where that interpreter has both and `redis-server` is installed.

#[path = "../calls/processes.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod processes;
#[path = "../calls/relay.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod relay;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use processes::Process;
use rantai_client::Client;
use rantai_load::machine;
use rantai_load::spread::Spread;
use rantai_tasks::ledger::TasksProxy;
use serde_json::json;

const IN_FLIGHT: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let celery = arguments.iter().position(|argument| argument == "--celery");
    let celery = celery.and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
    match measure(if quick { 3 } else { 9 }, celery.as_deref()) {
        Ok(page) => {
            println!("{page}");
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance-tasks.md");
            if !quick && let Err(error) = std::fs::write(file, page) {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: usize, celery: Option<&Path>) -> io::Result<String> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("nodes.toml");
    std::fs::write(&config, "[tasks]\nfile = \"tasks.redb\"\n")?;
    let (_broker, url) = Process::broker()?;
    let _node = Process::node(&url, &config, &["tasks"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut ours, mut disk, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(runtime.block_on(submit(&url))?);
        disk.push(syncs(&directory.path().join("syncs"))?);
        if let Some(python) = celery {
            theirs.push(with_celery(python)?);
        }
    }
    let Spread { median: rate, low: least, high: most } = spread(&ours);
    let mut page = format!(
        "# Tasks, measured\n\nWritten by `cargo bench -p rantai-cli --bench tasks -- --celery PYTHON`. Tasks stored a second, 64 \
         submissions under way, each\nacknowledged when it is on this disk; broker and ledger are processes of their own. Medians of \
         interleaved rounds.\n\n{}\n\n| | a second (least to most) |\n|---|---|\n| tasks stored | {rate:.0} ({least:.0} to {most:.0}) |\n\
         | appends to a file, each synced by itself | {:.0} |\n",
        machine::describe(),
        spread(&disk).median,
    );
    if !theirs.is_empty() {
        let Spread { median: celery, low: least, high: most } = spread(&theirs);
        let _ = write!(
            page,
            "| Celery with Redis, appendfsync always, sent one after the other | {celery:.0} ({least:.0} to {most:.0}) |\n\n\
             {:.1} times Celery.",
            rate / celery
        );
    }
    let met = if rate >= 10_000.0 { "met" } else { "missed" };
    let _ = writeln!(page, "\nAim: at least 10,000 tasks a second: {met}.");
    Ok(page)
}

/// Returns the number of tasks per second that are stored, for an object that nobody serves.
async fn submit(url: &str) -> io::Result<f64> {
    let client = Client::connect(url).await.map_err(io::Error::other)?;
    let (began, mut workers) = (Instant::now(), tokio::task::JoinSet::new());
    let end = began + Duration::from_secs(2);
    for _ in 0..IN_FLIGHT {
        let tasks = TasksProxy::new(&client, "tasks");
        workers.spawn(async move {
            let mut stored = 0_u64;
            while Instant::now() < end {
                let params = Some(json!([4, 120]));
                tasks.submit("nobody".into(), "add".into(), params, None).await.map_err(io::Error::other)?;
                stored += 1;
            }
            Ok::<u64, io::Error>(stored)
        });
    }
    let mut stored = 0;
    while let Some(done) = workers.join_next().await {
        stored += done.map_err(io::Error::other)??;
    }
    let rate = stored as f64 / began.elapsed().as_secs_f64();
    client.close().await;
    Ok(rate)
}

/// Returns the number of syncs per second for one writer that waits for each.
fn syncs(file: &Path) -> io::Result<f64> {
    let mut file = File::create(file)?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 200])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Runs Celery, which prints how many tasks per second it has sent.
fn with_celery(python: &Path) -> io::Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/tasks/celery_add.py");
    let run = Command::new(python).arg(script).output()?;
    let text = String::from_utf8_lossy(&run.stdout);
    text.trim()
        .parse()
        .map_err(|_| io::Error::other(format!("{text} {}", String::from_utf8_lossy(&run.stderr))))
}

fn spread(rates: &[f64]) -> Spread {
    Spread::of(rates).expect("at least one round")
}
