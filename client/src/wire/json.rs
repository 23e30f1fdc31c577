//! JSON as restricted by the contract: finite numbers, member names that are unique in their object, at most 64 levels,
//! integers beyond ±(2^53 − 1) as strings.

mod number;
mod typed;
mod write;

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::fault::{Code, Fault};
use number::quote_unreadable_integers;
pub use number::{number, quote_large_integers};
pub use typed::typed;
pub use write::to_bytes;

/// Maximum nesting depth of arrays and objects.
pub const MAX_DEPTH: usize = 64;
/// Largest integer that every JSON reader parses exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Error of parsing JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Invalid JSON or UTF-8, or JSON with a number that is not finite, a lone surrogate, or a member name that is repeated in
    /// its object.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// Nested more than [`MAX_DEPTH`] levels.
    #[error("more than {MAX_DEPTH} levels of arrays and objects")]
    TooDeep,
}

impl From<&JsonError> for Fault {
    fn from(error: &JsonError) -> Self {
        let code = match error {
            JsonError::Syntax(_) => Code::NOT_JSON,
            JsonError::TooDeep => Code::NOT_A_REQUEST,
        };
        Self::new(code, error.to_string())
    }
}

/// Parses a JSON value.
///
/// # Errors
///
/// The JSON is invalid, not allowed by the contract, or nested too deeply.
pub fn read(bytes: &[u8]) -> Result<Value, JsonError> {
    let syntax = |error: serde_json::Error| JsonError::Syntax(error.to_string());
    let nesting = Nesting::of(bytes);
    if nesting.deepest > MAX_DEPTH {
        // Deeper than the parser goes: whether the JSON is valid otherwise is not known, but unclosed brackets are an error.
        return Err(match nesting.open {
            0 => JsonError::TooDeep,
            open => JsonError::Syntax(format!("{open} brackets are not closed")),
        });
    }
    match quote_unreadable_integers(bytes) {
        // Both are parsed: adding quotes must not make invalid JSON valid.
        Some(quoted) => {
            parse(bytes).map_err(syntax)?;
            parse(&quoted).map_err(syntax)
        }
        None => parse(bytes).map_err(syntax),
    }
}

/// Checks whether a payload that [`read`] refuses is plain text and was not meant to be JSON: it does not begin like an array
/// or an object, and it does not match the JSON grammar either, as `1e400` does.
pub fn is_plain_text(text: &str) -> bool {
    let start = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{feff}']);
    // `IgnoredAny` checks the grammar only: neither the range of numbers nor surrogates.
    !start.starts_with(['[', '{']) && serde_json::from_str::<IgnoredAny>(text).is_err()
}

fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Builds a value; refuses a repeated member name, of which readers use the first, the last or both.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate member {name:?}")));
            }
            let value = members.next_value_seed(Self)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// Counts nested brackets outside strings, before anything is allocated.
struct Nesting {
    deepest: usize,
    /// Number of brackets that are open at the end.
    open: usize,
}

impl Nesting {
    fn of(bytes: &[u8]) -> Self {
        let (mut open, mut deepest, mut string, mut escaped) = (0_usize, 0, false, false);
        for byte in bytes {
            match (string, byte) {
                (true, _) if escaped => escaped = false,
                (true, b'\\') => escaped = true,
                (_, b'"') => string = !string,
                (false, b'[' | b'{') => {
                    open += 1;
                    deepest = deepest.max(open);
                }
                (false, b']' | b'}') => open = open.saturating_sub(1),
                _ => {}
            }
        }
        Self { deepest, open }
    }
}

