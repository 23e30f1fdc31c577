//! Values of Python, as serializers write and read them, and their conversion to and from JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rantai_client::wire::json::MAX_DEPTH;
use serde_json::{Map, Number, Value};

/// Maximum number of values in one message: each takes about 16 times the bytes that it has on the wire.
pub(crate) const MAX_VALUES: usize = 200_000;

/// Value of Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PyValue {
    None,
    Bool(bool),
    Int(i64),
    /// Integer that does not fit into 64 bits with a sign: decimal digits, with `-` in front of a negative one.
    Big(String),
    Float(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<PyValue>),
    Tuple(Vec<PyValue>),
    Set(Vec<PyValue>),
    Dict(Vec<(PyValue, PyValue)>),
}

/// Reason why a value of Python cannot be sent on the bus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotJson {
    #[error("nan and infinite numbers cannot be sent on the bus; send a text or None instead")]
    NotFinite,
    #[error("complex numbers cannot be sent on the bus; send a list of two numbers instead")]
    Complex,
    #[error("values of more than {MAX_DEPTH} levels cannot be sent on the bus")]
    TooDeep,
    #[error("a dict with a key of type {0} cannot be sent on the bus; use texts as keys")]
    Key(&'static str),
    #[error("a dict has two keys that are {0:?} as texts")]
    TwoKeys(String),
}

impl PyValue {
    /// Creates a `str`.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// Creates a `dict` with texts as keys.
    pub(crate) fn dict<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Dict(members.into_iter().map(|(name, value)| (Self::text(name), value)).collect())
    }

    /// Returns a member of a `dict` by its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Dict(members) = self else { return None };
        members.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// Returns the text of a `str`.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the items of a list, tuple or set.
    pub(crate) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the items of a list, tuple or set.
    pub(crate) fn into_items(self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// Returns whether Python takes the value for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => !items.is_empty(),
            Self::Dict(members) => !members.is_empty(),
            Self::Big(_) | Self::Complex(..) => true,
        }
    }

    /// Returns the bytes of a value that is bytes: as such, or in the form that serpent gives them,
    /// `{"data": BASE64, "encoding": "base64"}`.
    pub(crate) fn as_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Dict(members) if members.len() == 2 => {
                if self.get("encoding")?.as_str()? != "base64" {
                    return None;
                }
                BASE64_STANDARD.decode(self.get("data")?.as_str()?).ok()
            }
            _ => None,
        }
    }

    /// Creates bytes in the form that serpent gives them.
    pub(crate) fn encoded_bytes(bytes: &[u8]) -> Self {
        let data = BASE64_STANDARD.encode(bytes);
        Self::dict([("data", Self::Str(data)), ("encoding", Self::text("base64"))])
    }

    /// Returns the name of the type in Python.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Complex(..) => "complex",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::Dict(_) => "dict",
        }
    }

    /// Converts the value to JSON. Tuples and sets become lists, keys that are numbers texts, bytes the `dict` that serpent
    /// makes of them, and integers of more than 64 bits texts.
    ///
    /// # Errors
    ///
    /// The value, or one in it, has no form in JSON.
    pub(crate) fn to_json(&self) -> Result<Value, NotJson> {
        self.json_below(0)
    }

    fn json_below(&self, level: usize) -> Result<Value, NotJson> {
        if level > MAX_DEPTH {
            return Err(NotJson::TooDeep);
        }
        Ok(match self {
            Self::None => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::from(*value),
            Self::Big(digits) => {
                digits.parse::<u64>().map_or_else(|_| Value::from(digits.as_str()), Value::from)
            }
            Self::Float(value) => Number::from_f64(*value).map(Value::Number).ok_or(NotJson::NotFinite)?,
            Self::Complex(..) => return Err(NotJson::Complex),
            Self::Str(text) => Value::from(text.as_str()),
            Self::Bytes(bytes) => Self::encoded_bytes(bytes).json_below(level)?,
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                Value::Array(items.iter().map(|item| item.json_below(level + 1)).collect::<Result<_, _>>()?)
            }
            Self::Dict(members) => {
                let mut map = Map::new();
                for (key, value) in members {
                    let key = key.json_key()?;
                    if map.contains_key(&key) {
                        return Err(NotJson::TwoKeys(key));
                    }
                    map.insert(key, value.json_below(level + 1)?);
                }
                Value::Object(map)
            }
        })
    }

    /// Returns the text of a key, as Python's module `json` writes it.
    fn json_key(&self) -> Result<String, NotJson> {
        Ok(match self {
            Self::Str(text) | Self::Big(text) => text.clone(),
            Self::Int(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::None => "null".to_owned(),
            Self::Float(value) if value.is_finite() => format!("{value:?}"),
            other => return Err(NotJson::Key(other.type_name())),
        })
    }

    /// Converts JSON.
    pub(crate) fn from_json(value: Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::Big(value.to_string()),
                // Without arbitrary precision, every other number is a double.
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Str(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Value::Object(members) => Self::Dict(
                members.into_iter().map(|(key, value)| (Self::Str(key), Self::from_json(value))).collect(),
            ),
        }
    }

    /// Converts a result by its schema: a number that JSON writes without a fraction becomes a `float` again, and an integer
    /// that is a text because it is beyond 2^53 an `int`.
    pub(crate) fn from_result(value: Value, schema: Option<&Value>) -> Self {
        let is = |name: &str| schema.is_some_and(|schema| schema["type"] == name);
        match Self::from_json(value) {
            Self::Int(value) if is("number") => Self::Float(value as f64),
            Self::Str(text) if is("integer") => integer(&text).unwrap_or(Self::Str(text)),
            other => other,
        }
    }
}

