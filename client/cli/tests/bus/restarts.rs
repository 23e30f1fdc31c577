//! Commands that wait continue while broker, ledger or node are restarted.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::cancelling::wait_in_flight;
use super::files::folders;
use super::process::{Bus, PATIENCE, Server, broker, finish, port_of, rantai, root};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Bus whose broker keeps sessions and retained messages.
struct Kept {
    bus: Bus,
    data: TempDir,
}

impl Kept {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let (broker, url) = broker(&["--port", "0", "--data-dir", path(&data)]);
        Self { bus: Bus { broker: Some(broker), url, root: root("rantai") }, data }
    }

    /// Stops the broker by a signal, and starts it again after a while.
    fn restart(&mut self, signal: Signal, away: Duration) {
        let mut old = self.bus.broker.take().expect("it runs");
        if signal == Signal::KILL {
            old.kill();
        } else {
            old.signal(signal);
            assert_eq!(old.exit_code(), 0, "{:?}", old.said());
        }
        thread::sleep(away);
        let (broker, url) = broker(&["--port", &port_of(&self.bus.url), "--data-dir", path(&self.data)]);
        assert_eq!(url, self.bus.url);
        self.bus.broker = Some(broker);
    }

    fn serve(&self, name: &str, more: &[&str]) -> Server {
        let mut node = self.bus.serve(&[&[name], more].concat());
        node.wait_for(&format!("serving {name}"));
        node
    }

    fn spawn(&self, arguments: &[&str]) -> Server {
        Server::spawn(&mut self.bus.command(arguments))
    }
}

fn path(directory: &TempDir) -> &str {
    directory.path().to_str().expect("UTF-8")
}

/// Returns the id of the first task, once there is one.
fn first_task(bus: &Bus) -> String {
    loop {
        if let Some(id) = bus.ok(&["task", "list"]).split_whitespace().next() {
            return id.to_owned();
        }
        thread::sleep(MS(50));
    }
}

/// Checks that the command ends with the result of its task.
fn is_answered(command: &mut Server) {
    assert_eq!(command.exit_code(), 0, "{:?}", command.said());
    assert!(command.said().contains(&"late".to_owned()), "{:?}", command.said());
}

/// Starts a ledger that keeps its name and its tasks.
fn ledger(kept: &Kept, data: &TempDir) -> Server {
    kept.serve("tasks", &["--node", "the-ledger", "--data-dir", path(data)])
}

fn outlasts_a_restart_of_the_broker(signal: Signal, away: Duration) {
    let (mut kept, data) = (Kept::new(), tempfile::tempdir().expect("a directory"));
    let _ledger = ledger(&kept, &data);
    let _echo = kept.serve("echo", &["--node", "the-echo"]);
    let submit = ["task", "submit", "echo.delay", "6000", "late", "--wait", "--timeout", "50s"];
    let mut waiting = kept.spawn(&submit);
    thread::sleep(MS(1_000));
    let id = first_task(&kept.bus);
    let mut asking = kept.spawn(&["task", "result", &id, "--timeout", "50s"]);
    thread::sleep(MS(1_500));
    kept.restart(signal, away);
    for command in [&mut waiting, &mut asking] {
        is_answered(command);
    }
}

#[test]
fn waiting_for_a_task_outlasts_a_broker_that_is_stopped() {
    outlasts_a_restart_of_the_broker(Signal::TERM, MS(1_000));
}

#[test]
fn waiting_for_a_task_outlasts_a_broker_that_is_killed() {
    outlasts_a_restart_of_the_broker(Signal::KILL, MS(300));
}

#[test]
fn waiting_for_a_task_outlasts_a_ledger_that_is_killed_or_stopped() {
    let (kept, data) = (Kept::new(), tempfile::tempdir().expect("a directory"));
    let first = ledger(&kept, &data);
    let _echo = kept.serve("echo", &[]);
    let submit = ["task", "submit", "echo.delay", "20000", "late", "--wait", "--timeout", "50s"];
    let mut waiting = kept.spawn(&submit);
    thread::sleep(MS(1_000));
    first.kill();
    let mut submitting =
        kept.spawn(&["task", "submit", "echo.delay", "1", "late", "--wait", "--timeout", "50s"]);
    thread::sleep(MS(500));
    let id = {
        let mut second = ledger(&kept, &data);
        let id = first_task(&kept.bus);
        second.signal(Signal::TERM);
        assert_eq!(second.exit_code(), 0, "{:?}", second.said());
        id
    };
    let unknown = kept.bus.run(&["task", "result", &id]);
    assert_eq!((unknown.code, unknown.stderr.contains("no object \"tasks\"")), (5, true), "{unknown:?}");
    thread::sleep(MS(2_000));
    assert!(waiting.is_running(), "{:?}", waiting.said());
    let _third = ledger(&kept, &data);
    is_answered(&mut submitting);
    is_answered(&mut waiting);
}

