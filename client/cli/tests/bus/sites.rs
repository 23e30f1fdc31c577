//! `rantai init site`: the written site is complete, private, and starts with the printed command.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{Done, Server, finish, rantai};

/// Runs `rantai init` in this folder, with a umask that permits everything.
fn init(arguments: &[&str], folder: &Path) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" init \"$@\"", env!("CARGO_BIN_EXE_rantai")]).args(arguments);
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(folder))
}

/// Creates a folder with the site `site`, for a server named localhost.
fn with_site() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let done = init(&["site", "--host", "localhost", "--port", "8899"], folder.path());
    assert_eq!(done.code, 0, "{done:?}");
    folder
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

/// Returns all files below a folder, with their modes.
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

/// Site that runs as it was written, except for its ports, so that nothing else on the machine is disturbed.
struct Running {
    folder: TempDir,
    server: Server,
    /// Port for TLS, and port for this machine.
    ports: [String; 2],
}

/// Starts the site by the command that `rantai init` has printed.
fn start(folder: TempDir) -> Running {
    let file = folder.path().join("site/broker.toml");
    let text = read(&file);
    let free = text.replace("127.0.0.1:1883", "127.0.0.1:0").replace("0.0.0.0:8899", "127.0.0.1:0");
    assert_eq!(free.matches("127.0.0.1:0").count(), 2, "{text}");
    fs::write(&file, free).expect("written");
    let mut up = rantai();
    let files =
        ["--broker-config", "site/broker.toml", "--config", "site/nodes.toml", "--data-dir", "site/data"];
    let mut server = Server::spawn(up.arg("up").args(files).current_dir(folder.path()));
    server.wait_for("ready");
    let said = server.said().to_vec();
    let mut ports = said.iter().filter_map(|line| line.split("listening on 127.0.0.1:").nth(1));
    let [local, tls] =
        [ports.next(), ports.next()].map(|port| port.expect("two listeners").trim().to_owned());
    let nodes = folder.path().join("site/nodes.toml");
    fs::write(&nodes, read(&nodes).replace(":8899", &format!(":{tls}"))).expect("written");
    Running { folder, server, ports: [tls, local] }
}

