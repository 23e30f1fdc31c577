//! Description of an object: a short form for the registry, and the whole for `rpc.discover`.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// Description of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// One line of text.
    pub summary: String,
    /// Version of the object.
    pub version: String,
    /// Search tags.
    pub tags: Vec<String>,
    /// Methods, without the built-in ones.
    pub methods: Vec<Method>,
    /// Events that it emits.
    pub events: Vec<Event>,
    /// Schemas that others refer to, by name.
    pub schemas: Map<String, Value>,
}

/// Description of a method.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of its own in OpenRPC")]
pub struct Method {
    /// Name.
    pub name: String,
    /// One line of text.
    pub summary: String,
    /// Parameters, in order.
    pub params: Vec<Parameter>,
    /// JSON Schema of the result; `None` if it is binary.
    pub result: Option<Value>,
    /// Whether executing it twice has the same effect as once.
    pub idempotent: bool,
    /// Whether it changes nothing (safe in HTTP's sense): GET calls it, which browsers may prefetch.
    pub read_only: bool,
    /// Whether a node executes a request with a unique correlation (at least 16 bytes) at most once, also across restarts of the
    /// node.
    pub once: bool,
    /// Whether the result is secret: intermediaries such as the ledger neither log nor store it.
    pub secret: bool,
    /// Whether the result is a list that can be streamed.
    pub stream: bool,
    /// Maximum run time in milliseconds, whatever the caller's deadline.
    pub time_limit_ms: Option<u64>,
}

/// Description of a parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Whether it is required.
    pub required: bool,
    /// JSON Schema of its type; `None` if it is binary.
    pub schema: Option<Value>,
}

/// Description of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Name.
    pub name: String,
    /// JSON Schema of its payload.
    pub schema: Value,
    /// Whether the last value is retained.
    pub state: bool,
}

