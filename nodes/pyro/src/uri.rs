//! URIs of Pyro objects: `PYRO:object@host:port`.

use std::fmt;

use crate::frame::Version;
use crate::value::PyValue;

/// Maximum length of a URI, in bytes.
const MAX_URI_BYTES: usize = 512;

/// URI of an object of a Pyro server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PyroUri {
    /// Id of the object at its server.
    pub(crate) object: String,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Error of reading a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid uri {text:?}: expected PYRO:object@host:port; unix sockets cannot be registered")]
pub(crate) struct UriError {
    text: String,
}

impl PyroUri {
    /// Creates the URI of an object at an address.
    pub(crate) fn new(object: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self { object: object.into(), host: host.into(), port }
    }

    /// Reads a text.
    pub(crate) fn read(text: &str) -> Result<Self, UriError> {
        let wrong = || UriError { text: text.chars().take(80).collect() };
        if text.len() > MAX_URI_BYTES || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        let (protocol, rest) = text.split_once(':').ok_or_else(wrong)?;
        // The id ends at the first @, as in Pyro.
        let (object, location) = rest.split_once('@').ok_or_else(wrong)?;
        let (host, port) = location.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().map_err(|_| wrong())?;
        if !protocol.eq_ignore_ascii_case("PYRO") || object.is_empty() || host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Self::new(object, host, port))
    }

    /// Reads a text, or an instance of the class `URI`.
    pub(crate) fn of(value: &PyValue) -> Result<Self, UriError> {
        let wrong = || UriError { text: value.type_name().to_owned() };
        if let Some(text) = value.as_str() {
            return Self::read(text);
        }
        let is_uri = value
            .get("__class__")
            .and_then(PyValue::as_str)
            .is_some_and(|class| class.ends_with(".core.URI"));
        let state = value.get("state").and_then(PyValue::items).filter(|_| is_uri);
        let Some([protocol, object, _, host, PyValue::Int(port)]) = state else { return Err(wrong()) };
        let [protocol, object, host] = [protocol, object, host].map(|part| part.as_str().unwrap_or_default());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self::read(&format!("{protocol}:{object}@{host}:{port}"))
    }

    /// Returns an instance of the class `URI`.
    pub(crate) fn to_python(&self, version: Version) -> PyValue {
        let state = vec![
            PyValue::text("PYRO"),
            PyValue::text(&self.object),
            PyValue::None,
            PyValue::text(&self.host),
            PyValue::Int(self.port.into()),
        ];
        let class = format!("{}.core.URI", version.package());
        PyValue::dict([("__class__", PyValue::Str(class)), ("state", PyValue::Tuple(state))])
    }
}

impl fmt::Display for PyroUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, host, port } = self;
        if host.contains(':') {
            write!(f, "PYRO:{object}@[{host}]:{port}")
        } else {
            write!(f, "PYRO:{object}@{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serpent;

    #[test]
    fn uris_are_read_as_they_are_written() {
        for text in ["PYRO:obj_1@localhost:5000", "PYRO:a@127.0.0.1:1", "PYRO:a@[::1]:65535"] {
            let uri = PyroUri::read(text).expect(text);
            assert_eq!(uri.to_string(), text);
            assert_eq!(PyroUri::of(&uri.to_python(Version::Four)).expect(text), uri);
        }
        assert_eq!(PyroUri::read("pyro:a@h:5").expect("lower case"), PyroUri::new("a", "h", 5));
        // Written by Pyro5 5.17.
        let literal = b"{'__class__':'Pyro5.core.URI','state':('PYRO','a',None,'h',5)}";
        let value = serpent::read(literal).expect("a literal");
        assert_eq!(PyroUri::of(&value).expect("a URI"), PyroUri::new("a", "h", 5));
        assert_eq!(PyroUri::new("a", "h", 5).to_python(Version::Five), value);
    }

    #[test]
    fn other_uris_are_refused() {
        for text in [
            "",
            "PYRO:",
            "PYRO:a",
            "PYRO:a@",
            "PYRO:a@h",
            "PYRO:a@h:",
            "PYRO:a@h:0",
            "PYRO:a@h:70000",
            "PYRO:@h:1",
            "PYRO:a@./u:socket",
            "PYRONAME:a@h:1",
            "PYRO:a@::1:5",
            "PYRO:a@[::1:5",
            "PYRO:a b@h:1",
            "http://h:1",
        ] {
            assert!(PyroUri::read(text).is_err(), "{text}");
        }
        assert!(PyroUri::read(&format!("PYRO:{}@h:1", "a".repeat(600))).is_err());
        assert!(PyroUri::of(&PyValue::Int(1)).is_err());
    }
}
