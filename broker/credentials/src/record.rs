//! Password records: salted hashes that are stored in place of passwords.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use constant_time_eq::constant_time_eq;
use ring::digest::{SHA512, SHA512_OUTPUT_LEN, digest};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::cost::Cost;

/// Maximum length of a password, in bytes. A longer one is rejected without being hashed.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// Length of a new record's salt, in bytes, as RFC 9106 recommends for passwords.
const SALT_BYTES: usize = 16;
/// PBKDF2 iterations of a record for mosquitto. Far more than the 101 of `mosquitto_passwd` 2.0, but not higher still,
/// because mosquitto checks passwords on the thread that serves all its clients.
const MOSQUITTO_ITERATIONS: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");
/// Maximum number of iterations of a record: a check with that many takes seconds.
const MAX_ITERATIONS: u32 = 10_000_000;

/// Salted hash of a password.
///
/// The text form is an argon2id PHC string (`$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`) or one of the formats of
/// `mosquitto_passwd`: `$7$ITERATIONS$SALT$HASH` (PBKDF2 with HMAC-SHA-512) and `$6$SALT$HASH` (SHA-512 once, of
/// mosquitto 1.6 and earlier).
#[derive(Clone, PartialEq, Eq)]
pub struct Record(RecordKind);

#[derive(Clone, PartialEq, Eq)]
enum RecordKind {
    Argon2id(Box<PasswordHash>),
    Pbkdf2 { iterations: NonZeroU32, salt: Box<[u8]>, hash: Box<[u8]> },
    Sha512 { salt: Box<[u8]>, hash: Box<[u8]> },
}

/// Error of parsing a password record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The text does not begin like a record, so it is probably a password itself.
    #[error("expected a password record, found a password in plain text")]
    PlainText,
    /// The kind of hash is not known.
    #[error("unknown kind of password record; known are $argon2id$, $7$ and $6$")]
    Unknown,
    /// The record is truncated or damaged.
    #[error("the password record is damaged")]
    Damaged,
    /// The check would take too much time or memory.
    #[error("the cost of the password record is out of range")]
    Cost,
}

/// Error of hashing a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The password is empty.
    #[error("the password is empty")]
    Empty,
    /// The password is longer than [`MAX_PASSWORD_BYTES`].
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// The password contains a NUL, which ends a string in C programs.
    #[error("the password has a NUL")]
    Nul,
    /// argon2id does not allow the cost, or it exceeds the limits of records.
    #[error("the cost of the hash is out of range")]
    Cost,
    /// The system has no random bytes for the salt.
    #[error("the system provides no random bytes")]
    Random,
    /// There is not enough memory for the hash.
    #[error("not enough memory for the hash")]
    Memory,
}

impl Record {
    /// Hashes a password with argon2id and a random salt. Takes tens of milliseconds with the default cost.
    ///
    /// # Errors
    ///
    /// The password or the cost is out of range, or the system has no memory or no random bytes.
    pub fn new(password: &[u8], cost: Cost) -> Result<Self, HashError> {
        check_password(password)?;
        let params = cost.params().ok_or(HashError::Cost)?;
        let hash = argon2id(params).hash_password_with_salt(password, &salt()?);
        Ok(Self(RecordKind::Argon2id(Box::new(hash.map_err(|_| HashError::Memory)?))))
    }

    /// Hashes a password as a `$7$` record, for mosquitto before 2.1, which does not support argon2id.
    ///
    /// # Errors
    ///
    /// The password is out of range, or the system has no random bytes.
    pub fn for_mosquitto(password: &[u8]) -> Result<Self, HashError> {
        check_password(password)?;
        // Same length as the salts of `mosquitto_passwd`.
        let salt: Box<[u8]> = salt()?[..12].into();
        let mut hash = [0; SHA512_OUTPUT_LEN];
        pbkdf2::derive(PBKDF2_HMAC_SHA512, MOSQUITTO_ITERATIONS, &salt, password, &mut hash);
        Ok(Self(RecordKind::Pbkdf2 { iterations: MOSQUITTO_ITERATIONS, salt, hash: hash.into() }))
    }

