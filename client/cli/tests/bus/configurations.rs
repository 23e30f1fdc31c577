//! Built-in configurations: the binary alone, in an empty directory.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::process::{Done, Server, bus, buses_below, finish, rantai};

/// Starts `rantai up` on a free port, in `directory`.
fn up(directory: &Path, arguments: &[&str]) -> (Server, String) {
    let mut up = Server::spawn(rantai().args(["up", "--port", "0"]).args(arguments).current_dir(directory));
    let line = up.wait_for("listening on ");
    up.wait_for("ready");
    (up, format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim()))
}

fn run(directory: &Path, url: &str, arguments: &[&str]) -> Done {
    finish(rantai().args(arguments).env("RANTAI_BROKER", url).current_dir(directory))
}

fn files(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn each_configuration_is_served_by_its_name() {
    let listed = finish(rantai().args(["config", "ls", "--json"]));
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let known = listed.as_array().expect("a list").iter().map(|c| c["name"].as_str().expect("a name"));
    let known: Vec<&str> = known.filter(|name| !["broker", "gateway", "pyro"].contains(name)).collect();
    for name in ["nodes", "circular", "imaging", "insult", "library", "telemetry", "upcall"] {
        assert!(known.contains(&name), "{known:?}");
    }
    // On separate buses, because names are unique on a bus.
    let buses = buses_below((0..known.len()).map(|number| number.to_string()));
    for (bus, name) in buses.iter().zip(known) {
        let directory = tempfile::tempdir().expect("a directory");
        let objects = listed.as_array().expect("a list").iter().find(|c| c["name"] == name).expect("known");
        let mut node = Server::spawn(bus.command(&["serve", "--config", name]).current_dir(&directory));
        for object in objects["objects"].as_array().expect("a list") {
            node.wait_for(&format!("serving {} ", object.as_str().expect("a name")));
        }
    }
}

#[test]
fn the_library_lends_its_books_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let temporary = tempfile::tempdir().expect("a directory");
    let mut command = rantai();
    command.args(["up", "--port", "0", "--config", "library"]).env("TMPDIR", temporary.path());
    let mut up = Server::spawn(command.current_dir(&directory));
    let line = up.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    up.wait_for("ready");
    let lent = run(directory.path(), &url, &["library", "borrow", "Programming GO"]);
    assert_eq!(lent.code, 0, "{lent:?}");
    let book = std::fs::read_to_string(directory.path().join("received.txt")).expect("lent");
    assert!(book.starts_with("Programming GO"), "{book}");
    up.signal(Signal::TERM);
    assert_eq!(up.exit_code(), 0);
    assert_eq!(files(directory.path()), ["received.txt"]);
    assert_eq!(files(temporary.path()), [""; 0]);
}

#[test]
fn a_data_dir_has_the_books_and_keeps_what_was_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--config", "library", "--data-dir", "data"];
    let (mut first, _) = up(directory.path(), &arguments);
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code(), 0);
    let book = directory.path().join("data/books/mytext.txt");
    assert!(std::fs::read_to_string(&book).expect("written").starts_with("Programming GO"));
    std::fs::write(&book, "a second edition").expect("changed");
    let (_up, url) = up(directory.path(), &arguments);
    assert_eq!(run(directory.path(), &url, &["get", "books", "mytext.txt"]).code, 0);
    let fetched = std::fs::read_to_string(directory.path().join("mytext.txt")).expect("fetched");
    assert_eq!(fetched, "a second edition");
}

#[test]
fn imaging_creates_disks_in_the_data_dir_and_as_tasks() {
    let directory = tempfile::tempdir().expect("a directory");
    let images = directory.path().join("data/imaging/images");
    std::fs::create_dir_all(&images).expect("made");
    std::fs::write(images.join("hadoopMaster.img"), vec![7; 4096]).expect("written");
    let (_up, url) = up(directory.path(), &["--config", "imaging", "--data-dir", "data"]);
    let snapshot = ["imaging", "create_snapshot", "hadoopMaster.img", "HadoopMasterGoldenImage"];
    assert_eq!(run(directory.path(), &url, &snapshot).code, 0);
    let task = ["task", "submit", "example.mainserver.provision", "node-1", "--wait"];
    let task = run(directory.path(), &url, &task);
    assert_eq!(task.code, 0, "{task:?}");
    assert_eq!(files(directory.path()), ["data"]);
}

