//! Measures how long it takes to give a hundred nodes a disk cloned from a sparse image of 1 GiB, and what each takes
//! of the storage, and writes docs/performance-imaging.md.
//!
//! `cargo bench -p rantai-cli --bench imaging` is the whole run; `-- --quick` a short one that writes nothing.

#[path = "../calls/processes.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod processes;
#[path = "../calls/relay.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod relay;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use processes::Process;
use rantai_client::Client;
use rantai_imaging::ImagingProxy;
use rantai_imaging::reply::Reply;
use rantai_load::machine;

/// Size of the image, and amount and distribution of its data.
const SIZE: u64 = 1 << 30;
const PIECES: u64 = 64;
const PIECE: usize = 256 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run this with cargo bench");
        return ExitCode::SUCCESS;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    match measure(if quick { 10 } else { 100 }) {
        Ok(page) => {
            println!("{page}");
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance-imaging.md");
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

/// Measured times of one kind of request, in milliseconds.
struct Times(Vec<f64>);

impl Times {
    fn row(&self, what: &str) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        format!("| {what} | {:.1} | {:.1} | {:.1} |\n", at(50), at(90), at(100))
    }
}

fn measure(nodes: usize) -> io::Result<String> {
    let directory = tempfile::tempdir()?;
    let folder = directory.path().join("imaging");
    std::fs::create_dir_all(folder.join("images"))?;
    image(&folder.join("images/hadoopMaster.img"))?;
    let config = directory.path().join("imaging.toml");
    let text = include_str!("../../../../config/imaging.toml");
    std::fs::write(&config, text)?;
    let (_broker, url) = Process::broker()?;
    let _node = Process::node(&url, &config, &["example.mainserver"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (taken, given, detached, used) = runtime.block_on(async {
        let client = Client::connect(&url).await.map_err(io::Error::other)?;
        let object = client.object("example.mainserver").deadline(Duration::from_mins(5));
        let server = ImagingProxy::from(object);
        let began = Instant::now();
        let taken = server.create_snapshot("hadoopMaster.img".into(), "HadoopMasterGoldenImage".into()).await;
        right(taken)?;
        let taken = ms(began);
        let (mut given, mut detached) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let began = Instant::now();
            right(server.provision(format!("node-{node}"), None, None).await)?;
            given.push(ms(began));
        }
        let mut used = 0;
        for disk in std::fs::read_dir(folder.join("disks"))? {
            used += disk?.metadata()?.blocks() * 512;
        }
        for node in 0..nodes {
            let began = Instant::now();
            right(server.detach_node(format!("node-{node}")).await)?;
            detached.push(ms(began));
        }
        client.close().await;
        Ok::<_, io::Error>((taken, given, detached, used))
    })?;
    let data = PIECES * PIECE as u64;
    let mut page = format!(
        "# Imaging, measured\n\nWritten by `cargo bench -p rantai-cli --bench imaging`. An image of 1 GiB with {} MiB of data in {PIECES} \
         pieces all over it\nis kept as a snapshot, {nodes} nodes get a disk of it one after the other, and give it back. \
         Client, broker and server are processes\nof their own; every disk is synced before it is handed out, as a file.\n\n{}\n\n\
         | | median ms | 90 % | most |\n|---|---|---|---|\n",
        data >> 20,
        machine::describe(),
    );
    page += &Times(given).row("provision");
    page += &Times(detached).row("detach_node");
    let each = used / nodes as u64;
    let how = if each < data / 2 {
        "Reflinks: blocks are shared."
    } else {
        "Sparse copies: this file system has no reflinks."
    };
    let mib = each as f64 / f64::from(1 << 20);
    let _ = writeln!(
        page,
        "\ncreate_snapshot, with the digest of the whole: {taken:.0} ms. Each disk takes {mib:.1} MiB of the storage.\n{how}"
    );
    Ok(page)
}

fn image(path: &Path) -> io::Result<()> {
    let mut image = File::create(path)?;
    let piece: Vec<u8> = (0..PIECE).map(|n| (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u8).collect();
    for index in 0..PIECES {
        image.seek(SeekFrom::Start(index * (SIZE / PIECES)))?;
        image.write_all(&piece)?;
    }
    image.set_len(SIZE)?;
    image.sync_all()
}

fn right(reply: Result<Reply, rantai_client::CallError>) -> io::Result<()> {
    let reply = reply.map_err(io::Error::other)?;
    if reply.status_code == 200 { Ok(()) } else { Err(io::Error::other(format!("{reply:?}"))) }
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}
