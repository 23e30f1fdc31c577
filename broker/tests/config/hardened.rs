//! `hardened`: each of its choices holds, and settings that contradict one are refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rantai_broker::{Broker, Config, Cost, Record, StartError};
use tempfile::TempDir;

use super::{assert_marked, parse, refused};

/// Hardened configuration without files.
const STRICT: &str = "hardened = true\nusers = [{ name = 'a' }]\n";

#[test]
fn strict_choices_are_listed_if_hardened_is_set() {
    let config = parse(STRICT);
    assert!(config.hardened && !config.anonymous);
    let choices = config.strict_choices();
    for (choice, about) in
        choices.iter().zip(["without a user", "client ids", "TLS", "private keys", "wrong passwords"])
    {
        assert!(choice.contains(about), "{choice}");
    }
    assert_eq!(choices.len(), 5);
    for text in ["", "hardened = false", "users = [{ name = 'a' }]"] {
        assert!(parse(text).strict_choices().is_empty(), "{text}");
    }
}

#[test]
fn keys_that_contradict_hardened_are_refused() {
    assert_marked(&[("hardened = true", "true", "add [[users]] or a password_file")]);
    for (key, advice) in [
        ("anonymous = true", "nobody in without a user"),
        ("open = true", "`open` lets everybody in"),
        ("limits.guess_delay_ms = 0", "guess_delay_ms"),
        (
            "listeners = [{ protocol = 'tcp', address = '127.0.0.1:1', anonymous = true }]",
            "but on 127.0.0.1:1 anonymous = true",
        ),
    ] {
        let told = refused(&format!("{STRICT}{key}\n"));
        assert!(told.contains(advice) && told.contains("leave"), "{key}: {told}");
        let without = format!("users = [{{ name = 'a' }}]\n{key}\n");
        assert!(!parse(&without).hardened, "{key} is no mistake without it");
    }
}

/// Returns a folder with a hardened configuration and the files that it names, accessible only to their owner.
fn with_files() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let record = Record::new(b"rahasia", Cost::LOWEST).expect("hashed");
    let text = format!(
        "hardened = true\npassword_file = 'passwords'\nusers = [{{ name = 'ada', password = '{record}' }}]\n\
         [[listeners]]\nprotocol = 'tls'\naddress = '0.0.0.0:0'\ncertificate = 'server.pem'\nkey = 'server.key'\n\
         additional_certificates = [{{ certificate = 'server.pem', key = 'office.key' }}]\n"
    );
    for (name, text) in [
        ("broker.toml", &*text),
        ("passwords", &format!("bob:{record}\n")),
        ("server.pem", ""),
        ("server.key", ""),
        ("office.key", ""),
    ] {
        fs::write(folder.path().join(name), text).expect("written");
        set_mode(&folder.path().join(name), 0o640);
    }
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}

#[test]
fn files_with_secrets_must_not_be_readable_for_others() {
    let folder = with_files();
    let file = folder.path().join("broker.toml");
    Config::load(&file).expect("for owner and group");
    for (name, is_secret) in [
        ("broker.toml", true),
        ("passwords", true),
        ("server.key", true),
        ("office.key", true),
        ("server.pem", false),
    ] {
        let path = folder.path().join(name);
        set_mode(&path, 0o644);
        match Config::load(&file) {
            Ok(_) => assert!(!is_secret, "{name}"),
            Err(error) => {
                let told = error.to_string();
                assert!(
                    is_secret && told.contains(&format!("chmod o= {}", path.display())),
                    "{name}: {told}"
                );
            }
        }
        set_mode(&path, 0o640);
    }
    // A configuration file without a password record contains no secrets.
    let text = fs::read_to_string(&file).expect("read");
    let (before, rest) = text.split_once(", password =").expect("a record");
    let without = format!("{before}{}", &rest[rest.find(" }]").expect("its end")..]);
    fs::write(&file, without).expect("written");
    set_mode(&file, 0o644);
    Config::load(&file).expect("nothing to read in it");
}

#[tokio::test]
async fn a_listener_without_tls_must_be_on_loopback() {
    for (listener, is_clear) in [
        ("listen = ['0.0.0.0:0']", true),
        ("listen = ['[::]:0']", true),
        ("listeners = [{ protocol = 'ws', address = '0.0.0.0:0' }]", true),
        ("listen = ['127.0.0.1:0']", false),
        ("listen = ['[::ffff:127.0.0.1]:0']", false),
    ] {
        let started = Broker::start(parse(&format!("{STRICT}{listener}\n"))).await;
        let refused = matches!(started, Err(StartError::Clear { .. }));
        assert_eq!(refused, is_clear, "{listener}: {started:?}");
        if is_clear && !listener.contains("ws") {
            let free = Broker::start(parse(&format!("users = [{{ name = 'a' }}]\n{listener}\n"))).await;
            assert!(!matches!(free, Err(StartError::Clear { .. })), "{listener}");
        }
    }
}

#[tokio::test]
async fn metrics_must_be_on_loopback() {
    let listen = "listen = ['127.0.0.1:0']";
    for (http, is_clear) in
        [("0.0.0.0:0", true), ("[::]:0", true), ("127.0.0.1:0", false), ("[::1]:0", false)]
    {
        let text = format!("{listen}\nhttp.listen = '{http}'\n");
        let started = Broker::start(parse(&format!("{STRICT}{text}"))).await;
        assert_eq!(matches!(started, Err(StartError::ClearHttp { .. })), is_clear, "{http}: {started:?}");
        Broker::start(parse(&text)).await.expect("without `hardened` that is the operator's choice");
    }
}
