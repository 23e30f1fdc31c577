//! Files that are fetched while another program writes them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_client::files::interface::SharedFilesObject;
use rantai_client::files::{FileError, Files};
use rantai_client::wire::entry::Mode;
use rantai_client::wire::fault::Code;
use rantai_files::{Share, Sharing};
use rantai_nodes::{Node, ServeOptions};

use super::support::{Bus, bus};

const BLOCK: u32 = 4 << 10;
/// Initial size of the log, in bytes.
const SIZE: usize = 1 << 20;

/// Shared log, and a folder to fetch it to.
struct Log {
    shared: tempfile::TempDir,
    mine: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a directory");
        let log = Self { shared: folder(), mine: folder() };
        std::fs::write(log.path(), lines(0, SIZE)).expect("written");
        log
    }

    fn path(&self) -> PathBuf {
        self.shared.path().join("log")
    }

    fn target(&self) -> PathBuf {
        self.mine.path().join("log")
    }

    fn append(&self) {
        append(&self.path());
    }

    /// Returns the present content of the log.
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("there")
    }

    async fn serve(&self, bus: &Bus) -> Node {
        let node = bus.node().await;
        let share = Share::new(self.shared.path(), Sharing { block: BLOCK, ..Sharing::default() });
        let object = Arc::new(SharedFilesObject(share.expect("there")));
        let options = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
        node.serve_with("logs", object, options).await.expect("served");
        node
    }

    /// Checks that the destination folder contains only the fetched file.
    fn is_alone(&self) {
        let there = std::fs::read_dir(self.mine.path()).expect("there").count();
        assert_eq!(there, 1, "no part is left");
    }
}

/// Returns lines of consecutive numbers from `from` on, so that no part repeats.
fn lines(from: usize, bytes: usize) -> Vec<u8> {
    (from..).flat_map(|number| format!("line {number}\n").into_bytes()).take(bytes).collect()
}

fn append(path: &Path) {
    let file = OpenOptions::new().append(true).open(path);
    file.expect("there").write_all(&lines(1_000_000, 5_000)).expect("written");
}

async fn files(bus: &Bus) -> Files {
    Files::new(&bus.client().await, "logs").patience(Duration::from_secs(20))
}

#[tokio::test]
async fn growing_log_is_fetched_as_it_was_at_the_start() {
    let (bus, log) = (bus().await, Log::new());
    // Blocks are read from any of the nodes, although only one has opened the file.
    let _nodes = [log.serve(&bus).await, log.serve(&bus).await];
    let files = files(&bus).await;
    let mut grow = |_, _| log.append();
    let failed = files.get("log", &log.target(), &mut grow).await;
    assert!(matches!(failed, Err(FileError::Call(_))), "without being asked: {failed:?}");
    let size = log.bytes().len();
    let done = files.clone().growing(true).get("log", &log.target(), &mut grow).await.expect("fetched");
    assert_eq!(done.size as usize, size, "what was there when it began");
    assert!(log.bytes().len() > size, "it has grown meanwhile");
    assert!(std::fs::read(log.target()).expect("there") == log.bytes()[..size]);
    log.is_alone();

    let again = files.clone().growing(true).get("log", &log.target(), &mut |_, _| {}).await;
    assert!(matches!(again, Err(FileError::Exists(_))), "it is another one by now: {again:?}");
    let replacing = files.growing(true).replace(true);
    let done = replacing.get("log", &log.target(), &mut |_, _| {}).await.expect("fetched");
    assert!(std::fs::read(log.target()).expect("there") == log.bytes());
    let same = replacing.get("log", &log.target(), &mut |_, _| {}).await.expect("there");
    assert_eq!(same.resumed, done.size, "nothing is fetched");
}

#[tokio::test]
async fn a_log_that_is_truncated_or_replaced_is_fetched_anew() {
    let bus = bus().await;
    for replaced in [false, true] {
        let log = Log::new();
        let node = log.serve(&bus).await;
        let mut is_changed = false;
        let mut change = |there: u64, _| {
            if there > SIZE as u64 / 2 && !is_changed {
                is_changed = true;
                if replaced {
                    std::fs::rename(log.path(), log.shared.path().join("log.1")).expect("renamed");
                }
                std::fs::write(log.path(), lines(7, SIZE / 4)).expect("written");
            }
        };
        let files = files(&bus).await.growing(true);
        files.get("log", &log.target(), &mut change).await.expect("fetched");
        assert!(is_changed);
        assert!(std::fs::read(log.target()).expect("there") == lines(7, SIZE / 4), "{replaced}");
        log.is_alone();
        node.drain(Duration::ZERO).await;
    }
}

