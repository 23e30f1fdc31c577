//! Where a broker is: `mqtt://user:password@host:port`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The port of a broker that names none.
const DEFAULT_PORT: u16 = 1883;

/// A broker's address, with the user name and password to use there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<(String, String)>,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no broker's address: {reason}; it looks like mqtt://host, mqtt://host:1883 or mqtt://user:password@host"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl Address {
    /// A broker on this machine, without a user name.
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, user: None }
    }

    /// With this user name and password instead of its own.
    #[must_use]
    pub fn with_credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// The user name, if it has one.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|(user, _)| &**user)
    }

    /// Whether it has a password.
    pub fn has_password(&self) -> bool {
        self.user.as_ref().is_some_and(|(_, password)| !password.is_empty())
    }

    /// The password, empty where it has none.
    pub fn password(&self) -> &str {
        self.user.as_ref().map_or("", |(_, password)| password)
    }

    /// Host and port, as a resolver takes them.
    pub(super) fn socket(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The password is nobody's business, not even in an error about it.
        let shown = match text
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)))
        {
            Some((scheme, rest)) => format!("{scheme}://…@{rest}"),
            None => text.to_owned(),
        };
        let wrong = |reason| AddressError { text: shown.clone(), reason };
        let bare = !text.contains("://");
        let whole = if bare { format!("mqtt://{text}") } else { text.to_owned() };
        let url = Url::parse(&whole).map_err(|_| wrong("it cannot be read"))?;
        match url.scheme() {
            "mqtt" | "tcp" => {}
            "mqtts" | "ssl" | "tls" => return Err(wrong("TLS is not supported")),
            "ws" | "wss" => return Err(wrong("WebSocket is not supported")),
            _ => return Err(wrong("the scheme is mqtt")),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("nothing follows the port"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(wrong("there is no host")),
        };
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(Into::into)
                .map_err(|_| wrong("the user name or password is not UTF-8"))
        };
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), user })
    }
}

/// Without the user name and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "mqtt://[{host}]:{port}")
        } else {
            write!(f, "mqtt://{host}:{port}")
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown, user) in [
            ("mqtt://localhost", "mqtt://localhost:1883", None),
            ("localhost:1884", "mqtt://localhost:1884", None),
            ("127.0.0.1", "mqtt://127.0.0.1:1883", None),
            ("mqtt://[::1]:9/", "mqtt://[::1]:9", None),
            ("mqtt://ana:s%40t@pi.local:1999", "mqtt://pi.local:1999", Some(("ana", "s@t"))),
            ("mqtt://ana@pi", "mqtt://pi:1883", Some(("ana", ""))),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
            let found = address.user.as_ref().map(|(user, password)| (&**user, &**password));
            assert_eq!(found, user, "{text}");
        }
    }

    #[test]
    fn what_is_none_says_how_one_looks_and_keeps_the_password() {
        for (text, reason) in [
            ("", "no host"),
            ("http://pi", "the scheme is mqtt"),
            ("mqtts://pi", "TLS is not supported"),
            ("mqtt://pi:99999", "cannot be read"),
            ("mqtt://pi/topic", "nothing follows"),
            ("mqtt://", "no host"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("mqtt://user:password@host"), "{error}");
        }
        let error = "mqtt://ana:secret@pi/x".parse::<Address>().expect_err("a path").to_string();
        assert!(!error.contains("secret"), "{error}");
        let shown = format!("{:?}", "mqtt://ana:secret@pi".parse::<Address>().expect("an address"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
