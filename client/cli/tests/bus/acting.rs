//! Rights of calls that ledger and gateway of `rantai up` make for users.

use std::path::Path;

use super::gateway::ask;
use super::process::{Done, Server, finish, rantai};

const BROKER: &str = "\
anonymous = true
anonymous_roles = ['guest']

[[roles]]
name = 'guest'
call = ['calculator.add', 'tasks.submit', 'tasks.result']

[[users]]
name = 'ada'
password = '$6$c2FsdHNhbHRzYWx0$KFtdMFzRKoFFHA7hU8n6IDTu8RAVMuIDtz8OZ85XRhemt69leTJBL4yhphVn9iUWXK1uiUeOSdg+g3Hck4VVRw=='
";
const NODES: &str = "[[calculator]]\nname = 'calculator'\n[tasks]\n[rest]\nlisten = '127.0.0.1:0'\n";

/// Regression: for clients without a user, both called with all the rights of the broker's own process.
#[test]
fn ledger_and_open_gateway_have_the_rights_of_clients_without_a_user() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = up(folder.path(), BROKER, NODES);
    let (broker, rest) = (broker(&mut server), behind(&mut server, "REST on http://"));
    for (method, code, status) in [("add", 0, 200), ("mul", 1, 403)] {
        let target = format!("calculator.{method}");
        let stored = on(&broker, &["task", "submit", &target, "2", "3", "--wait"]);
        assert_eq!(stored.code, code, "{stored:?}");
        assert_eq!(stored.stderr.contains("no rule of client tasks-"), code == 1, "{stored:?}");
        let answer = ask(&rest, "GET", &format!("/objects/calculator/{method}?a=2&b=3"), &[], b"");
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// Regression: its two subscriptions were one filter, which the broker refused to users that may not receive events to
/// all.
#[test]
fn callers_are_called_back_and_told_that_they_may_not_watch() {
    let folder = tempfile::tempdir().expect("a directory");
    let callers = BROKER.replace("['guest']", "['caller']");
    let mut server = up(folder.path(), &callers, include_str!("../../../../config/upcall.toml"));
    let broker = broker(&mut server);
    let called_back = on(&broker, &["upcall", "--no-log", "satu,bye"]);
    assert!(called_back.code == 0 && called_back.stdout.contains("satu"), "{called_back:?}");
    for event in [&[][..], &["pushed"]] {
        let refused = on(&broker, &[&["watch", "upcall"], event].concat());
        assert!(refused.code == 4 && refused.stderr.contains("not allowed"), "{refused:?}");
    }
}

/// Starts `rantai up` with these configurations of the broker and of the objects.
fn up(folder: &Path, broker: &str, nodes: &str) -> Server {
    let [broker, nodes] = [("broker.toml", broker), ("nodes.toml", nodes)].map(|(name, text)| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("written");
        file
    });
    let mut command = rantai();
    command.args(["up", "--port", "0", "--broker-config"]).arg(&broker).arg("--config").arg(&nodes);
    let mut server = Server::spawn(&mut command);
    server.wait_for("ready");
    server
}

/// Returns the part of the server's output after `text`.
fn behind(server: &mut Server, text: &str) -> String {
    let line = server.wait_for(text);
    line.split(text).nth(1).expect("just found").trim().to_owned()
}

fn broker(server: &mut Server) -> String {
    format!("mqtt://{}", behind(server, "listening on "))
}

fn on(url: &str, arguments: &[&str]) -> Done {
    finish(rantai().args(arguments).env("RANTAI_BROKER", url))
}
