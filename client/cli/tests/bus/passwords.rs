//! Passwords, from the password file to the broker: `rantai passwd`, and logging in.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{Done, Server, broker, finish, rantai};
use super::terminal::terminal;

/// Creates a folder with the file `passwords`, in which ada has the password `rahasia`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let done = passwd(&["passwords", "ada", "--stdin"], "rahasia\n", folder.path());
    assert_eq!(done.code, 0, "{done:?}");
    folder
}

/// Runs `rantai passwd` with this input.
fn passwd(arguments: &[&str], stdin: &str, folder: &Path) -> Done {
    let input = folder.join("stdin");
    fs::write(&input, stdin).expect("written");
    let mut command = rantai();
    command.arg("passwd").args(arguments).current_dir(folder);
    finish(command.stdin(fs::File::open(&input).expect("opened")))
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("there").permissions().mode() & 0o777
}

/// Starts a broker that accepts the users of the folder's file.
fn closed(folder: &Path) -> (Server, String) {
    let config = folder.join("broker.toml");
    let text = "password_file = 'passwords'\nbus_roots = ['rantai', 'lab']\n\
                [[users]]\nname = 'ada'\nroles = ['node']\n";
    fs::write(&config, text).expect("written");
    broker(&["--port", "0", "--config", config.to_str().expect("UTF-8")])
}

/// Creates a command whose contexts are in `folder`.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = rantai();
    command.args(arguments).current_dir(folder).env("XDG_CONFIG_HOME", folder.join("config"));
    command
}

#[test]
fn a_key_is_printed_with_its_record() {
    let printed = || {
        let done = passwd(&["--key"], "", folder().path());
        let words: Vec<String> = done.stdout.split_whitespace().map(ToOwned::to_owned).collect();
        assert_eq!((done.code, words.len()), (0, 4), "{done:?}");
        (words[1].clone(), words[3].clone())
    };
    let (key, record) = printed();
    assert!(key.len() == 32 && record.starts_with("$sha256$") && !record.contains(&key), "{key} {record}");
    assert_ne!(printed().0, key);
}

#[test]
fn users_are_added_changed_verified_and_removed() {
    let folder = folder();
    let file = folder.path().join("passwords");
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.starts_with("ada:$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    let verify =
        |password: &str| passwd(&["--verify", "passwords", "ada", "--stdin"], password, folder.path());
    assert_eq!((verify("rahasia\n").code, verify("rahasiA\n").code), (0, 1));

    assert_eq!(passwd(&["passwords", "ani", "--stdin", "--mosquitto"], "lain", folder.path()).code, 0);
    assert_eq!(passwd(&["passwords", "ada", "--stdin"], "baru\r\n", folder.path()).code, 0);
    assert_eq!((verify("rahasia").code, verify("baru").code), (1, 0));
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.lines().count() == 2 && text.contains("\nani:$7$"), "{text}");

    let drawn = passwd(&["passwords", "budi", "--generate"], "", folder.path());
    assert_eq!((drawn.code, drawn.stdout.trim().len()), (0, 24), "{drawn:?}");
    let right = passwd(&["--verify", "passwords", "budi", "--stdin"], &drawn.stdout, folder.path());
    assert_eq!(right.code, 0, "{right:?}");
    assert_eq!(passwd(&["-D", "passwords", "budi"], "", folder.path()).code, 0);

    assert_eq!(passwd(&["-D", "passwords", "ada"], "", folder.path()).code, 0);
    assert_eq!(passwd(&["-D", "passwords", "ada"], "", folder.path()).code, 1);
    assert!(fs::read_to_string(&file).expect("read").starts_with("ani:"));
    let hash = passwd(&["--hash", "--stdin"], "rahasia", folder.path());
    assert!(hash.stdout.starts_with("$argon2id$"), "{hash:?}");

    for (arguments, stdin, told) in [
        (&["passwords", "a:b", "--stdin"][..], "x", "no ':'"),
        (&["passwords", "a/b", "--stdin"], "x", "no '/'"),
        (&["passwords", "+", "--stdin"], "x", "no '+'"),
        (&["passwords", "ada", "--stdin"], "\n", "the password is empty"),
        (&["passwords", "ada"], "x", "--stdin"),
        (&["-D", "nothing", "ada"], "", "no password file nothing"),
        (&["passwords"], "", "USER"),
    ] {
        let done = passwd(arguments, stdin, folder.path());
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(told), "{arguments:?}: {done:?}");
    }
}

