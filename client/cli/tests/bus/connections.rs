//! Client ids of the connections of one process: all differ, and the end of a required connection ends the process.
//!
//! Regression: a cloned builder gave every connection the same client id. The first call that the insult services made
//! took the gateway's connection over, and every request to it was answered 503 from then on; `rantai up` continued
//! with connections that had ended permanently.

use std::path::Path;

use rantai_client::Client;
use rantai_client::client::random_id;
use rantai_client::session::Status;
use rantai_client::wire::name::{ClientId, Root};
#[cfg(feature = "gateway")]
use serde_json::json;

#[cfg(feature = "gateway")]
use super::gateway::ask;
#[cfg(feature = "gateway")]
use super::process::bus;
use super::process::{Server, address, broker, rantai, root, trust};
use super::users::{SERVING, log_in};

#[cfg(feature = "gateway")]
const INSULTS: &str = include_str!("../../../../config/insult.toml");

fn config(folder: &Path, text: &str) -> String {
    let file = folder.join("nodes.toml");
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[cfg(feature = "gateway")]
#[test]
fn gateway_and_calling_objects_of_one_process_keep_their_connections() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let text = format!("{INSULTS}\n[rest]\nlisten = '127.0.0.1:0'\n[tasks]\n");
    let mut node = bus.serve(&["--config", &config(folder.path(), &text)]);
    let line = node.wait_for("REST on http://");
    let rest = line.split("http://").nth(1).expect("an address");
    let json_body = ["Content-Type: application/json"];
    for insult in ["tonto", "bobo", "necio"] {
        // The service calls the store by its own connection.
        let body = json!([insult]).to_string();
        let added = ask(rest, "POST", "/objects/InsultService/add_insult", &json_body, body.as_bytes());
        assert_eq!((added.status, added.json()), (200, json!([format!("Insulto registrado: {insult}")])));
        let listed = ask(rest, "GET", "/objects/InsultService/get_insults", &[], b"");
        assert_eq!(listed.status, 200, "{listed:?}");
    }
    let task = ["task", "submit", "InsultService.add_insult", "tonto", "--wait"];
    assert_eq!(bus.ok(&task), "[\"Insulto ya registrado: tonto\"]\n");
    assert!(node.is_running());
    assert!(!node.said().iter().any(|line| line.contains("another client has connected")));
}

/// Starts `rantai broker`, and `rantai serve` on it; returns the broker, the node, its name, and the broker's address.
///
/// Client ids of the broker's own process, as in `rantai up`, cannot be taken over.
fn served(text: &str, ready: &str) -> (Server, Server, ClientId, String, tempfile::TempDir) {
    let (folder, name) = (tempfile::tempdir().expect("a directory"), random_id("node"));
    let config = config(folder.path(), text);
    let (broker, url) = broker(&["--port", "0"]);
    let mut command = rantai();
    command.args(["serve", "--config", &config, "--node", name.as_str(), "--broker", &log_in(&url, SERVING)]);
    trust(&mut command, &url);
    command.env("RANTAI_ROOT", root("rantai"));
    let mut node = Server::spawn(&mut command);
    node.wait_for(ready);
    (broker, node, name, url, folder)
}

/// Takes a connection over by its client id, and keeps it until the broker ends.
fn take(url: &str, id: ClientId) {
    let builder = Client::builder(address(&log_in(url, SERVING)));
    let builder = builder.root(Root::new(&root("rantai")).expect("a root")).client_id(id);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::spawn(move || {
        runtime.block_on(async {
            // It may have the connection, and not yet its subscription, when the process ends.
            if let Ok(thief) = builder.connect().await {
                let _ = thief.status().wait_for(|status| !matches!(status, Status::Online(_))).await;
            }
        });
    });
}

#[test]
fn serve_ends_with_an_error_where_its_node_is_taken_over() {
    let text = "[[calculator]]\nname = 'calculator'\n";
    let (_broker, mut node, name, url, _folder) = served(text, "serving calculator");
    take(&url, name.clone());
    let told =
        node.wait_for(&format!("node {name} has no connection any more: another client has connected"));
    assert!(told.contains("id of its own; the id is that of --node"), "{told}");
    assert_eq!(node.exit_code(), 1);
}

/// Regression: each connection of the process logged a line.
#[cfg(feature = "gateway")]
#[test]
fn the_loss_of_a_broker_is_logged_once() {
    let text = "[[calculator]]\nname = 'calculator'\n[tasks]\n[rest]\nlisten = '127.0.0.1:0'\n";
    let (broker, mut node, _, url, _folder) = served(text, "REST on http://");
    broker.kill();
    node.wait_for("lost the connection to");
    let (_again, _) = super::process::broker(&["--port", &super::process::port_of(&url)]);
    node.wait_for("served again");
    let lost = node.said().iter().filter(|line| line.contains("lost the connection to")).count();
    assert_eq!(lost, 1, "{:#?}", node.said());
}

#[cfg(feature = "gateway")]
#[test]
fn serve_ends_with_an_error_where_its_gateways_are_taken_over() {
    let text = "[[calculator]]\nname = 'calculator'\n[rest]\nlisten = '127.0.0.1:0'\n";
    let (mut broker, mut node, _, url, _folder) = served(text, "REST on http://");
    let line = broker.wait_for("client-");
    let id = line.split("client=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    take(&url, ClientId::new(id).expect("a name"));
    node.wait_for("the gateways have no connection any more: another client has connected");
    assert_eq!(node.exit_code(), 1);
}
