//! Users of the brokers of these tests: the password of each is its name.
//!
//! `RANTAI_TEST_USERS=1`: every broker that a test starts without a configuration of its own has users and access rules, and
//! each command logs in as one of them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rantai_credentials::{Cost, Record};
use tempfile::NamedTempFile;

/// A user by its name, with its other keys in broker.toml.
pub(crate) type TestUser<'a> = (&'a str, &'a str);

/// The user of `rantai serve`: nodes, ledgers and gateways, which act for others.
pub(crate) const SERVING: &str = "test-serving";
/// The user of most other commands: it calls, and watches events.
pub(crate) const CALLING: &str = "test-calling";
/// The user of commands that serve nodes or use any topic, and of devices that tests write by hand.
pub(crate) const ADMIN: &str = "test-admin";
/// Users of gateways.
pub(crate) const PEOPLE: [&str; 2] = ["ada", "kiosk"];

/// Whether users and rules are on.
pub(crate) fn are_on() -> bool {
    std::env::var_os("RANTAI_TEST_USERS").is_some()
}

/// A broker.toml with this listener, and with users and rules for the buses on these roots where users are on. None where it
/// would say nothing.
pub(crate) fn broker_toml(roots: &[String], listener: Option<&str>) -> Option<PathBuf> {
    if !are_on() && listener.is_none() {
        return None;
    }
    let (keys, tables) = if are_on() { with_users(roots) } else { Default::default() };
    // Its listener may have a port or a socket of its own.
    let about = (roots, listener.unwrap_or_default());
    let name = format!("broker-{:016x}.toml", BuildHasherDefault::<DefaultHasher>::default().hash_one(about));
    Some(written(&name, &[&*keys, listener.unwrap_or_default(), &*tables].concat()))
}

/// The keys and the tables of users and rules.
fn with_users(roots: &[String]) -> (String, String) {
    let roles = [
        (SERVING, "roles = ['node', 'observer']\nacts_for = ['*']"),
        (CALLING, "roles = ['caller', 'observer']"),
        (ADMIN, "roles = ['admin']"),
    ];
    let people = PEOPLE.map(|name| (name, ""));
    // A sensor's plain topics are not of the bus.
    let plain: Vec<_> = roots.iter().map(|root| format!("topic write {root}/sister/#")).collect();
    let name = roots.concat().replace('/', "_");
    let acl = written(&format!("broker-{name}.acl"), &format!("user {SERVING}\n{}\n", plain.join("\n")));
    let keys = format!("bus_roots = {roots:?}\nanonymous = false\nacl_file = '{}'\n", acl.display());
    (keys, [users(&roles), users(&people)].concat())
}

/// A file by this name, of which other tests see all or nothing.
fn written(name: &str, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut part = NamedTempFile::new_in(folder).expect("a file");
    part.write_all(text.as_bytes()).expect("written");
    part.persist(folder.join(name)).expect("renamed");
    folder.join(name)
}

/// Who runs a command.
pub(crate) fn user_of(arguments: &[&str]) -> &'static str {
    match arguments {
        ["serve", ..] => SERVING,
        // They serve nodes, or use topics that are not of the bus.
        ["sub" | "pub" | "forget" | "conform" | "admin", ..]
        | ["bench", "replicas" | "insult" | "pub", ..] => ADMIN,
        _ => CALLING,
    }
}

/// `[[users]]` of a broker.toml.
pub(crate) fn users(users: &[TestUser<'_>]) -> String {
    let user = |(name, keys): &TestUser<'_>| {
        format!("[[users]]\nname = '{name}'\npassword = '{}'\n{keys}\n", record(name))
    };
    users.iter().map(user).collect()
}

/// The password record of a user, the same in all tests: brokers share files, and one that reads its file again ends the
/// connections of users whose records are others.
fn record(name: &str) -> String {
    static RECORDS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut records = RECORDS.lock().expect("no test ended while it had the records");
    let new = || Record::new(name.as_bytes(), Cost::LOWEST).expect("hashed").to_string();
    records.entry(name.to_owned()).or_insert_with(new).clone()
}

/// The broker's address, or each of several, with the credentials of a user, where users are on.
pub(crate) fn log_in(url: &str, user: &str) -> String {
    if !are_on() || url.contains('@') {
        return url.to_owned();
    }
    assert!(
        url.contains("://"),
        "{url} has no place for a user: unix sockets and RANTAI_TEST_USERS do not go together"
    );
    url.replace("://", &format!("://{user}:{user}@"))
}
