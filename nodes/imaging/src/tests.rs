//! Tests of the whole object without a bus: failures at every step, concurrent requests, projects, and repeated requests.

mod failing;
mod full_disk;
mod projects;

use std::path::Path;
use std::sync::Arc;

use rantai_client::object::{Calls, Context, Emitter};
use rantai_client::wire::name::{ObjectName, Root};
use rantai_client::wire::user::User;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::reply::Reply;
use super::service::{Imaging as _, Server};
use super::settings::{Driver, ImagingSettings, Project};
use super::storage::Storage as _;
use super::targets::Target;
use failing::{Failing, Handing, Stuck};

fn settings(folder: &Path, projects: Vec<Project>) -> ImagingSettings {
    ImagingSettings {
        name: "example.mainserver".to_owned(),
        folder: folder.to_owned(),
        image: "hadoopMaster.img".to_owned(),
        snapshot: "HadoopMasterGoldenImage".to_owned(),
        in_use: "Node is already in use".to_owned(),
        not_in_use: "Node already part unmapped and no image exists".to_owned(),
        initiator: "iqn.2026-01.example.rantai:initiator".to_owned(),
        target: Driver::Files,
        projects,
    }
}

/// Returns a server with an image and its snapshot.
fn server(projects: Vec<Project>) -> (tempfile::TempDir, Server, Arc<Failing>) {
    let (directory, failing) = folder();
    let server = Server::new(settings(directory.path(), projects));
    server.open_with(failing.clone(), Arc::new(Handing(failing.clone()))).expect("opened");
    (directory, server, failing)
}

fn folder() -> (tempfile::TempDir, Arc<Failing>) {
    let directory = tempfile::tempdir().expect("a directory");
    let failing = Failing::new(directory.path());
    std::fs::write(directory.path().join("images/hadoopMaster.img"), vec![7; 100_000]).expect("written");
    std::fs::write(directory.path().join("incoming/new"), vec![9; 5_000]).expect("written");
    failing.folder.take_snapshot("hadoopMaster.img", "HadoopMasterGoldenImage", &|_, _| {}).expect("taken");
    (directory, failing)
}

fn context(caller: &str, correlation: Option<Uuid>) -> Context {
    let object = ObjectName::new("example.mainserver").expect("a name");
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    let emitter = Emitter::new(Root::default(), object.clone(), Arc::new(|_| {}));
    let context = Context::new(object, Instant::now(), deadline, emitter, Calls::default());
    let mut context = context.called_by(Some(User::new(caller).expect("a user name")), None);
    context.correlation = correlation.map(|uuid| uuid.as_bytes().to_vec().into());
    context
}

async fn ask(server: &Server, line: &str) -> Reply {
    ask_as(server, "ada", line).await
}

async fn ask_as(server: &Server, who: &str, line: &str) -> Reply {
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let method = words.next().expect("a method");
    server.command(method, words.collect(), context(who, Some(Uuid::new_v4()))).await.expect("a reply")
}

fn status(reply: &Reply) -> (u16, &str) {
    (reply.status_code, reply.msg.as_deref().unwrap_or(""))
}

async fn nodes(server: &Server) -> Vec<(Value, Value)> {
    let listed = ask(server, "list_nodes").await.retval.expect("a list");
    let listed = listed.as_array().expect("a list").clone();
    listed.into_iter().map(|mut node| (node["node"].take(), node["state"].take())).collect()
}

