//! Disks for machines by the command line, and a server that is killed at each step in turn.

use std::path::{Path, PathBuf};

use rantai_imaging::ImagingProxy;
use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, bus};

const CONFIG: &str = include_str!("../../../../config/imaging.toml");

/// Creates a folder with an image, and its configuration.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("imaging");
    for place in ["images", "incoming"] {
        std::fs::create_dir_all(folder.join(place)).expect("made");
    }
    std::fs::write(folder.join("images/hadoopMaster.img"), disk()).expect("written");
    std::fs::write(folder.join("incoming/new"), b"another").expect("written");
    std::fs::write(directory.path().join("imaging.toml"), CONFIG).expect("written");
    (directory, folder)
}

fn disk() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Starts a server, which aborts at the point `halt`.
fn server(bus: &Bus, directory: &Path, halt: Option<&str>) -> Server {
    let config = directory.join("imaging.toml");
    let mut command = bus.command(&["serve", "--config", config.to_str().expect("UTF-8")]);
    if let Some(place) = halt {
        command.env("RANTAI_TEST_HALT", place);
    }
    let mut server = Server::spawn(&mut command);
    server.wait_for("serving example.mainserver");
    server
}

fn nodes(bus: &Bus) -> Value {
    let listed = bus.ok(&["imaging", "list_nodes", "--json"]);
    let reply: Value = serde_json::from_str(&listed).expect("JSON");
    let listed = reply["retval"].as_array().expect("a list").clone();
    listed.into_iter().map(|mut node| json!([node["node"].take(), node["state"].take()])).collect()
}

#[test]
fn disk_is_provisioned_and_detached() {
    let bus = bus();
    let (directory, folder) = folder();
    let _server = server(&bus, directory.path(), None);
    let imaging = |args: &[&str]| bus.run(&[&["imaging"], args].concat());
    assert_eq!(imaging(&["list_all_images"]).stdout, "hadoopMaster.img\n");
    let none = imaging(&["provision", "node-1"]);
    assert!(
        none.code == 5 && none.stderr.contains("snapshot HadoopMasterGoldenImage does not exist (404)"),
        "{none:?}"
    );
    let taken = imaging(&["create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage"]);
    let digest = blake3::hash(&disk()).to_hex();
    assert!(
        taken.code == 0 && taken.stdout.contains(&format!("bytes=3000000  digest={digest}")),
        "{taken:?}"
    );
    let given = imaging(&["provision", "node-1"]);
    let file = folder.join("disks/node-1");
    let file = file.canonicalize().expect("a disk");
    assert_eq!(given.stdout, format!("true\ndisk: {} (nothing is exported)\n", file.display()));
    assert_eq!(std::fs::read(&file).expect("read"), disk());
    for (args, code, says) in [
        (&["provision", "node-1"][..], 1, "Node is already in use (440)"),
        (&["provision"], 7, "provision takes 1 to 3 arguments, not 0 (411)"),
        (&["provision", "a", "b", "c", "d"], 7, "takes 1 to 3 arguments, not 4"),
        (&["detach_node", "node-2"], 1, "Node already part unmapped and no image exists (440)"),
        (&["open", "/etc/passwd"], 2, "no method \"open\"; there are provision"),
        (&["provision", "$(reboot)"], 7, "is no name of a node"),
        (&["create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage"], 1, "exists already (401)"),
        (&["remove_image", "hadoopMaster.img"], 1, "has snapshots: HadoopMasterGoldenImage (405)"),
    ] {
        let done = imaging(args);
        assert!(done.code == code && done.stderr.contains(says), "{args:?}: {done:?}");
    }
    assert_eq!(nodes(&bus), json!([["node-1", "ready"]]));
    let request = "0192f7c4-a0b1-7d3c-8f60-a1b2c3d4e5f6";
    let first = imaging(&["provision", "node-2", "--request", request, "--json"]);
    assert_eq!(imaging(&["provision", "node-2", "--request", request, "--json"]).stdout, first.stdout);
    let other = imaging(&["provision", "node-3", "--request", request]);
    assert!(other.code == 1 && other.stderr.contains("identity was used for another request"), "{other:?}");
    assert_eq!(imaging(&["detach_node", "node-1"]).stdout, "true\n");
    assert!(!file.exists());
    assert_eq!(nodes(&bus), json!([["node-2", "ready"]]));
    let twice =
        bus.run(&["serve", "--config", directory.path().join("imaging.toml").to_str().expect("UTF-8")]);
    assert!(twice.code == 1 && twice.stderr.contains("another process may have it"), "{twice:?}");
}

#[tokio::test]
async fn a_provision_runs_as_a_task_and_typed_calls_carry_the_same_reply() {
    let bus = bus();
    let (directory, _folder) = folder();
    let mut server = server(&bus, directory.path(), None);
    server.wait_for("serving tasks");
    let client = bus.client().await;
    let imaging = ImagingProxy::from(client.object("example.mainserver").deadline(PATIENCE));
    let taken = imaging.create_snapshot("hadoopMaster.img".into(), "HadoopMasterGoldenImage".into()).await;
    assert_eq!(taken.expect("a reply").status_code, 200);
    let task = ["task", "submit", "example.mainserver.provision", "node-1", "--wait", "--json"];
    let task: Value = serde_json::from_str(&bus.ok(&task)).expect("JSON");
    assert_eq!(
        (&task["state"], &task["result"]["status_code"]),
        (&json!("succeeded"), &json!(200)),
        "{task}"
    );
    let again = imaging.provision("node-1".into(), None, None).await.expect("a reply");
    assert_eq!((again.status_code, again.msg.as_deref()), (440, Some("Node is already in use")));
}