#[test]
fn a_file_that_the_brokers_group_reads_stays_its_and_a_link_is_refused() {
    let folder = folder();
    let file = folder.path().join("passwords");
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
    let change = || passwd(&["passwords", "ada", "--generate"], "", folder.path());
    set(0o640);
    let kept = change();
    assert!(kept.code == 0 && mode(&file) == 0o640 && !kept.stderr.contains("chmod"), "{kept:?}");
    set(0o664);
    let shut = change();
    assert!(shut.code == 0 && mode(&file) == 0o640 && shut.stderr.contains("chgrp GROUP"), "{shut:?}");
    let link = folder.path().join("link");
    symlink(&file, &link).expect("linked");
    let before = fs::read_to_string(&file).expect("read");
    for arguments in [&["link", "ani", "--generate"][..], &["-D", "link", "ada"]] {
        let refused = passwd(arguments, "", folder.path());
        assert!(refused.code == 1 && refused.stderr.contains("it is a symbolic link"), "{refused:?}");
    }
    assert!(link.is_symlink() && fs::read_to_string(&file).expect("read") == before);
}

/// As root, the file keeps the broker's user and group.
#[test]
fn owner_and_group_of_a_file_are_kept() {
    let folder = folder();
    let file = folder.path().join("passwords");
    let is_root = fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
    // Only root can change the owner; a user can set one of their own groups.
    let (uid, gid) =
        if is_root { (65_534, 65_534) } else { (file.metadata().expect("there").uid(), own_group()) };
    chown(&file, Some(uid), Some(gid)).expect("given");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
    assert_eq!(passwd(&["passwords", "ani", "--generate"], "", folder.path()).code, 0);
    let about = file.metadata().expect("there");
    assert_eq!((about.uid(), about.gid(), about.mode() & 0o777), (uid, gid, 0o640));
}

/// Returns the last of the groups of this process.
fn own_group() -> u32 {
    let groups = rustix::process::getgroups().expect("groups");
    groups.last().map_or_else(|| rustix::process::getegid().as_raw(), |group| group.as_raw())
}

#[test]
fn context_replaces_a_symbolic_link() {
    let folder = folder();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "broker = 'mqtt://elsewhere'\n").expect("written");
    let add = ["context", "add", "school", "--broker", "mqtt://pi", "--user", "ada", "--replace"];
    assert_eq!(finish(&mut command(folder.path(), &add)).code, 0);
    let file = folder.path().join("config/rantai/contexts/school.toml");
    fs::remove_file(&file).expect("removed");
    symlink(&theirs, &file).expect("linked");
    let refused = finish(&mut command(folder.path(), &add[..add.len() - 1]));
    assert!(refused.code == 2 && refused.stderr.contains("--replace"), "{refused:?}");
    assert_eq!(finish(&mut command(folder.path(), &add)).code, 0);
    assert!(!file.is_symlink() && mode(&file) == 0o600);
    assert_eq!(fs::read_to_string(&theirs).expect("read"), "broker = 'mqtt://elsewhere'\n");
}

