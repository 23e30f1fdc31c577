//! `OpenAPI` 3.1 document of the objects. Its schemas are JSON Schema 2020-12, as those of objects are.

use std::collections::BTreeSet;
use std::sync::Arc;

use rantai_client::object::{Description, Method, Parameter};
use rantai_client::wire::name::MethodName;
use serde_json::{Map, Value, json};

use super::schema::{Dialect, SCHEMAS};
use super::settings::Route;

/// Tag of `[[rest.routes]]`; no object has this name, as names contain no blanks.
const ROUTES: &str = "own paths";

/// Creates the document.
pub(super) fn document(
    objects: &[(String, Arc<Description>)],
    routes: &[Route],
    secured: bool,
    may_follow: impl Fn(&str) -> bool,
) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Fault".to_owned(), fault());
    for (object, description) in objects {
        let dialect = Dialect::new(object, &description.schemas);
        schemas.extend(dialect.types());
        // Methods that cannot be called by their name have no path; a foreign object may use any names.
        let methods = description.methods.iter().filter(|method| MethodName::new(&method.name).is_ok());
        for method in methods {
            let name = format!("/objects/{object}/{}", method.name);
            paths.insert(name, path(object, &dialect, description, method));
        }
        if !description.events.is_empty() && may_follow(object) {
            paths.insert(format!("/events/{object}"), events(object, &dialect, description));
        }
    }
    paths.extend(routes.iter().filter_map(|route| {
        let (object, description) = objects.iter().find(|(name, _)| *name == route.object)?;
        let method = description.method(&route.method)?;
        let dialect = Dialect::new(object, &description.schemas);
        Some((route.path.clone(), route_path(route, &dialect, method)))
    }));
    let mut tags: Vec<Value> =
        objects.iter().map(|(name, object)| json!({"name": name, "description": object.summary})).collect();
    if !routes.is_empty() {
        tags.push(
            json!({"name": ROUTES, "description": "Paths of the configuration, which lead to methods"}),
        );
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Objects on the bus",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every object that is served now. A method that changes nothing can be called with GET \
                            and a query, every one with POST and JSON: a list by position, an object by name."
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {"schemas": schemas},
    });
    if secured {
        document["components"]["securitySchemes"] = json!({"basic": {"type": "http", "scheme": "basic"}, "key": {"type": "http", "scheme": "bearer"}});
        document["security"] = json!([{"basic": []}, {"key": []}]);
    }
    document
}

fn path(object: &str, dialect: &Dialect<'_>, description: &Description, method: &Method) -> Value {
    let mut item = json!({"post": operation(object, dialect, description, method, "post")});
    let binary = method.params.iter().any(|param| param.schema.is_none());
    if method.read_only && !binary {
        let mut get = operation(object, dialect, description, method, "get");
        let parameters = named(method).map(|param| {
            let schema = dialect.schema(param.schema.as_ref().unwrap_or(&Value::Null));
            let mut parameter = json!({"name": param.name, "in": "query", "required": param.required});
            if is_plain(&schema) {
                parameter["schema"] = schema;
            } else {
                parameter["content"] = json!({"application/json": {"schema": schema}});
            }
            parameter
        });
        get["parameters"] = parameters.collect();
        item["get"] = get;
    }
    if let Some(body) = body(dialect, method) {
        item["post"]["requestBody"] = body;
    }
    item
}

/// Returns the named parameters; a repeated name is skipped, as it could not be given twice.
fn named(method: &Method) -> impl Iterator<Item = &Parameter> {
    let params = method.params.iter().enumerate();
    let first = params.filter(|(index, param)| {
        !param.name.is_empty() && !method.params[..*index].iter().any(|other| other.name == param.name)
    });
    first.map(|(_, param)| param)
}

