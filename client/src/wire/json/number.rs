//! Numbers as texts: which of them a reader would change, and how they are written instead.

use serde_json::{Number, Value};

use super::{MAX_SAFE_INTEGER, portable};

/// Parses a number, in JSON's form or one that programs and people write: `+5`, `.5`, `5.`, `007`. Integers, also those with
/// a fraction of zeros, keep all digits: beyond 64 bits as a string. All others become the nearest double. `None` if the text
/// is not a number, or the number is not finite.
pub fn number(text: &str) -> Option<Value> {
    let plain = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    let float: f64 = text.parse().ok().filter(|_| text.bytes().all(plain))?;
    let nearest = || Number::from_f64(float).map(Value::Number).map(portable);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if !whole.bytes().all(|b| b.is_ascii_digit()) || !fraction.bytes().all(|b| b == b'0') {
        return nearest();
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if text.starts_with('-') && whole != "0" { "-" } else { "" };
    let integer = format!("{sign}{whole}");
    // 9007199254740994.0 is the exact value of a double; 9007199254740993.0 is not, and keeps its digits as an integer.
    if unsigned.contains('.') && format!("{float:.0}") == integer {
        return nearest();
    }
    let small = integer.parse::<i64>().map(Value::from).or_else(|_| integer.parse::<u64>().map(Value::from));
    Some(small.unwrap_or(Value::String(integer)))
}

/// Adds quotes to integers beyond ±(2^53 − 1) in JSON, which a reader could round; `None` if there are none.
pub fn quote_large_integers(bytes: &[u8]) -> Option<Vec<u8>> {
    quoted(bytes, large_integer)
}

/// Adds quotes to integers in JSON that parsing as a number of 64 bits would change; `None` if there are none.
pub(super) fn quote_unreadable_integers(bytes: &[u8]) -> Option<Vec<u8>> {
    quoted(bytes, |token| {
        let is_read_exactly =
            |integer: &str| integer.parse::<i64>().is_ok() || integer.parse::<u64>().is_ok();
        large_integer(token).filter(|integer| token.contains('.') || !is_read_exactly(integer))
    })
}

/// Returns the digits of an integer beyond ±(2^53 − 1).
fn large_integer(token: &str) -> Option<String> {
    match number(token)? {
        Value::String(integer) => Some(integer),
        Value::Number(number) if !number.is_f64() => {
            let integer = number.as_i128()?;
            (integer.unsigned_abs() > MAX_SAFE_INTEGER.into()).then(|| integer.to_string())
        }
        _ => None,
    }
}

/// Replaces the numbers for which `string` returns a text by JSON strings; `None` if there are none.
fn quoted(bytes: &[u8], string: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    /// Minimum length of an integer beyond 2^53.
    const MIN_LARGE_DIGITS: usize = 16;
    let (mut written, mut copied) = (Vec::new(), 0);
    let (mut index, mut in_string) = (0, false);
    while index < bytes.len() {
        match bytes[index] {
            b'\\' if in_string => index += 2,
            b'"' => {
                in_string = !in_string;
                index += 1;
            }
            b'-' | b'0'..=b'9' if !in_string => {
                let rest = &bytes[index..];
                let length = rest.iter().take_while(|b| b"+-.0123456789eE".contains(b)).count();
                let token = std::str::from_utf8(&rest[..length]).ok().filter(|_| length >= MIN_LARGE_DIGITS);
                if let Some(string) = token.and_then(&string) {
                    written.extend_from_slice(&bytes[copied..index]);
                    written.push(b'"');
                    written.extend_from_slice(string.as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_keeps_every_digit_that_its_text_has() {
        for (text, expected) in [
            ("5", json!(5)),
            ("+5", json!(5)),
            ("-0", json!(0)),
            ("007", json!(7)),
            ("5.0", json!(5)),
            ("5.", json!(5)),
            (".5", json!(0.5)),
            ("-2.5", json!(-2.5)),
            ("1e2", json!(100)),
            ("0.1", json!(0.1)),
            ("9007199254740992", json!(9_007_199_254_740_992_u64)),
            ("9007199254740993", json!(9_007_199_254_740_993_u64)),
            ("9007199254740993.0", json!(9_007_199_254_740_993_u64)),
            ("-9007199254740993.00", json!(-9_007_199_254_740_993_i64)),
            ("9007199254740994.0", json!(9_007_199_254_740_994.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("18446744073709551616.0", json!(18_446_744_073_709_551_616.0)),
            ("18446744073709551617.0", json!("18446744073709551617")),
            ("1e17", json!(1e17)),
            ("1e23", json!(1e23)),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in
            ["", "-", ".", "e5", "nan", "inf", "-infinity", "1e999", "0x10", "1_000", "1,5", " 5", "٥"]
        {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn large_integers_get_quotes_and_nothing_else_changes() {
        let text = br#"{"a": [9007199254740991, 9007199254740992,-9007199254740993.0, 1e300, 0.6666666666666666], "9007199254740993": "\"9007199254740993"}"#;
        let expected = r#"{"a": [9007199254740991, "9007199254740992","-9007199254740993", 1e300, 0.6666666666666666], "9007199254740993": "\"9007199254740993"}"#;
        let written = quote_large_integers(text).expect("two of them");
        assert_eq!(String::from_utf8(written).expect("UTF-8"), expected);
        assert_eq!(quote_large_integers(b"[5.0, 1984]"), None);
    }
}
