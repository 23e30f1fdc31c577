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
    serde_json::from_slice(bytes).map_err(|error| JsonError::Syntax(error.to_string()))
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
        let text = format!("\"{}\\\"[\"", "[".repeat(100));
        assert!(read(text.as_bytes()).is_ok());
        assert!(matches!(read(b"\xFF"), Err(JsonError::Syntax(_))));
        assert!(matches!(read(b"NaN"), Err(JsonError::Syntax(_))));
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
