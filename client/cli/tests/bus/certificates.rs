//! `rantai cert`: rustls accepts its certificates, for their purposes, until they are revoked.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rantai_tls::{provider, read_certificates, read_revocations};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Done, finish};

/// Runs `rantai cert` in this folder, with a umask that permits everything.
fn cert(arguments: &[&str], folder: &Path) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" cert \"$@\"", env!("CARGO_BIN_EXE_rantai")]).args(arguments);
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(folder))
}

fn ok(arguments: &[&str], folder: &Path) -> Done {
    let done = cert(arguments, folder);
    assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
    done
}

/// Creates a folder with the authority `site`.
fn with_authority(arguments: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    ok(&[&["ca", "site"], arguments].concat(), folder.path());
    folder
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("there").permissions().mode() & 0o777
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

fn shown_as_json(file: &str, folder: &Path) -> Value {
    let done = ok(&["show", file, "--json"], folder);
    let all: Value = serde_json::from_str(&done.stdout).expect("JSON");
    all[0].clone()
}

/// Checks that this many days are left, or one less, because time passes.
fn lasts(about: &Value, days: i64) -> bool {
    about["days_left"].as_i64().is_some_and(|left| (days - 1..=days).contains(&left))
}

fn roots(folder: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(&folder.join("site/ca.pem")).expect("an authority") {
        roots.add(certificate).expect("a root");
    }
    Arc::new(roots)
}

/// Checks that a client that trusts the authority accepts the server by this name.
fn is_taken(file: &str, name: &str, folder: &Path) -> Result<(), rustls::Error> {
    let chain = read_certificates(&folder.join(file)).expect("a certificate");
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(folder), Arc::new(provider().as_ref().clone()));
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let verifier = verifier.build().expect("a verifier");
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).map(|_| ())
}

/// Checks that a server that knows the authority and its revocations accepts a client.
fn is_let_in(file: &str, folder: &Path) -> Result<(), rustls::Error> {
    let chain = read_certificates(&folder.join(file)).expect("a certificate");
    let lists = read_revocations(&folder.join("site/crl.pem")).expect("a list");
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(folder), provider()).with_crls(lists);
    let verifier = verifier.build().expect("a verifier");
    verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).map(|_| ())
}

#[test]
fn server_and_client_certificates_are_accepted_for_their_purpose_only() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["server", "site", "--name", "Pi.local", "--name", "192.168.1.5", "--name", "fd00::1"], folder);
    ok(&["client", "site", "ada"], folder);
    for name in ["pi.local", "192.168.1.5", "fd00::1"] {
        is_taken("site/server.pem", name, folder).expect(name);
    }
    is_taken("site/server.pem", "other.local", folder).expect_err("another name");
    is_taken("site/clients/ada.pem", "ada", folder).expect_err("a client is no server");
    is_let_in("site/clients/ada.pem", folder).expect("a client");
    is_let_in("site/server.pem", folder).expect_err("a server is no client");

    let server = shown_as_json("site/server.pem", folder);
    assert_eq!(server["names"], serde_json::json!(["pi.local", "192.168.1.5", "fd00::1"]));
    assert_eq!(server["purpose"], "server");
    assert!(lasts(&server, 396), "{server}");
    let authority = shown_as_json("site/ca.pem", folder);
    assert_eq!((&authority["purpose"], &authority["subject"]), (&"authority".into(), &server["issuer"]));
    assert!(lasts(&authority, 3651), "{authority}");
    let text = ok(&["show", "site/server.pem"], folder).stdout;
    assert!(text.contains(" days left") && text.contains("192.168.1.5"), "{text}");
}

#[test]
fn keys_are_private_under_any_umask() {
    let folder = with_authority(&[]);
    let site = folder.path().join("site");
    ok(&["server", "site"], folder.path());
    ok(&["client", "site", "ada"], folder.path());
    for private in ["ca.key", "server.key", "clients/ada.key", "issued"] {
        assert_eq!(mode(&site.join(private)), 0o600, "{private}");
    }
    for public in ["ca.pem", "server.pem", "clients/ada.pem", "crl.pem"] {
        assert_eq!(mode(&site.join(public)), 0o644, "{public}");
    }
    assert_eq!((mode(&site), mode(&site.join("clients"))), (0o700, 0o700));
    // The broker's group may keep access, others may not.
    fs::set_permissions(site.join("server.key"), fs::Permissions::from_mode(0o644)).expect("set");
    ok(&["renew", "site", "--new-keys"], folder.path());
    assert_eq!(mode(&site.join("server.key")), 0o640);
    fs::set_permissions(site.join("ca.key"), fs::Permissions::from_mode(0o644)).expect("set");
    let warned = ok(&["client", "site", "ani"], folder.path());
    assert!(warned.stderr.contains("chmod 600"), "{warned:?}");
}