#[tokio::test]
async fn every_method_and_every_status() {
    let (directory, server, _) = server(Vec::new());
    let read = |path: &str| std::fs::read(directory.path().join(path)).expect(path);
    for (line, expected, says) in [
        ("list_all_images", 200, ""),
        ("provision node-1", 200, ""),
        ("provision node-1", 440, "Node is already in use"),
        ("provision node-10 hadoopMaster.img nothing", 404, "snapshot nothing does not exist"),
        ("provision node-10 nothing", 404, "image nothing does not exist"),
        ("detach_node node-10", 440, "Node already part unmapped and no image exists"),
        ("provision", 411, "provision takes 1 to 3 arguments, not 0"),
        ("provision a b c d", 411, "provision takes 1 to 3 arguments, not 4"),
        ("provision ../x", 411, "is no name of a node"),
        ("provision a;reboot", 411, "is no name of a node"),
        ("provision a ../x", 411, "is no name of an image"),
        ("create_snapshot hadoopMaster.img", 411, "takes 2 arguments, not 1"),
        ("create_snapshot hadoopMaster.img s2", 200, ""),
        ("create_snapshot hadoopMaster.img s2", 401, "snapshot s2 exists already"),
        ("create_snapshot nothing s2", 404, "image nothing"),
        ("remove_image hadoopMaster.img", 405, "HadoopMasterGoldenImage, s2"),
        ("remove_snaps hadoopMaster.img s2", 200, ""),
        ("remove_snaps hadoopMaster.img s2", 404, "snapshot s2"),
        ("list_snaps hadoopMaster.img", 200, ""),
        ("list_snaps nothing", 404, "image nothing"),
        ("__class__", 410, "no method \"__class__\"; there are provision"),
        ("import new b.img", 200, ""),
        ("import new b.img", 401, "image b.img exists already"),
        ("import nothing c.img", 404, "nothing does not exist"),
        ("import ../state.redb c.img", 411, "is no name of a file"),
        ("rename b.img c.img", 200, ""),
        ("rename b.img d.img", 404, "image b.img"),
        ("rename c.img hadoopMaster.img", 401, "exists already"),
        ("remove_image c.img", 200, ""),
        ("export hadoopMaster.img HadoopMasterGoldenImage out", 200, ""),
        ("export hadoopMaster.img HadoopMasterGoldenImage out", 401, "out exists already"),
        ("detach_node node-1", 200, ""),
        ("detach_node node-1", 440, "no image exists"),
        ("provision node-1", 200, ""),
    ] {
        let reply = ask(&server, line).await;
        let (code, text) = status(&reply);
        assert!(code == expected && text.contains(says), "{line}: {reply:?}");
        assert_eq!(reply.retval.is_some(), code == 200, "{line}");
    }
    assert_eq!(read("disks/node-1"), vec![7; 100_000]);
    assert_eq!(read("outgoing/out"), vec![7; 100_000]);
    let info = ask(&server, "image_info hadoopMaster.img").await.retval.expect("told");
    assert_eq!(
        (&info["bytes"], &info["snapshots"][0]["name"]),
        (&json!(100_000), &json!("HadoopMasterGoldenImage"))
    );
    let audit = String::from_utf8(read("audit.log")).expect("UTF-8");
    let secret = server.provision("node-2".into(), None, None, context("ada", None)).await.expect("a reply");
    let secret = secret.disk.expect("a disk").secret;
    let all = String::from_utf8(read("audit.log")).expect("UTF-8");
    assert!(!all.contains(&secret) && all.len() > audit.len(), "no secrets are in it");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (&lines[1]["who"], &lines[1]["method"], &lines[1]["status"]),
        (&json!("ada"), &json!("provision"), &json!(200))
    );
    assert_eq!(lines[2]["message"], "Node is already in use");
}

#[tokio::test]
async fn names_are_used_literally() {
    let (_directory, server, _) = server(Vec::new());
    assert_eq!(ask(&server, "provision cisco-53").await.status_code, 200);
    assert_eq!(ask(&server, "detach_node cisco-5").await.status_code, 440);
    assert_eq!(ask(&server, "provision cisco-5").await.status_code, 200);
    assert_eq!(ask(&server, "detach_node cisco-5").await.status_code, 200);
    assert_eq!(nodes(&server).await, [(json!("cisco-53"), json!("ready"))]);
}

