//! Conversion of a query's texts to parameters of a method.

use rantai_client::object::{Method, Parameter};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json::{self, JsonError};
use serde_json::{Map, Value};

/// Converts a query to named parameters of a method.
///
/// # Errors
///
/// A name is given twice, or a text looks like JSON but is not valid JSON.
pub(super) fn named(
    method: Option<&Method>,
    query: &[(String, String)],
) -> Result<Map<String, Value>, Fault> {
    let mut params = Map::new();
    for (name, text) in query {
        let parameter = method.and_then(|method| method.params.iter().find(|p| p.name == *name));
        let value = value(parameter, text)?;
        if params.insert(name.clone(), value).is_some() {
            return Err(Fault::new(Code::NOT_A_REQUEST, format!("{name} is given twice")));
        }
    }
    Ok(params)
}

/// Converts a text to the parameter's type. A text that is not of that type stays a string, which the object rejects.
///
/// # Errors
///
/// The text looks like JSON but is not valid JSON, and the parameter is not of a simple type.
pub(super) fn value(parameter: Option<&Parameter>, text: &str) -> Result<Value, Fault> {
    let as_it_looks = || match json::read(text.as_bytes()) {
        Err(JsonError::Syntax(_)) if json::is_plain_text(text) => Ok(Value::from(text)),
        read => read.map_err(|error| Fault::from(&error)),
    };
    let Some(schema) = parameter.and_then(|parameter| parameter.schema.as_ref()) else {
        return as_it_looks();
    };
    let is = |name: &str| match &schema["type"] {
        Value::String(of) => of == name,
        Value::Array(of) => of.iter().any(|of| of == name),
        _ => false,
    };
    // The object checks whether the number is in its range.
    if (is("integer") || is("number"))
        && let Some(number) = json::number(text.trim())
    {
        return Ok(number);
    }
    if is("boolean") && matches!(text, "true" | "false") {
        return Ok(Value::from(text == "true"));
    }
    if is("null") && text == "null" {
        return Ok(Value::Null);
    }
    if is("string") || is("number") || is("integer") || is("boolean") {
        return Ok(Value::from(text));
    }
    as_it_looks()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn query_texts_are_converted_by_the_schema() {
        for (schema, text, expected) in [
            (json!({"type": "number"}), "2", json!(2)),
            (json!({"type": "number"}), "9007199254740993", json!(9_007_199_254_740_993_u64)),
            (json!({"type": "number"}), "9007199254740993.0", json!(9_007_199_254_740_993_u64)),
            (json!({"type": "number"}), " 2.5 ", json!(2.5)),
            (json!({"type": "number"}), ".5", json!(0.5)),
            (json!({"type": "number"}), "nan", json!("nan")),
            (json!({"type": "number"}), "1e999", json!("1e999")),
            (json!({"type": "number"}), "abc", json!("abc")),
            (json!({"type": "integer"}), "-7", json!(-7)),
            (json!({"type": "integer"}), "18446744073709551615", json!(u64::MAX)),
            (json!({"type": "integer"}), "18446744073709551616", json!("18446744073709551616")),
            (json!({"type": "integer"}), "7.0", json!(7)),
            (json!({"type": "integer"}), "7.5", json!(7.5)),
            (json!({"type": "string"}), "1984", json!("1984")),
            (json!({"type": "string"}), "null", json!("null")),
            (json!({"type": ["integer", "null"]}), "null", json!(null)),
            (json!({"type": "boolean"}), "true", json!(true)),
            (json!({"type": "array"}), "[1, 2]", json!([1, 2])),
            (json!({"$ref": "#/components/schemas/X"}), "{\"a\": 1}", json!({"a": 1})),
            (json!(true), "x", json!("x")),
        ] {
            let parameter = Parameter { name: "p".to_owned(), required: true, schema: Some(schema.clone()) };
            assert_eq!(value(Some(&parameter), text), Ok(expected), "{schema} {text}");
        }
        assert_eq!(value(None, "7"), Ok(json!(7)));
        let text = Parameter { schema: Some(json!({"type": "string"})), ..Parameter::default() };
        for wrong in ["[\"\\ud83d\"]", "{\"a\": 1", "{\"a\":1,\"a\":2}", "1e400"] {
            assert_eq!(value(None, wrong).expect_err(wrong).code, Code::NOT_JSON);
            assert_eq!(value(Some(&text), wrong), Ok(json!(wrong)), "a text may look like anything");
        }
    }

    #[test]
    fn repeated_query_name_is_refused() {
        let query = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect()
        };
        assert_eq!(named(None, &query(&["a", "b"])).expect("two").len(), 2);
        assert_eq!(named(None, &query(&["a", "a"])).expect_err("twice").code, Code::NOT_A_REQUEST);
    }
}
