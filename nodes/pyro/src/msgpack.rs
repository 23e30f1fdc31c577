//! `MessagePack`, with the extension types of Pyro.

use rmpv::{Integer, Value};

use crate::value::{MAX_VALUES, PyValue, integer};

/// Maximum nesting depth; texts and bytes count as a level.
const MAX_DEPTH: usize = 80;
/// Extension type of a complex number: two doubles.
const COMPLEX: i8 = 0x30;
/// Extension type of an integer of more than 64 bits: its decimal digits.
const LONG: i8 = 0x31;
/// Extension types of points in time and days.
const DATETIME: i8 = 0x32;
const DATE: i8 = 0x33;

/// Error of reading `MessagePack`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MsgpackError {
    #[error("{0}")]
    Syntax(#[from] rmpv::decode::Error),
    #[error("more than one value")]
    Rest,
    #[error("a text that is not UTF-8")]
    NotUtf8,
    #[error("more than {MAX_VALUES} values")]
    TooMany,
    #[error("datetime and date cannot be sent by msgpack; use the serializer serpent, or send a text")]
    Date,
    #[error("extension type {0} is unknown")]
    Extension(i8),
}

/// Reads one value.
pub(crate) fn read(mut bytes: &[u8]) -> Result<PyValue, MsgpackError> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH)?;
    if !bytes.is_empty() {
        return Err(MsgpackError::Rest);
    }
    let mut left = MAX_VALUES;
    convert(value, &mut left)
}

fn convert(value: Value, left: &mut usize) -> Result<PyValue, MsgpackError> {
    *left = left.checked_sub(1).ok_or(MsgpackError::TooMany)?;
    Ok(match value {
        Value::Nil => PyValue::None,
        Value::Boolean(value) => PyValue::Bool(value),
        Value::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => PyValue::Int(value),
            (None, value) => PyValue::Big(value.unwrap_or_default().to_string()),
        },
        Value::F32(value) => PyValue::Float(value.into()),
        Value::F64(value) => PyValue::Float(value),
        Value::String(text) => PyValue::Str(text.into_str().ok_or(MsgpackError::NotUtf8)?),
        Value::Binary(bytes) => PyValue::Bytes(bytes),
        Value::Array(items) => {
            let items: Result<_, _> = items.into_iter().map(|item| convert(item, left)).collect();
            PyValue::List(items?)
        }
        Value::Map(members) => {
            let member = |(key, value)| Ok((convert(key, left)?, convert(value, left)?));
            let members: Result<_, MsgpackError> = members.into_iter().map(member).collect();
            PyValue::Dict(members?)
        }
        Value::Ext(LONG, digits) => {
            let number = std::str::from_utf8(&digits).ok().and_then(integer);
            number.ok_or(MsgpackError::Extension(LONG))?
        }
        Value::Ext(COMPLEX, parts) => {
            let (real, imaginary) = parts.split_first_chunk::<8>().ok_or(MsgpackError::Extension(COMPLEX))?;
            let imaginary = imaginary.try_into().map_err(|_| MsgpackError::Extension(COMPLEX))?;
            PyValue::Complex(f64::from_le_bytes(*real), f64::from_le_bytes(imaginary))
        }
        Value::Ext(DATETIME | DATE, _) => return Err(MsgpackError::Date),
        Value::Ext(other, _) => return Err(MsgpackError::Extension(other)),
    })
}

/// Writes a value.
pub(crate) fn write(value: &PyValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &to_msgpack(value)).expect("a vector takes everything");
    bytes
}

fn to_msgpack(value: &PyValue) -> Value {
    match value {
        PyValue::None => Value::Nil,
        PyValue::Bool(value) => Value::Boolean(*value),
        PyValue::Int(value) => Value::Integer(Integer::from(*value)),
        PyValue::Big(digits) => digits.parse::<u64>().map_or_else(
            |_| Value::Ext(LONG, digits.as_bytes().to_vec()),
            |value| Value::Integer(value.into()),
        ),
        PyValue::Float(value) => Value::F64(*value),
        PyValue::Complex(real, imaginary) => {
            Value::Ext(COMPLEX, [real.to_le_bytes(), imaginary.to_le_bytes()].concat())
        }
        PyValue::Str(text) => Value::from(text.as_str()),
        PyValue::Bytes(bytes) => Value::Binary(bytes.clone()),
        PyValue::List(items) | PyValue::Tuple(items) | PyValue::Set(items) => {
            Value::Array(items.iter().map(to_msgpack).collect())
        }
        PyValue::Dict(members) => {
            Value::Map(members.iter().map(|(key, value)| (to_msgpack(key), to_msgpack(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Pyro5 5.17: the call `add(2, 2**70, b"ab", c=1+2j)` of `calculator`.
    const GOLDEN: &[u8] = b"\x94\xaacalculator\xa3add\x93\x02\xc7\x161\
        1180591620717411303424\xc4\x02ab\x81\xa1c\xd8\x30\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40";

    #[test]
    fn values_of_pyro_are_read_and_written_again() {
        let value = read(GOLDEN).expect("a call");
        let items = value.items().expect("a list");
        let expected = [
            PyValue::Int(2),
            PyValue::Big("1180591620717411303424".to_owned()),
            PyValue::Bytes(b"ab".to_vec()),
        ];
        assert_eq!(items[2].items(), Some(&expected[..]));
        assert_eq!(items[3].get("c"), Some(&PyValue::Complex(1.0, 2.0)));
        assert_eq!(write(&value), GOLDEN);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert!(matches!(read(&[1, 2]), Err(MsgpackError::Rest)));
        assert!(matches!(read(&[0xa1, 0xff]), Err(MsgpackError::NotUtf8)));
        assert!(matches!(read(&vec![0x91; 100_000]), Err(MsgpackError::Syntax(_))), "too deep");
        assert!(
            matches!(read(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0]), Err(MsgpackError::Syntax(_))),
            "too short"
        );
        assert!(matches!(read(&[0xd4, 0x32, 0]), Err(MsgpackError::Date)));
        let mut many = vec![0xdd];
        many.extend_from_slice(&(MAX_VALUES as u32).to_be_bytes());
        many.resize(many.len() + MAX_VALUES, 0);
        assert!(matches!(read(&many), Err(MsgpackError::TooMany)));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..50_000 {
            let mut bytes = GOLDEN.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = read(&bytes);
        }
    }
}
