//! Addresses of brokers: `mqtt://user:password@host:port`, or a list of several in order.

mod endpoint;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rantai_tls::TlsFiles;

use super::embedded::{Embedded, EmbeddedBroker};

pub(super) use endpoint::{Endpoint, Place};

/// Address of a broker, or a list of several, with user names and passwords.
///
/// | | Port | |
/// |---|---|---|
/// | `mqtt://host` | 1883 | TCP |
/// | `mqtts://host` | 8883 | TLS |
/// | `ws://host/path` | 80 | WebSocket; the default path is `/mqtt` |
/// | `wss://host/path` | 443 | WebSocket over TLS |
/// | `unix:/path/of/socket` | | A unix socket |
///
/// Several addresses, separated by commas, are tried in order, from the first one again whenever the connection was
/// lost. The order is thus a preference: clients with the same list meet on the same broker as soon as it is back. An
/// unreachable broker delays the connection by 3 s at most.
///
/// A user name and password apply only to the address that contains them.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Places to connect to, in order; never empty.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) tls: TlsFiles,
}

/// Error of parsing an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no broker's address: {reason}; it looks like mqtt://host, mqtt://host:1883, mqtt://user:password@host, \
     mqtts://host, wss://host/mqtt or unix:/path, and several are separated by commas"
)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl Address {
    /// Returns the address of a broker on this machine, without a user name.
    pub fn local(port: u16) -> Self {
        let place = Place::Network { host: "127.0.0.1".to_owned(), port, tls: false, path: None };
        Self { endpoints: vec![Endpoint { place, user: None }], tls: TlsFiles::default() }
    }

    /// Returns the address of a broker in the same process, without a user name. Such an address has a single place,
    /// and no text form that can be parsed.
    pub fn embedded(broker: Arc<dyn EmbeddedBroker>) -> Self {
        let place = Place::Embedded(Embedded(broker));
        Self { endpoints: vec![Endpoint { place, user: None }], tls: TlsFiles::default() }
    }

    /// Returns the address of brokers of the simulation, in order.
    #[cfg(test)]
    pub(crate) fn simulated(places: Vec<crate::simulation::SimulatedPlace>) -> Self {
        let endpoint = |place| Endpoint { place: Place::Simulated(place), user: None };
        Self { endpoints: places.into_iter().map(endpoint).collect(), tls: TlsFiles::default() }
    }

    /// Replaces user name and password, at each place of the address.
    #[must_use]
    pub fn with_credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        let user = (user.into(), password.into());
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.user = Some(user.clone()));
        self
    }

    /// Sets the files for connections by TLS. They are read again for every connection.
    #[must_use]
    pub fn with_tls(mut self, files: TlsFiles) -> Self {
        self.tls = files;
        self
    }

    /// Removes the client certificate, if there is one: the client then connects unauthenticated.
    #[must_use]
    pub fn without_client_certificate(mut self) -> Self {
        (self.tls.certificate, self.tls.key) = (None, None);
        self
    }

    /// Returns the first user name of the address.
    pub fn user(&self) -> Option<&str> {
        self.users().next().map(|(user, _)| &**user)
    }

    /// Returns whether the address contains a password.
    pub fn has_password(&self) -> bool {
        self.users().any(|(_, password)| !password.is_empty())
    }

    /// Returns the password of the first user in the address, empty if it has none.
    pub fn password(&self) -> &str {
        self.users().next().map_or("", |(_, password)| password)
    }

    /// Returns whether each place of this address is also one of `other`, so that credentials given for `other` may be
    /// used here.
    pub fn is_within(&self, other: &Self) -> bool {
        self.places().all(|place| other.places().any(|known| known == place))
    }

    /// Returns whether one of the places is reached by TLS.
    pub fn uses_tls(&self) -> bool {
        self.places().any(Place::is_tls)
    }

    /// Returns the first place to which a password would be sent unencrypted over a network.
    pub fn open_password(&self) -> Option<String> {
        let has_password =
            |endpoint: &&Endpoint| endpoint.user.as_ref().is_some_and(|(_, text)| !text.is_empty());
        let mut open = self.endpoints.iter().filter(has_password).filter(|endpoint| endpoint.place.is_open());
        open.next().map(|endpoint| endpoint.place.to_string())
    }

    /// Returns a user name in the address that differs from `user`.
    pub fn other_user(&self, user: &str) -> Option<&str> {
        self.users().map(|(named, _)| &**named).find(|named| *named != user)
    }

    fn users(&self) -> impl Iterator<Item = &(String, String)> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.user.as_ref())
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.endpoints.iter().map(|endpoint| &endpoint.place)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let endpoints = split(text).into_iter().map(|part| {
            let text = part.trim();
            Endpoint::parse(text).map_err(|reason| AddressError { text: without_user(text), reason })
        });
        Ok(Self { endpoints: endpoints.collect::<Result<_, _>>()?, tls: TlsFiles::default() })
    }
}

