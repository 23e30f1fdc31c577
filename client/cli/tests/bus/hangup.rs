//! SIGHUP, and terminals that are closed.

use std::process::{Command, Stdio};

use rantai_testing::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Bus, Server, bus, own, rantai};
use super::terminal::terminal;
use super::users;

#[test]
fn sighup_without_a_terminal_is_logged_and_ignored() {
    let mut bus = own();
    let mut node = bus.serve(&["calculator"]);
    node.wait_for("serving calculator");
    node.signal(Signal::HUP);
    node.wait_for("SIGHUP ignored");
    let broker = bus.broker.as_mut().expect("its own");
    broker.signal(Signal::HUP);
    // With or without a configuration file.
    let has_file = users::are_on() || Transport::chosen() != Transport::Tcp;
    broker.wait_for(if has_file { "read users and rules again" } else { "SIGHUP ignored" });
    // A second signal has the same effect.
    broker.signal(Signal::HUP);
    assert_eq!(bus.ok(&["call", "calculator.add", "2", "3"]), "5\n");
    node.signal(Signal::TERM);
    assert_eq!(node.exit_code(), 0);
    let mut up = Server::spawn(rantai().args(["up", "--port", "0"]));
    let line = up.wait_for("listening on ");
    up.wait_for("ready");
    up.signal(Signal::HUP);
    up.wait_for("SIGHUP ignored");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    let up_bus = Bus { broker: Some(up), url, root: "rantai".to_owned() };
    assert_eq!(up_bus.ok(&["call", "calculator.add", "2", "3"]), "5\n");
}

/// Runs `serve` with stdin and stdout on a terminal, in its own session or not.
fn stops_with_its_terminal(bus: &Bus, session_of_its_own: bool) {
    let (ours, theirs) = terminal();
    let mut command = bus.command(&["serve", "echo"]);
    if session_of_its_own {
        // Its stdin then is the controlling terminal, so that the hangup also causes SIGHUP.
        let mut in_session = Command::new("setsid");
        in_session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        in_session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = in_session;
    }
    command.stdout(theirs.try_clone().expect("a second handle")).stdin(theirs).stderr(Stdio::piped());
    let mut node = Server::spawn(&mut command);
    drop(command);
    node.wait_for("serving echo");
    assert_eq!(bus.ok(&["call", "echo.echo", "x"]), "x\n");
    drop(ours);
    assert_eq!(node.exit_code(), 0, "session of its own: {session_of_its_own}");
    let listed: Value = serde_json::from_str(&bus.ok(&["ls", "--json"])).expect("JSON");
    assert_eq!(listed, json!([]), "its entry is cleared");
}

#[test]
fn server_stops_in_order_when_its_terminal_is_closed() {
    let bus = bus();
    stops_with_its_terminal(&bus, false);
    stops_with_its_terminal(&bus, true);
}

#[test]
fn sighup_with_an_open_terminal_is_ignored() {
    let bus = bus();
    let (ours, theirs) = terminal();
    let mut command = bus.command(&["serve", "echo"]);
    command.stdout(theirs.try_clone().expect("a second handle")).stdin(theirs);
    let mut node = Server::spawn(&mut command);
    drop(command);
    node.wait_for("serving echo");
    node.signal(Signal::HUP);
    node.wait_for("SIGHUP ignored");
    assert_eq!(bus.ok(&["call", "echo.echo", "x"]), "x\n");
    drop(ours);
    assert_eq!(node.exit_code(), 0);
}
