//! Parameters of a call, put into the order of the description, and checked by it before a device gets them.

use rantai_client::object::{Method, Parameter};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json::MAX_SAFE_INTEGER;
use rantai_client::wire::request::Params;
use serde_json::Value;

/// Returns the parameters by position. Optional ones that are not given are left out at the end, and null before others.
///
/// Of a schema, `type`, `enum`, `minimum` and `maximum` are checked; the rest is left to the device.
///
/// # Errors
///
/// -32602 where there are too many or too few, unknown names, or values that do not fit.
pub(crate) fn by_position(method: &Method, params: Params) -> Result<Vec<Value>, Fault> {
    let mut values: Vec<Option<Value>> = match params {
        Params::None => Vec::new(),
        Params::Positional(values) => values.into_iter().map(Some).collect(),
        Params::Named(mut members) => {
            if let Some(unknown) = members.keys().find(|name| method.params.iter().all(|p| p.name != **name))
            {
                return Err(wrong(
                    method,
                    unknown,
                    &format!("unknown parameter {unknown:?}; expected {}", has(method)),
                ));
            }
            method.params.iter().map(|param| members.remove(&param.name)).collect()
        }
        Params::One { value, text } => {
            let takes_text = method.params.first().is_some_and(|param| is_of(param, "string"));
            vec![Some(if takes_text && !value.is_string() { Value::String(text) } else { value })]
        }
        Params::Binary(_) => return Err(Fault::wrong_parameter("params", "JSON; it is binary")),
    };
    if values.len() > method.params.len() {
        let text = format!("expected {}, got {}", has(method), values.len());
        return Err(wrong(method, "params", &text));
    }
    values.resize(method.params.len(), None);
    for (param, value) in method.params.iter().zip(&values) {
        match value {
            None if param.required => {
                return Err(Fault::wrong_parameter(&param.name, "a value; it is missing"));
            }
            None | Some(Value::Null) if !param.required => {}
            Some(value) => check(param, value)?,
            None => {}
        }
    }
    while values.last().is_some_and(Option::is_none) {
        values.pop();
    }
    Ok(values.into_iter().map(Option::unwrap_or_default).collect())
}

/// Creates the error (-32602) of a wrong number of parameters, or an unknown name.
fn wrong(method: &Method, path: &str, text: &str) -> Fault {
    Fault::new(Code::WRONG_PARAMETERS, text).with("path", path).with("expected", has(method))
}

fn has(method: &Method) -> String {
    let names: Vec<&str> = method.params.iter().map(|param| &*param.name).collect();
    match names[..] {
        [] => "no parameters".to_owned(),
        [one] => format!("1 parameter ({one})"),
        _ => format!("{} parameters ({})", names.len(), names.join(", ")),
    }
}

/// Returns whether a parameter has this type and no other.
fn is_of(param: &Parameter, kind: &str) -> bool {
    param.schema.as_ref().is_some_and(|schema| schema["type"] == kind)
}

fn check(param: &Parameter, value: &Value) -> Result<(), Fault> {
    let Some(schema) = &param.schema else { return Ok(()) };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| has_type(value, kind)) {
        let words: Vec<&str> = kinds.iter().map(|kind| in_words(kind)).collect();
        return Err(Fault::wrong_parameter(&param.name, &words.join(" or ")));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        let values = Value::from(values.clone()).to_string();
        return Err(Fault::wrong_parameter(&param.name, &format!("one of {values}")));
    }
    let Some(number) = value.as_f64() else { return Ok(()) };
    if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
        return Err(Fault::wrong_parameter(&param.name, &format!("a number that is {least} or more")));
    }
    if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
        return Err(Fault::wrong_parameter(&param.name, &format!("a number that is {most} or less")));
    }
    Ok(())
}

fn has_type(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // 5.0 is an integer, and those that not every reader takes exactly are written as strings.
        "integer" => match value {
            Value::Number(number) => number.as_f64().is_some_and(|float| float.fract() == 0.0),
            Value::String(text) => {
                text.parse::<i128>().is_ok_and(|n| n.unsigned_abs() > u128::from(MAX_SAFE_INTEGER))
            }
            _ => false,
        },
        // Of a later version of JSON Schema: the device knows.
        _ => true,
    }
}

fn in_words(kind: &str) -> &str {
    match kind {
        "number" => "a number",
        "integer" => "an integer",
        "string" => "a text",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn method(params: &Value) -> Method {
        let document = json!({"methods": [{"name": "m", "params": params}]});
        rantai_client::object::Description::from_open_rpc(&document).methods.remove(0)
    }

    fn dim() -> Method {
        method(&json!([
            {"name": "level", "required": true, "schema": {"type": "integer", "minimum": 0, "maximum": 100}},
            {"name": "color", "schema": {"type": ["string", "null"], "enum": ["red", "green", null]}},
            {"name": "ms"},
        ]))
    }

    fn named(value: Value) -> Params {
        let Value::Object(members) = value else { panic!("an object") };
        Params::Named(members)
    }

    #[test]
    fn names_become_positions() {
        for (params, expected) in [
            (Params::Positional(vec![json!(5)]), json!([5])),
            (Params::Positional(vec![json!(5.0), json!("red")]), json!([5.0, "red"])),
            (named(json!({"ms": 7, "level": 5})), json!([5, null, 7])),
            (named(json!({"level": 5})), json!([5])),
            (Params::One { value: json!(5), text: "5".to_owned() }, json!([5])),
        ] {
            assert_eq!(by_position(&dim(), params).map(Value::from), Ok(expected));
        }
        let text = method(&json!([{"name": "title", "required": true, "schema": {"type": "string"}}]));
        let one = Params::One { value: json!(1984), text: "1984".to_owned() };
        assert_eq!(by_position(&text, one), Ok(vec![json!("1984")]));
        assert_eq!(by_position(&method(&json!([])), Params::None), Ok(vec![]));
    }

    #[test]
    fn what_the_device_would_have_to_refuse_does_not_reach_it() {
        for (params, path, told) in [
            (Params::None, "level", "level: expected a value; it is missing"),
            (Params::Positional(vec![json!("5")]), "level", "level: expected an integer"),
            (Params::Positional(vec![json!(null)]), "level", "level: expected an integer"),
            (Params::Positional(vec![json!(0.5)]), "level", "level: expected an integer"),
            (Params::Positional(vec![json!(101)]), "level", "level: expected a number that is 100 or less"),
            (Params::Positional(vec![json!(-1)]), "level", "level: expected a number that is 0 or more"),
            (Params::Positional(vec![json!(1), json!(2)]), "color", "color: expected a text or null"),
            (
                Params::Positional(vec![json!(1), json!("blue")]),
                "color",
                "color: expected one of [\"red\",\"green\",null]",
            ),
            (
                Params::Positional(vec![json!(1); 4]),
                "params",
                "expected 3 parameters (level, color, ms), got 4",
            ),
            (named(json!({"level": 1, "x": 1})), "x", "unknown parameter \"x\"; expected 3 parameters"),
            (Params::Binary(vec![1].into()), "params", "params: expected JSON; it is binary"),
        ] {
            let fault = by_position(&dim(), params).expect_err(told);
            assert_eq!((fault.code, &fault.data["path"]), (Code::WRONG_PARAMETERS, &json!(path)), "{fault}");
            assert!(fault.message.starts_with(told), "{fault}");
        }
        let large = method(&json!([{"name": "n", "schema": {"type": "integer"}}]));
        let by = |value| by_position(&large, Params::Positional(vec![value]));
        assert!(by(json!("18446744073709551616")).is_ok() && by(json!("12")).is_err());
    }
}