/// Returns the screen's content at the end of the process.
fn typed(arguments: &[&str], keys: &[(&str, &[u8])], folder: &Path) -> (i32, String) {
    let (mut ours, theirs) = terminal();
    let screen_end = Stdio::from(theirs.try_clone().expect("a second handle"));
    let mut command = command(folder, arguments);
    let mut child = command.stdin(Stdio::from(theirs)).stderr(screen_end).spawn().expect("the binary runs");
    // Its handles would keep the terminal open.
    drop(command);
    let (mut screen, mut seen, mut buffer) = (String::new(), 0, [0; 256]);
    for (question, answer) in keys {
        while !screen[seen..].contains(question) {
            let size = ours.read(&mut buffer).expect("still open");
            screen.push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
        seen = screen.len();
        ours.write_all(answer).expect("typed");
    }
    while let Ok(size @ 1..) = ours.read(&mut buffer) {
        screen.push_str(&String::from_utf8_lossy(&buffer[..size]));
    }
    (child.wait().expect("it ends").code().expect("no signal ended it"), screen)
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let folder = folder();
    let ask = |first: &[u8], second: &[u8]| {
        let keys = [("Password: ", first), ("again: ", second)];
        typed(&["passwd", "passwords", "ani"], &keys, folder.path())
    };
    // Deletes an extra letter, and then a whole line.
    let (code, screen) = ask(b"wrong\x15raha\xC3\xA9\x7fsia\n", b"rahasia\r");
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("raha"), "{screen}");
    assert_eq!(passwd(&["--verify", "passwords", "ani", "--stdin"], "rahasia", folder.path()).code, 0);
    let (code, screen) = ask(b"one\n", b"other\n");
    assert!(code == 2 && screen.contains("nothing is changed"), "{code} {screen}");
    let (code, screen) = typed(&["passwd", "passwords", "ani"], &[("Password: ", b"abc\x03")], folder.path());
    assert!(code == 130 && screen.contains("cancelled"), "{code} {screen}");
    assert_eq!(passwd(&["--verify", "passwords", "ani", "--stdin"], "rahasia", folder.path()).code, 0);
}

#[test]
fn commands_log_in_by_flags_environment_and_url() {
    let folder = folder();
    let (_broker, url) = closed(folder.path());
    let secret = folder.path().join("secret");
    fs::write(&secret, "rahasia\nnot this\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    let run = |arguments: &[&str]| {
        finish(&mut command(folder.path(), &[&["ls", "--broker", &url], arguments].concat()))
    };

    let nobody = run(&[]);
    assert!(nobody.code == 4 && nobody.stderr.contains("--password-file"), "{nobody:?}");
    let ada = run(&["--user", "ada", "--password-file", "secret"]);
    assert!(ada.code == 0 && !ada.stderr.contains("warning"), "{ada:?}");
    let mut by_environment = command(folder.path(), &["ls"]);
    by_environment.env("RANTAI_BROKER", &url).env("RANTAI_USER", "ada").env("RANTAI_PASSWORD_FILE", "secret");
    assert_eq!(finish(&mut by_environment).code, 0);
    let wrong = run(&["--user", "ani", "--password-file", "secret"]);
    assert!(wrong.code == 4 && wrong.stderr.contains("user name or password is wrong"), "{wrong:?}");
    let unsaid = run(&["--password-file", "secret"]);
    assert!(unsaid.code == 2 && unsaid.stderr.contains("--user"), "{unsaid:?}");
    let missing = run(&["--user", "ada", "--password-file", "nothing"]);
    assert!(missing.code == 2 && missing.stderr.contains("nothing"), "{missing:?}");

    let with_password = url.replace("mqtt://", "mqtt://ada:rahasia@");
    let shown = finish(&mut command(folder.path(), &["ls", "--broker", &with_password]));
    assert!(shown.code == 0 && shown.stderr.contains("warning"), "{shown:?}");
    let mut hidden = command(folder.path(), &["ls"]);
    let hidden = finish(hidden.env("RANTAI_BROKER", &with_password));
    assert!(hidden.code == 0 && !hidden.stderr.contains("warning"), "{hidden:?}");
    let two = finish(&mut command(folder.path(), &["ls", "--broker", &with_password, "--user", "ani"]));
    assert_eq!(two.code, 2, "{two:?}");

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("set");
    let open = run(&["--user", "ada", "--password-file", "secret"]);
    assert!(open.code == 0 && open.stderr.contains("chmod 600"), "{open:?}");
    let help = finish(command(folder.path(), &["ls", "--help"]).env("RANTAI_BROKER", &with_password));
    for done in [nobody, ada, wrong, unsaid, missing, shown, hidden, two, open, help] {
        assert!(!format!("{done:?}").contains("rahasia"), "{done:?}");
    }
}

