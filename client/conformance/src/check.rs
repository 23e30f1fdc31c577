//! Comparison of messages with the expectations of a case.

use std::collections::BTreeMap;

use rantai_client::hex;
use rantai_client::session::Message;
use rantai_client::wire::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::placeholders::format_payload;

/// Placeholder for any value in the JSON of a case.
const ANY: &str = "{any}";

/// Expectations on a message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    topic: Option<String>,
    /// `Some` even if the expected value is null.
    #[serde(default, deserialize_with = "present")]
    json: Option<Value>,
    payload_hex: Option<String>,
    code: Option<i64>,
    #[serde(default)]
    data: Map<String, Value>,
    #[serde(default)]
    user: BTreeMap<String, String>,
    #[serde(default)]
    absent: Vec<String>,
    correlation: Option<String>,
    response_topic: Option<String>,
    /// Members that the payload must have, possibly among others.
    #[serde(default)]
    members: Map<String, Value>,
    /// Maximum of the user property `ttl_ms`, which must be present.
    ttl_at_most: Option<u64>,
    /// Names of the nodes in the user property `trail`, in order.
    trail: Option<Vec<String>>,
    pub(crate) within_ms: Option<u64>,
}

pub(crate) fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

impl Expected {
    /// Checks a message; returns a description of the first mismatch.
    pub(crate) fn check(&self, message: &Message) -> Result<(), String> {
        let properties = &message.properties;
        let wrong = |what: &str| {
            Err(format!("{what}; it was {} on {}", format_payload(&message.payload), message.topic))
        };
        if self.topic.as_ref().is_some_and(|topic| **topic != *message.topic) {
            return wrong(&format!("expected a message on {}", self.topic.as_deref().unwrap_or_default()));
        }
        let status = properties.user("status");
        if let Some(json) = &self.json {
            if status.is_some_and(|status| status != "ok") {
                return wrong(&format!(
                    "expected the result {json}, got status {}",
                    status.unwrap_or_default()
                ));
            }
            let read = read(&message.payload)?;
            if !equal(&read, json) {
                return wrong(&format!("expected {json}"));
            }
        }
        if let Some(wanted) = &self.payload_hex
            && hex(&message.payload) != *wanted
        {
            return wrong(&format!("expected the bytes {wanted}"));
        }
        if let Some(code) = self.code {
            let error = error(&read(&message.payload)?).map_err(|what| format!("{what}, expected {code}"))?;
            if status != Some(&*code.to_string()) {
                return wrong(&format!("expected the user property status {code}, got {status:?}"));
            }
            check_error(&error, code, &self.data)?;
            if !error.get("data").and_then(|data| data.get("retryable")).is_some_and(Value::is_boolean) {
                return wrong("expected true or false in data.retryable");
            }
        }
        for (name, wanted) in &self.user {
            if properties.user(name) != Some(wanted) {
                return wrong(&format!(
                    "expected the user property {name} {wanted:?}, got {:?}",
                    properties.user(name)
                ));
            }
        }
        for name in &self.absent {
            if let Some(value) = properties.user(name) {
                return wrong(&format!("expected no user property {name}, got {value:?}"));
            }
        }
        if let Some(wanted) = &self.correlation {
            let got = properties.correlation.as_deref().map(hex);
            if got.as_ref() != Some(wanted) {
                let got = got.unwrap_or_else(|| "none".to_owned());
                return wrong(&format!("expected the Correlation Data {wanted}, got {got}"));
            }
        }
        if let Some(wanted) = &self.response_topic
            && properties.response_topic.as_deref() != Some(wanted.as_str())
        {
            return wrong(&format!(
                "expected the Response Topic {wanted}, got {:?}",
                properties.response_topic
            ));
        }
        if !self.members.is_empty()
            && !read(&message.payload)?.as_object().is_some_and(|got| has(got, &self.members))
        {
            return wrong(&format!("expected the members {}", Value::Object(self.members.clone())));
        }
        if let Some(most) = self.ttl_at_most {
            let ttl = properties.user("ttl_ms").and_then(|ttl| ttl.parse::<u64>().ok());
            if ttl.is_none_or(|ttl| ttl > most) {
                return wrong(&format!(
                    "expected a ttl_ms of {most} or less, got {:?}",
                    properties.user("ttl_ms")
                ));
            }
        }
        if let Some(wanted) = &self.trail {
            let trail = properties.user("trail").unwrap_or("[]");
            let items: Vec<Value> = serde_json::from_str(trail).unwrap_or_default();
            let names: Vec<&str> = items.iter().filter_map(|item| item["node"].as_str()).collect();
            if names != *wanted || items.iter().any(|item| !item["us"].is_u64()) {
                return wrong(&format!(
                    "expected items of {wanted:?} in the trail, each with its `us`, got {trail}"
                ));
            }
        }
        Ok(())
    }
}

/// Parses a payload as JSON, by the rules of the contract.
pub(crate) fn read(payload: &[u8]) -> Result<Value, String> {
    json::read(payload)
        .map_err(|error| format!("not the contract's JSON ({error}): {}", format_payload(payload)))
}

/// Returns the error in a reply of either form.
pub(crate) fn error(reply: &Value) -> Result<Value, String> {
    match reply.get("error") {
        Some(error) if error["code"].is_i64() => Ok(error.clone()),
        _ => Err(format!("no error with a code: {reply}")),
    }
}

/// Checks an error; returns a description of the mismatch.
pub(crate) fn check_error(error: &Value, code: i64, data: &Map<String, Value>) -> Result<(), String> {
    if error["code"] != code {
        return Err(format!("expected {code}, got {error}"));
    }
    if error["message"].as_str().is_none_or(str::is_empty) {
        return Err(format!("expected a message for people, got {error}"));
    }
    for (name, wanted) in data {
        if !error["data"].get(name).is_some_and(|got| equal(got, wanted)) {
            return Err(format!("expected data.{name} {wanted}, got {error}"));
        }
    }
    Ok(())
}

/// Returns whether a value equals that of a case: numbers are compared by value, and `{any}` matches anything.
pub(crate) fn equal(got: &Value, wanted: &Value) -> bool {
    match (got, wanted) {
        (_, Value::String(text)) if text == ANY => true,
        (Value::Number(got), Value::Number(wanted)) => {
            got == wanted || got.as_f64().is_some_and(|got| Some(got) == wanted.as_f64())
        }
        (Value::Array(got), Value::Array(wanted)) => {
            got.len() == wanted.len() && got.iter().zip(wanted).all(|(got, wanted)| equal(got, wanted))
        }
        (Value::Object(got), Value::Object(wanted)) => got.len() == wanted.len() && has(got, wanted),
        _ => got == wanted,
    }
}

/// Returns whether an object has these members, possibly among others.
pub(crate) fn has(got: &Map<String, Value>, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, wanted)| got.get(name).is_some_and(|got| equal(got, wanted)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_equal_if_all_members_are_and_numbers_by_value() {
        for (got, wanted, same) in [
            (json!(5), json!(5.0), true),
            (json!(5), json!(6), false),
            (json!({"a": 1}), json!({"a": 1}), true),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), false),
            (json!(["x", 1]), json!(["{any}", 1]), true),
            (json!("5"), json!(5), false),
        ] {
            assert_eq!(equal(&got, &wanted), same, "{got} {wanted}");
        }
    }
}
