//! `rantai broker --check` and `rantai up --check`: check what a start would accept, without starting.

use std::fs;
use std::path::Path;

use rantai_testing::Authority;

use super::process::{Done, finish, rantai};
use super::users::users;

fn run(folder: &Path, arguments: &[&str]) -> Done {
    finish(rantai().args(arguments).current_dir(folder))
}

/// Returns the names and contents of all files of a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

#[test]
fn broker_check_reports_errors_that_a_start_would_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let authority = Authority::new("lab");
    let issued = authority.issue(&["localhost"]);
    let (certificate, key) = (issued.certificate.display(), issued.key.display());
    // The address is in use, and the data directory is missing: neither is checked.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let right = format!(
        "acl_file = 'acl.conf'\ndata_dir = 'data'\n{}[[listeners]]\nprotocol = 'tls'\naddress = '{address}'\n\
         certificate = '{certificate}'\nkey = '{key}'\n",
        users(&[("ada", "")])
    );
    fs::write(folder.join("acl.conf"), "user ada\ntopic read a/#\n").expect("written");
    let check = |text: &str| {
        fs::write(folder.join("broker.toml"), text).expect("written");
        let before = files(folder);
        let done = run(
            folder,
            &["broker", "--config", "broker.toml", "--check", "--log-file", "log", "--http", "127.0.0.1:0"],
        );
        assert_eq!(files(folder), before, "it writes nothing");
        done
    };
    let done = check(&right);
    assert_eq!((done.code, done.stdout.trim()), (0, "the configuration is right"), "{done:?}");
    // An error is reported with its line.
    let done = check(&right.replace("acl_file", "acl_fil"));
    assert!(
        done.code == 2 && done.stderr.contains("broker.toml:1:1") && done.stderr.contains('^'),
        "{done:?}"
    );
    let done = check(&right.replace("name = 'ada'", "name = 'a/b'"));
    assert!(done.code == 2 && done.stderr.contains('^'), "{done:?}");
    fs::write(folder.join("acl.conf"), "user ada\ntopc read a/#\n").expect("written");
    let done = check(&right);
    assert!(done.code == 2 && done.stderr.contains("acl.conf:2"), "{done:?}");
    fs::write(folder.join("acl.conf"), "user ada\ntopic read a/#\n").expect("written");
    let done = check(&right.replace(&key.to_string(), "other.key"));
    assert!(done.code == 1 && done.stderr.contains("other.key"), "{done:?}");
    let done = check("listen = ['0.0.0.0:1883']\n");
    assert!(done.code == 2 && done.stderr.contains("rantai init site"), "{done:?}");
    let done = run(folder, &["broker", "--config", "missing.toml", "--check"]);
    assert_eq!(done.code, 2, "{done:?}");
}

#[test]
fn up_check_reports_errors_of_both_configurations() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let check = |broker: &str, nodes: &str| {
        fs::write(folder.join("broker.toml"), broker).expect("written");
        fs::write(folder.join("nodes.toml"), nodes).expect("written");
        let before = files(folder);
        let arguments = ["up", "--check", "--broker-config", "broker.toml", "--config", "./nodes.toml"];
        let done = run(folder, &[&arguments[..], &["--data-dir", "data"]].concat());
        assert_eq!(files(folder), before, "it writes nothing");
        done
    };
    let (broker, nodes) = (users(&[("ada", "")]), "[[echo]]\nname = 'echo'\n");
    let done = check(&broker, nodes);
    assert_eq!((done.code, done.stdout.trim()), (0, "the configuration is right"), "{done:?}");
    let done = check("treads = 2\n", "[[echo]]\nnam = 'echo'\n");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr.contains("broker.toml:1:1")
            && done.stderr.contains("nodes.toml: TOML parse error at line 2, column 1"),
        "{done:?}"
    );
    let done = check(&broker, "[[echo]]\nname = 'broker'\n");
    assert!(done.code == 2 && done.stderr.contains("reserved"), "{done:?}");
    let adopt = "[[adopt]]\nname = 'lamp'\nwaiting = 0\n";
    let done = check(&broker, adopt);
    assert!(
        done.code == 2 && done.stderr.contains("nodes.toml: TOML parse error at line 3, column 11"),
        "{done:?}"
    );
    assert!(done.stderr.contains("3 | waiting = 0\n") && done.stderr.contains("          ^"), "{done:?}");
    let adopt = "[[adopt]]\nname = 'lamp'\ndiscover = 'lamp.json'\n";
    fs::write(folder.join("lamp.json"), "{\"methods\": [\n  {\"name\": \"on\",}]}").expect("written");
    let done = check(&broker, adopt);
    assert!(done.code == 2 && done.stderr.contains("lamp.json:2:17: trailing comma"), "{done:?}");
    assert!(done.stderr.contains("object \"lamp\"") && done.stderr.contains("                ^"), "{done:?}");
    assert_eq!(run(folder, &["up", "--check"]).code, 0);
    assert_eq!(run(folder, &["up", "--check", "--config", "library"]).code, 0);
}

#[cfg(feature = "gateway")]
#[test]
fn up_checks_the_certificates_of_gateways() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let nodes =
        "[[echo]]\nname = 'echo'\n[rest]\nlisten = '127.0.0.1:0'\ncertificate = 'no.pem'\nkey = 'no.key'\n";
    fs::write(folder.join("nodes.toml"), nodes).expect("written");
    let done = run(folder, &["up", "--check", "--config", "./nodes.toml"]);
    assert!(done.code == 2 && done.stderr.contains("no.pem"), "{done:?}");
    // A certificate with the key of another one.
    let authority = Authority::new("lab");
    fs::copy(authority.issue(&["localhost"]).certificate, folder.join("no.pem")).expect("copied");
    fs::copy(authority.issue(&["localhost"]).key, folder.join("no.key")).expect("copied");
    let done = run(folder, &["up", "--check", "--config", "./nodes.toml"]);
    assert!(done.code == 2 && done.stderr.contains("rest: "), "{done:?}");
}
