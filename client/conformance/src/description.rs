//! Checks that an `OpenRPC` document has what describe, REST and SOAP need.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// Requirements on an object's document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    /// Names of the parameters of each method, in order.
    methods: BTreeMap<String, Vec<String>>,
    /// `METHOD.PARAMETER` of binary parameters, and `METHOD` of binary results.
    #[serde(default)]
    binary: Vec<String>,
    /// Names of the methods that stream.
    #[serde(default)]
    streams: Vec<String>,
}

impl Described {
    /// Checks a document; returns a description of the first mismatch.
    pub(crate) fn check(&self, document: &Value) -> Result<(), String> {
        for part in ["openrpc", "info", "methods"] {
            document.get(part).ok_or_else(|| format!("expected `{part}` in the document, got {document}"))?;
        }
        for part in ["title", "version"] {
            let text = document["info"][part].as_str();
            text.ok_or_else(|| format!("expected `info.{part}`, got {}", document["info"]))?;
        }
        let listed = document["methods"].as_array().ok_or("expected a list as `methods`")?;
        let find = |name: &str| listed.iter().find(|method| method["name"] == name);
        for (name, params) in &self.methods {
            let method = find(name).ok_or_else(|| format!("expected the method {name} in `methods`"))?;
            let names: Vec<&str> = method["params"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|p| p["name"].as_str())
                .collect();
            if names != *params {
                return Err(format!(
                    "expected the parameters {params:?} of {name}, got {}",
                    method["params"]
                ));
            }
            // `true` is the schema of any value.
            let is_schema = |schema: &Value| schema.is_object() || *schema == true;
            let described =
                method["params"].as_array().into_iter().flatten().all(|p| is_schema(&p["schema"]));
            if !described || !is_schema(&method["result"]["schema"]) {
                return Err(format!("expected a `schema` of each parameter and of the result, got {method}"));
            }
        }
        for place in &self.binary {
            let (name, param) =
                place.split_once('.').map_or((&**place, None), |(name, param)| (name, Some(param)));
            let method = find(name).unwrap_or(&Value::Null);
            let schema = match param {
                None => &method["result"]["schema"],
                Some(param) => {
                    let found =
                        method["params"].as_array().into_iter().flatten().find(|p| p["name"] == param);
                    &found.unwrap_or(&Value::Null)["schema"]
                }
            };
            if schema["type"] != "string" || schema["format"] != "binary" {
                let binary = json!({"type": "string", "format": "binary"});
                return Err(format!("expected the schema {binary} of {place}, got {schema}"));
            }
        }
        for name in &self.streams {
            if find(name).is_none_or(|method| method["x-stream"].is_null() || method["x-stream"] == false) {
                return Err(format!(
                    "expected `x-stream` of {name}, got {}",
                    find(name).unwrap_or(&Value::Null)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_description_of_the_contract_passes_the_check() {
        let page = include_str!("../PROTOCOL.md");
        let (_, example) = page.split_once("```json\n{\"openrpc\"").expect("an example");
        let (example, _) = example.split_once("```").expect("its end");
        let mut document: Value = serde_json::from_str(&format!("{{\"openrpc\"{example}")).expect("JSON");
        let described: Described = serde_json::from_value(json!({
            "methods": {"sample": ["channel"], "load": ["data"]}, "binary": ["sample", "load.data"],
        }))
        .expect("as in a case");
        assert_eq!(described.check(&document), Ok(()));
        document["methods"][1]["params"][0]["schema"] = json!({"type": "string"});
        assert!(described.check(&document).expect_err("not binary").contains("load.data"));
        document["methods"][0]["name"] = json!("samples");
        assert!(described.check(&document).expect_err("no method").contains("sample"));
    }
}