/// The examples in the help, such as that of `rantai task`, work with an unmodified `rantai up`.
#[test]
fn default_configuration_serves_the_examples_of_help() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_up, url) = up(directory.path(), &[]);
    for (arguments, expected) in [
        (&["task", "submit", "pages.add", "4", "120", "--wait"][..], "124\n"),
        (&["call", "calculator.add", "2", "3"], "5\n"),
        (&["calc", "--op", "add", "-a", "2", "-b", "3"], "add(2.0,3.0) = 5.0\n"),
        (&["call", "server.welcomeMessage", "Dune"], "Buku dengan judul Dune berhasil dibeli!\n"),
        (&["call", "echo.echo", "[1,2]"], "[1,2]\n"),
    ] {
        let done = run(directory.path(), &url, arguments);
        assert_eq!((done.code, &*done.stdout), (0, expected), "{arguments:?}: {done:?}");
    }
}

/// The help of the other commands names the configuration with the objects of their examples.
#[test]
fn help_names_the_configuration_that_its_examples_need() {
    for (command, configuration) in [
        (&["library"][..], "library"),
        (&["files"], "library"),
        (&["get"], "library"),
        (&["bench", "file"], "library"),
        (&["imaging"], "imaging"),
        (&["insult"], "insult"),
        (&["upcall"], "upcall"),
        (&["sub"], "telemetry"),
        (&["watch"], "telemetry"),
    ] {
        let help = finish(rantai().args(command).arg("--help")).stdout;
        assert!(help.contains(&format!("rantai up --config {configuration}")), "{command:?}: {help}");
    }
}

#[test]
fn a_path_is_a_file_and_a_bare_name_is_built_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = "[[echo]]\nname = \"mine\"\n";
    std::fs::write(directory.path().join("library"), file).expect("written");
    std::fs::write(directory.path().join("mine"), file).expect("written");
    let bus = bus();
    let serve = |arguments: &[&str]| -> Command {
        let mut command = bus.command(&[&["serve"], arguments].concat());
        command.current_dir(&directory);
        command
    };
    // Unknown names end the start, with the name in the error.
    for (config, expected) in [
        ("library", "built-in configuration library has no object"),
        ("./library", "./library has no object"),
        ("mine", "mine has no object"),
    ] {
        let done = finish(&mut serve(&["nothing.of.it", "--config", config]));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(expected), "{config}: {done:?}");
    }
    for (arguments, expected) in [
        (&["--config", "libary"][..], "no built-in configuration \"libary\"; did you mean library?"),
        (&["--config", "nothing"], "`rantai config ls` lists them"),
        (&["--config", "config/library.toml"], "--config library is built in"),
        (&["--config", "broker"], "--broker-config"),
        (&["lending"], "`rantai serve lending --config library`"),
    ] {
        let done = finish(&mut serve(arguments));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(expected), "{arguments:?}: {done:?}");
    }
}

#[test]
fn error_of_a_missing_object_names_its_configuration() {
    let bus = bus();
    for (arguments, expected) in [
        (&["library", "checkout"][..], "rantai up --config library"),
        (&["files", "books"], "rantai up --config library"),
        (&["imaging", "list_nodes"], "rantai up --config imaging"),
        (&["insult", "list"], "rantai up --config insult"),
        (&["upcall", "hello", "--no-log"], "rantai up --config upcall"),
        (&["call", "sister.read"], "rantai up --config telemetry"),
        (&["task", "list"], "rantai serve tasks"),
    ] {
        // At once. Regression: the command looked for the object until its time limit.
        let done = bus.run(&[arguments, &["--timeout", "10m"]].concat());
        assert_eq!(done.code, 5, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(expected), "{arguments:?}: {done:?}");
    }
}

#[test]
fn config_show_prints_the_configuration_unchanged() {
    for (name, text) in [
        ("library", include_str!("../../../../config/library.toml")),
        ("broker", include_str!("../../../../config/broker.toml")),
    ] {
        assert_eq!(finish(rantai().args(["config", "show", name])).stdout, text);
    }
    let unknown = finish(rantai().args(["config", "show", "libary"]));
    assert!(unknown.code == 2 && unknown.stderr.contains("did you mean library?"), "{unknown:?}");
    let listed = finish(rantai().args(["config", "ls"])).stdout;
    assert!(listed.lines().any(|line| line.starts_with("library") && line.ends_with("tasks")), "{listed}");
}

#[test]
fn the_broker_takes_its_built_in_settings_by_name() {
    let mut broker = Server::spawn(rantai().args(["broker", "--port", "0", "--config", "broker"]));
    broker.wait_for("listening on ");
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), 0);
}
