//! Placeholders of a case, and their values.

use std::collections::HashMap;

use rantai_client::client::random_id;
use rantai_client::hex;
use serde_json::Value;

/// Values of the placeholders of one run of a case.
#[derive(Clone, Debug)]
pub(crate) struct Placeholders(HashMap<&'static str, String>);

impl Placeholders {
    pub(crate) fn new(root: &str, object: &str, client: &str) -> Self {
        let mut names = HashMap::new();
        names.insert("root", root.to_owned());
        names.insert("object", object.to_owned());
        names.insert("client", client.to_owned());
        names.insert("reply", format!("{root}/reply/{object}/{client}"));
        // Two ids of 12 random digits each, and 8 more digits of a third.
        let digits: String = (0..3).map(|_| random_id("k").as_str()[2..].to_owned()).collect();
        names.insert("key", digits[..32].to_owned());
        Self(names)
    }

    /// Sets the value of a placeholder.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.0.insert(name, value.to_owned());
    }

    /// Returns the value of a placeholder; empty if it is not set.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Replaces the placeholders in all texts of a value.
    pub(crate) fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some(end) = rest.find('}') else { break };
            let inner = &rest[1..end];
            let put = match (self.0.get(inner), inner.split_once('*')) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(("[", count))) => {
                    count.parse().ok().map(|count| "[".repeat(count) + &"]".repeat(count))
                }
                (None, Some((unit, count))) if !unit.is_empty() => {
                    count.parse().ok().map(|count| unit.repeat(count))
                }
                _ => None,
            };
            if let Some(put) = put {
                filled.push_str(&put);
                rest = &rest[end + 1..];
            } else {
                filled.push('{');
                rest = &rest[1..];
            }
        }
        filled + rest
    }
}

/// Converts the hexadecimal digits of a case to bytes.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(|at| digit(at).unwrap_or_else(|| panic!("{text:?} in a case"))).collect()
}

/// Formats bytes for an error: as text if they are UTF-8, else in hexadecimal digits; shortened if they are many.
pub(crate) fn format_payload(payload: &[u8]) -> String {
    const MAX_SHOWN_BYTES: usize = 300;
    let cut = &payload[..payload.len().min(MAX_SHOWN_BYTES)];
    let more = if payload.len() > MAX_SHOWN_BYTES {
        format!("… ({} bytes)", payload.len())
    } else {
        String::new()
    };
    match std::str::from_utf8(payload) {
        Ok("") => "an empty payload".to_owned(),
        Ok(_) => String::from_utf8_lossy(cut).into_owned() + &more,
        Err(_) => format!("the bytes {}{more}", hex(cut)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_replaced_and_other_json_is_unchanged() {
        let names = Placeholders::new("rantai", "cases", "me");
        let filled = names
            .fill(&json!({"topic": "{root}/at/{object}", "payload": "{\"a\":\"{client}\",\"b\":{[*3}}"}));
        assert_eq!(filled, json!({"topic": "rantai/at/cases", "payload": "{\"a\":\"me\",\"b\":[[[]]]}"}));
        assert_eq!(names.fill(&json!("{")), json!("{"));
        assert_eq!(names.fill(&json!("{reply}x{ab*2}")), json!("rantai/reply/cases/mexabab"));
        assert_eq!(bytes(names.get("key")).len(), 16);
        assert_eq!(format_payload(b"\xff"), "the bytes ff");
    }
}
