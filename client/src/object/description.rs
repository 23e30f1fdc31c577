//! What an object says of itself: for the registry in short, for `rpc.discover` in full.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What an object is and can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// One line for people.
    pub summary: String,
    /// Its own version.
    pub version: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Its methods, without the built-in ones.
    pub methods: Vec<Method>,
    /// What it emits.
    pub events: Vec<Event>,
    /// Types that the schemas refer to, by name.
    pub schemas: Map<String, Value>,
}

/// A method.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of its own in OpenRPC")]
pub struct Method {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Its parameters, in their order.
    pub params: Vec<Parameter>,
    /// JSON Schema of its result; none where it is binary.
    pub result: Option<Value>,
    /// Whether carrying it out twice is the same as once.
    pub idempotent: bool,
    /// Whether it changes nothing, so that it may be called by whoever only looks: by HTTP's GET, a browser's prefetch.
    pub read_only: bool,
    /// Whether a request that can be told from every other (its correlation has 16 bytes or more) is carried out
    /// at most once by a node, also where that ends meanwhile and begins again.
    pub once: bool,
    /// Whether its result is secret: it is neither logged nor kept on disk by whoever calls for others.
    pub secret: bool,
    /// Whether its result is a list whose items come one after the other, for callers that take them so.
    pub stream: bool,
    /// The longest it may run, in milliseconds, whatever the caller allows.
    pub time_limit_ms: Option<u64>,
}

/// A parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it has to be given.
    pub required: bool,
    /// JSON Schema of its type; none where it is binary.
    pub schema: Option<Value>,
}

/// Something an object emits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// JSON Schema of what it carries.
    pub schema: Value,
    /// Whether the last value is kept for whoever comes later.
    pub state: bool,
}

impl Description {
    /// The method of this name.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|m| m.name == name)
    }

    /// What an `OpenRPC` document says, as [`open_rpc`](Self::open_rpc) writes it; whatever of it is none is left
    /// out.
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

    /// The whole as an `OpenRPC` 1.3 document.
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

/// The schema of what is not binary.
fn schema(value: &Value) -> Option<Value> {
    (value["format"] != "binary").then(|| schema_or_any(value))
}

/// A schema as it stands; one that is missing, or is none, becomes the one that allows every value.
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

/// Makes the schemas of one description; types with a name are put where `OpenRPC` has them.
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
    /// The schema of a type.
    pub fn of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().into()
    }

    /// The types it refers to.
    pub fn finish(mut self) -> Map<String, Value> {
        self.generator.take_definitions(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_none_allows_every_value() {
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
    fn a_description_is_read_as_it_was_written() {
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
