//! `hardened = true`: actions that the broker then refuses, and commands and nodes that still work.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::process::{Done, Server, broker, finish, rantai};

/// Creates a folder with a hardened broker's configuration, and password files of its users node, caller and admin.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (user, password) in [("node", "besi"), ("caller", "kayu"), ("admin", "emas")] {
        let secret = folder.path().join(user);
        fs::write(&secret, password).expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
        let mut command = rantai();
        command.args(["passwd", "passwords", user, "--stdin"]).current_dir(folder.path());
        let done = finish(command.stdin(fs::File::open(&secret).expect("opened")));
        assert_eq!(done.code, 0, "{done:?}");
    }
    let users = "[[users]]\nname = 'node'\nroles = ['node']\nacts_for = ['*']\n[[users]]\nname = 'caller'\n\
                 [[users]]\nname = 'admin'\nroles = ['admin']\n";
    let text = format!("hardened = true\npassword_file = 'passwords'\n{users}");
    fs::write(folder.path().join("broker.toml"), text).expect("written");
    folder
}

fn start(folder: &Path) -> (Server, String) {
    let config = folder.join("broker.toml");
    broker(&["--port", "0", "--config", config.to_str().expect("UTF-8")])
}

/// Runs a command as this user.
fn by(user: &str, url: &str, arguments: &[&str], folder: &Path) -> Done {
    let login = ["--broker", url, "--user", user, "--password-file", user];
    finish(rantai().args(arguments).args(login).current_dir(folder))
}

#[test]
fn client_ids_of_commands_and_nodes_begin_with_the_user() {
    let folder = folder();
    let (mut broker, url) = start(folder.path());
    for choice in ["without a user", "client ids", "with TLS alone", "private keys", "wrong passwords"] {
        assert!(broker.wait_for(choice).starts_with("hardened: "), "{choice}");
    }
    let mut serve = rantai();
    serve.args(["serve", "calculator", "--broker", &url, "--user", "node", "--password-file", "node"]);
    let mut node = Server::spawn(serve.current_dir(folder.path()));
    node.wait_for("serving calculator");
    let called = by("caller", &url, &["call", "calculator.add", "2", "3"], folder.path());
    assert_eq!((called.code, called.stdout.trim()), (0, "5"), "{called:?}");
    // A client id that belongs to nobody, and one of another user.
    for id in ["pi-east", "caller--1"] {
        let mut serve = rantai();
        serve.args([
            "serve",
            "echo",
            "--node",
            id,
            "--broker",
            &url,
            "--user",
            "node",
            "--password-file",
            "node",
        ]);
        let refused = finish(serve.current_dir(folder.path()));
        assert!(refused.code == 4 && refused.stderr.contains("client id"), "{id}: {refused:?}");
    }
}

/// Also random ids for special purposes, and ids stored in a data directory, begin with the user's name.
#[test]
fn every_random_client_id_begins_with_the_user() {
    let folder = folder();
    let (_broker, url) = start(folder.path());
    let login = ["--broker", &*url, "--user", "node", "--password-file", "node"];
    let mut serve = rantai();
    serve.args(["serve", "calculator", "tasks", "--data-dir", "data"]).args(login);
    let mut node = Server::spawn(serve.current_dir(folder.path()));
    node.wait_for("serving tasks on node node--node-");
    let submitted =
        by("node", &url, &["task", "submit", "calculator.add", "2", "3", "--wait"], folder.path());
    assert!(submitted.code == 0 && submitted.stdout.contains('5'), "{submitted:?}");
    for load in [&["bench", "pub"][..], &["bench", "replicas", "echo.echo", "x", "--replicas", "1"]] {
        let short = ["--count", "10", "--in-flight", "2", "--warmup", "0"];
        let measured = by("admin", &url, &[load, &short[..]].concat(), folder.path());
        assert_eq!(measured.code, 0, "{load:?}: {measured:?}");
    }
}

#[test]
fn hardened_start_with_a_lax_setting_fails_with_advice() {
    let folder = folder();
    let start = |arguments: &[&str]| {
        finish(
            rantai().args(["broker", "--config", "broker.toml"]).args(arguments).current_dir(folder.path()),
        )
    };
    let clear = start(&["--host", "0.0.0.0", "--port", "0"]);
    assert!(clear.code == 2 && clear.stderr.contains("protocol = \"tls\""), "{clear:?}");
    let passwords = folder.path().join("passwords");
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).expect("set");
    let open = start(&["--port", "0"]);
    assert!(open.code == 2 && open.stderr.contains("chmod o= passwords"), "{open:?}");
}
