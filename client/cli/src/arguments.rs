//! Arguments of `rantai call`: the object, the method, and their parameters.

use rantai_client::wire::json::{self, JsonError};
use rantai_tasks::task::PAYLOAD;
use serde_json::{Map, Value, json};

/// Methods that every object has, without their prefix `rpc.`.
const BUILT_IN: [&str; 6] = ["ping", "info", "stats", "discover", "cancel", "yield"];

/// Splits `OBJECT.METHOD`: the method is the part after the last dot, with `rpc.` if it is a built-in one. The name of an
/// object may end in `.rpc` too.
pub(crate) fn target(text: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("{text:?} is no OBJECT.METHOD, as in calculator.add");
    let (object, method) = text.rsplit_once('.').ok_or_else(wrong)?;
    let (object, method) = match object.strip_suffix(".rpc").filter(|_| BUILT_IN.contains(&method)) {
        Some(object) => (object, &text[object.len() + 1..]),
        None => (object, method),
    };
    if object.is_empty() || method.is_empty() { Err(wrong()) } else { Ok((object, method)) }
}

/// Returns the payload for these arguments: each is JSON, or a plain word; if all are `name=value`, parameters are named.
pub(crate) fn payload(arguments: &[String]) -> Result<Vec<u8>, String> {
    let named: Vec<Option<(&str, &str)>> = arguments.iter().map(|a| name_and_value(a)).collect();
    let value = match arguments {
        [] => return Ok(Vec::new()),
        _ if named.iter().all(Option::is_some) => {
            let mut members = Map::new();
            for (name, text) in named.into_iter().flatten() {
                if members.insert(name.to_owned(), value(text)?).is_some() {
                    return Err(format!("{name} is given twice"));
                }
            }
            Value::Object(members)
        }
        _ if named.iter().any(Option::is_some) => {
            return Err(
                "some arguments are name=value and some are not; write a text with = as '\"a=b\"'".to_owned()
            );
        }
        // Sent as it was written: the method may expect a string that looks like a number.
        [one] => match value(one)? {
            list @ (Value::Array(_) | Value::Object(_)) => Value::Array(vec![list]),
            Value::String(text) => Value::String(text),
            _ => {
                let quoted = json::quote_large_integers(one.as_bytes());
                return Ok(quoted.unwrap_or_else(|| one.clone().into_bytes()));
            }
        },
        many => Value::Array(many.iter().map(|text| value(text)).collect::<Result<_, _>>()?),
    };
    Ok(json::portable(value).to_string().into_bytes())
}

/// Returns the parameters for these arguments, in the form of a request; `None` without arguments.
pub(crate) fn params(arguments: &[String]) -> Result<Option<Value>, String> {
    match &payload(arguments)?[..] {
        [] => Ok(None),
        bytes => match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
            // A bare null would mean no parameters, and in a list it would not reach a method that expects the string "null".
            Value::Null => Ok(Some(json!({PAYLOAD: "null"}))),
            // Sent as it was written: the method may expect a string that looks like 5.0, which becomes 5 once it is parsed.
            Value::Number(number)
                if json::portable(number.clone().into()).to_string().as_bytes() != bytes =>
            {
                Ok(Some(json!({PAYLOAD: String::from_utf8_lossy(bytes)})))
            }
            params => Ok(Some(params)),
        },
    }
}

/// Parses a number for a parameter of double precision.
pub(crate) fn double(text: &str) -> Result<f64, String> {
    let number = json::number(text).ok_or("expected a finite number, such as 5, -2.5 or 1e-3")?;
    json::typed(number).map_err(|_| {
        "an integer beyond ±2^53, which a double may not hold; write it with an exponent if it may be rounded"
            .to_owned()
    })
}

fn name_and_value(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let identifier = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    identifier.then_some((name, value))
}