    /// Returns whether `password` matches the record. Takes the time of one hash in either case; only a password above
    /// [`MAX_PASSWORD_BYTES`] is rejected at once.
    ///
    /// # Errors
    ///
    /// Fails with [`HashError::Memory`] if there is not enough memory for the hash, so the password could not be checked.
    pub fn verify(&self, password: &[u8]) -> Result<bool, HashError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        match &self.0 {
            RecordKind::Argon2id(hash) => {
                match argon2id(Params::default()).verify_password(password, &**hash) {
                    Ok(()) => Ok(true),
                    Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(_) => Err(HashError::Memory),
                }
            }
            RecordKind::Pbkdf2 { iterations, salt, hash } => {
                // HMAC pads its key with NULs, so a password with trailing NULs has the same hash.
                let right = pbkdf2::verify(PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok();
                Ok(right && password.last() != Some(&0))
            }
            RecordKind::Sha512 { salt, hash } => {
                let found = digest(&SHA512, &[password, salt].concat());
                Ok(constant_time_eq(found.as_ref(), hash))
            }
        }
    }
}

fn check_password(password: &[u8]) -> Result<(), HashError> {
    match password.len() {
        0 => Err(HashError::Empty),
        1..=MAX_PASSWORD_BYTES if password.contains(&0) => Err(HashError::Nul),
        1..=MAX_PASSWORD_BYTES => Ok(()),
        _ => Err(HashError::TooLong),
    }
}

fn salt() -> Result<[u8; SALT_BYTES], HashError> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Random)?;
    Ok(salt)
}

fn argon2id(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let Some((kind, rest)) = text.strip_prefix('$').and_then(|text| text.split_once('$')) else {
            return Err(RecordError::PlainText);
        };
        let fields: Vec<&str> = rest.split('$').collect();
        match (kind, &fields[..]) {
            ("argon2id", _) => {
                let hash = PasswordHash::new(text).map_err(|_| RecordError::Damaged)?;
                if hash.salt.is_none() || hash.hash.is_none() {
                    return Err(RecordError::Damaged);
                }
                let params = Params::try_from(&hash).map_err(|_| RecordError::Damaged)?;
                Cost::of(&params).params().ok_or(RecordError::Cost)?;
                Ok(Self(RecordKind::Argon2id(Box::new(hash))))
            }
            ("7", &[iterations, salt, hash]) => {
                let iterations: u32 = iterations.parse().map_err(|_| RecordError::Damaged)?;
                let iterations = NonZeroU32::new(iterations)
                    .filter(|iterations| iterations.get() <= MAX_ITERATIONS)
                    .ok_or(RecordError::Cost)?;
                Ok(Self(RecordKind::Pbkdf2 { iterations, salt: field(salt)?, hash: hash_field(hash)? }))
            }
            ("6", &[salt, hash]) => {
                Ok(Self(RecordKind::Sha512 { salt: field(salt)?, hash: hash_field(hash)? }))
            }
            ("7" | "6", _) => Err(RecordError::Damaged),
            _ => Err(RecordError::Unknown),
        }
    }
}

fn field(text: &str) -> Result<Box<[u8]>, RecordError> {
    match STANDARD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        _ => Err(RecordError::Damaged),
    }
}

fn hash_field(text: &str) -> Result<Box<[u8]>, RecordError> {
    field(text)
        .and_then(|hash| if hash.len() == SHA512_OUTPUT_LEN { Ok(hash) } else { Err(RecordError::Damaged) })
}

/// Formats the record as in a password file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RecordKind::Argon2id(hash) => hash.fmt(f),
            RecordKind::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            RecordKind::Sha512 { salt, hash } => {
                write!(f, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
        }
    }
}

