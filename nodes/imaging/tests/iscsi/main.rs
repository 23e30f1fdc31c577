//! The driver `tgt` with independent initiators. Requires root, and tgt, libiscsi-bin, qemu-utils and qemu-block-extra;
//! fails if one is missing.

mod initiator;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rantai_imaging::targets::{Access, Handed, Target, TargetError, Tgt, tgt::Settings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use initiator::{Initiator, PATIENCE, connected, listens, until};

const MIB: usize = 1 << 20;

/// Environment variable that tells the test `child` what to serve.
const CHILD: &str = "RANTAI_ISCSI_CHILD";

/// Driver, and a folder for disks.
struct Bench {
    // Dropped first, because it writes into the folder.
    tgt: Option<Tgt>,
    settings: Settings,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::without_tgt();
        bench.start().expect("tgt starts");
        bench
    }

    fn without_tgt() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { tgt: None, settings: settings(folder.path(), portal()), folder }
    }

    fn start(&mut self) -> Result<(), TargetError> {
        self.tgt = Some(Tgt::start(self.settings.clone())?);
        Ok(())
    }

    fn tgt(&self) -> &Tgt {
        self.tgt.as_ref().expect("it has been started")
    }

    /// Creates a disk that is filled with one byte.
    fn disk(&self, name: &str, size: usize, fill: u8) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, vec![fill; size]).expect("a disk");
        path
    }

    /// Exports a disk of one MiB that is filled with one byte.
    fn export(&self, node: &str, fill: u8) -> (Handed, Initiator) {
        let disk = self.disk(node, MIB, fill);
        let handed = self.tgt().export(node, &disk, &access(node)).expect("it is handed out");
        let initiator = Initiator::new(&handed, &access(node));
        (handed, initiator)
    }

    fn handed_out(&self) -> Vec<String> {
        let mut nodes = self.tgt().handed_out().expect("it can be told");
        nodes.sort();
        nodes
    }

    /// Returns the process that the driver has recorded.
    fn tgtd(&self) -> Option<Pid> {
        let line = fs::read_to_string(self.settings.folder.join("tgtd.pid")).ok()?;
        Pid::from_raw(line.split_whitespace().next()?.parse().expect("an id"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.tgtd().expect("it runs"), signal).expect("it is ours");
    }
}

fn settings(folder: &Path, portal: SocketAddr) -> Settings {
    Settings { portal, control: 0, prefix: "iqn.2026-01.test".to_owned(), folder: folder.join("tgt") }
}

/// Returns an unused address, with a port that tgtd accepts.
fn portal() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 20_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        let portal = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(portal).is_ok() {
            return portal;
        }
    }
}

fn access(node: &str) -> Access {
    Access {
        initiator: format!("iqn.2026-01.test.initiator:{node}"),
        user: format!("user-{node}"),
        secret: format!("{:0>16}", node.replace('-', "x")),
    }
}

#[test]
fn a_whole_disk_is_read_and_written() {
    let bench = Bench::new();
    let disk = bench.folder.path().join("disk");
    let mut random = fastrand::Rng::with_seed(7);
    let mut content: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64 * MIB).collect();
    fs::write(&disk, &content).expect("a disk");
    let handed = bench.tgt().export("n", &disk, &access("n")).expect("it is handed out");
    assert_eq!(handed.target.as_deref(), Some("iqn.2026-01.test:n"));
    assert_eq!((handed.lun, handed.portal.as_deref()), (Some(1), Some(&*bench.settings.portal.to_string())));
    assert_eq!(bench.handed_out(), ["n"]);

    let initiator = Initiator::new(&handed, &access("n"));
    let list = initiator.list();
    let disks: Vec<&str> = list.lines().filter(|line| line.contains("DIRECT_ACCESS")).collect();
    assert_eq!(disks.len(), 1, "{list}");
    assert!(disks[0].starts_with("Lun:1 "), "{list}");
    assert!(initiator.capacity().contains("Total size:67108864\n"));

    let copy = bench.folder.path().join("copy");
    initiator.read(&copy).expect("it is read");
    assert!(fs::read(&copy).expect("the copy") == content, "the copy is another");

    initiator.with("write -P 165 1048576 8192").expect("it is written");
    content[MIB..MIB + 8192].fill(165);
    assert!(fs::read(&disk).expect("the disk") == content, "the disk has other content than was written");
}

