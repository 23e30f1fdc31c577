//! Serializers of Pyro: serpent, json and msgpack. Those that can run code or crash their reader are refused.

use rantai_client::wire::json::{self, JsonError};

use crate::frame::Version;
use crate::msgpack::{self, MsgpackError};
use crate::serpent::{self, SerpentError};
use crate::value::{NotJson, PyValue};

/// Serializer of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serializer {
    Serpent,
    Json,
    Msgpack,
}

/// Error of a serializer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SerializeError {
    #[error("the serializer {0} is refused, as it is not safe; use serpent, json or msgpack")]
    Unsafe(&'static str),
    #[error("the serializer with number {0} is unknown; use serpent, json or msgpack")]
    Unknown(u16),
    #[error("cannot read serpent: {0}")]
    Serpent(#[from] SerpentError),
    #[error("cannot read json: {0}; nan and infinite numbers cannot be sent on the bus")]
    Json(#[from] JsonError),
    #[error("cannot read msgpack: {0}")]
    Msgpack(#[from] MsgpackError),
    #[error(transparent)]
    NotJson(#[from] NotJson),
    #[error("the message is not a call: object, method, arguments and keyword arguments")]
    NotACall,
}

/// Call of a method, as a client sends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PyCall {
    pub(crate) object: String,
    pub(crate) method: String,
    pub(crate) args: Vec<PyValue>,
    pub(crate) kwargs: Vec<(String, PyValue)>,
}

/// Arguments of a call: by position, and by keyword.
pub(crate) type PyArguments = (Vec<PyValue>, Vec<(String, PyValue)>);

impl Serializer {
    /// Returns the serializer with this number.
    ///
    /// # Errors
    ///
    /// The serializer is unknown or refused.
    pub(crate) fn of(version: Version, number: u16) -> Result<Self, SerializeError> {
        use SerializeError::{Unknown, Unsafe};
        Ok(match (version, number) {
            (_, 1) => Self::Serpent,
            (Version::Five, 3) | (Version::Four, 2) => Self::Json,
            (Version::Five, 4) | (Version::Four, 6) => Self::Msgpack,
            (Version::Five, 2) | (Version::Four, 3) => return Err(Unsafe("marshal")),
            (Version::Four, 4) => return Err(Unsafe("pickle")),
            (Version::Four, 5) => return Err(Unsafe("dill")),
            (Version::Four, 7) => return Err(Unsafe("cloudpickle")),
            (_, other) => return Err(Unknown(other)),
        })
    }

    /// Returns the number that a version gives the serializer.
    pub(crate) fn number(self, version: Version) -> u16 {
        match (self, version) {
            (Self::Serpent, _) => 1,
            (Self::Json, Version::Five) => 3,
            (Self::Json, Version::Four) => 2,
            (Self::Msgpack, Version::Five) => 4,
            (Self::Msgpack, Version::Four) => 6,
        }
    }

    /// Reads a value.
    pub(crate) fn read(self, bytes: &[u8]) -> Result<PyValue, SerializeError> {
        Ok(match self {
            Self::Serpent => serpent::read(bytes)?,
            Self::Json => PyValue::from_json(json::read(bytes)?),
            Self::Msgpack => msgpack::read(bytes)?,
        })
    }

    /// Reads a call.
    pub(crate) fn read_call(self, bytes: &[u8]) -> Result<PyCall, SerializeError> {
        let value = self.read(bytes)?;
        let parts = if self == Self::Json {
            ["object", "method", "params", "kwargs"]
                .map(|name| value.get(name).cloned())
                .into_iter()
                .collect()
        } else {
            value.into_items()
        };
        let parts: Vec<PyValue> = parts.ok_or(SerializeError::NotACall)?;
        let [object, method, args, kwargs] =
            <[_; 4]>::try_from(parts).map_err(|_| SerializeError::NotACall)?;
        let (PyValue::Str(object), PyValue::Str(method)) = (object, method) else {
            return Err(SerializeError::NotACall);
        };
        let (args, kwargs) = arguments(args, kwargs)?;
        Ok(PyCall { object, method, args, kwargs })
    }

    /// Writes a value.
    ///
    /// # Errors
    ///
    /// The value has no form in json.
    pub(crate) fn write(self, value: &PyValue) -> Result<Vec<u8>, SerializeError> {
        Ok(match self {
            Self::Serpent => serpent::write(value),
            Self::Json => value.to_json()?.to_string().into_bytes(),
            Self::Msgpack => msgpack::write(value),
        })
    }
}

/// Splits the calls of a batch: tuples of method, arguments and keyword arguments.
pub(crate) fn batch(args: Vec<PyValue>) -> Result<Vec<(String, PyArguments)>, SerializeError> {
    let one = |call: PyValue| {
        let parts = call.into_items().and_then(|parts| <[_; 3]>::try_from(parts).ok());
        let Some([PyValue::Str(method), args, kwargs]) = parts else { return Err(SerializeError::NotACall) };
        Ok((method, arguments(args, kwargs)?))
    };
    args.into_iter().map(one).collect()
}

fn arguments(args: PyValue, kwargs: PyValue) -> Result<PyArguments, SerializeError> {
    let args = args.into_items().ok_or(SerializeError::NotACall)?;
    let members = match kwargs {
        PyValue::None => Vec::new(),
        PyValue::Dict(members) => members,
        _ => return Err(SerializeError::NotACall),
    };
    let named = |(name, value)| match name {
        PyValue::Str(name) => Ok((name, value)),
        _ => Err(SerializeError::NotACall),
    };
    Ok((args, members.into_iter().map(named).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serializers_have_the_numbers_of_each_version() {
        for version in [Version::Four, Version::Five] {
            for serializer in [Serializer::Serpent, Serializer::Json, Serializer::Msgpack] {
                let number = serializer.number(version);
                assert_eq!(Serializer::of(version, number).expect("known"), serializer);
            }
        }
        for (version, number, name) in [
            (Version::Five, 2, "marshal"),
            (Version::Four, 3, "marshal"),
            (Version::Four, 4, "pickle"),
            (Version::Four, 5, "dill"),
            (Version::Four, 7, "cloudpickle"),
        ] {
            let error = Serializer::of(version, number).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(matches!(Serializer::of(Version::Five, 42), Err(SerializeError::Unknown(42))));
    }

    #[test]
    fn a_call_is_the_same_in_every_serializer() {
        let expected = PyCall {
            object: "calculator".to_owned(),
            method: "add".to_owned(),
            args: vec![PyValue::Int(2), PyValue::Float(3.5)],
            kwargs: vec![("c".to_owned(), PyValue::text("x"))],
        };
        let serpent = b"# serpent utf-8 python3.2\n('calculator','add',(2,3.5),{'c':'x'})";
        // Written by Pyro5 5.17.
        let json = br#"{"object": "calculator", "method": "add", "params": [2, 3.5], "kwargs": {"c": "x"}}"#;
        let msgpack = msgpack::write(&serpent::read(serpent).expect("a call"));
        for (serializer, bytes) in
            [(Serializer::Serpent, &serpent[..]), (Serializer::Json, json), (Serializer::Msgpack, &msgpack)]
        {
            assert_eq!(serializer.read_call(bytes).expect("a call"), expected, "{serializer:?}");
        }
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for text in
            ["1", "('a','b',())", "('a','b',(),{1:2})", "('a',2,(),{})", "('a','b',3,{})", "('a','b',(),5)"]
        {
            let error = Serializer::Serpent.read_call(text.as_bytes()).expect_err(text);
            assert!(matches!(error, SerializeError::NotACall), "{text}: {error}");
        }
        for text in ["[1]", "{\"object\":\"a\"}", "{\"a\":NaN}"] {
            assert!(Serializer::Json.read_call(text.as_bytes()).is_err(), "{text}");
        }
        let call = serpent::read(b"[('add',(1,2),{}),('add',[3],None)]").expect("a list");
        let calls = batch(call.into_items().expect("a list")).expect("two calls");
        assert_eq!(calls[1], ("add".to_owned(), (vec![PyValue::Int(3)], vec![])));
        assert!(batch(vec![PyValue::Int(1)]).is_err());
    }
}