/// Regression: the receiver was told to open the file again, although it had done so.
#[tokio::test]
async fn repeatedly_truncated_log_is_an_error() {
    let (bus, log) = (bus().await, Log::new());
    let _node = log.serve(&bus).await;
    let mut left = SIZE;
    let mut change = |there: u64, size: u64| {
        // The last blocks have not been requested yet.
        if there > 0 && left as u64 >= size {
            left = left / 4 * 3;
            std::fs::write(log.path(), lines(left, left)).expect("written");
        }
    };
    let done = files(&bus).await.growing(true).get("log", &log.target(), &mut change).await;
    let Err(FileError::Call(error)) = done else { panic!("{done:?}") };
    assert_eq!(error.code(), Some(Code::MISMATCH));
    let told = error.to_string();
    assert!(told.contains(&format!("was truncated: it has {left} bytes")), "{told}");
    assert_eq!(std::fs::read_dir(log.mine.path()).expect("there").count(), 0, "nothing is left");
}

/// The file has the same size and inode: only the digest detects the change.
#[tokio::test]
async fn overwritten_log_is_fetched_in_one_consistent_state() {
    let (bus, log) = (bus().await, Log::new());
    let _node = log.serve(&bus).await;
    let mut is_changed = false;
    let mut change = |there: u64, _| {
        if there > SIZE as u64 / 2 && !is_changed {
            is_changed = true;
            std::fs::write(log.path(), lines(7, SIZE)).expect("written");
        }
    };
    files(&bus).await.growing(true).get("log", &log.target(), &mut change).await.expect("fetched");
    assert!(is_changed);
    assert!(std::fs::read(log.target()).expect("there") == lines(7, SIZE));
    log.is_alone();

    std::fs::remove_file(log.target()).expect("removed");
    let mut times = 100;
    let mut change = |there: u64, _| {
        if there == SIZE as u64 / 2 {
            times += 1;
            std::fs::write(log.path(), lines(times, SIZE)).expect("written");
        }
    };
    let failed = files(&bus).await.growing(true).get("log", &log.target(), &mut change).await;
    assert_eq!(times, 102, "it is tried twice");
    let is_another = |error: &FileError| match error {
        FileError::Digest { .. } => true,
        FileError::Call(error) => error.code() == Some(Code::MISMATCH),
        _ => false,
    };
    assert!(failed.as_ref().is_err_and(is_another), "{failed:?}");
    assert!(!log.target().exists(), "nothing looks whole");
}

#[tokio::test]
async fn fetch_of_a_prefix_is_resumed_after_its_node_and_receiver_were_lost() {
    let (bus, log) = (bus().await, Log::new());
    let node = log.serve(&bus).await;
    let files = files(&bus).await.growing(true);
    let far = tokio::sync::Notify::new();
    let mut progress = |there: u64, _| {
        if there > SIZE as u64 / 4 {
            far.notify_one();
        }
    };
    let target = log.target();
    tokio::select! {
        biased;
        () = far.notified() => {}
        done = files.get("log", &target, &mut progress) => panic!("not cancelled: {done:?}"),
    }
    // Another receiver of a file that has grown; its node is lost during the transfer.
    log.append();
    let size = log.bytes().len();
    let mut first = Some(node);
    let (lost, mut is_lost) = tokio::sync::oneshot::channel();
    let mut lost = Some(lost);
    let mut progress = |there: u64, _| {
        if there > SIZE as u64 / 2
            && let Some(lost) = lost.take()
        {
            log.append();
            let _ = lost.send(());
        }
    };
    let fetch = files.get("log", &target, &mut progress);
    tokio::pin!(fetch);
    let mut second = None;
    let done = loop {
        tokio::select! {
            biased;
            _ = &mut is_lost, if second.is_none() => {
                drop(first.take());
                second = Some(log.serve(&bus).await);
            }
            done = &mut fetch => break done.expect("fetched"),
        }
    };
    assert!(second.is_some());
    assert!(done.resumed > 0 && done.resumed.is_multiple_of(BLOCK.into()), "{done:?}");
    assert_eq!(done.size as usize, size);
    assert!(std::fs::read(&target).expect("there") == log.bytes()[..size]);
    log.is_alone();
}
