//! `rantai init site`: what it writes is complete, private, and starts as it says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{Done, Server, finish, rantai};

/// `rantai init` in this folder, below a umask that lets everybody in.
fn init(arguments: &[&str], folder: &Path) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" init \"$@\"", env!("CARGO_BIN_EXE_rantai")]).args(arguments);
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(folder))
}

/// A folder with the site `site`, for a server that is called localhost.
fn with_site() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let done = init(&["site", "--host", "localhost", "--port", "8899"], folder.path());
    assert_eq!(done.code, 0, "{done:?}");
    folder
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

/// Every file below a folder, with its mode.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut modes: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("there").permissions().mode() & 0o777;
            (entry.file_name().into_string().expect("UTF-8"), mode)
        })
        .collect();
    modes.sort();
    modes
}

/// The only listener that this test needs: nothing else on the machine is to be disturbed.
fn on_free_ports(folder: &Path) {
    let file = folder.join("site/broker.toml");
    let text = read(&file);
    let free = text.replace("127.0.0.1:1883", "127.0.0.1:0").replace("0.0.0.0:8899", "127.0.0.1:0");
    assert_eq!(free.matches("127.0.0.1:0").count(), 2, "{text}");
    let tcp = free.replace("protocol = \"tls\"", "protocol = \"tcp\"");
    let tcp = tcp.replace("\ncertificate =", "\n#certificate =").replace("\nkey =", "\n#key =");
    fs::write(&file, tcp).expect("written");
}

#[test]
fn only_their_owner_may_read_its_files_under_any_umask() {
    let folder = with_site();
    let site = folder.path().join("site");
    assert_eq!(modes(folder.path()), [("site".to_owned(), 0o700)]);
    let expected = [
        ("admin.password", 0o600),
        ("broker.toml", 0o600),
        ("ca.key", 0o600),
        ("ca.pem", 0o644),
        ("caller.password", 0o600),
        ("crl.pem", 0o644),
        ("issued", 0o600),
        ("node.password", 0o600),
        ("nodes.toml", 0o600),
        ("passwords", 0o600),
        ("server.key", 0o600),
        ("server.pem", 0o644),
    ];
    assert_eq!(modes(&site), expected.map(|(name, mode)| (name.to_owned(), mode)));
    let passwords = ["admin", "node", "caller"].map(|user| read(&site.join(format!("{user}.password"))));
    let records = read(&site.join("passwords"));
    for password in &passwords {
        assert_eq!(password.trim().len(), 24, "{password}");
        assert!(!records.contains(password.trim()), "records alone");
        assert_eq!(passwords.iter().filter(|other| *other == password).count(), 1, "drawn for each");
    }
}