#[test]
fn other_initiators_and_wrong_secrets_are_refused() {
    let bench = Bench::new();
    let (_, own) = bench.export("n", 1);
    let (_, other) = bench.export("other", 2);
    own.log_in().expect("it has what it needs");

    let refused = |initiator: &Initiator| initiator.log_in().expect_err("it is not let in");
    let (user, _) = own.account.clone().expect("an account");
    let wrong = Initiator { account: Some((user, "wrongwrongwrong1".to_owned())), ..own.clone() };
    assert!(refused(&wrong).contains("Authentication failure"));
    assert!(refused(&Initiator { account: None, ..own.clone() }).contains("Authentication failure"));
    assert!(
        refused(&Initiator { account: other.account.clone(), ..own.clone() })
            .contains("Authentication failure")
    );

    let renamed = Initiator { name: "iqn.2026-01.test.initiator:n2".to_owned(), ..own.clone() };
    assert!(refused(&renamed).contains("Target not found"));
    assert!(!renamed.list().contains("Target:"), "it is shown what it does not get");
    let neighbour = Initiator { target: own.target.clone(), ..other };
    assert!(refused(&neighbour).contains("Target not found"));
}

#[test]
fn exports_of_nodes_with_similar_names_are_separate() {
    let bench = Bench::new();
    let (_, five) = bench.export("cisco-5", 5);
    let (_, fifty) = bench.export("cisco-53", 53);
    assert_eq!(bench.handed_out(), ["cisco-5", "cisco-53"]);
    bench.tgt().withdraw("cisco").expect("it is not handed out");
    bench.tgt().withdraw("cisco-5").expect("it is taken back");
    assert_eq!(bench.handed_out(), ["cisco-53"]);
    five.log_in().expect_err("it is taken back");
    fifty.with("read -P 53 0 1048576").expect("it is still handed out");
    let error = bench.tgt().export("a,b", &bench.disk("d", MIB, 0), &access("d")).expect_err("no name");
    assert!(error.0.contains("no name for a target"), "{error}");
}

#[test]
fn concurrent_exports_have_separate_disks() {
    const NODES: u8 = 12;
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for node in 0..NODES {
            let bench = &bench;
            scope.spawn(move || bench.export(&format!("n{node}"), node));
        }
    });
    assert_eq!(bench.handed_out().len(), usize::from(NODES));
    for node in 0..NODES {
        let (_, initiator) = bench.export(&format!("n{node}"), node);
        let said = initiator.with(&format!("read -P {node} 0 4096")).expect("it is read");
        assert!(!said.contains("verification failed"), "{said}");
    }
}

#[test]
fn repeated_export_keeps_sessions() {
    let bench = Bench::new();
    let (_, initiator) = bench.export("n", 7);
    let disk = bench.folder.path().join("n");
    let mut session = initiator.stay();
    assert!(session.reads(7));
    let before = connected(bench.settings.portal);
    assert_eq!(before.len(), 1);

    bench.tgt().export("n", &disk, &access("n")).expect("once more");
    assert!(session.reads(7));
    assert_eq!(connected(bench.settings.portal), before);

    let fresh = Access { secret: "freshfreshfresh1".to_owned(), user: "fresh".to_owned(), ..access("n") };
    let handed = bench.tgt().export("n", &disk, &fresh).expect("with another secret");
    assert!(session.reads(7));
    assert_eq!(connected(bench.settings.portal), before);
    initiator.log_in().expect_err("its secret is no more");
    Initiator::new(&handed, &fresh).log_in().expect("the new one is");

    let error = bench.tgt().export("m", &disk, &fresh).expect_err("the user is another's");
    assert!(error.0.contains("n has it"), "{error}");
}

#[test]
fn exporting_another_disk_replaces_the_old_one() {
    let bench = Bench::new();
    let (_, initiator) = bench.export("n", 7);
    let mut session = initiator.stay();
    assert!(session.reads(7));
    let other = bench.disk("other", 2 * MIB, 9);
    bench.tgt().export("n", &other, &access("n")).expect("with another disk");
    assert_eq!(initiator.with("length"), Ok("2 MiB\n".to_owned()));
    assert!(initiator.stay().reads(9));

    // By the same path, as a new clone has.
    let clone = bench.disk("clone", MIB, 11);
    fs::rename(clone, &other).expect("the same file system");
    bench.tgt().export("n", &other, &access("n")).expect("with a clone");
    assert!(initiator.stay().reads(11));
    assert_eq!(bench.handed_out(), ["n"]);

    let gone = bench.folder.path().join("gone");
    bench.tgt().export("n", &gone, &access("n")).expect_err("there is no such disk");
    assert!(initiator.stay().reads(11), "what was handed out is kept");
}