/// Returns the nesting depth of a value.
pub fn levels(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(levels).max(),
        Value::Object(members) => members.values().map(levels).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// Converts a value so that every reader parses it exactly: integers beyond ±(2^53 − 1) become strings, and whole numbers
/// lose their fraction (JSON has one kind of number: 5, not 5.0).
pub fn portable(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= MAX_SAFE_INTEGER as f64 => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Number(number) => {
            let beyond = number.as_u64().is_some_and(|n| n > MAX_SAFE_INTEGER)
                || number.as_i64().is_some_and(|n| n.unsigned_abs() > MAX_SAFE_INTEGER);
            if beyond { Value::String(number.to_string()) } else { Value::Number(number) }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(portable).collect()),
        Value::Object(members) => Value::Object(members.into_iter().map(|(k, v)| (k, portable(v))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn depth_is_limited_and_brackets_in_strings_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(nested(64).as_bytes()).is_ok());
        assert_eq!(read(nested(65).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(read(nested(100_000).as_bytes()), Err(JsonError::TooDeep));
        for (value, expected) in [(json!(1), 0), (json!([]), 1), (json!([{}, {"a": [1, {}]}]), 4)] {
            assert_eq!(
                (levels(&value), Nesting::of(value.to_string().as_bytes()).deepest),
                (expected, expected),
                "{value}"
            );
        }
        assert!(matches!(read("[".repeat(100_000).as_bytes()), Err(JsonError::Syntax(_))), "not closed");
        let text = format!("\"{}\\\"[\"", "[".repeat(100));
        assert!(read(text.as_bytes()).is_ok());
        assert!(matches!(read(b"\xFF"), Err(JsonError::Syntax(_))));
        assert!(matches!(read(b"NaN"), Err(JsonError::Syntax(_))));
    }

    #[test]
    fn json_refused_by_the_contract_is_not_plain_text() {
        for (text, reason) in [
            (r#"["\ud83d"]"#, "escape"),
            (r#""\ude00""#, "escape"),
            (r#"{"\ud83dx":1}"#, "escape"),
            ("1e400", "out of range"),
            ("[-1e400]", "out of range"),
            (r#"{"a":1,"a":2}"#, "duplicate member \"a\""),
            (r#"[{"b":{"a":1,"\u0061":1}}]"#, "duplicate member \"a\""),
            ("[1]x", "trailing"),
            ("[1][2]", "trailing"),
            ("[1,]", "trailing comma"),
            ("[NaN]", "expected value"),
            ("['a']", "expected value"),
            ("\u{feff}[1]", "expected value"),
            (" \t\r\n{", "EOF"),
            ("[\"a\nb\"]", "control character"),
        ] {
            let Err(JsonError::Syntax(said)) = read(text.as_bytes()) else { panic!("{text} is refused") };
            assert!(said.contains(reason), "{text}: {said}");
            assert!(!is_plain_text(text), "{text}");
        }
        for text in ["Dune", "é[", "2 weeks", "1e", "\"Dune\" is a book", "-", "NaN", "1,5", "01", "x]"] {
            assert!(read(text.as_bytes()).is_err() && is_plain_text(text), "{text}");
        }
        let huge = r#"{"a":18446744073709551616,"a":1}"#;
        assert!(matches!(read(huge.as_bytes()), Err(JsonError::Syntax(_))), "{huge}");
    }

    #[test]
    fn integers_of_more_than_64_bits_are_not_rounded() {
        let text = br#"{"a":[18446744073709551616,-9223372036854775809,1e3,9007199254740993.0],"\"18446744073709551616":"18446744073709551616"}"#;
        let expected = json!({
            "a": ["18446744073709551616", "-9223372036854775809", 1e3, "9007199254740993"],
            "\"18446744073709551616": "18446744073709551616",
        });
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read(b"18446744073709551615"), Ok(json!(u64::MAX)));
        assert_eq!(read(b"-9223372036854775808"), Ok(json!(i64::MIN)));
        assert_eq!(read(b"123456789012345678901234567890"), Ok(json!("123456789012345678901234567890")));
        let fraction = read(b"0.123456789012345678901234567890").expect("a number");
        assert!(fraction.is_f64(), "{fraction}");
        for none in ["{184467440737095516160:1}", "[018446744073709551616]", "1844674407370955161600 x"] {
            assert!(matches!(read(none.as_bytes()), Err(JsonError::Syntax(_))), "{none}");
        }
        assert!(matches!(read(b"\"\\"), Err(JsonError::Syntax(_))));
    }

    /// Regression: the fast float parser of the JSON reader was off by the last digit now and then.
    #[test]
    fn doubles_survive_a_round_trip() {
        let mut bits = 1_u64;
        for _ in 0..100_000 {
            // Knuth's linear congruential generator.
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let Some(number) = Number::from_f64(f64::from_bits(bits)) else { continue };
            let read = read(number.to_string().as_bytes()).expect("a number");
            assert_eq!(read.as_f64(), number.as_f64(), "{number}");
        }
    }

    #[test]
    fn integers_beyond_2_53_are_written_as_strings() {
        let value = json!([9_007_199_254_740_991_u64, 9_007_199_254_740_992_u64, {"a": -9_007_199_254_740_992_i64}, 1.5]);
        let expected =
            json!([9_007_199_254_740_991_u64, "9007199254740992", {"a": "-9007199254740992"}, 1.5]);
        assert_eq!(portable(value), expected);
        assert_eq!(portable(json!([5.0, -0.5, 1e300])), json!([5, -0.5, 1e300]));
    }
}
