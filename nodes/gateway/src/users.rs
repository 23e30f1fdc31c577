//! Users of a gateway: those of a password file, which may be the broker's, and holders of keys.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rantai_client::wire::user::User as UserName;
use rantai_credentials::{Busy, KeyRecord, PasswordFile, Record, Verifier, VerifierLimits};

use super::settings::User;

/// Credentials of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// `Authorization: Basic`.
    Password { user: UserName, password: Vec<u8> },
    /// `Authorization: Bearer`.
    Key(Vec<u8>),
}

impl Login {
    /// Reads `Authorization`; `None` if it is missing or of another scheme.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, word) = given.split_once(' ')?;
        let word = word.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Key(word.as_bytes().to_vec()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = BASE64_STANDARD.decode(word).ok()?;
        // RFC 7617: the user name contains no colon.
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let user = UserName::new(std::str::from_utf8(&pair[..colon]).ok()?).ok()?;
        Some(Self::Password { user, password: pair[colon + 1..].to_vec() })
    }
}

/// Users who may call.
#[derive(Debug)]
pub(super) struct Users {
    verifier: Option<Verifier>,
    keys: Vec<(UserName, KeyRecord)>,
}

impl Users {
    /// Reads the users of a configuration and of a password file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or has an invalid line, a user has two passwords, or the thread that checks passwords cannot be
    /// started.
    pub(super) fn new(users: &[User], file: Option<&Path>) -> io::Result<Self> {
        let records = records(users, file).map_err(io::Error::other)?;
        let mut keys = Vec::new();
        for user in users {
            let name = UserName::new(&user.name).map_err(io::Error::other)?;
            if let Some(key) = &user.key {
                keys.push((name, key.record().map_err(io::Error::other)?));
            }
        }
        let verifier = if records.is_empty() && file.is_none() {
            None
        } else {
            Some(Verifier::start(records, VerifierLimits::default())?)
        };
        Ok(Self { verifier, keys })
    }

    /// Checks whether neither users nor a password file are configured, so that anybody may call.
    pub(super) fn is_empty(&self) -> bool {
        self.verifier.is_none() && self.keys.is_empty()
    }

    /// Returns the user with this password or key; `None` if it is wrong.
    ///
    /// # Errors
    ///
    /// [`Busy`] if too many passwords wait to be checked.
    pub(super) async fn check(&self, login: &Login, source: IpAddr) -> Result<Option<UserName>, Busy> {
        match login {
            Login::Password { user, password } => {
                let Some(verifier) = &self.verifier else { return Ok(None) };
                let is_right = verifier.verify(user.as_str(), password, source).await?;
                Ok(is_right.then(|| user.clone()))
            }
            Login::Key(key) => {
                let given = KeyRecord::new(key);
                let found = self.keys.iter().find(|(_, known)| known.matches(&given));
                Ok(found.map(|(user, _)| user.clone()))
            }
        }
    }
}

/// Returns the password records of all users.
///
/// # Errors
///
/// The file cannot be read or has an invalid line, or a user has two passwords.
pub(super) fn records(users: &[User], file: Option<&Path>) -> Result<HashMap<String, Record>, String> {
    let mut records = file.map_or_else(|| Ok(HashMap::new()), read)?;
    for User { name, password, .. } in users {
        if let Some(record) = password
            && records.insert(name.clone(), record.clone()).is_some()
        {
            return Err(format!("user {name:?} has two passwords; remove one of them"));
        }
    }
    Ok(records)
}

fn read(file: &Path) -> Result<HashMap<String, Record>, String> {
    let wrong = |cause: String| format!("cannot read the password file {}: {cause}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    PasswordFile::new(&text).records().map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        wrong(format!("{error}{}", cause.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_file_and_configuration_are_one_list_of_users() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("passwords");
        let record = "$6$c2FsdHNhbHQxMjM0$d/5KooXCzyqGAOF4q1GTV/3P8YVDSdFim/G/QDXLp6mBUUtiHppG2I3O879YXOQrliIu8ETwnO+Utg0ZfaWLbw==";
        std::fs::write(&file, format!("ada:{record}\n")).expect("written");
        let user = |name: &str| User {
            name: name.to_owned(),
            password: Some(record.parse().expect("a record")),
            key: None,
        };
        assert_eq!(records(&[user("bob")], Some(&file)).expect("two users").len(), 2);
        let twice = records(&[user("ada")], Some(&file)).expect_err("two passwords");
        assert!(twice.contains("two passwords"), "{twice}");
        std::fs::write(&file, "ada:s3cret\n").expect("written");
        let wrong = records(&[], Some(&file)).expect_err("no record");
        assert!(wrong.contains("line 1") && !wrong.contains("s3cret"), "{wrong}");
        std::fs::remove_file(&file).expect("removed");
        let missing = records(&[], Some(&file)).expect_err("no file");
        assert!(missing.contains("passwords"), "{missing}");
    }
}