#[test]
fn a_context_logs_in_and_flags_win_over_it() {
    let folder = folder();
    let (_broker, url) = closed(folder.path());
    let run = |arguments: &[&str]| finish(&mut command(folder.path(), arguments));
    let ok = |arguments: &[&str]| {
        let done = run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        assert!(!format!("{done:?}").contains("rahasia"), "{done:?}");
        done.stdout
    };
    let input = folder.path().join("stdin");
    fs::write(&input, "rahasia\n").expect("written");
    let mut add = command(
        folder.path(),
        &["context", "add", "school", "--broker", &url, "--user", "ada", "--stdin", "--timeout", "10s"],
    );
    let added = finish(add.stdin(fs::File::open(&input).expect("opened")));
    assert_eq!(added.code, 0, "{added:?}");
    let file = folder.path().join("config/rantai/contexts/school.toml");
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));

    ok(&["ls", "--context", "school"]);
    assert_eq!(finish(command(folder.path(), &["ls"]).env("RANTAI_CONTEXT", "school")).code, 0);
    assert_eq!(run(&["ls", "--broker", &url]).code, 4, "it is not in use");
    ok(&["context", "use", "school"]);
    ok(&["ls"]);
    // The password of a context is sent to its own broker only.
    let (_other, elsewhere) = closed(folder.path());
    let other = run(&["ls", "--broker", &elsewhere]);
    assert!(other.code == 4 && other.stderr.contains("without a user name"), "{other:?}");
    let named = run(&["ls", "--broker", &elsewhere, "--context", "school"]);
    assert_eq!(named.code, 4, "{named:?}");
    assert_eq!(run(&["ls", "--user", "nobody"]).code, 4, "nor to another user");

    assert!(ok(&["context", "ls"]).contains("school"));
    let listed: serde_json::Value = serde_json::from_str(&ok(&["context", "ls", "--json"])).expect("JSON");
    assert_eq!(listed[0]["current"], true);
    let shown = ok(&["context", "show"]);
    assert!(shown.contains("user = \"ada\"") && shown.contains("not shown"), "{shown}");
    let again = run(&["context", "add", "school", "--broker", &url]);
    assert!(again.code == 2 && again.stderr.contains("--replace"), "{again:?}");
    for wrong in ["../school", "scool", ""] {
        let done = run(&["ls", "--context", wrong]);
        assert_eq!(done.code, 2, "{wrong:?}: {done:?}");
    }

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
    let open = run(&["ls"]);
    assert!(open.code == 2 && open.stderr.contains("chmod 600"), "{open:?}");
    ok(&["context", "add", "school", "--broker", &url, "--replace"]);
    assert_eq!(mode(&file), 0o600);
    ok(&["context", "rm", "school"]);
    assert_eq!(ok(&["context", "ls", "--json"]).trim(), "[]");
    assert_eq!(run(&["ls", "--broker", &url]).code, 4, "no context is in use any more");
}

#[test]
fn nodes_log_in_as_their_configuration_says() {
    let folder = folder();
    let broker_config = folder.path().join("broker.toml");
    let users =
        "password_file = 'passwords'\nbus_roots = ['lab']\n[[users]]\nname = 'ada'\nroles = ['node']\n";
    fs::write(&broker_config, users).expect("written");
    let (_broker, url) = broker(&["--port", "0", "--config", broker_config.to_str().expect("UTF-8")]);
    fs::write(folder.path().join("secret"), "rahasia").expect("written");
    fs::set_permissions(folder.path().join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
    let nodes = "user = 'ada'\npassword_file = 'secret'\nroot = 'lab'\n[[echo]]\nname = 'echo'\n";
    fs::write(folder.path().join("nodes.toml"), nodes).expect("written");
    let config = folder.path().join("nodes.toml");
    // From another folder: the file is relative to the configuration.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut serve = command(folder.path(), &["serve", "--broker", &url, "--config"]);
    let mut node = Server::spawn(serve.arg(&config).current_dir(elsewhere.path()));
    node.wait_for("serving echo");
    let mut call = command(folder.path(), &["call", "echo.echo", "satu", "--broker", &url, "--root", "lab"]);
    let done = finish(call.args(["--user", "ada", "--password-file", "secret"]));
    assert_eq!((done.code, done.stdout.trim()), (0, "satu"), "{done:?}");

    fs::write(&config, "password = 'rahasia'\n[[echo]]\nname = 'echo'\n").expect("written");
    let plain = finish(command(folder.path(), &["serve", "--broker", &url, "--config"]).arg(&config));
    assert_eq!(plain.code, 2, "{plain:?}");
}
