//! Keys of programs. A key is random, so a single hash protects it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq_32;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::record::{HashError, RecordError};

/// Length of a new key, in random bytes.
const KEY_BYTES: usize = 24;
/// Prefix of a record's text.
const KIND: &str = "$sha256$";

/// SHA-256 of a key, with the text form `$sha256$HASH`. Only for random keys of at least 128 bits, such as those of
/// [`random_key`]; passwords need a [`Record`](crate::Record).
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord([u8; 32]);

/// Generates a key of 192 random bits: 32 characters that need no escaping in a header, a URL or a shell.
///
/// # Errors
///
/// The system has no random bytes.
pub fn random_key() -> Result<String, HashError> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HashError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl KeyRecord {
    /// Returns the record of a key.
    pub fn new(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(hash)
    }

    /// Returns whether two records are of the same key, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq_32(&self.0, &other.0)
    }

    /// Returns whether a text has the prefix of a record, and is not a key itself.
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

/// Formats the record as in a configuration.
impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Formats only the type, not the hash.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRecord")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_matches_its_record() {
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
    fn a_key_record_is_the_sha256_that_openssl_computes() {
        // Computed by: printf abc | openssl sha256 -binary | base64 | tr +/ -_ | tr -d =
        let record = "$sha256$ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(KeyRecord::new(b"abc").to_string(), record);
        assert!(KeyRecord::is_record(record) && !KeyRecord::is_record("abc"));
        assert_eq!("abc".parse::<KeyRecord>(), Err(RecordError::PlainText));
        for damaged in ["$sha256$", "$sha256$abc", &record[..record.len() - 1], &format!("{record}A")] {
            assert_eq!(damaged.parse::<KeyRecord>(), Err(RecordError::Damaged), "{damaged}");
        }
    }
}