#[tokio::test]
async fn operation_is_undone_at_any_failing_step_and_can_be_repeated() {
    let (directory, server, failing) = server(Vec::new());
    ask(&server, "create_snapshot hadoopMaster.img s2").await;
    for (line, steps) in [
        ("provision node-1", 2),
        ("create_snapshot hadoopMaster.img s3", 1),
        ("import new b.img", 1),
        ("export hadoopMaster.img s2 out", 1),
        ("rename hadoopMaster.img other.img", 1),
    ] {
        for step in 1..=steps {
            let before = files(directory.path());
            failing.fail_at(step);
            let reply = ask(&server, line).await;
            assert_eq!(reply.status_code, 500, "{line}, step {step}: {reply:?}");
            assert!(reply.msg.as_ref().is_some_and(|msg| !msg.contains("not taken back")), "{reply:?}");
            assert_eq!(files(directory.path()), before, "{line}, step {step}");
            assert!(nodes(&server).await.is_empty());
        }
        failing.fail_at(0);
        let reply = ask(&server, line).await;
        assert_eq!(reply.status_code, 200, "{line}: {reply:?}");
        match line.split(' ').next() {
            Some("provision") => assert_eq!(ask(&server, "detach_node node-1").await.status_code, 200),
            Some("rename") => {
                assert_eq!(ask(&server, "rename other.img hadoopMaster.img").await.status_code, 200);
            }
            _ => {}
        }
    }
    // Removals are continued instead of undone.
    ask(&server, "provision node-1").await;
    for step in 1..=2 {
        failing.fail_at(step);
        assert_eq!(ask(&server, "detach_node node-1").await.status_code, 500, "step {step}");
    }
    failing.fail_at(0);
    assert_eq!(ask(&server, "detach_node node-1").await.status_code, 200);
    assert!(!directory.path().join("disks/node-1").exists());
    ask(&server, "import new plain.img").await;
    for line in ["remove_snaps hadoopMaster.img s2", "remove_image plain.img"] {
        failing.fail_at(1);
        assert_eq!(ask(&server, line).await.status_code, 500, "{line}");
        failing.fail_at(0);
        assert_eq!(ask(&server, line).await.status_code, 200, "{line}");
    }
}

#[tokio::test]
async fn operation_that_cannot_be_undone_stays_locked_until_the_next_start() {
    let (directory, server, failing) = server(Vec::new());
    drop(server);
    failing.fail_at(0);
    let open = async |target: Arc<dyn Target>| {
        let server = Server::new(settings(directory.path(), Vec::new()));
        // The previous server holds the state until its thread has ended.
        while server.open_with(failing.clone(), target.clone()).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        server
    };
    let server = open(Arc::new(Stuck(failing.clone()))).await;
    let reply = ask(&server, "provision node-1").await;
    assert!(status(&reply).1.contains("not taken back yet: it is held"), "{reply:?}");
    assert_eq!(ask(&server, "provision node-1").await.status_code, 409, "nobody gets at it");
    assert_eq!(nodes(&server).await, [(json!("node-1"), json!("not taken back yet"))]);
    drop(server);
    let server = open(Arc::new(Handing(failing.clone()))).await;
    assert!(nodes(&server).await.is_empty());
    assert!(!directory.path().join("disks/node-1").exists());
    assert_eq!(ask(&server, "provision node-1").await.status_code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_concurrent_requests_one_succeeds() {
    let (_directory, server, _) = server(Vec::new());
    let asked: Vec<_> = (0..50)
        .map(|index| {
            let server = server.clone();
            tokio::spawn(async move { ask_as(&server, &format!("client{index}"), "provision node-1").await })
        })
        .collect();
    let mut codes = Vec::new();
    for reply in asked {
        codes.push(reply.await.expect("no panic").status_code);
    }
    codes.sort_unstable();
    assert_eq!(codes[0], 200);
    assert!(codes[1..].iter().all(|code| [409, 440].contains(code)), "{codes:?}");
    assert_eq!(nodes(&server).await.len(), 1);
}

#[tokio::test]
async fn repeat_gets_the_first_reply_and_reused_identity_is_refused() {
    let (_directory, server, _) = server(Vec::new());
    let identity = Some(Uuid::new_v4());
    let provision = |node: &str| server.provision(node.to_owned(), None, None, context("ada", identity));
    let (one, two) = tokio::join!(provision("node-1"), provision("node-1"));
    let first = one.expect("a reply");
    assert_eq!((first.status_code, two.expect("a reply")), (200, first.clone()));
    assert_eq!(provision("node-1").await.expect("a reply"), first, "with its secret");
    let other = provision("node-2").await.expect_err("another request");
    assert_eq!(other.code.0, -32014);
    let wrong = Some(Uuid::new_v4());
    let detach = || server.detach_node("node-9".to_owned(), context("ada", wrong));
    assert_eq!(detach().await.expect("a reply").status_code, 440);
    ask(&server, "provision node-9").await;
    assert_eq!(detach().await.expect("a reply").status_code, 440, "that was the answer");
    assert_eq!(nodes(&server).await.len(), 2);
}

/// Returns the paths of all files except the state and the audit log.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("state.redb") && !path.ends_with("audit.log") {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}
