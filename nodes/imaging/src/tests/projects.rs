//! Tests of projects: their users, images, nodes and quotas.

use rantai_client::wire::name::ClientId;
use serde_json::json;

use super::{ask_as, nodes, server};
use crate::commands::Asked;
use crate::operation::Intent;
use crate::reply::Status;
use crate::service::Imaging as _;
use crate::settings::Project;
use crate::wanted::Wanted;

#[tokio::test]
async fn projects_have_their_own_nodes_images_and_quota() {
    let project = |name: &str, user: &str, images: &[&str], disks| Project {
        name: name.to_owned(),
        users: vec![user.to_owned()],
        images: images.iter().map(|image| (*image).to_owned()).collect(),
        disks,
        bytes: Some(250_000),
    };
    let projects =
        vec![project("hadoop", "ada", &["hadoop*"], Some(5)), project("other", "grace", &["b.img"], Some(1))];
    let (_directory, server, _) = server(projects);
    for (who, line, expected) in [
        ("eve", "list_all_images", 403),
        ("ada", "provision node-1", 200),
        ("grace", "provision node-2", 403),
        ("grace", "detach_node node-1", 403),
        ("ada", "import new b.img", 403),
        ("grace", "import new b.img", 200),
        ("grace", "create_snapshot b.img s", 200),
        ("grace", "provision node-2 b.img s", 200),
        ("grace", "provision node-3 b.img s", 411),
        ("grace", "detach_node node-2", 200),
        ("grace", "provision node-3 b.img s", 200),
        ("ada", "provision node-4", 200),
        // 200,000 of the 250,000 bytes are used.
        ("ada", "provision node-5", 411),
    ] {
        let reply = ask_as(&server, who, line).await;
        assert_eq!(reply.status_code, expected, "{who}: {line}: {reply:?}");
    }
    // A client that does not log in can choose any client id.
    let mut anonymous = super::context("ada", None).called_by(None, None);
    anonymous.client = Some(ClientId::new("ada").expect("a client id"));
    let reply = server.command("list_all_images".to_owned(), Vec::new(), anonymous).await.expect("a reply");
    let text = reply.msg.unwrap_or_default();
    assert!(reply.status_code == 403 && text.contains("broker.toml"), "{text}");
    assert_eq!(ask_as(&server, "grace", "list_all_images").await.retval, Some(json!(["b.img"])));
    assert_eq!(nodes(&server).await.len(), 2, "ada's own");
}

/// Regression: between the check of a request and its lock, the node may have moved to another project, or the snapshot
/// may have been created, so that the decision must use the state under the lock.
#[tokio::test]
async fn permissions_are_checked_under_the_lock() {
    let project = |name: &str, user: &str| Project {
        name: name.to_owned(),
        users: vec![user.to_owned()],
        images: vec!["*".to_owned()],
        disks: None,
        bytes: None,
    };
    let (_directory, server, _) = server(vec![project("hadoop", "ada"), project("other", "grace")]);
    let asked = |line: &str| {
        let mut words = line.split(' ').map(ToOwned::to_owned);
        let method = words.next().expect("a method");
        Asked::new(&method, words.collect()).expect("asked")
    };
    let opened = server.opened().expect("open");
    let wanted = |who: &str, line: &str| match server
        .wanted(&asked(line), Some(&who.parse().expect("a name")))
        .expect("wanted")
    {
        Wanted::Change(intent, project) => (*intent, project),
        Wanted::Answer(_) => panic!("{line} changes something"),
    };
    ask_as(&server, "ada", "provision node-1").await;
    let (mut detach, hers) = wanted("ada", "detach_node node-1");
    let (mut provision, _) = wanted("ada", "provision node-2 hadoopMaster.img late");
    ask_as(&server, "ada", "detach_node node-1").await;
    ask_as(&server, "grace", "provision node-1").await;
    ask_as(&server, "grace", "create_snapshot hadoopMaster.img late").await;
    let refused = server.possible(opened, &mut detach, hers.as_ref()).expect_err("it is grace's now");
    assert_eq!(refused.status, Status::Denied);
    assert_eq!(server.possible(opened, &mut provision, hers.as_ref()), Ok(()));
    assert!(matches!(provision, Intent::Provision { bytes: 100_000, .. }), "{provision:?}");
}