/// Returns the integer that a text of decimal digits is.
pub(crate) fn integer(text: &str) -> Option<PyValue> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or_else(|_| PyValue::Big(text.to_owned()), PyValue::Int))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_python_become_the_nearest_json() {
        use PyValue::{Big, Bool, Bytes, Dict, Float, Int, List, None, Set, Tuple};
        for (value, expected) in [
            (Tuple(vec![Int(2), Int(3)]), json!([2, 3])),
            (Set(vec![PyValue::text("a")]), json!(["a"])),
            (Dict(vec![(Int(1), Float(2.5)), (None, Bool(true))]), json!({"1": 2.5, "null": true})),
            (Big("18446744073709551615".to_owned()), json!(u64::MAX)),
            (Big("-9999999999999999999999".to_owned()), json!("-9999999999999999999999")),
            (List(vec![Bytes(b"xy".to_vec())]), json!([{"data": "eHk=", "encoding": "base64"}])),
        ] {
            assert_eq!(value.to_json(), Ok(expected));
        }
    }

    #[test]
    fn values_without_a_form_in_json_are_refused() {
        use PyValue::{Complex, Dict, Float, Int, List, None, Str, Tuple};
        let deep = (0..65).fold(None, |value, _| List(vec![value]));
        for (value, expected) in [
            (Float(f64::NAN), NotJson::NotFinite),
            (List(vec![Float(f64::NEG_INFINITY)]), NotJson::NotFinite),
            (Complex(1.0, 0.0), NotJson::Complex),
            (Dict(vec![(Tuple(vec![]), None)]), NotJson::Key("tuple")),
            (Dict(vec![(Int(1), None), (Str("1".to_owned()), None)]), NotJson::TwoKeys("1".to_owned())),
            (deep, NotJson::TooDeep),
        ] {
            assert_eq!(value.to_json(), Err(expected));
        }
    }

    #[test]
    fn results_have_the_type_of_their_schema() {
        let of = |value, kind: &str| PyValue::from_result(value, Some(&json!({"type": kind})));
        assert_eq!(of(json!(5), "number"), PyValue::Float(5.0));
        assert_eq!(of(json!(5), "integer"), PyValue::Int(5));
        assert_eq!(of(json!("9007199254740993"), "integer"), PyValue::Int(9_007_199_254_740_993));
        assert_eq!(of(json!("9007199254740993"), "string"), PyValue::text("9007199254740993"));
        assert_eq!(of(json!("x1"), "integer"), PyValue::text("x1"));
        assert_eq!(PyValue::from_result(json!(5), None), PyValue::Int(5));
    }

    #[test]
    fn bytes_are_recognised_in_both_forms() {
        assert_eq!(PyValue::Bytes(vec![1]).as_bytes(), Some(vec![1]));
        assert_eq!(PyValue::encoded_bytes(b"xy").as_bytes(), Some(b"xy".to_vec()));
        let other = PyValue::dict([("data", PyValue::text("eHk=")), ("encoding", PyValue::text("hex"))]);
        assert_eq!((other.as_bytes(), PyValue::text("xy").as_bytes()), (None, None));
    }
}
