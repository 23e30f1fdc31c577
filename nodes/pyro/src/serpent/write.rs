//! Writing literals of Python.

use std::fmt::Write as _;

use crate::value::PyValue;

/// First line, which serpent writes and does not check.
const HEAD: &str = "# serpent utf-8 python3.2\n";

/// Writes a value.
pub(crate) fn write(value: &PyValue) -> Vec<u8> {
    let mut text = HEAD.to_owned();
    append(&mut text, value);
    text.into_bytes()
}

fn append(text: &mut String, value: &PyValue) {
    match value {
        PyValue::None => text.push_str("None"),
        PyValue::Bool(true) => text.push_str("True"),
        PyValue::Bool(false) => text.push_str("False"),
        PyValue::Int(value) => {
            let _ = write!(text, "{value}");
        }
        PyValue::Big(digits) => text.push_str(digits),
        PyValue::Float(value) => float(text, *value),
        PyValue::Complex(real, imaginary) => {
            text.push('(');
            float(text, *real);
            if !imaginary.is_sign_negative() {
                text.push('+');
            }
            float(text, *imaginary);
            text.push_str("j)");
        }
        PyValue::Str(value) => string(text, value),
        PyValue::Bytes(bytes) => append(text, &PyValue::encoded_bytes(bytes)),
        PyValue::List(items) => listed(text, '[', items, ']'),
        PyValue::Tuple(items) => {
            listed(text, '(', items, if items.len() == 1 { ',' } else { ')' });
            if items.len() == 1 {
                text.push(')');
            }
        }
        // Python has no literal for an empty set; serpent writes an empty tuple.
        PyValue::Set(items) if items.is_empty() => text.push_str("()"),
        PyValue::Set(items) => listed(text, '{', items, '}'),
        PyValue::Dict(members) => {
            text.push('{');
            for (place, (key, value)) in members.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                append(text, key);
                text.push(':');
                append(text, value);
            }
            text.push('}');
        }
    }
}

fn listed(text: &mut String, open: char, items: &[PyValue], close: char) {
    text.push(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        append(text, item);
    }
    text.push(close);
}

fn float(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("{'__class__':'float','value':'nan'}");
    } else if value.is_infinite() {
        // The literal overflows, which Python reads as infinity.
        text.push_str(if value > 0.0 { "1e30000" } else { "-1e30000" });
    } else {
        let _ = write!(text, "{value:?}");
    }
}

fn string(text: &mut String, value: &str) {
    text.push('\'');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\'' => text.push_str("\\'"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control < ' ' || control == '\x7F' => {
                let _ = write!(text, "\\x{:02x}", control as u32);
            }
            other => text.push(other),
        }
    }
    text.push('\'');
}