#[test]
fn nothing_that_is_there_is_replaced_without_force() {
    let folder = with_site();
    let site = folder.path().join("site");
    let before = read(&site.join("ca.key"));
    let again = init(&["site"], folder.path());
    assert!(again.code == 2 && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(read(&site.join("ca.key")), before);
    assert_eq!(init(&["site", "--force"], folder.path()).code, 0);
    assert_ne!(read(&site.join("ca.key")), before);
    // Somebody's configuration alone counts, too.
    let other = tempfile::tempdir().expect("a folder");
    fs::write(other.path().join("nodes.toml"), "# mine\n").expect("written");
    let refused = init(&["site", "."], other.path());
    assert!(refused.code == 2 && refused.stderr.contains("nodes.toml"), "{refused:?}");
    assert_eq!(read(&other.path().join("nodes.toml")), "# mine\n");
}

#[test]
fn what_it_prints_are_commands_for_the_names_it_was_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = ["site", "my site", "--host", "bus.lab.example", "--host", "192.168.1.5", "--port", "8884"];
    let done = init(&named, folder.path());
    assert_eq!(done.code, 0, "{done:?}");
    let commands: Vec<&str> = done.stdout.lines().filter_map(|line| line.strip_prefix("  rantai ")).collect();
    let up =
        "up --broker-config 'my site/broker.toml' --config 'my site/nodes.toml' --data-dir 'my site/data'";
    assert_eq!(commands.len(), 3, "{done:?}");
    assert_eq!(commands[0], up);
    assert!(
        commands[1].contains("--broker mqtts://bus.lab.example:8884 --ca ca.pem --user caller"),
        "{done:?}"
    );
    assert_eq!(commands[2], "call calculator.add 2 3 --context site");
    let shown = finish(rantai().args(["cert", "show", "my site/server.pem"]).current_dir(folder.path()));
    assert!(shown.stdout.contains("bus.lab.example, 192.168.1.5, localhost, 127.0.0.1, ::1"), "{shown:?}");
    let wrong = init(&["site", "other", "--host", "mqtts://pi"], folder.path());
    assert!(wrong.code == 2 && wrong.stderr.contains("name or address alone"), "{wrong:?}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn its_broker_and_objects_start_and_each_user_may_what_its_role_says() {
    let folder = with_site();
    on_free_ports(folder.path());
    let mut up = rantai();
    up.args([
        "up",
        "--broker-config",
        "site/broker.toml",
        "--config",
        "site/nodes.toml",
        "--data-dir",
        "site/data",
    ]);
    let mut server = Server::spawn(up.current_dir(folder.path()));
    let line = server.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    server.wait_for("ready");
    let by = |user: &str, arguments: &[&str]| {
        let file = format!("site/{user}.password");
        let login = ["--broker", &url, "--user", user, "--password-file", &file];
        finish(rantai().args(arguments).args(login).current_dir(folder.path()))
    };
    let sum = by("caller", &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim(), &*sum.stderr), (0, "5", ""), "{sum:?}");
    let nobody = finish(rantai().args(["ls", "--broker", &url]));
    assert_eq!(nobody.code, 4, "{nobody:?}");
    let reload = |user| by(user, &["admin", "reload", "--json"]);
    assert_eq!((reload("caller").code, reload("node").code, reload("admin").code), (4, 4, 0));
    // Objects of another machine, with the same file.
    let config = read(&folder.path().join("site/nodes.toml"));
    fs::write(folder.path().join("site/more.toml"), config.replace("\"echo\"", "\"echo.more\""))
        .expect("written");
    let mut serve = rantai();
    serve.args(["serve", "echo.more", "--config", "site/more.toml", "--broker", &url]);
    let mut node = Server::spawn(serve.current_dir(folder.path()));
    node.wait_for("serving echo.more");
    let refused = by("caller", &["serve", "server"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.exit_code(), 0);
}

/// The additions that docs/workshop.md makes to broker.toml.
#[test]
fn a_workshop_adds_students_and_devices() {
    let folder = with_site();
    let guide = include_str!("../../../../docs/workshop.md");
    let additions: String =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(additions.matches("[[").count(), 3, "{additions}");
    let file = folder.path().join("site/broker.toml");
    fs::write(&file, format!("{}{additions}", read(&file))).expect("written");
    for user in ["ada", "sensor-1", "sensor-2"] {
        let mut command = rantai();
        command.args(["passwd", "site/passwords", user, "--generate"]).current_dir(folder.path());
        assert_eq!(finish(&mut command).code, 0);
    }
    for (user, topic, code) in [
        ("ada", "rantai/call/calculator/add", 0),
        ("ada", "rantai/call/student.budi/greet", 0),
        ("ada", "rantai/name/calculator/ada", 1),
        ("ada", "rantai/call/tasks/submit", 1),
        ("sensor-1", "rantai/call/calculator/add", 0),
    ] {
        let mut command = rantai();
        command.args(["acl", "test", user, "write", topic, "--config", "site/broker.toml"]);
        let done = finish(command.current_dir(folder.path()));
        assert_eq!(done.code, code, "{user} {topic}: {done:?}");
    }
}
