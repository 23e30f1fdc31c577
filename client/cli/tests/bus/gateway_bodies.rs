//! Bodies that are not valid JSON of the contract, and objects without schemas.

use std::time::Instant;

use serde_json::{Value, json};

use super::foreign::Foreign;
use super::gateway::{Gateway, JSON, ask, gateway, get};
use super::process::{PATIENCE, bus};

#[test]
fn invalid_json_bodies_are_refused_and_never_become_strings() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let post = |body: &str| ask(&gateway.rest, "POST", "/objects/echo/echo", &[JSON], body.as_bytes());
    for body in [
        r#"["\ud83d"]"#,
        r#""\ud83d""#,
        r#"{"value":"\ude00"}"#,
        "1e400",
        "[-1e400]",
        r#"{"value":1,"value":2}"#,
        r#"[{"a":1,"a":1}]"#,
        "[1]x",
        "[1][2]",
        "[1,]",
        "\u{feff}[1]",
        "Dune",
        " ",
    ] {
        let answer = post(body);
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &json!(-32700)),
            "{body}: {answer:?}"
        );
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, status, code) in
        [(65, 400, json!(-32600)), (200, 400, json!(-32600)), (64, 200, Value::Null)]
    {
        let answer = post(&deep(levels));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code), "{levels}: {answer:?}");
    }
    assert_eq!(post(r#"["\ud83d\ude00"]"#).json(), json!("😀"));
    assert_eq!(post("[1e308]").json(), json!(1e308));
    let query = get(&gateway.rest, "/objects/echo/echo?value=%5B%22%5Cud83d%22%5D");
    assert_eq!((query.status, &query.json()["error"]["code"]), (400, &json!(-32700)), "{query:?}");
}

#[test]
fn a_description_without_schemas_leaves_the_document_valid() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let discovered = json!({
        "openrpc": "1.3.2",
        "info": {"title": "foreign", "version": "1"},
        "methods": [
            {"name": "bare"},
            {"name": "read", "x-read-only": true, "params": [{"name": "a"}, {"name": "b", "schema": null}]},
            {"name": "all", "params": [{"name": "a", "schema": true}], "result": {"name": "r", "schema": true}},
            {"name": "odd", "params": [{"name": "a", "schema": "string"}], "result": {"schema": [1]}},
            {"name": "wrong", "params": [{"name": "a", "schema": {"type": "text", "required": true}}]},
        ],
        "x-events": [{"name": "changed"}],
        "components": {"schemas": {"Gone": null}},
    });
    let _foreign = Foreign::serve(&bus, "foreign", &json!({}), move |method, _| match method {
        "rpc.discover" => (None, Ok(discovered.clone())),
        _ => (None, Err(json!({"code": -32601, "message": method, "data": {}}))),
    });
    let document = document_with(&gateway, "/objects/foreign/bare");
    let paths = document["paths"].as_object().expect("an object");
    assert!(paths.contains_key("/objects/calculator/add"), "the others are there");
    for method in ["bare", "read", "all", "odd", "wrong"] {
        assert!(paths[&format!("/objects/foreign/{method}")]["post"].is_object(), "{method}");
    }
    check_schemas(&document, "");
}

/// Returns the document, once it contains a path.
fn document_with(gateway: &Gateway, path: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let document = get(&gateway.rest, "/openapi.json").json();
        if document["paths"].get(path).is_some() {
            return document;
        }
        assert!(Instant::now() < deadline, "no {path} in {document}");
    }
}

/// Checks that every schema is an object or a boolean, and no `type` is unknown.
fn check_schemas(value: &Value, at: &str) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = format!("{at}/{name}");
                if name == "schema" {
                    assert!(value.is_object() || value.is_boolean(), "{at}: {value}");
                    assert!(value["type"] != "text" && value["required"] != true, "{at}: {value}");
                }
                check_schemas(value, &at);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_schemas(item, at)),
        _ => {}
    }
}