fn operation(
    object: &str,
    dialect: &Dialect<'_>,
    description: &Description,
    method: &Method,
    verb: &str,
) -> Value {
    let result = match &method.result {
        Some(schema) if method.stream => {
            let list = dialect.schema(schema);
            let item = list.get("items").cloned().unwrap_or_else(|| json!({}));
            json!({
                "application/json": {"schema": list},
                "application/x-ndjson": {"schema": item},
                "text/event-stream": {"schema": item},
            })
        }
        Some(schema) => json!({"application/json": {"schema": dialect.schema(schema)}}),
        None => json!({"application/octet-stream": {"schema": {}}}),
    };
    let fault = json!({
        "description": "Why there is no result",
        "content": {"application/json": {"schema": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"$ref": format!("{SCHEMAS}Fault")}},
        }}},
    });
    json!({
        "tags": [object],
        "summary": method.summary,
        "description": description.summary,
        "operationId": format!("{object}.{}.{verb}", method.name),
        "responses": {"200": {"description": "The result", "content": result}, "default": fault},
    })
}

fn body(dialect: &Dialect<'_>, method: &Method) -> Option<Value> {
    if method.params.is_empty() {
        return None;
    }
    if method.params.iter().any(|param| param.schema.is_none()) {
        return Some(json!({"required": true, "content": {"application/octet-stream": {"schema": {}}}}));
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for param in named(method) {
        let schema = dialect.schema(param.schema.as_ref().unwrap_or(&Value::Null));
        properties.insert(param.name.clone(), schema);
        if param.required {
            required.push(param.name.clone());
        }
    }
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    Some(json!({"required": !required.is_empty(), "content": {"application/json": {"schema": schema}}}))
}

/// Describes a configured path, whose parameters are in the query for GET and POST.
fn route_path(route: &Route, dialect: &Dialect<'_>, method: &Method) -> Value {
    let any = Value::Object(Map::new());
    let parameters = route.params.iter().enumerate().map(|(index, name)| {
        let param = method.params.get(index);
        let schema = param.and_then(|param| param.schema.as_ref()).unwrap_or(&any);
        let required = param.is_some_and(|param| param.required);
        json!({"name": name, "in": "query", "required": required, "schema": dialect.schema(schema)})
    });
    let parameters: Vec<Value> = parameters.collect();
    let result = dialect.schema(method.result.as_ref().unwrap_or(&any));
    let result = match &route.result {
        Some(name) => json!({"type": "object", "required": [name], "properties": {name: result}}),
        None => result,
    };
    let error = json!({"application/json": {"schema": {
        "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
    }}});
    let mut responses = json!({
        "200": {"description": "The result", "content": {"application/json": {"schema": result}}},
        "default": {"description": "Why there is no result", "content": error},
    });
    for known in &route.errors {
        responses[known.status.to_string()] = json!({"description": known.error, "content": error});
    }
    let verbs = if method.read_only { &["get", "post"][..] } else { &["post"] };
    let operation = |verb: &&str| {
        let id = format!("{}.{verb}", route.path.trim_start_matches('/').replace('/', "."));
        let operation = json!({
            "tags": [ROUTES],
            "summary": method.summary,
            "operationId": id,
            "parameters": parameters,
            "responses": responses,
        });
        ((*verb).to_owned(), operation)
    };
    Value::Object(verbs.iter().map(operation).collect())
}

fn events(object: &str, dialect: &Dialect<'_>, description: &Description) -> Value {
    let names: BTreeSet<&str> = description.events.iter().map(|event| &*event.name).collect();
    json!({"get": {
        "tags": [object],
        "summary": "What it emits, as server-sent events, or by WebSocket where the request asks for that",
        "operationId": format!("{object}.events"),
        "parameters": [{
            "name": "event", "in": "query", "required": false,
            "schema": {"type": "array", "items": {"type": "string", "enum": names}},
        }],
        "responses": {"200": {"description": "Events, until either side ends it", "content": {
            "text/event-stream": {"schema": {"anyOf": description.events.iter().map(|event| {
                dialect.schema(&event.schema)
            }).collect::<Vec<_>>()}},
        }}},
    }})
}

/// Checks whether a value of this schema can be given as a text in a query.
fn is_plain(schema: &Value) -> bool {
    let plain =
        |of: &Value| matches!(of.as_str(), Some("string" | "number" | "integer" | "boolean" | "null"));
    match &schema["type"] {
        Value::Array(of) => of.iter().all(plain),
        of => plain(of),
    }
}

fn fault() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message", "data"],
        "properties": {
            "code": {"type": "integer", "description": "Of the protocol, as in -32602"},
            "message": {"type": "string", "description": "For people"},
            "data": {"type": "object", "description": "Details; always with `retryable`"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::object::Object;
    use rantai_systems::calculator::{CalculatorObject, Exact};
    use rantai_tasks::Ledger;
    use rantai_tasks::ledger::TasksObject;

    fn objects() -> Vec<(String, Arc<Description>)> {
        let ledger = Ledger::open(None, rantai_tasks::Limits::default()).expect("in memory");
        vec![
            ("calculator".to_owned(), Arc::new(CalculatorObject(Exact).description())),
            ("tasks".to_owned(), Arc::new(TasksObject(ledger).description())),
        ]
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn invalid_description_does_not_invalidate_the_document() {
        let foreign = json!({
            "info": {"title": 7, "description": null},
            "methods": [
                {"name": "bare"},
                {"name": "get", "x-read-only": true, "params": [
                    {"name": "a"}, {"name": "a", "schema": true}, {"name": ""}, {"name": "b", "schema": "x"}, 7,
                ], "result": {"schema": null}},
                {"name": "no such name"}, {"name": "a/{b}"}, {"summary": "none"}, 7,
            ],
            "x-events": [{"name": "changed"}, {"name": "changed", "schema": 7}],
            "components": {"schemas": {"Null": null, "no name": {}}},
        });
        let objects = vec![("foreign".to_owned(), Arc::new(Description::from_open_rpc(&foreign)))];
        let document = document(&objects, &[], false, |_| true);
        let paths = document["paths"].as_object().expect("an object");
        let names: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        let expected = ["/events/foreign", "/objects/foreign/bare", "/objects/foreign/get"];
        assert_eq!(names, expected.into());
        let get = &paths["/objects/foreign/get"];
        assert_eq!(get["get"]["parameters"].as_array().map(Vec::len), Some(2), "{get}");
        assert_eq!(get["post"]["responses"]["200"]["content"]["application/json"]["schema"], json!({}));
        assert_eq!(document["components"]["schemas"]["foreign.Null"], json!({}));
        assert!(!document.to_string().contains("null"), "{document}");
    }

    #[tokio::test]
    async fn read_only_methods_have_get_and_all_references_resolve() {
        let routes = "\
            [[route]]\npath = '/sum'\nobject = 'calculator'\nmethod = 'add'\nparams = ['x', 'y']\nresult = 'total'\n\
            errors = [{code = -32602, status = 400, error = 'Invalid input'}]\n\
            [[route]]\npath = '/stop'\nobject = 'tasks'\nmethod = 'cancel'\nparams = ['id']\n\
            [[route]]\npath = '/nobody'\nobject = 'nobody'\nmethod = 'add'\n";
        let mut routes: std::collections::BTreeMap<String, Vec<Route>> =
            toml::from_str(routes).expect("TOML");
        let routes = routes.remove("route").expect("three");
        let document = document(&objects(), &routes, true, |_| true);
        let sum = &document["paths"]["/sum"];
        assert_eq!(sum["get"]["parameters"][1]["name"], "y");
        assert_eq!(sum["get"]["parameters"][1]["schema"]["type"], "number");
        let result = &sum["post"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(result["properties"]["total"]["type"], "number");
        assert_eq!(sum["get"]["responses"]["400"]["description"], "Invalid input");
        assert!(
            document["paths"]["/stop"]["get"].is_null() && document["paths"]["/stop"]["post"].is_object()
        );
        assert!(document["paths"]["/nobody"].is_null());
        let add = &document["paths"]["/objects/calculator/add"];
        assert_eq!(add["get"]["parameters"][0]["name"], "a");
        assert_eq!(add["get"]["parameters"][0]["schema"]["type"], "number");
        assert_eq!(
            add["post"]["requestBody"]["content"]["application/json"]["schema"]["required"],
            json!(["a", "b"])
        );
        let submit = &document["paths"]["/objects/tasks/submit"];
        assert!(submit["get"].is_null() && submit["post"].is_object());
        // Idempotent, but not read-only.
        assert!(document["paths"]["/objects/tasks/cancel"]["get"].is_null());
        assert!(document["paths"]["/events/tasks"]["get"].is_object());
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.iter().any(|to| to.ends_with("tasks.Task")), "{found:?}");
        for to in found {
            assert!(document.pointer(&to[1..]).is_some(), "{to}");
        }
        assert!(document["security"].is_array());
    }
}
