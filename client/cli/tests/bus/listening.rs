//! Addresses that are in use: the error of each server names the setting to change.

use std::net::TcpListener;
use std::path::Path;

use super::process::{bus, finish, rantai};

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn an_address_in_use_is_an_error_that_names_the_setting() {
    let bus = bus();
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let port = address.port().to_string();
    let listeners = format!("[[listeners]]\nprotocol = 'ws'\naddress = '{address}'\n");
    let listeners = written(folder.path(), "broker.toml", &listeners);
    let rest = written(folder.path(), "rest.toml", &format!("[rest]\nlisten = '{address}'\n"));
    let soap = written(folder.path(), "soap.toml", &format!("[soap]\nlisten = '{address}'\n"));
    let alone = |arguments: &[&str]| finish(rantai().args(arguments));
    for (done, setting) in [
        (alone(&["broker", "--port", &port]), "with --port"),
        (alone(&["up", "--port", &port]), "with --port"),
        (alone(&["broker", "--config", &listeners]), "with `address` of that entry of [[listeners]]"),
        (alone(&["up", "--port", "0", "--config", &rest]), "with `listen` in [rest]"),
        (bus.run(&["serve", "--config", &rest]), "with `listen` in [rest]"),
        (bus.run(&["serve", "--config", &soap]), "with `listen` in [soap]"),
    ] {
        let text = format!(
            "cannot listen on {address}: address already in use; stop the other program, or choose another port {setting} (0 takes a free one)"
        );
        assert!(done.code == 1 && done.stderr.contains(&text), "{setting}: {done:?}");
    }
}

#[test]
fn a_unix_socket_that_cannot_be_made_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = folder.path().join("held.sock");
    let _held = std::os::unix::net::UnixListener::bind(&held).expect("bound");
    let config = |socket: &Path| {
        let text = format!("[[listeners]]\nprotocol = 'unix'\nsocket = '{}'\n", socket.display());
        written(folder.path(), "broker.toml", &text)
    };
    for (socket, expected) in [
        (held.clone(), "another program listens there"),
        (folder.path().join("no/x.sock"), "its folder does not exist"),
    ] {
        let done = finish(rantai().args(["broker", "--config", &config(&socket)]));
        let said = done.stderr.contains("cannot listen on ") && done.stderr.contains(expected);
        assert!(done.code == 1 && said && done.stderr.contains("`socket`"), "{done:?}");
    }
}