#[test]
fn withdrawn_disk_is_gone_for_open_sessions() {
    const ROUNDS: u8 = 15;
    let bench = Bench::new();
    let tgtd = bench.tgtd();
    for round in 0..ROUNDS {
        let (_, initiator) = bench.export("n", round);
        let mut users = [initiator.stay(), initiator.keep_busy(None), initiator.keep_busy(Some(round))];
        until("everybody is connected", || connected(bench.settings.portal).len() == users.len());
        assert!(users[0].reads(round));
        bench.tgt().withdraw("n").expect("it is taken back");
        assert_eq!(bench.handed_out(), [""; 0]);
        initiator.log_in().expect_err("it is taken back");
        drop(users);
        bench.tgt().withdraw("n").expect("it is not handed out");
    }
    assert_eq!(bench.tgtd(), tgtd, "tgtd died of it");
}

#[test]
fn killed_tgtd_is_restarted_with_all_exports() {
    let bench = Bench::new();
    let (_, one) = bench.export("one", 1);
    let (_, two) = bench.export("two", 2);
    let (_, gone) = bench.export("gone", 3);
    let mut session = one.stay();
    assert!(session.reads(1));
    fs::remove_file(bench.folder.path().join("gone")).expect("its disk");
    let before = bench.tgtd();
    bench.signal(Signal::KILL);
    until("the disks are back, and nobody asked", || one.log_in().is_ok() && two.log_in().is_ok());
    assert_ne!(bench.tgtd(), before);
    assert!(session.reads(1), "who was logged in goes on");
    assert_eq!(bench.handed_out(), ["one", "two"]);
    gone.log_in().expect_err("its disk is gone");
    bench.tgt().withdraw("gone").expect("it is not handed out");

    bench.signal(Signal::KILL);
    let (_, three) = bench.export("three", 3);
    three.log_in().expect("it is handed out by the next");
    assert_eq!(bench.handed_out(), ["one", "three", "two"]);
    bench.signal(Signal::KILL);
    bench.tgt().withdraw("one").expect("it is taken back");
    until("the others are back", || bench.handed_out() == ["three", "two"]);
    one.log_in().expect_err("it is taken back");
}

#[test]
fn tgtd_that_dies_repeatedly_is_not_restarted() {
    let bench = Bench::new();
    bench.export("n", 1);
    for _ in 0..5 {
        let before = bench.tgtd();
        bench.signal(Signal::KILL);
        until("it is started again", || bench.tgtd() != before && bench.tgt().handed_out().is_ok());
    }
    bench.signal(Signal::KILL);
    until("it is said", || {
        bench.tgt().handed_out().is_err_and(|error| error.0.contains("5 times within 60 s"))
    });
    bench.tgt().withdraw("n").expect("it is not handed out");
}