#[test]
fn nothing_is_replaced_without_force() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["server", "site"], folder);
    ok(&["client", "site", "ada"], folder);
    let files = ["ca", "server", "clients/ada"].map(|name| folder.join(format!("site/{name}.key")));
    let before = files.each_ref().map(|file| read(file));
    let commands = [&["ca", "site"][..], &["server", "site"], &["client", "site", "ada"]];
    for command in commands {
        let done = cert(command, folder);
        assert!(done.code == 2 && done.stderr.contains("--force"), "{done:?}");
    }
    assert_eq!(files.each_ref().map(|file| read(file)), before);
    for command in commands.iter().rev() {
        ok(&[command, &["--force"][..]].concat(), folder);
    }
    for (file, before) in files.iter().zip(before) {
        assert_ne!(read(file), before, "{}", file.display());
    }
    is_taken("site/server.pem", "localhost", folder).expect_err("its authority is gone");
    ok(&["server", "site", "--force"], folder);
    is_taken("site/server.pem", "localhost", folder).expect("that of the new authority");
}

#[test]
fn revoked_client_is_refused_with_all_its_certificates() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["client", "site", "ada"], folder);
    ok(&["client", "site", "ani"], folder);
    fs::copy(folder.join("site/clients/ada.pem"), folder.join("site/old.pem")).expect("copied");
    ok(&["renew", "site"], folder);
    is_let_in("site/old.pem", folder).expect("what it had before");
    let done = ok(&["revoke", "site", "ada"], folder);
    assert!(done.stderr.contains("revoked 2 of ada"), "{done:?}");
    for file in ["site/clients/ada.pem", "site/old.pem"] {
        let error = is_let_in(file, folder).expect_err(file).to_string();
        assert!(error.contains("Revoked"), "{error}");
    }
    is_let_in("site/clients/ani.pem", folder).expect("another one");
    let renewed = ok(&["renew", "site"], folder);
    assert!(renewed.stderr.contains("it is revoked"), "{renewed:?}");
    assert_eq!(cert(&["revoke", "site", "ada"], folder).code, 1);
    assert_eq!(cert(&["revoke", "site", "nobody"], folder).code, 1);
    // Earlier revocations stay in the list.
    ok(&["revoke", "site", "ani"], folder);
    is_let_in("site/clients/ada.pem", folder).expect_err("revoked");
    ok(&["client", "site", "ada", "--force"], folder);
    is_let_in("site/clients/ada.pem", folder).expect("a new one");
}

#[test]
fn renewing_keeps_names_and_keys_unless_new_keys_are_requested() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["server", "site", "--name", "a.example", "--days", "20"], folder);
    ok(&["server", "site", "--name", "b.example", "--as", "b"], folder);
    ok(&["client", "site", "ada", "--days", "20"], folder);
    let key = |name: &str| read(&folder.join(format!("site/{name}.key")));
    let serial = |name: &str| shown_as_json(&format!("site/{name}.pem"), folder)["serial"].clone();
    let (server, other, ada) = (serial("server"), serial("b"), serial("clients/ada"));
    let before = key("server");
    ok(&["renew", "site", "--within", "30"], folder);
    assert_ne!(serial("server"), server);
    assert_ne!(serial("clients/ada"), ada);
    assert_eq!(serial("b"), other, "it has a year left");
    assert_eq!(key("server"), before);
    assert!(lasts(&shown_as_json("site/server.pem", folder), 396));
    is_taken("site/server.pem", "a.example", folder).expect("the same name");
    ok(&["renew", "site", "--new-keys"], folder);
    assert_ne!(key("server"), before);
    is_taken("site/server.pem", "a.example", folder).expect("the same name");
    is_taken("site/b.pem", "b.example", folder).expect("the same name");
    is_let_in("site/clients/ada.pem", folder).expect("the same user");
}

#[test]
fn restricted_authority_refuses_to_sign_other_names() {
    let folder = with_authority(&["--only", "lab.example", "--only", "192.168.0.0/16"]);
    let folder = folder.path();
    ok(&["server", "site", "--name", "pi.lab.example", "--name", "192.168.7.9"], folder);
    ok(&["client", "site", "ada"], folder);
    for name in ["pi.lab.example", "192.168.7.9"] {
        is_taken("site/server.pem", name, folder).expect(name);
    }
    is_let_in("site/clients/ada.pem", folder).expect("a client has no host name");
    for name in ["bank.example", "notlab.example", "10.0.0.1", "fd00::1"] {
        let done = cert(&["server", "site", "--as", "other", "--name", name], folder);
        assert_eq!(done.code, 2, "{name}: {done:?}");
        assert!(done.stderr.contains("lab.example, 192.168.0.0/16 alone"), "{done:?}");
    }
    let names_alone = with_authority(&["--only", "lab.example"]);
    let done = cert(&["server", "site", "--name", "192.168.7.9"], names_alone.path());
    assert!(done.code == 2 && done.stderr.contains("192.168.7.9 is not among them"), "{done:?}");
    assert_eq!(shown_as_json("site/ca.pem", folder)["only_for"], "lab.example, 192.168.0.0/16");
}

