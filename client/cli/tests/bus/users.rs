//! Users of brokers in these tests: each is called as its password.

use std::path::PathBuf;

use rantai_credentials::{Cost, Record};
use tempfile::TempDir;

/// A caller, a node, an observer and an admin.
pub(crate) const USERS: [(&str, &str); 4] =
    [("ada", "caller"), ("pi", "node"), ("eye", "observer"), ("root", "admin")];

/// A broker.toml with these users and their roles, in a folder of its own.
pub(crate) fn broker_toml(users: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broker.toml");
    let user = |(name, role): &(&str, &str)| {
        let record = Record::new(name.as_bytes(), Cost::LOWEST).expect("hashed");
        format!("[[users]]\nname = '{name}'\npassword = '{record}'\nroles = ['{role}']\n")
    };
    std::fs::write(&path, users.iter().map(user).collect::<String>()).expect("a file");
    (folder, path)
}
