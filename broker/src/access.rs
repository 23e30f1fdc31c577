//! Who may come in.

use bytestring::ByteString;
use hashbrown::HashMap;

use crate::codec::Reason;
use crate::config::Config;

/// Users and what they may do.
#[derive(Debug)]
pub(crate) struct Access {
    anonymous: bool,
    passwords: HashMap<ByteString, Vec<u8>>,
}

impl Access {
    pub(crate) fn new(config: &Config) -> Self {
        let passwords =
            config.users.iter().map(|u| (ByteString::from(&*u.name), u.password.clone().into_bytes()));
        Self { anonymous: config.anonymous, passwords: passwords.collect() }
    }

    /// Checks what CONNECT says about the user. With no users configured any name is taken for what it says.
    pub(crate) fn log_in(&self, user: Option<&ByteString>, password: Option<&[u8]>) -> Result<(), Reason> {
        let Some(user) = user else {
            return if self.anonymous { Ok(()) } else { Err(Reason::NOT_AUTHORIZED) };
        };
        if self.passwords.is_empty() {
            return if self.anonymous { Ok(()) } else { Err(Reason::BAD_USER_NAME_OR_PASSWORD) };
        }
        match self.passwords.get(user) {
            Some(expected) if same(expected, password.unwrap_or_default()) => Ok(()),
            _ => Err(Reason::BAD_USER_NAME_OR_PASSWORD),
        }
    }
}

/// Compares in a time that does not tell where the first difference is.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let difference =
        expected.iter().zip(given).fold(expected.len() ^ given.len(), |d, (a, b)| d | usize::from(a ^ b));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn access(anonymous: bool, users: &[(&str, &str)]) -> Access {
        let users = users.iter().map(|(n, p)| User { name: (*n).into(), password: (*p).into() }).collect();
        Access::new(&Config { anonymous, users, ..Config::default() })
    }

    #[test]
    fn who_is_let_in() {
        let name = ByteString::from("ani");
        let closed = access(false, &[("ani", "rahasia")]);
        assert_eq!(closed.log_in(Some(&name), Some(b"rahasia")), Ok(()));
        for wrong in [&b""[..], b"rahasi", b"rahasia!", b"rahasiA"] {
            assert_eq!(closed.log_in(Some(&name), Some(wrong)), Err(Reason::BAD_USER_NAME_OR_PASSWORD));
        }
        assert_eq!(
            closed.log_in(Some(&"budi".into()), Some(b"rahasia")),
            Err(Reason::BAD_USER_NAME_OR_PASSWORD)
        );
        assert_eq!(closed.log_in(None, None), Err(Reason::NOT_AUTHORIZED));
        assert_eq!(access(true, &[]).log_in(Some(&name), None), Ok(()));
        assert_eq!(access(true, &[("ani", "x")]).log_in(None, None), Ok(()));
        assert_eq!(
            access(true, &[("ani", "x")]).log_in(Some(&name), None),
            Err(Reason::BAD_USER_NAME_OR_PASSWORD)
        );
    }
}