impl Running {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Creates a command in the folder of the site, with its own contexts.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = rantai();
        command.args(arguments).current_dir(self.path()).env("XDG_CONFIG_HOME", self.path().join("config"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        finish(&mut self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    }

    /// Creates a command that logs in by TLS, with a password file of the site.
    fn by(&self, user: &str, arguments: &[&str]) -> Command {
        let (url, file) = (self.url(), format!("site/{user}.password"));
        let login = ["--broker", &url, "--ca", "site/ca.pem", "--user", user, "--password-file", &file];
        self.command(&[arguments, &login].concat())
    }

    fn url(&self) -> String {
        format!("mqtts://localhost:{}", self.ports[0])
    }
}

/// Creates a random password for a user, which is stored beside those of the site's own users.
fn add_user(folder: &Path, user: &str) {
    let mut command = rantai();
    command.args(["passwd", "site/passwords", user, "--generate"]).current_dir(folder);
    let drawn = finish(&mut command);
    assert_eq!(drawn.code, 0, "{drawn:?}");
    let file = folder.join(format!("site/{user}.password"));
    fs::write(&file, drawn.stdout).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
}

#[test]
fn site_files_are_private_under_any_umask() {
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
fn existing_site_is_replaced_only_with_force() {
    let folder = with_site();
    let site = folder.path().join("site");
    let before = read(&site.join("ca.key"));
    let again = init(&["site"], folder.path());
    assert!(again.code == 2 && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(read(&site.join("ca.key")), before);
    assert_eq!(init(&["site", "--force"], folder.path()).code, 0);
    assert_ne!(read(&site.join("ca.key")), before);
    // An existing configuration of the user alone counts, too.
    let other = tempfile::tempdir().expect("a folder");
    fs::write(other.path().join("nodes.toml"), "# mine\n").expect("written");
    let refused = init(&["site", "."], other.path());
    assert!(refused.code == 2 && refused.stderr.contains("nodes.toml"), "{refused:?}");
    assert_eq!(read(&other.path().join("nodes.toml")), "# mine\n");
}

#[test]
fn printed_commands_use_the_given_host_names() {
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
fn equal_or_invalid_ports_of_a_site_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for ports in
        [&["--port", "0"][..], &["--local-port", "0"], &["--port", "1883"], &["--local-port", "8883"]]
    {
        let done = init(&[&["site"], ports].concat(), folder.path());
        assert!(done.code == 2 && done.stderr.contains("port"), "{ports:?}: {done:?}");
    }
    assert!(!folder.path().join("site").exists());
}

/// Earlier secrets may have been readable for a group, or be links created by others.
#[test]
fn with_force_secrets_are_new_private_files() {
    let folder = with_site();
    let site = folder.path().join("site");
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "theirs").expect("written");
    for name in ["passwords", "server.key", "broker.toml"] {
        fs::set_permissions(site.join(name), fs::Permissions::from_mode(0o664)).expect("set");
    }
    for name in ["ca.key", "admin.password", "nodes.toml", "ca.pem"] {
        fs::remove_file(site.join(name)).expect("removed");
        symlink(&theirs, site.join(name)).expect("linked");
    }
    assert_eq!(init(&["site", "--force"], folder.path()).code, 0);
    assert_eq!(read(&theirs), "theirs");
    for (name, mode) in modes(&site) {
        let is_public = ["ca.pem", "crl.pem", "server.pem"].contains(&&*name);
        assert_eq!(mode, if is_public { 0o644 } else { 0o600 }, "{name}");
        assert!(!site.join(&name).is_symlink(), "{name}");
    }
}

/// The printed commands, which use TLS with the site's own authority.
#[test]
fn printed_commands_of_a_site_work_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = init(&["site", "--host", "localhost", "--port", "8899"], folder.path());
    assert_eq!(done.code, 0, "{done:?}");
    let printed: Vec<&str> = done.stdout.lines().filter_map(|line| line.strip_prefix("  rantai ")).collect();
    let site = start(folder);
    assert_eq!(
        printed[0], "up --broker-config site/broker.toml --config site/nodes.toml --data-dir site/data",
        "as it was started"
    );
    for file in ["ca.pem", "caller.password"] {
        fs::copy(site.path().join("site").join(file), site.path().join(file)).expect("copied");
    }
    let add = printed[1].replace(":8899", &format!(":{}", site.ports[0]));
    site.ok(&add.split(' ').collect::<Vec<_>>());
    let sum = site.ok(&printed[2].split(' ').collect::<Vec<_>>());
    assert_eq!((sum.stdout.trim(), &*sum.stderr), ("5", ""), "{sum:?}");
    let stranger = site.run(&["ls", "--broker", &site.url()]);
    assert!(stranger.code == 3 && stranger.stderr.contains("does not trust"), "{stranger:?}");
}

#[test]
fn site_starts_and_each_user_has_the_rights_of_its_role() {
    let mut site = start(with_site());
    let run = |user: &str, arguments: &[&str]| finish(&mut site.by(user, arguments));
    let sum = run("caller", &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim(), &*sum.stderr), (0, "5", ""), "{sum:?}");
    let nobody = site.run(&["ls", "--broker", &site.url(), "--ca", "site/ca.pem"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
    let here = format!("mqtt://localhost:{}", site.ports[1]);
    let here =
        site.run(&["ls", "--broker", &here, "--user", "caller", "--password-file", "site/caller.password"]);
    assert!(here.code == 0 && here.stderr.is_empty(), "without TLS on this machine: {here:?}");
    let reload = |user| run(user, &["admin", "reload", "--json"]).code;
    assert_eq!((reload("caller"), reload("node"), reload("admin")), (4, 4, 0));
    let refused = run("caller", &["serve", "server"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    // Objects on another machine, with the same file as written.
    let config = read(&site.path().join("site/nodes.toml"));
    fs::write(site.path().join("site/more.toml"), config.replace("\"echo\"", "\"echo.more\""))
        .expect("written");
    let mut node = Server::spawn(&mut site.command(&["serve", "echo.more", "--config", "site/more.toml"]));
    node.wait_for("serving echo.more");
    let echoed = run("caller", &["call", "echo.more.echo", "halo"]);
    assert_eq!((echoed.code, echoed.stdout.trim()), (0, "halo"), "{echoed:?}");
    site.server.signal(rustix::process::Signal::TERM);
    assert_eq!(site.server.exit_code(), 0);
}

/// A certificate identifies its user: the password of a context or of nodes.toml, which belongs to another user, is not
/// sent.
#[test]
fn certificate_on_the_command_line_determines_the_user() {
    let folder = with_site();
    let file = folder.path().join("site/broker.toml");
    let text = read(&file).replace("#client_", "client_").replace("#revocations", "revocations");
    fs::write(&file, format!("{text}\n[[users]]\nname = \"ada\"\nroles = [\"admin\"]\n")).expect("written");
    let site = start(folder);
    site.ok(&["cert", "client", "site", "ada"]);
    let url = site.url();
    let add = ["context", "add", "site", "--broker", &url, "--ca", "site/ca.pem", "--user", "caller"];
    site.ok(&[&add[..], &["--password-file", "site/caller.password"]].concat());
    let reload = ["admin", "reload", "--context", "site"];
    assert_eq!(site.run(&reload).code, 4, "as caller");
    let (cert, key) = ("site/clients/ada.pem", "site/clients/ada.key");
    site.ok(&[&reload[..], &["--cert", cert, "--key", key]].concat());
    let environment = |mut command: Command| finish(command.env("RANTAI_CERT", cert).env("RANTAI_KEY", key));
    let done = environment(site.command(&reload));
    assert_eq!(done.code, 0, "{done:?}");
    // A user named in addition must be the same.
    let two = site.run(&[&reload[..], &["--cert", cert, "--key", key, "--user", "caller"]].concat());
    assert_eq!(two.code, 4, "{two:?}");
    let config = read(&site.path().join("site/nodes.toml"));
    fs::write(site.path().join("site/more.toml"), config.replace("\"echo\"", "\"echo.more\""))
        .expect("written");
    let serve = ["serve", "echo.more", "--config", "site/more.toml", "--node", "ada--east"];
    let mut node = Server::spawn(site.command(&serve).args(["--cert", cert, "--key", key]));
    node.wait_for("serving echo.more");

    let alone = site.run(&["ls", "--context", "site", "--cert", cert]);
    assert!(alone.code == 2 && alone.stderr.contains("--key or RANTAI_KEY"), "{alone:?}");
    let alone = site.run(&["ls", "--context", "site", "--key", key]);
    assert!(alone.code == 2 && alone.stderr.contains("--cert or RANTAI_CERT"), "{alone:?}");
    let kept = site.run(&["context", "add", "ada", "--broker", &url, "--cert", cert]);
    assert!(kept.code == 2 && kept.stderr.contains("--key"), "{kept:?}");
    let both = read(&site.path().join(cert)) + &read(&site.path().join(key));
    fs::write(site.path().join("both.pem"), both).expect("written");
    fs::set_permissions(site.path().join("both.pem"), fs::Permissions::from_mode(0o600)).expect("set");
    site.ok(&["ls", "--context", "site", "--cert", "both.pem"]);
}

/// Creates a site with the additions that docs/workshop.md makes to broker.toml.
fn with_workshop(users: &[&str]) -> TempDir {
    let folder = with_site();
    let guide = include_str!("../../../../docs/workshop.md");
    let blocks = guide.split("<!-- append: site/broker.toml -->\n```toml\n").skip(1);
    let additions: String = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(additions.matches("[[").count() >= 5, "{additions}");
    let additions = additions.replace("0.0.0.0:1884", "127.0.0.2:0");
    let file = folder.path().join("site/broker.toml");
    fs::write(&file, format!("{}{additions}", read(&file))).expect("written");
    for user in users {
        add_user(folder.path(), user);
    }
    folder
}

#[test]
fn a_workshop_adds_students_and_devices() {
    let folder = with_workshop(&["ada", "sensor-1"]);
    for (user, topic, code) in [
        ("ada", "rantai/call/calculator/add", 0),
        ("ada", "rantai/call/student.budi/greet", 0),
        ("ada", "rantai/name/student.ada/ada--1", 0),
        ("ada", "rantai/name/student.budi/ada--1", 1),
        ("ada", "rantai/name/student.ada.more/ada--1", 1),
        ("ada", "rantai/event/student.budi/greeted", 1),
        ("ada", "rantai/name/calculator/ada--1", 1),
        ("ada", "rantai/call/tasks/submit", 1),
        ("sensor-1", "rantai/call/calculator/add", 0),
    ] {
        let id = format!("{user}--1");
        let mut command = rantai();
        command.args([
            "acl",
            "test",
            user,
            "write",
            topic,
            "--client-id",
            &id,
            "--config",
            "site/broker.toml",
        ]);
        let done = finish(command.current_dir(folder.path()));
        assert_eq!(done.code, code, "{user} {topic}: {done:?}");
    }
}

/// One of two students tries to take over the other's object, in every way that exists.
#[test]
fn student_cannot_disturb_the_object_of_another_student() {
    let site = start(with_workshop(&["ada", "budi", "citra", "sensor-1"]));
    let object = |name: &str| format!("[[echo]]\nname = \"{name}\"\n");
    for user in ["ada", "budi"] {
        fs::write(site.path().join(format!("{user}.toml")), object(&format!("student.{user}")))
            .expect("written");
    }
    fs::write(site.path().join("theft.toml"), object("student.budi")).expect("written");
    let serve = |user: &str, file: &str| Server::spawn(&mut site.by(user, &["serve", "--config", file]));
    let (mut budi, mut ada) = (serve("budi", "./budi.toml"), serve("ada", "./ada.toml"));
    budi.wait_for("serving student.budi");
    ada.wait_for("serving student.ada");
    let greeted = |caller: &str, object: &str| {
        let done = finish(&mut site.by(caller, &["call", &format!("{object}.echo"), "halo"]));
        assert_eq!((done.code, done.stdout.trim()), (0, "halo"), "{caller} {object}: {done:?}");
    };
    greeted("ada", "student.budi");
    greeted("budi", "student.ada");
    // Serving the name, with and without requesting it; a node with budi's id; forged entries, and an event.
    for how in ["--replica", "--replace"] {
        let mut theft = site.by("ada", &["serve", how, "--config", "./theft.toml"]);
        let done = finish(&mut theft);
        assert!(done.code != 0 && !done.stderr.contains("serving student.budi"), "{how}: {done:?}");
    }
    let listed = finish(&mut site.by("ada", &["ls", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let id = node_of(&listed, "student.budi");
    assert!(id.starts_with("budi--"), "{listed}");
    let mut same = site.by("ada", &["serve", "--config", "./ada.toml", "--node", &id]);
    assert_eq!(finish(&mut same).code, 4);
    for (topic, payload) in [
        (format!("rantai/name/student.budi/{id}"), ""),
        (format!("rantai/node/{id}"), "{}"),
        ("rantai/event/student.budi/greeted".to_owned(), "{}"),
    ] {
        let done = finish(&mut site.by("ada", &["pub", &topic, payload, "--retain"]));
        assert_eq!(done.code, 4, "{topic}: {done:?}");
    }
    // Ada may call the object, but a call that asks it to give the name up has no effect.
    site.by("ada", &["pub", &format!("rantai/at/{id}/student.budi/rpc.yield"), "[]"])
        .output()
        .expect("it runs");
    let read = finish(&mut site.by("ada", &["sub", "rantai/call/student.budi/#", "--count", "1"]));
    assert_eq!(read.code, 4, "{read:?}");
    // Ada receives only the replies to her own clients, whatever she subscribes to.
    let mut curious = Server::spawn(
        &mut site.by("ada", &["sub", "rantai/reply/student.budi/#", "rantai/name/student.ada/+"]),
    );
    curious.wait_for("student.ada");
    greeted("citra", "student.budi");
    greeted("ada", "student.budi");
    assert!(!curious.said().iter().any(|line| line.contains("halo")), "{:?}", curious.said());
    assert!(budi.is_running() && ada.is_running());
}

/// Returns the node that serves an object.
fn node_of(listed: &serde_json::Value, object: &str) -> String {
    let all = listed.as_array().expect("a list");
    let one = all.iter().find(|one| one["object"] == object || one["name"] == object);
    one.and_then(|one| one["node"].as_str()).unwrap_or_else(|| panic!("no {object}: {listed}")).to_owned()
}
