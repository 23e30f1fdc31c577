//! Measures the transfer of 64 MiB through broker and node, each as a separate process, compared with the same blocks
//! fetched through a TCP relay with two hops, and writes docs/performance-files.md.
//!
//! `cargo bench -p rantai-cli --bench files` is the whole run; `-- --quick` a short one that writes nothing.

#[path = "../calls/processes.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod processes;
#[path = "../calls/relay.rs"]
mod relay;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use processes::{Process, memory};
use rantai_client::Client;
use rantai_client::files::Files;
use rantai_load::machine;
use rantai_load::spread::{Spread, median};
use relay::BLOCK;

const SIZE: usize = 64 << 20;
/// Number of blocks requested at a time, on both sides.
const WINDOW: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, role, address] = &arguments[..]
        && mark == relay::MARK
    {
        return relay::run(role, address);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    match measure(if quick { 3 } else { 15 }) {
        Ok(page) => {
            println!("{page}");
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance-files.md");
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

fn measure(rounds: usize) -> io::Result<String> {
    let directory = tempfile::tempdir()?;
    let shared = directory.path().join("shared");
    std::fs::create_dir(&shared)?;
    let bytes: Vec<u8> =
        (0..SIZE).map(|index| (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u8).collect();
    std::fs::write(shared.join("book"), &bytes)?;
    let config = directory.path().join("nodes.toml");
    std::fs::write(&config, "[[files]]\nname = \"books\"\nfolder = \"shared\"\nquota_bytes = 1000000000\n")?;
    let (broker, url) = Process::broker()?;
    let _node = Process::node(&url, &config, &["books"])?;
    let (_relay, address) = Process::relay("blocks")?;
    let mut relay = TcpStream::connect(address)?;
    relay.set_nodelay(true)?;

    let idle = broker.memory("RssAnon")?;
    let peak = Peak::watch(broker.id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut got, mut sent, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        relayed.push(rate(|| through_relay(&mut relay, &directory.path().join("relayed")))?);
        got.push(rate(|| runtime.block_on(fetch(&url, &directory.path().join("got"))))?);
        sent.push(rate(|| runtime.block_on(send(&url, &shared.join("book"))))?);
    }
    let grown = peak.end().saturating_sub(idle);
    let same = std::fs::read(directory.path().join("got"))? == bytes;
    if !same {
        return Err(io::Error::other("what arrived is not what was sent"));
    }
    Ok(page(&got, &sent, &relayed, grown))
}

/// Returns the rate of a transfer, in MiB per second.
fn rate(transfer: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let began = Instant::now();
    transfer()?;
    Ok((SIZE >> 20) as f64 / began.elapsed().as_secs_f64())
}

async fn fetch(url: &str, target: &Path) -> io::Result<()> {
    let client = Client::connect(url).await.map_err(io::Error::other)?;
    let done = Files::new(&client, "books").get("book", target, &mut |_, _| {}).await;
    done.map_err(io::Error::other)?;
    client.close().await;
    Ok(())
}

async fn send(url: &str, source: &Path) -> io::Result<()> {
    let client = Client::connect(url).await.map_err(io::Error::other)?;
    let done = Files::new(&client, "books").put(source, "sent", &mut |_, _| {}).await;
    done.map_err(io::Error::other)?;
    client.close().await;
    Ok(())
}

/// Fetches the same blocks with the same window, and also writes them to a file and syncs it.
fn through_relay(stream: &mut TcpStream, target: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(target)?;
    let (mut asked, mut there) = (0, 0);
    let mut block = vec![0; BLOCK];
    while there < SIZE {
        while asked < SIZE && asked < there + WINDOW * BLOCK {
            stream.write_all(&[0; relay::QUESTION])?;
            asked += BLOCK;
        }
        stream.read_exact(&mut block)?;
        file.write_all(&block)?;
        there += BLOCK;
    }
    file.sync_all()
}

/// Peak memory of a process.
struct Peak {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let (most, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (most.clone(), ended.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(memory(pid, "RssAnon").unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { most, ended }
    }

    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed)
    }
}

fn page(got: &[f64], sent: &[f64], relayed: &[f64], grown: u64) -> String {
    let ratio = |rates: &[f64]| median(rates.iter().zip(relayed).map(|(ours, theirs)| ours / theirs));
    let met = |right: bool| if right { "met" } else { "missed" };
    let row = |name: &str, rates: &[f64]| {
        let Spread { median: middle, low, high } = Spread::of(rates).expect("at least one round");
        let ratio = ratio(rates);
        let aim =
            if name == "fetched" { format!("at least 0.6: {}", met(ratio >= 0.6)) } else { "-".to_owned() };
        format!("| {name} | {middle:.0} ({low:.0} to {high:.0}) | {ratio:.2} | {aim} |\n")
    };
    format!(
        "# Files, measured\n\nWritten by `cargo bench -p rantai-cli --bench files`. A file of 64 MiB in blocks of 64 KiB, eight at \
         a time, through broker and\nnode (each a process of its own) to this host's disk, its digest checked and the disk synced; \
         beside it the same blocks\npulled through a relay between two plain TCP connections, written and synced too, without a \
         digest. Medians of\ninterleaved rounds.\n\n{}\n\n| | MiB/s (least to most) | of the relay | aim |\n|---|---|---|---|\n{}{}{}\n\
         The broker's memory grew by {:.1} MiB at most. Aim: under 32 MiB: {}.\n",
        machine::describe(),
        row("fetched", got),
        row("sent", sent),
        row("relay", relayed),
        grown as f64 / 1024.0,
        met(grown < 32 << 10),
    )
}