/// Splits a list of addresses. A comma may also be part of a password, if an `@` follows before the next scheme.
fn split(text: &str) -> Vec<String> {
    let has_scheme = |part: &str| part.contains("://") || part.trim_start().starts_with("unix:");
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        let mut part = part.to_owned();
        if part.contains('@') && !has_scheme(&part) {
            while let Some(before) = parts.pop() {
                part = format!("{before},{part}");
                if has_scheme(&before) {
                    break;
                }
            }
        }
        parts.push(part);
    }
    parts
}

/// Removes user name and password from an address, so that errors do not reveal them.
fn without_user(text: &str) -> String {
    let Some((before, rest)) = text.rsplit_once('@') else { return text.to_owned() };
    // Where there is no scheme, or a mistyped one, all before the host may be the password.
    let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}…@{rest}")
}

/// Formats the address without user name and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in self.places().enumerate() {
            write!(f, "{}{place}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
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
    fn addresses_are_parsed_with_their_defaults() {
        for (text, shown, user) in [
            ("mqtt://localhost", "mqtt://localhost:1883", None),
            ("localhost:1884", "mqtt://localhost:1884", None),
            ("127.0.0.1", "mqtt://127.0.0.1:1883", None),
            ("mqtt://[::1]:9/", "mqtt://[::1]:9", None),
            ("mqtt://ana:s%40t@pi.local:1999", "mqtt://pi.local:1999", Some(("ana", "s@t"))),
            ("mqtt://ana@pi", "mqtt://pi:1883", Some(("ana", ""))),
            ("mqtt://ana:a,b@c,d@pi", "mqtt://pi:1883", Some(("ana", "a,b@c,d"))),
            ("ana:a,b@pi", "mqtt://pi:1883", Some(("ana", "a,b"))),
            ("mqtts://pi", "mqtts://pi:8883", None),
            ("ws://pi", "ws://pi:80/mqtt", None),
            ("ws://[::1]:8080/", "ws://[::1]:8080/", None),
            ("wss://ana:x@pi/a/b", "wss://pi:443/a/b", Some(("ana", "x"))),
            ("unix:/run/rantai.sock", "unix:/run/rantai.sock", None),
            ("unix:///run/rantai.sock", "unix:/run/rantai.sock", None),
            ("pi, mqtts://pi,unix:/s", "mqtt://pi:1883,mqtts://pi:8883,unix:/s", None),
            (
                "mqtt://a,mqtt://ana:a,b@pi,c",
                "mqtt://a:1883,mqtt://pi:1883,mqtt://c:1883",
                Some(("ana", "a,b")),
            ),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
            let found = address.users().next().map(|(user, password)| (&**user, &**password));
            assert_eq!(found, user, "{text}");
        }
    }

    #[test]
    fn error_of_an_invalid_address_has_an_example_and_no_password() {
        for (text, reason) in [
            ("", "no host"),
            ("http://pi", "the scheme is mqtt"),
            ("mqtt://pi:99999", "cannot be read"),
            ("mqtt://pi/topic", "nothing follows"),
            ("ws://pi/mqtt?x", "nothing follows"),
            ("mqtt://", "no host"),
            ("mqtt://a,", "no host"),
            ("unix:socket", "from / on"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("mqtt://user:password@host"), "{error}");
        }
        for text in [
            "mqtt://ana:secret@pi/x",
            "mqtt://ana:a,secret@pi/x,pi",
            "mqtt://a,ftp://ana:secret,b@pi",
            "mqtt:/ana:secret@pi",
            "mqtt//ana:secret@pi/x",
            "ana:secret@pi:99999",
        ] {
            let error = text.parse::<Address>().expect_err("a path").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let shown = format!("{:?}", "mqtt://ana:secret@pi".parse::<Address>().expect("an address"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn credentials_apply_to_their_own_place_only() {
        let address = |text: &str| text.parse::<Address>().expect(text);
        let two = address("mqtt://pi,mqtts://pi");
        assert!(address("mqtts://pi").is_within(&two) && two.is_within(&two));
        for other in ["mqtt://pi:8883", "mqtts://pi,mqtts://other", "wss://pi:8883", "unix:/pi"] {
            assert!(!address(other).is_within(&two), "{other}");
        }
        let mixed = address("mqtt://ana:x@pi,mqtt://budi@pi:9");
        assert_eq!((mixed.other_user("ana"), mixed.other_user("budi")), (Some("budi"), Some("ana")));
        for (text, open) in [
            ("mqtt://ana:x@pi", Some("mqtt://pi:1883")),
            ("ws://ana:x@10.0.0.1", Some("ws://10.0.0.1:80/mqtt")),
            ("mqtts://ana:x@pi,mqtt://pi", None),
            ("mqtt://ana@pi", None),
            ("mqtt://ana:x@localhost,mqtt://ana:x@127.0.0.2,mqtt://ana:x@[::1]", None),
        ] {
            assert_eq!(address(text).open_password().as_deref(), open, "{text}");
        }
        assert_eq!(two.with_credentials("ana", "x").open_password().as_deref(), Some("mqtt://pi:1883"));
    }
}