/// Formats only the kind, because the hash would allow guessing the password offline.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RecordKind::Argon2id(_) => "Record(argon2id)",
            RecordKind::Pbkdf2 { .. } => "Record(PBKDF2)",
            RecordKind::Sha512 { .. } => "Record(SHA-512)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `mosquitto_passwd` 2.0.11 for the password `rahasia`.
    pub(super) const MOSQUITTO: [&str; 2] = [
        "$7$101$LCDIpcmNDW6hxcKi$2RYMFZVuWoZOdzME0sJE1nmsP7YuoAE6IpXOUczKlWgY219aWMgQ1pjfZPTr5IvV+SueZYftzdeNlO/JKEHbDQ==",
        "$6$nC2xfHGuQoX4xrkL$9CWN33pQjOQA6RsIHh/M6o+LuZqbejsV0rUuhYbk04p020csu/J1rJscOAJGwxD8mE4RtR+SrfOoCcqfymRN9g==",
    ];
    /// From the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 -e`.
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn fast(password: &[u8]) -> Record {
        Record::new(password, Cost::LOWEST).expect("hashed")
    }

    #[test]
    fn only_the_same_password_is_verified() {
        for record in [fast(b"rahasia"), Record::for_mosquitto(b"rahasia").expect("hashed")]
            .into_iter()
            .chain(MOSQUITTO.map(|text| text.parse().expect(text)))
        {
            assert_eq!(record.verify(b"rahasia"), Ok(true), "{record:?}");
            for wrong in [&b""[..], b"rahasi", b"rahasia!", b"Rahasia", b"rahasia\0"] {
                assert_eq!(record.verify(wrong), Ok(false), "{record:?}");
            }
            let again: Record = record.to_string().parse().expect("its own text");
            assert!(again == record && again.verify(b"rahasia") == Ok(true));
        }
        let reference: Record = REFERENCE.parse().expect("a PHC string");
        assert_eq!(reference.verify(b"password"), Ok(true));
        assert_eq!(reference.to_string(), REFERENCE);
    }

    #[test]
    fn records_of_one_password_differ_and_debug_hides_the_hash() {
        let (one, other) = (fast(b"rahasia"), fast(b"rahasia"));
        assert!(one != other);
        assert!(!one.to_string().contains("rahasia"));
        assert_eq!(format!("{one:?}"), "Record(argon2id)");
        let cost = Record::new(b"x", Cost::default()).expect("hashed").to_string();
        assert!(cost.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{cost}");
    }

    #[test]
    fn lengths_are_limited_before_hashing() {
        assert_eq!(Record::for_mosquitto(b"a\0"), Err(HashError::Nul));
        assert_eq!(Record::new(b"", Cost::LOWEST), Err(HashError::Empty));
        let longest = vec![b'x'; MAX_PASSWORD_BYTES];
        assert_eq!(fast(&longest).verify(&longest), Ok(true));
        let too_long = vec![b'x'; MAX_PASSWORD_BYTES + 1];
        assert_eq!(Record::new(&too_long, Cost::LOWEST), Err(HashError::TooLong));
        assert_eq!(Record::for_mosquitto(&too_long), Err(HashError::TooLong));
        assert_eq!(fast(b"x").verify(&too_long), Ok(false));
    }

    #[test]
    fn an_invalid_record_names_its_problem() {
        let hash = MOSQUITTO[1].rsplit('$').next().expect("the hash");
        for (text, error) in [
            ("", RecordError::PlainText),
            ("rahasia", RecordError::PlainText),
            ("$ecret", RecordError::PlainText),
            ("$2y$10$abcdefghijklmnopqrstuv", RecordError::Unknown),
            ("$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$YWJjZA", RecordError::Unknown),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ", RecordError::Damaged),
            ("$argon2id$v=19$m=8,t=1", RecordError::Damaged),
            (&REFERENCE.replace("m=65536", "m=4000000"), RecordError::Cost),
            (&REFERENCE.replace("t=2", "t=4000000"), RecordError::Cost),
            ("$7$101$c2FsdA==", RecordError::Damaged),
            ("$7$101$c2FsdA==$aGFzaA==", RecordError::Damaged),
            (&format!("$7$x$c2FsdA==${hash}"), RecordError::Damaged),
            (&format!("$7$0$c2FsdA==${hash}"), RecordError::Cost),
            (&format!("$7$4000000000$c2FsdA==${hash}"), RecordError::Cost),
            (&format!("$6$${hash}"), RecordError::Damaged),
            (&format!("$6$c2FsdA==${hash}$"), RecordError::Damaged),
        ] {
            assert_eq!(text.parse::<Record>(), Err(error), "{text}");
        }
    }
}