#[test]
fn concurrent_cert_commands_lose_no_certificate() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    std::thread::scope(|scope| {
        for user in 0..6 {
            scope.spawn(move || ok(&["client", "site", &format!("user-{user}")], folder));
        }
    });
    assert_eq!(read(&folder.join("site/issued")).lines().count(), 6);
    std::thread::scope(|scope| {
        for user in 0..6 {
            scope.spawn(move || ok(&["revoke", "site", &format!("user-{user}")], folder));
        }
    });
    for user in 0..6 {
        is_let_in(&format!("site/clients/user-{user}.pem"), folder).expect_err("revoked");
    }
}

#[test]
fn a_list_of_revoked_certificates_is_shown() {
    let folder = with_authority(&["--name", "Lab"]);
    let folder = folder.path();
    ok(&["client", "site", "ada"], folder);
    let empty = ok(&["show", "site/crl.pem"], folder).stdout;
    assert!(empty.contains("revoked by      Lab\n") && empty.contains("revoked         0\n"), "{empty}");
    let serial = shown_as_json("site/clients/ada.pem", folder)["serial"].clone();
    ok(&["revoke", "site", "ada"], folder);
    let list = shown_as_json("site/crl.pem", folder);
    assert_eq!((&list["issuer"], &list["revoked"][0]["serial"]), (&Value::from("Lab"), &serial), "{list}");
    let text = ok(&["show", "site/crl.pem"], folder).stdout;
    assert!(text.contains(serial.as_str().expect("a text")), "{text}");
}

/// Regression: another file, or a link, may be at the path of a secret before it is renewed.
#[test]
fn renewed_secrets_are_private_whatever_file_was_there() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["server", "site"], folder);
    ok(&["client", "site", "ada"], folder);
    let theirs = folder.join("theirs");
    fs::write(&theirs, "theirs").expect("written");
    for (file, command) in [
        ("site/clients/ada.key", &["client", "site", "ada", "--force"][..]),
        ("site/server.key", &["server", "site", "--force"]),
        ("site/server.key", &["renew", "site", "--new-keys"]),
        ("site/ca.key", &["ca", "site", "--force"]),
    ] {
        let key = folder.join(file);
        let old = read(&key);
        if command[0] != "renew" {
            fs::set_permissions(&key, fs::Permissions::from_mode(0o664)).expect("set");
            ok(command, folder);
            assert_eq!(mode(&key), 0o600, "{command:?}");
        }
        fs::rename(&key, &theirs).expect("moved");
        let before = read(&theirs);
        symlink(&theirs, &key).expect("linked");
        ok(command, folder);
        assert!(!key.is_symlink() && mode(&key) == 0o600, "{command:?}");
        assert!(read(&theirs) == before && read(&key) != before && read(&key) != old, "{command:?}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let folder = with_authority(&[]);
    let folder = folder.path();
    ok(&["server", "site"], folder);
    let other = with_authority(&[]);
    fs::write(folder.join("site/notes.txt"), "hello").expect("written");
    for (arguments, code, told) in [
        (&["server", "nowhere"][..], 2, "rantai cert ca nowhere"),
        (&["server", "site", "--as", "x", "--name", "mqtts://pi"], 2, "name or address alone"),
        (&["server", "site", "--as", "ca"], 2, "no name for a server's files"),
        (&["server", "site", "--as", "../x"], 2, "no name for a server's files"),
        (&["client", "site", "a/b"], 2, "no '/'"),
        (&["client", "site", "ada", "--days", "0"], 2, "1..=36500"),
        (&["ca", "more", "--only", "10.0.0.0/99"], 2, "lab.example or 192.168.0.0/16"),
        (&["show", "site/notes.txt"], 2, "no certificate in"),
        (&["show", "site/nothing.pem"], 2, "cannot read"),
    ] {
        let done = cert(arguments, folder);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(told), "{arguments:?}: {done:?}");
    }
    assert!(!folder.join("nowhere").exists(), "a wrong folder is not made");
    fs::copy(other.path().join("site/ca.key"), folder.join("site/ca.key")).expect("copied");
    let done = cert(&["client", "site", "ada"], folder);
    assert!(done.code == 2 && done.stderr.contains("is not the key of"), "{done:?}");
    fs::write(folder.join("site/ca.key"), "-----BEGIN RSA PRIVATE KEY-----\n").expect("written");
    let done = cert(&["client", "site", "ada"], folder);
    assert!(done.code == 2 && done.stderr.contains("PKCS#8"), "{done:?}");
}
