//! A description that stands in the settings, with the members that `rpc.discover` has.

use rantai_client::object::{Event, Method, Parameter};
use rantai_client::wire::name::MethodName;
use rantai_client::wire::request::MAX_TTL_MS;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::description::{BINARY, NOT_CALLED};

/// Method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of its own in OpenRPC")]
pub(crate) struct InlineMethod {
    name: Name,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    params: Vec<InlineParameter>,
    #[serde(default)]
    result: InlineResult,
    #[serde(rename = "x-idempotent", default)]
    idempotent: bool,
    #[serde(rename = "x-read-only", default)]
    read_only: bool,
    #[serde(rename = "x-once", default)]
    once: bool,
    #[serde(rename = "x-secret", default)]
    secret: bool,
    #[serde(rename = "x-time-limit-ms")]
    time_limit_ms: Option<Milliseconds>,
}

/// Parameter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InlineParameter {
    name: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    schema: Schema,
}

/// Result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct InlineResult {
    #[serde(rename = "name")]
    _name: String,
    schema: Schema,
}

/// Event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InlineEvent {
    name: Name,
    #[serde(rename = "summary", default)]
    _summary: String,
    #[serde(default)]
    schema: Schema,
    #[serde(default)]
    state: bool,
}

/// Name of a method or an event that callers may use.
#[derive(Clone, Debug)]
struct Name(MethodName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = MethodName::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        if name.is_private() || name.is_built_in() {
            return Err(D::Error::custom(format!("{:?} {NOT_CALLED}", name.as_str())));
        }
        Ok(Self(name))
    }
}

/// JSON Schema of a value that is not binary.
#[derive(Clone, Debug)]
struct Schema(Value);

impl Default for Schema {
    /// Any value.
    fn default() -> Self {
        Self(json!({}))
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let schema = Value::deserialize(deserializer)?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(D::Error::custom("expected a JSON Schema, as { type = \"integer\" }"));
        }
        if schema["format"] == "binary" {
            return Err(D::Error::custom(BINARY));
        }
        Ok(Self(schema))
    }
}

/// Time limit of a method.
#[derive(Clone, Copy, Debug)]
struct Milliseconds(u64);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(ms) if (1..=MAX_TTL_MS).contains(&ms) => Ok(Self(ms)),
            _ => {
                let text = format!("{number} is out of range, expected an integer from 1 to {MAX_TTL_MS}");
                Err(D::Error::custom(text))
            }
        }
    }
}

impl InlineMethod {
    /// Returns the description of the method.
    pub(crate) fn described(&self) -> Method {
        let parameter = |param: &InlineParameter| Parameter {
            name: param.name.clone(),
            required: param.required,
            schema: Some(param.schema.0.clone()),
        };
        Method {
            name: self.name.0.to_string(),
            summary: self.summary.clone(),
            params: self.params.iter().map(parameter).collect(),
            result: Some(self.result.schema.0.clone()),
            idempotent: self.idempotent,
            read_only: self.read_only,
            once: self.once,
            secret: self.secret,
            stream: false,
            time_limit_ms: self.time_limit_ms.map(|limit| limit.0),
        }
    }
}

impl InlineEvent {
    /// Returns the description of the event.
    pub(crate) fn described(&self) -> Event {
        Event { name: self.name.0.to_string(), schema: self.schema.0.clone(), state: self.state }
    }
}