#[test]
fn of_fifty_concurrent_provisions_of_one_node_one_succeeds() {
    let bus = bus();
    let (directory, _folder) = folder();
    let _server = server(&bus, directory.path(), None);
    bus.ok(&["imaging", "create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let codes = runtime.block_on(async {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let client = bus.client().await;
            asked.spawn(async move {
                let imaging = ImagingProxy::from(client.object("example.mainserver").deadline(PATIENCE));
                imaging.provision("node-1".into(), None, None).await.expect("a reply").status_code
            });
        }
        asked.join_all().await
    });
    let won = codes.iter().filter(|code| **code == 200).count();
    assert!(won == 1 && codes.iter().all(|code| [200, 409, 440].contains(code)), "{codes:?}");
}

/// Returns all files of a folder except the state and the log, with their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let about = path.metadata().expect("there");
            if about.is_dir() {
                folders.push(path);
            } else if !path.ends_with("state.redb") && !path.ends_with("audit.log") {
                found.push((path, about.len()));
            }
        }
    }
    found.sort();
    found
}

/// Points at which the server aborts, each with a request, and whether the next start undoes the request (or completes
/// it).
const PLACES: [(&str, &[&str], bool); 24] = [
    ("provision.MakeDisk.before", &["provision", "node-1"], true),
    ("provision.MakeDisk.within", &["provision", "node-1"], true),
    ("provision.MakeDisk.after", &["provision", "node-1"], true),
    ("provision.HandOut.before", &["provision", "node-1"], true),
    ("provision.HandOut.after", &["provision", "node-1"], true),
    ("detach_node.TakeBack.before", &["detach_node", "node-0"], false),
    ("detach_node.TakeBack.after", &["detach_node", "node-0"], false),
    ("detach_node.RemoveDisk.before", &["detach_node", "node-0"], false),
    ("detach_node.RemoveDisk.after", &["detach_node", "node-0"], false),
    ("create_snapshot.TakeSnapshot.before", &["create_snapshot", "hadoopMaster.img", "s"], true),
    ("create_snapshot.TakeSnapshot.within", &["create_snapshot", "hadoopMaster.img", "s"], true),
    ("create_snapshot.TakeSnapshot.after", &["create_snapshot", "hadoopMaster.img", "s"], true),
    ("remove_snaps.RemoveSnapshot.before", &["remove_snaps", "hadoopMaster.img", "old"], false),
    ("remove_snaps.RemoveSnapshot.after", &["remove_snaps", "hadoopMaster.img", "old"], false),
    ("import.Import.before", &["import", "new"], true),
    ("import.Import.within", &["import", "new"], true),
    ("import.Import.after", &["import", "new"], true),
    ("export.Export.before", &["export", "hadoopMaster.img", "old", "out"], true),
    ("export.Export.within", &["export", "hadoopMaster.img", "old", "out"], true),
    ("remove_image.RemoveImage.before", &["remove_image", "plain.img"], false),
    ("remove_image.RemoveImage.after", &["remove_image", "plain.img"], false),
    ("export.Export.after", &["export", "hadoopMaster.img", "old", "out"], true),
    ("rename.Rename.before", &["rename", "hadoopMaster.img", "b.img"], true),
    ("rename.Rename.after", &["rename", "hadoopMaster.img", "b.img"], true),
];

#[test]
fn server_killed_at_any_step_completes_or_undoes_the_operation() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                while let Some((place, args, taken_back)) =
                    PLACES.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
                {
                    killed_at(place, args, *taken_back);
                }
            });
        }
    });
}

fn killed_at(place: &str, args: &[&str], taken_back: bool) {
    let bus = bus();
    let (directory, folder) = folder();
    std::fs::write(folder.join("images/plain.img"), b"plain").expect("written");
    let mut first = server(&bus, directory.path(), None);
    bus.ok(&["imaging", "create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage"]);
    bus.ok(&["imaging", "create_snapshot", "hadoopMaster.img", "old"]);
    bus.ok(&["imaging", "provision", "node-0"]);
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.exit_code(), 0);
    let before = files(&folder);
    let mut halted = server(&bus, directory.path(), Some(place));
    let request = ["--request", "0192f7c4-a0b1-7d3c-8f60-a1b2c3d4e5f6"];
    let asking = Server::spawn(&mut bus.command(&[&["imaging"], args, &request].concat()));
    let began = std::time::Instant::now();
    while halted.is_running() {
        assert!(began.elapsed() < PATIENCE, "{place} was not reached");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    asking.kill();
    let _again = server(&bus, directory.path(), None);
    let log = std::fs::read_to_string(folder.join("audit.log")).expect("a log");
    assert!(log.contains("it was interrupted"), "{place}: {log}");
    if taken_back {
        assert_eq!(files(&folder), before, "{place}");
        assert_eq!(nodes(&bus), json!([["node-0", "ready"]]), "{place}");
    } else {
        assert!(files(&folder).len() < before.len(), "{place}");
    }
    // Repeats the request: it gets the first reply, or is executed now.
    let done = bus.run(&[&["imaging"], args, &request].concat());
    assert_eq!(done.code, 0, "{place}: {done:?}");
    match args[0] {
        "provision" => assert_eq!(nodes(&bus), json!([["node-0", "ready"], ["node-1", "ready"]])),
        "detach_node" => assert_eq!(nodes(&bus), json!([])),
        _ => {}
    }
}