#[test]
fn a_tgtd_that_hangs_is_an_error_within_bounds() {
    let bench = Bench::new();
    bench.export("n", 1);
    bench.signal(Signal::STOP);
    let started = Instant::now();
    let error = bench.tgt().handed_out().expect_err("nobody answers");
    bench.signal(Signal::CONT);
    assert!(error.0.contains("no answer"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.handed_out(), ["n"]);
}

#[test]
fn tgtd_of_a_killed_process_is_ended_at_the_next_start() {
    let mut bench = Bench::without_tgt();
    let disk = bench.disk("n", MIB, 4);
    let (mut child, mut lines) =
        child(&format!("{}\n{}", bench.settings.portal, bench.folder.path().display()), &[]);
    until("it serves", || lines.next().expect("a line").expect("text").contains("handed out"));
    let initiator = Initiator {
        portal: bench.settings.portal.to_string(),
        target: "iqn.2026-01.test:n".to_owned(),
        name: access("n").initiator,
        account: Some((access("n").user, access("n").secret)),
    };
    initiator.log_in().expect("the child serves it");
    let error = bench.start().expect_err("the folder is the child's");
    assert!(error.0.contains("tgtd.lock"), "{error}");
    let tgtd = bench.tgtd();
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    initiator.log_in().expect("tgtd does not mind the end of its parent");

    bench.start().expect("the old tgtd makes room");
    assert_ne!(bench.tgtd(), tgtd);
    assert_eq!(bench.handed_out(), [""; 0]);
    bench.tgt().export("n", &disk, &access("n")).expect("it is handed out again");
    assert!(initiator.stay().reads(4));
}

#[test]
fn portal_in_use_is_a_clear_error() {
    let mut bench = Bench::without_tgt();
    let mut taken = None;
    // Processes that other tests start may hold a socket of this one for a moment.
    until("it is free", || {
        taken = TcpListener::bind(bench.settings.portal).ok();
        taken.is_some()
    });
    let error = bench.start().expect_err("it is taken");
    assert!(error.0.contains(&format!("cannot listen at the portal {}", bench.settings.portal)), "{error}");
    assert!(!listens(3260));
    drop(taken);
    bench.start().expect("it is free");
}

/// Runs in a network namespace of its own, where it does not disturb others: tgtd cannot bind this portal, although
/// this process could, and continues to listen at every address.
#[test]
fn a_tgtd_that_listens_elsewhere_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let serve = format!("[::ffff:0.0.0.0]:13260\n{}", folder.path().display());
    let (mut child, mut lines) = child(&serve, &["unshare", "--net"]);
    let mut error = String::new();
    until("it gives up", || {
        error = lines.next().expect("a line").expect("text");
        error.contains("not started")
    });
    assert!(error.contains("0.0.0.0:3260") && error.contains("ended"), "{error}");
    assert!(!folder.path().join("tgt/tgtd.pid").exists(), "it still runs");
    child.wait().expect("it ends");
}

#[test]
fn dropping_the_driver_ends_tgtd() {
    let mut bench = Bench::new();
    let (_, initiator) = bench.export("n", 1);
    let mut session = initiator.stay();
    assert!(session.reads(1));
    let tgtd = bench.tgtd().expect("it runs");
    let started = Instant::now();
    bench.tgt = None;
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(bench.tgtd(), None);
    assert!(!Path::new(&format!("/proc/{}", tgtd.as_raw_nonzero())).exists());
    assert!(!listens(bench.settings.portal.port()));
    bench.start().expect("everything is free for the next");
    assert_eq!(bench.handed_out(), [""; 0]);
}

#[test]
fn secrets_are_in_no_arguments() {
    let bench = Bench::new();
    let disk = bench.disk("n", MIB, 1);
    let secret = |round: u32| format!("topsecret{round:07}");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut tools = 0;
            while !done.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").expect("processes").map_while(Result::ok) {
                    let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    assert!(!line.contains("topsecret"), "{line}");
                    tools += usize::from(line.contains("tgtadm"));
                }
            }
            tools
        });
        for round in 0..100 {
            let access = Access { secret: secret(round), ..access("n") };
            bench.tgt().export("n", &disk, &access).expect("it is handed out");
        }
        done.store(true, Ordering::Relaxed);
        assert!(watch.join().expect("no secret is seen") > 0, "whoever watched saw no arguments at all");
    });
}

/// Not a test: run by [`child`].
#[test]
#[ignore = "started by other tests"]
fn serve() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let (portal, folder) = text.split_once('\n').expect("two lines");
    let folder = Path::new(folder);
    let tgt = match Tgt::start(settings(folder, portal.parse().expect("an address"))) {
        Ok(tgt) => tgt,
        Err(error) => {
            println!("not started: {error}");
            return;
        }
    };
    tgt.export("n", &folder.join("n"), &access("n")).expect("it is handed out");
    println!("handed out");
    std::thread::sleep(PATIENCE);
}

/// Starts a process that serves the disk `n` of a folder.
fn child(serve: &str, by: &[&str]) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let own = std::env::current_exe().expect("a path");
    let own = own.to_str().expect("text");
    let words: Vec<&str> =
        by.iter().copied().chain([own, "--ignored", "--exact", "serve", "--nocapture"]).collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env(CHILD, serve)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines)
}
