//! The connections of one process: none takes another's client id, and none is missed in silence.
//!
//! Regression: a cloned builder gave every connection the same client id. The first call that the insult services made
//! took the gateway's connection over, and every request to it was answered 503 from then on; `rantai up` went on with
//! connections that had ended for good.

use std::path::Path;

use rantai_client::Client;
use rantai_client::client::random_id;
use rantai_client::session::Status;
use rantai_client::wire::name::ClientId;
use serde_json::json;

#[cfg(feature = "gateway")]
use super::gateway::ask;
use super::process::{Server, bus, rantai};

const INSULTS: &str = include_str!("../../../../config/insult.toml");

fn config(folder: &Path, text: &str) -> String {
    let file = folder.join("nodes.toml");
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[cfg(feature = "gateway")]
#[test]
fn a_gateway_and_objects_that_call_others_go_on_beside_each_other() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let text = format!("{INSULTS}\n[rest]\nlisten = '127.0.0.1:0'\n[tasks]\n");
    let mut node = bus.serve(&["--config", &config(folder.path(), &text)]);
    let line = node.wait_for("REST on http://");
    let rest = line.split("http://").nth(1).expect("an address");
    let json_body = ["Content-Type: application/json"];
    for insult in ["tonto", "bobo", "necio"] {
        // The service calls the store by a connection of its own.
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

/// `rantai up` with a broker of its own; the node's name, and the broker's address.
fn up(text: &str) -> (Server, ClientId, String, tempfile::TempDir) {
    let (folder, name) = (tempfile::tempdir().expect("a directory"), random_id("up"));
    let config = config(folder.path(), text);
    let mut up =
        Server::spawn(rantai().args(["up", "--port", "0", "--config", &config, "--node", name.as_str()]));
    let line = up.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    up.wait_for("ready");
    (up, name, url, folder)
}

/// Takes a connection over by its client id, and keeps it for as long as there is a broker.
fn take(url: &str, id: ClientId) {
    let builder = Client::builder(url.parse().expect("an address")).client_id(id);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::spawn(move || {
        runtime.block_on(async {
            // It may have the connection, and not its subscription, when the process ends.
            if let Ok(thief) = builder.connect().await {
                let _ = thief.status().wait_for(|status| !matches!(status, Status::Online(_))).await;
            }
        });
    });
}

#[test]
fn up_ends_with_an_error_where_its_node_is_taken_over() {
    let (mut up, name, url, _folder) = up("[[calculator]]\nname = 'calculator'\n");
    take(&url, name.clone());
    up.wait_for(&format!("node {name} has no connection any more: another client has connected"));
    assert_eq!(up.exit_code(), 1);
}

#[cfg(feature = "gateway")]
#[test]
fn up_ends_with_an_error_where_its_gateways_are_taken_over() {
    let text = "[[calculator]]\nname = 'calculator'\n[rest]\nlisten = '127.0.0.1:0'\n";
    let (mut up, _, url, _folder) = up(text);
    let line = up.wait_for("client=client-");
    let id = line.split("client=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    take(&url, ClientId::new(id).expect("a name"));
    up.wait_for("the gateways have no connection any more: another client has connected");
    assert_eq!(up.exit_code(), 1);
}
