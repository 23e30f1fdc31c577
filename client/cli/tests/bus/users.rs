//! Users of the brokers of these tests: the password of each is its name.
//!
//! `RANTAI_TEST_USERS=1`: every broker that is started without a configuration of the test has users and access rules,
//! and each command logs in as one of them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rantai_credentials::{Cost, Record};
use tempfile::NamedTempFile;

/// User by name, with its other keys in broker.toml.
pub(crate) type TestUser<'a> = (&'a str, &'a str);

/// User of `rantai serve`: nodes, ledgers and gateways, which act for others.
pub(crate) const SERVING: &str = "test-serving";
/// User of most other commands: calls, and watches events.
pub(crate) const CALLING: &str = "test-calling";
/// User of commands that serve nodes or use any topic, and of devices that tests implement by hand.
pub(crate) const ADMIN: &str = "test-admin";
/// Users of gateways.
pub(crate) const PEOPLE: [&str; 2] = ["ada", "kiosk"];

/// Returns whether users and rules are enabled.
pub(crate) fn are_on() -> bool {
    std::env::var_os("RANTAI_TEST_USERS").is_some()
}

/// Writes a broker.toml with this listener, and with users and rules for the buses on these roots if users are enabled.
/// Returns `None` if the file would be empty.
pub(crate) fn broker_toml(roots: &[String], listener: Option<&str>) -> Option<PathBuf> {
    if !are_on() && listener.is_none() {
        return None;
    }
    let (keys, tables) = if are_on() { with_users(roots) } else { Default::default() };
    // Its listener may have its own port or socket.
    let about = (roots, listener.unwrap_or_default());
    let name = format!("broker-{:016x}.toml", BuildHasherDefault::<DefaultHasher>::default().hash_one(about));
    Some(written(&name, &[&*keys, listener.unwrap_or_default(), &*tables].concat()))
}

/// Returns the keys and tables of users and rules.
fn with_users(roots: &[String]) -> (String, String) {
    let roles = [
        (SERVING, "roles = ['node', 'observer']\nacts_for = ['*']"),
        (CALLING, "roles = ['caller', 'observer']"),
        (ADMIN, "roles = ['admin']"),
    ];
    let people = PEOPLE.map(|name| (name, ""));
    // A sensor's plain topics are outside of the bus.
    let plain: Vec<_> = roots.iter().map(|root| format!("topic write {root}/sister/#")).collect();
    let name = roots.concat().replace('/', "_");
    let acl = written(&format!("broker-{name}.acl"), &format!("user {SERVING}\n{}\n", plain.join("\n")));
    let keys = format!("bus_roots = {roots:?}\nanonymous = false\nacl_file = '{}'\n", acl.display());
    (keys, [users(&roles), users(&people)].concat())
}

/// Writes a file atomically, because other tests may read it.
fn written(name: &str, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut part = NamedTempFile::new_in(folder).expect("a file");
    part.write_all(text.as_bytes()).expect("written");
    part.persist(folder.join(name)).expect("renamed");
    folder.join(name)
}

/// Returns the user that runs a command.
pub(crate) fn user_of(arguments: &[&str]) -> &'static str {
    match arguments {
        ["serve", ..] => SERVING,
        // They serve nodes, or use topics outside of the bus.
        ["sub" | "pub" | "forget" | "conform" | "admin", ..]
        | ["bench", "replicas" | "insult" | "pub", ..] => ADMIN,
        _ => CALLING,
    }
}

/// Returns `[[users]]` of a broker.toml.
pub(crate) fn users(users: &[TestUser<'_>]) -> String {
    let user = |(name, keys): &TestUser<'_>| {
        format!("[[users]]\nname = '{name}'\npassword = '{}'\n{keys}\n", record(name))
    };
    users.iter().map(user).collect()
}

/// Returns the password record of a user. The same in all tests, because brokers share files, and a broker that reloads
/// its file disconnects users whose records have changed.
fn record(name: &str) -> String {
    static RECORDS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut records = RECORDS.lock().expect("no test ended while it had the records");
    let new = || Record::new(name.as_bytes(), Cost::LOWEST).expect("hashed").to_string();
    records.entry(name.to_owned()).or_insert_with(new).clone()
}

/// Adds the credentials of a user to the broker's address, or to each of several, if users are enabled.
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