impl Description {
    /// Returns the method of this name.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|m| m.name == name)
    }

    /// Parses an `OpenRPC` document as written by [`open_rpc`](Self::open_rpc). Leaves out invalid parts.
    pub fn from_open_rpc(document: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let info = &document["info"];
        let methods: Vec<Value> = list(&document["methods"]);
        let tags = methods.first().map(|method| list(&method["tags"])).unwrap_or_default();
        Self {
            summary: text(&info["description"]),
            version: text(&info["version"]),
            tags: tags.iter().map(|tag| text(&tag["name"])).collect(),
            methods: methods.iter().map(Method::from_open_rpc).collect(),
            events: list(&document["x-events"])
                .iter()
                .map(|event| Event {
                    name: text(&event["name"]),
                    schema: schema_or_any(&event["schema"]),
                    state: event["state"] == true,
                })
                .collect(),
            schemas: document["components"]["schemas"].as_object().cloned().unwrap_or_default(),
        }
    }

    /// Returns an `OpenRPC` 1.3 document.
    pub fn open_rpc(&self, object: &str) -> Value {
        let version = if self.version.is_empty() { "0.0.0" } else { &self.version };
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|e| json!({"name": e.name, "schema": e.schema, "state": e.state}))
            .collect();
        let tags: Vec<Value> = self.tags.iter().map(|t| json!({"name": t})).collect();
        json!({
            "openrpc": "1.3.2",
            "info": {"title": object, "version": version, "description": self.summary},
            "methods": self.methods.iter().map(|m| m.open_rpc(&tags)).collect::<Vec<_>>(),
            "components": {"schemas": self.schemas},
            "x-events": events,
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the schema of a value that is not binary.
fn schema(value: &Value) -> Option<Value> {
    (value["format"] != "binary").then(|| schema_or_any(value))
}

/// Returns the schema; a missing or invalid one becomes `{}`, which allows every value.
fn schema_or_any(value: &Value) -> Value {
    if value.is_object() || value.is_boolean() { value.clone() } else { json!({}) }
}

impl Method {
    fn from_open_rpc(method: &Value) -> Self {
        let params = method["params"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            name: text(&method["name"]),
            summary: text(&method["summary"]),
            params: params
                .iter()
                .map(|param| Parameter {
                    name: text(&param["name"]),
                    required: param["required"] == true,
                    schema: schema(&param["schema"]),
                })
                .collect(),
            result: schema(&method["result"]["schema"]),
            idempotent: method["x-idempotent"] == true,
            read_only: method["x-read-only"] == true,
            once: method["x-once"] == true,
            secret: method["x-secret"] == true,
            stream: method["x-stream"] == true,
            time_limit_ms: method["x-time-limit-ms"].as_u64(),
        }
    }

    fn open_rpc(&self, tags: &[Value]) -> Value {
        let binary = || json!({"type": "string", "format": "binary"});
        let params: Vec<Value> = self
            .params
            .iter()
            .map(|p| {
                let schema = p.schema.clone().unwrap_or_else(binary);
                json!({"name": p.name, "required": p.required, "schema": schema})
            })
            .collect();
        let mut method = json!({
            "name": self.name,
            "summary": self.summary,
            "paramStructure": "either",
            "params": params,
            "result": {"name": "result", "schema": self.result.clone().unwrap_or_else(binary)},
            "errors": [{"code": -32000, "message": "the method's own error; data.kind tells which"}],
            "tags": tags,
            "x-idempotent": self.idempotent,
            "x-once": self.once,
        });
        if self.read_only {
            method["x-read-only"] = true.into();
        }
        if self.secret {
            method["x-secret"] = true.into();
        }
        if self.stream {
            method["x-stream"] = true.into();
        }
        if let Some(limit) = self.time_limit_ms {
            method["x-time-limit-ms"] = limit.into();
        }
        method
    }
}

/// Generator for the schemas of one description; named types go to the components of the `OpenRPC` document.
#[derive(Debug)]
pub struct Schemas {
    generator: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings =
            SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
        Self { generator: settings.into_generator() }
    }
}

impl Schemas {
    /// Returns the schema of a type.
    pub fn of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().into()
    }

    /// Returns the named types that were referred to.
    pub fn finish(mut self) -> Map<String, Value> {
        self.generator.take_definitions(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_schema_allows_every_value() {
        for none in [json!(null), json!("string"), json!(7), json!([{}])] {
            let document = json!({
                "methods": [{"name": "a", "params": [{"name": "p", "schema": none}], "result": {"schema": none}}],
                "x-events": [{"name": "e", "schema": none}],
            });
            let written = Description::from_open_rpc(&document).open_rpc("x");
            let method = &written["methods"][0];
            for schema in [
                &method["params"][0]["schema"],
                &method["result"]["schema"],
                &written["x-events"][0]["schema"],
            ] {
                assert_eq!(*schema, json!({}), "{none}");
            }
        }
        let all = json!({"methods": [{"name": "a", "result": {"schema": true}}]});
        assert_eq!(Description::from_open_rpc(&all).methods[0].result, Some(json!(true)));
    }

    #[test]
    fn description_survives_a_round_trip() {
        let mut schemas = Schemas::default();
        let parameter = |name: &str, required, schema| Parameter { name: name.to_owned(), required, schema };
        let method = Method {
            name: "put".to_owned(),
            summary: "Puts.".to_owned(),
            params: vec![
                parameter("path", true, Some(schemas.of::<String>())),
                parameter("block", true, None),
                parameter("mode", false, Some(schemas.of::<Option<u32>>())),
            ],
            result: None,
            idempotent: true,
            read_only: true,
            once: false,
            secret: false,
            stream: true,
            time_limit_ms: Some(5),
        };
        let event = Event { name: "state".to_owned(), schema: schemas.of::<u32>(), state: true };
        let description = Description {
            summary: "Files.".to_owned(),
            version: "1.0.0".to_owned(),
            tags: vec!["files".to_owned()],
            methods: vec![method],
            events: vec![event],
            schemas: schemas.finish(),
        };
        assert_eq!(Description::from_open_rpc(&description.open_rpc("files")), description);
        assert_eq!(Description::from_open_rpc(&json!([1])), Description::default());
        assert_eq!(
            Description::from_open_rpc(&json!({"methods": [7]})).methods,
            [Method::from_open_rpc(&json!(7))]
        );
    }
}
