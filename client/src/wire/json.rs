//! What of JSON the contract takes: finite numbers, at most 64 levels, integers beyond ±(2^53 − 1) as strings.

use serde_json::Value;

/// The deepest nesting of arrays and objects.
pub const DEEPEST: usize = 64;
/// The largest integer that every JSON reader takes exactly.
pub const LARGEST: u64 = (1 << 53) - 1;

/// Why bytes are no JSON of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all, or not UTF-8.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// Nested more than [`DEEPEST`] levels.
    #[error("more than {DEEPEST} levels of arrays and objects")]
    TooDeep,
}

/// Reads a JSON value.
///
/// # Errors
///
/// What is no JSON, and what is nested too deep.
pub fn read(bytes: &[u8]) -> Result<Value, JsonError> {
    if depth(bytes) > DEEPEST {
        return Err(JsonError::TooDeep);
    }
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|e| JsonError::Syntax(e.to_string()));
    match quoted(bytes) {
        // What has quotes now was JSON before, or is none either way.
        Some(quoted) => read(bytes).and_then(|_: Value| read(&quoted)),
        None => read(bytes),
    }
}

/// The same text with quotes around integers that do not fit into 64 bits, which a reader would round; `None`
/// where there are none.
fn quoted(bytes: &[u8]) -> Option<Vec<u8>> {
    /// What every integer of 64 bits is shorter than, its sign not counted.
    const LONG: usize = 19;
    let (mut written, mut copied) = (Vec::new(), 0);
    let (mut index, mut string) = (0, false);
    while index < bytes.len() {
        match bytes[index] {
            b'\\' if string => index += 2,
            b'"' => {
                string = !string;
                index += 1;
            }
            b'-' | b'0'..=b'9' if !string => {
                let rest = &bytes[index..];
                let length = rest.iter().take_while(|b| b"+-.0123456789eE".contains(b)).count();
                if length > LONG && is_huge(&rest[..length]) {
                    written.extend_from_slice(&bytes[copied..index]);
                    written.push(b'"');
                    written.extend_from_slice(&rest[..length]);
                    written.push(b'"');
                    copied = index + length;
                }
                index += length;
            }
            _ => index += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    written.extend_from_slice(&bytes[copied..]);
    Some(written)
}

fn is_huge(number: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(number) else { return false };
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

/// How deep brackets nest, outside strings: told before anything is built.
fn depth(bytes: &[u8]) -> usize {
    let (mut now, mut most, mut string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => string = !string,
            (false, b'[' | b'{') => {
                now += 1;
                most = most.max(now);
            }
            (false, b']' | b'}') => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// How deep a value nests.
pub fn levels(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(levels).max(),
        Value::Object(members) => members.values().map(levels).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// The same value as every reader takes it: integers beyond ±(2^53 − 1) as strings, and whole numbers without a
/// fraction (JSON knows one kind of number: 5, not 5.0).
pub fn portable(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= LARGEST as f64 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Number(number) => {
            let beyond = number.as_u64().is_some_and(|n| n > LARGEST)
                || number.as_i64().is_some_and(|n| n.unsigned_abs() > LARGEST);
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
                (levels(&value), depth(value.to_string().as_bytes())),
                (expected, expected),
                "{value}"
            );
        }
        let text = format!("\"{}\\\"[\"", "[".repeat(100));
        assert!(read(text.as_bytes()).is_ok());
        assert!(matches!(read(b"\xFF"), Err(JsonError::Syntax(_))));
        assert!(matches!(read(b"NaN"), Err(JsonError::Syntax(_))));
    }

    #[test]
    fn integers_of_more_than_64_bits_are_not_rounded() {
        let text = br#"{"a":[18446744073709551616,-9223372036854775809,1e3],"\"18446744073709551616":"18446744073709551616"}"#;
        let expected = json!({
            "a": ["18446744073709551616", "-9223372036854775809", 1e3],
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

    #[test]
    fn integers_that_not_everybody_reads_are_strings() {
        let value = json!([9_007_199_254_740_991_u64, 9_007_199_254_740_992_u64, {"a": -9_007_199_254_740_992_i64}, 1.5]);
        let expected =
            json!([9_007_199_254_740_991_u64, "9007199254740992", {"a": "-9007199254740992"}, 1.5]);
        assert_eq!(portable(value), expected);
        assert_eq!(portable(json!([5.0, -0.5, 1e300])), json!([5, -0.5, 1e300]));
    }
}