/// Includes new commands, which cannot know that the broker was away.
#[test]
fn calls_find_their_object_again_after_a_restart_of_the_broker() {
    let mut kept = Kept::new();
    let _echo = kept.serve("echo", &[]);
    for (signal, away) in [(Signal::KILL, MS(300)), (Signal::TERM, MS(800))] {
        kept.restart(signal, away);
        for arguments in [&["call", "echo.echo", "there"][..], &["call", "echo.echo", "there", "--wait"]] {
            assert_eq!(kept.bus.ok(arguments), "there\n", "{signal:?} {arguments:?}");
        }
    }
}

#[test]
fn a_stream_goes_on_across_restarts_of_the_broker() {
    let mut kept = Kept::new();
    let folders = folders(65_536, None);
    let lines = (0..10_000).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{number:06} {}", "x".repeat(200));
        text
    });
    fs::write(folders.shared("n"), &lines).expect("written");
    let _node = folders.serve(&kept.bus);
    let mut command = kept.bus.command(&["call", "books.tail", "path=n", "lines=10000"]);
    let mut call = command.spawn().expect("the binary runs");
    let out = call.stdout.take().expect("piped");
    let (begun, beginning) = channel();
    let reading = thread::spawn(move || {
        let mut read = String::new();
        for (number, line) in BufReader::new(out).lines().enumerate() {
            let _ = writeln!(read, "{}", line.expect("UTF-8"));
            let _ = begun.send(());
            if number % 100 == 0 {
                thread::sleep(MS(60));
            }
        }
        read
    });
    beginning.recv_timeout(PATIENCE).expect("the first line");
    for (signal, away) in [(Signal::KILL, MS(300)), (Signal::TERM, MS(1_500))] {
        thread::sleep(MS(1_000));
        kept.restart(signal, away);
    }
    let read = reading.join().expect("no panic");
    let done = call.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "after {} lines: {stderr}", read.lines().count());
    assert!(read == lines, "{} lines, or in another order", read.lines().count());
}

/// The object's own node has claimed its names, and is not reported as lost.
#[test]
fn calls_wait_for_objects_that_are_starting() {
    let up = &mut Server::spawn(rantai().args(["up", "--port", "0"]));
    let line = up.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    let began = Instant::now();
    let mut answered = 0;
    while answered < 3 {
        let done = finish(rantai().args(["call", "calculator.add", "2", "3"]).env("RANTAI_BROKER", &url));
        match done.code {
            0 => answered += 1,
            // Nothing is registered yet.
            5 if done.stderr.contains("no object \"calculator\"") => {}
            _ => panic!("{done:?} after {:?}", began.elapsed()),
        }
        assert!(began.elapsed() < PATIENCE, "{done:?}");
        thread::sleep(MS(20));
    }
}

/// `rantai call` asks for a stream, and a method that does not stream returns an ordinary reply.
#[test]
fn orderly_shutdown_waits_for_a_running_call() {
    let bus = super::process::bus();
    let mut node = bus.serve(&["echo"]);
    node.wait_for("serving echo");
    let mut call = Server::spawn(&mut bus.command(&["call", "echo.delay", "4000", "late"]));
    wait_in_flight(&bus, 1);
    node.signal(Signal::TERM);
    assert_eq!((call.exit_code(), call.said()), (0, &["late".to_owned()][..]));
    assert_eq!(node.exit_code(), 0, "{:?}", node.said());
}

/// The node ends while it executes the task, and reports that.
#[test]
fn a_task_that_a_clean_stop_interrupts_is_called_again() {
    let (kept, data) = (Kept::new(), tempfile::tempdir().expect("a directory"));
    let _ledger = ledger(&kept, &data);
    let mut first = kept.serve("echo", &["--node", "the-echo"]);
    let submit = ["task", "submit", "echo.delay", "9500", "late", "--wait", "--timeout", "50s"];
    let mut waiting = kept.spawn(&submit);
    wait_in_flight(&kept.bus, 1);
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0, "{:?}", first.said());
    assert!(waiting.is_running(), "{:?}", waiting.said());
    let _second = kept.serve("echo", &["--node", "the-echo"]);
    is_answered(&mut waiting);
}

/// Broker, ledger and object are down at the same time.
#[test]
fn task_result_is_awaited_across_a_restart_of_up() {
    for signal in [Signal::KILL, Signal::TERM] {
        let data = tempfile::tempdir().expect("a directory");
        let up = |port: &str| {
            let mut up = Server::spawn(rantai().args(["up", "--port", port, "--data-dir", path(&data)]));
            let line = up.wait_for("listening on ");
            up.wait_for("ready");
            (up, format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim()))
        };
        let (mut first, url) = up("0");
        let submit = ["task", "submit", "echo.delay", "9500", "late", "--wait", "--timeout", "50s"];
        let mut waiting = Server::spawn(rantai().args(submit).env("RANTAI_BROKER", &url));
        thread::sleep(MS(1_000));
        if signal == Signal::KILL {
            first.kill();
        } else {
            first.signal(signal);
            assert_eq!(first.exit_code(), 0, "{:?}", first.said());
        }
        thread::sleep(MS(500));
        let (_second, again) = up(&port_of(&url));
        assert_eq!(again, url);
        is_answered(&mut waiting);
    }
}