/// Parses an argument as JSON or, if it was not meant to be JSON, as a string; by the same rule as on the bus.
fn value(text: &str) -> Result<Value, String> {
    match json::read(text.as_bytes()) {
        Ok(value) => Ok(value),
        Err(JsonError::Syntax(_)) if json::is_plain_text(text) => Ok(Value::from(text)),
        Err(error) => {
            let quoted = Value::from(text);
            Err(format!("cannot read the argument {text}: {error}; to give it as a text, write '{quoted}'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        payload(&arguments).map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
    }

    #[test]
    fn targets_are_split_into_object_and_method() {
        assert_eq!(target("calculator.add"), Ok(("calculator", "add")));
        assert_eq!(target("example.chainTopology.1.process"), Ok(("example.chainTopology.1", "process")));
        assert_eq!(target("calculator.rpc.ping"), Ok(("calculator", "rpc.ping")));
        assert_eq!(target("a.rpc.run"), Ok(("a.rpc", "run")));
        assert_eq!(target("a.rpc.rpc.ping"), Ok(("a.rpc", "rpc.ping")));
        for wrong in ["calculator", ".add", "calculator.", ".rpc.ping", ""] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn doubles_are_not_rounded_silently() {
        for (text, expected) in
            [("5", 5.0), ("-2.5", -2.5), ("9007199254740992", 9_007_199_254_740_992.0), ("1e17", 1e17)]
        {
            assert_eq!(double(text), Ok(expected), "{text}");
        }
        for text in ["9007199254740993", "-9007199254740993.0", "18446744073709551617"] {
            assert!(double(text).is_err_and(|error| error.contains("2^53")), "{text}");
        }
        for text in ["nan", "inf", "1e999", "x", ""] {
            assert!(double(text).is_err_and(|error| error.contains("finite")), "{text}");
        }
    }

    #[test]
    fn arguments_become_positional_or_named_parameters() {
        for (arguments, expected) in [
            (&[][..], ""),
            (&["2", "3"], "[2,3]"),
            (&["a=2", "b=x"], r#"{"a":2,"b":"x"}"#),
            (&["1984"], "1984"),
            (&["Dune Messiah"], r#""Dune Messiah""#),
            (&["\"Dune\""], r#""Dune""#),
            (&[""], r#""""#),
            (&["[1,2]"], "[[1,2]]"),
            (&["{\"a\":1}"], r#"[{"a":1}]"#),
            (&["\"a=b\""], r#""a=b""#),
            (&["x", "[1]"], r#"["x",[1]]"#),
            (&["5.0"], "5.0"),
            (&["5.0", "3"], "[5,3]"),
            (&["9007199254740993"], r#""9007199254740993""#),
            (&["9007199254740993", "-9007199254740993.0"], r#"["9007199254740993","-9007199254740993"]"#),
            (&["n=9007199254740993"], r#"{"n":"9007199254740993"}"#),
            (&["[9007199254740993]"], r#"[["9007199254740993"]]"#),
            (&["18446744073709551616"], r#""18446744073709551616""#),
        ] {
            assert_eq!(written(arguments).as_deref(), Ok(expected), "{arguments:?}");
        }
        let params = |arguments: &[&str]| {
            params(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).expect("parameters")
        };
        for (arguments, expected) in [
            (&[][..], None),
            (&["null"], Some(json!({"$payload": "null"}))),
            (&["null", "null"], Some(json!([null, null]))),
            (&["a=null"], Some(json!({"a": null}))),
            (&["1984"], Some(json!(1984))),
            (&["5.0"], Some(json!({"$payload": "5.0"}))),
            (&["0.1"], Some(json!(0.1))),
            (&["[]"], Some(json!([[]]))),
        ] {
            assert_eq!(params(arguments), expected, "{arguments:?}");
        }
        assert!(written(&["a=1", "2"]).is_err());
        for wrong in [&["[1,"][..], &["1", "{\"a\""], &[" [\"\\ud83d\"]"], &["a=[1e400]"], &["1e400"]] {
            assert!(written(wrong).is_err_and(|error| error.contains("not JSON")), "{wrong:?}");
        }
        for text in ["1e", "\"Dune\" is a book", "x]", "(1)"] {
            assert_eq!(written(&[text]), Ok(Value::from(text).to_string()), "{text}");
        }
        assert!(written(&["a=1", "a=2"]).is_err());
    }
}
