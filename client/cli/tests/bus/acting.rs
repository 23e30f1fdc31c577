//! Ledger and gateway of `rantai up` where users log in: with whose rights they call.

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

/// Both called with all the rights of the broker's own process for whoever had none.
#[test]
fn ledger_and_open_gateway_have_the_rights_of_clients_without_a_user() {
    let folder = tempfile::tempdir().expect("a directory");
    let [broker, nodes] = [("broker.toml", BROKER), ("nodes.toml", NODES)].map(|(name, text)| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        file
    });
    let mut command = rantai();
    command.args(["up", "--port", "0", "--broker-config"]).arg(&broker).arg("--config").arg(&nodes);
    let mut server = Server::spawn(&mut command);
    let mut address = |before: &str| {
        let line = server.wait_for(before);
        line.split(before).nth(1).expect("just found").trim().to_owned()
    };
    let (broker, rest) = (format!("mqtt://{}", address("listening on ")), address("REST on http://"));
    server.wait_for("ready");
    for (method, code, status) in [("add", 0, 200), ("mul", 1, 403)] {
        let target = format!("calculator.{method}");
        let stored = on(&broker, &["task", "submit", &target, "2", "3", "--wait"]);
        assert_eq!(stored.code, code, "{stored:?}");
        assert_eq!(stored.stderr.contains("no rule of client tasks-"), code == 1, "{stored:?}");
        let answer = ask(&rest, "GET", &format!("/objects/calculator/{method}?a=2&b=3"), &[], b"");
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

fn on(url: &str, arguments: &[&str]) -> Done {
    finish(rantai().args(arguments).env("RANTAI_BROKER", url))
}
