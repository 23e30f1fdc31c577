//! Keys of programs: random, so that one hash is enough for what is kept of them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq_32;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::record::{HashError, RecordError};

/// Random bytes of a new key.
const KEY_BYTES: usize = 24;
/// How the text of a record begins.
const KIND: &str = "$sha256$";

/// What is kept of a key: its SHA-256, in the text `$sha256$HASH`. For random keys of 128 bits and more alone, such as
/// [`random_key`] gives; a password has a [`Record`](crate::Record).
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord([u8; 32]);

/// A new key of 192 random bits: 32 characters that a header, a URL and a shell take as they are.
///
/// # Errors
///
/// When the system has no random bytes.
pub fn random_key() -> Result<String, HashError> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HashError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl KeyRecord {
    /// The record of a key.
    pub fn new(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(hash)
    }

    /// Whether two records are of one key; takes the same time whether they are or not.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq_32(&self.0, &other.0)
    }

    /// Whether a text is meant to be a record, and no key.
    pub fn is_record(text: &str) -> bool {
        text.starts_with(KIND)
    }
}

impl FromStr for KeyRecord {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let hash = text.strip_prefix(KIND).ok_or(RecordError::PlainText)?;
        let hash = URL_SAFE_NO_PAD.decode(hash).map_err(|_| RecordError::Damaged)?;
        hash.try_into().map(Self).map_err(|_| RecordError::Damaged)
    }
}

/// As it stands in a configuration.
impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The kind alone.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRecord")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_has_its_record() {
        let key = random_key().expect("random bytes");
        assert_eq!(key.len(), 32);
        assert_ne!(key, random_key().expect("random bytes"));
        let record: KeyRecord = KeyRecord::new(key.as_bytes()).to_string().parse().expect("its own text");
        assert!(record.matches(&KeyRecord::new(key.as_bytes())));
        for wrong in [&key[1..], "", &record.to_string()] {
            assert!(!record.matches(&KeyRecord::new(wrong.as_bytes())), "{wrong}");
        }
    }

    #[test]
    fn the_record_is_the_hash_that_other_programs_make() {
        // printf abc | openssl sha256 -binary | base64 | tr +/ -_ | tr -d =
        let record = "$sha256$ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(KeyRecord::new(b"abc").to_string(), record);
        assert!(KeyRecord::is_record(record) && !KeyRecord::is_record("abc"));
        assert_eq!("abc".parse::<KeyRecord>(), Err(RecordError::PlainText));
        for damaged in ["$sha256$", "$sha256$abc", &record[..record.len() - 1], &format!("{record}A")] {
            assert_eq!(damaged.parse::<KeyRecord>(), Err(RecordError::Damaged), "{damaged}");
        }
    }
}
