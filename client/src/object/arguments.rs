//! Parameters of a call, converted one after the other to the types of a method.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::fault::{Code, Fault};
use crate::wire::json::typed;
use crate::wire::request::Params;

use super::answer::Binary;

/// Maximum number of characters of a wrong value in an error.
const MAX_SHOWN_CHARS: usize = 100;

/// Parameters of one call.
#[derive(Debug)]
pub struct Arguments {
    names: &'static [&'static str],
    next: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Positional(std::vec::IntoIter<Value>),
    Named(serde_json::Map<String, Value>),
    One(Option<(Value, String)>),
    Binary(Option<Bytes>),
}

impl Arguments {
    /// Creates the parameters for a method whose parameters have these `names`, in this order.
    ///
    /// # Errors
    ///
    /// -32602 if there are more parameters, or unknown names.
    pub fn new(params: Params, names: &'static [&'static str]) -> Result<Self, Fault> {
        let given = match &params {
            Params::None => 0,
            Params::Positional(items) => items.len(),
            Params::Named(members) => {
                if let Some(unknown) = members.keys().find(|name| !names.contains(&name.as_str())) {
                    let text = format!("unknown parameter {unknown:?}; expected {}", has(names));
                    return Err(wrong(text, unknown, names));
                }
                members.len()
            }
            Params::One { .. } | Params::Binary(_) => 1,
        };
        if given > names.len() {
            return Err(wrong(format!("expected {}, got {given}", has(names)), "params", names));
        }
        let values = match params {
            Params::None => Values::Positional(Vec::new().into_iter()),
            Params::Positional(items) => Values::Positional(items.into_iter()),
            Params::Named(members) => Values::Named(members),
            Params::One { value, text } => Values::One(Some((value, text))),
            Params::Binary(bytes) => Values::Binary(Some(bytes)),
        };
        Ok(Self { names, next: 0, values })
    }

    /// Returns the next parameter.
    ///
    /// # Errors
    ///
    /// -32602 if it is missing or of another type.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let (name, value, text) = self.advance()?;
        let Some(value) = value else {
            return Err(Fault::wrong_parameter(name, "a value; it is missing"));
        };
        read(name, value, text)
    }

    /// Returns the next parameter; `None` if it is missing or null.
    ///
    /// # Errors
    ///
    /// -32602 if it is of another type.
    pub fn take_optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        let (name, value, text) = self.advance()?;
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(name, value, text).map(Some),
        }
    }

    /// Returns the next parameter, which is binary. A string is converted to its bytes.
    ///
    /// # Errors
    ///
    /// -32602 if it is missing or of another type.
    pub fn take_binary(&mut self) -> Result<Binary, Fault> {
        if let Values::Binary(bytes) = &mut self.values {
            self.next += 1;
            return bytes.take().map(Binary).ok_or_else(|| Fault::wrong_parameter("params", "bytes"));
        }
        match self.advance()? {
            (_, Some(Value::String(text)), _) => Ok(text.into_bytes().into()),
            (name, ..) => Err(Fault::wrong_parameter(name, "bytes: content type application/octet-stream")),
        }
    }

    fn advance(&mut self) -> Result<(&'static str, Option<Value>, Option<String>), Fault> {
        let name = self.names.get(self.next).copied().unwrap_or("params");
        self.next += 1;
        Ok(match &mut self.values {
            Values::Positional(items) => (name, items.next(), None),
            Values::Named(members) => (name, members.remove(name), None),
            Values::One(one) => match one.take() {
                Some((value, text)) => (name, Some(value), Some(text)),
                None => (name, None, None),
            },
            Values::Binary(_) => return Err(Fault::wrong_parameter(name, "JSON; it is binary")),
        })
    }
}

/// Creates the error (-32602) of a wrong number of parameters, or an unknown name.
fn wrong(text: String, path: &str, names: &[&str]) -> Fault {
    Fault::new(Code::WRONG_PARAMETERS, text).with("path", path).with("expected", has(names))
}

fn has(names: &[&str]) -> String {
    match names {
        [] => "no parameters".to_owned(),
        [one] => format!("1 parameter ({one})"),
        names => format!("{} parameters ({})", names.len(), names.join(", ")),
    }
}

/// Converts a value; if that fails, its text, as a string may look like a number.
fn read<T: DeserializeOwned>(name: &str, value: Value, text: Option<String>) -> Result<T, Fault> {
    let error = match typed::<T>(value) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(value) = text.and_then(|text| typed(Value::String(text)).ok()) {
        return Ok(value);
    }
    Err(unfit(name, &error.to_string()))
}

/// Creates the error (-32602) of a value that serde refused with `error`.
fn unfit(name: &str, error: &str) -> Fault {
    let Some((found, wanted)) = error.rsplit_once(", expected ") else {
        // An enum may state what it expects; otherwise serde describes what is wrong.
        let wrong = ["missing field", "unknown field", "duplicate field", "data did not match"];
        if !wrong.iter().any(|start| error.starts_with(start)) {
            return Fault::wrong_parameter(name, error);
        }
        let text = format!("{name}: {error}");
        return Fault::new(Code::WRONG_PARAMETERS, text).with("path", name).with("expected", error);
    };
    let found = ["invalid type: ", "invalid value: ", "invalid ", "unknown variant "]
        .iter()
        .find_map(|start| found.strip_prefix(start))
        .unwrap_or(found);
    let found = match found {
        "sequence" => "an array",
        "map" => "an object",
        other => other,
    };
    // Shortened, as a large value might not fit into a reply.
    let shown = match found.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_owned(),
    };
    Fault::wrong_parameter(name, &format!("{}, found {shown}", in_json_words(wanted)))
}

/// Describes the type that serde expected in terms of JSON: "an integer from 0 to 255" for `u8`.
pub fn in_json_words(wanted: &str) -> &str {
    match wanted {
        "f64" | "f32" => "a number",
        "i64" | "isize" | "i128" => "an integer",
        "u64" | "usize" | "u128" => "an integer that is not negative",
        "i8" => "an integer from -128 to 127",
        "i16" => "an integer from -32768 to 32767",
        "i32" => "an integer from -2147483648 to 2147483647",
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "a string" | "a character" => "a text",
        "a boolean" => "true or false",
        "unit" => "null",
        "a sequence" => "an array",
        "a map" => "an object",
        "string or map" => "a text or an object",
        other if other.starts_with("a nonzero ") => "an integer that is not 0",
        other if other.starts_with("a tuple ") || other.starts_with("tuple struct ") => "an array",
        other if other.starts_with("struct ") || other.starts_with("internally tagged enum ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TWO: &[&str] = &["a", "b"];
    const TEXT: &[&str] = &["name"];

    fn one(payload: &str) -> Params {
        let value = serde_json::from_str(payload).unwrap_or_else(|_| payload.into());
        Params::One { value, text: payload.to_owned() }
    }

    fn named(value: Value) -> Params {
        let Value::Object(members) = value else { panic!("an object") };
        Params::Named(members)
    }

    #[test]
    fn parameters_are_taken_by_position_and_by_name() {
        for params in [Params::Positional(vec![json!(2), json!(3.5)]), named(json!({"b": 3.5, "a": 2}))] {
            let mut arguments = Arguments::new(params, TWO).expect("two");
            assert_eq!(arguments.take::<f64>(), Ok(2.0));
            assert_eq!(arguments.take::<f64>(), Ok(3.5));
        }
    }

    #[test]
    fn error_of_a_wrong_parameter_names_it() {
        let path = |fault: Fault| (fault.data["path"].clone(), fault.message);
        let error = |params, take: fn(&mut Arguments) -> Result<f64, Fault>| {
            path(Arguments::new(params, TWO).and_then(|mut a| take(&mut a)).expect_err("wrong"))
        };
        let second = |a: &mut Arguments| a.take::<f64>().and_then(|_| a.take());
        let (path, text) = error(Params::Positional(vec![json!(1), json!("x")]), second);
        assert_eq!((path, &*text), (json!("b"), "b: expected a number, found string \"x\""));
        let (path, text) = error(Params::Positional(vec![json!(1)]), second);
        assert_eq!((path, &*text), (json!("b"), "b: expected a value; it is missing"));
        let (path, text) = error(Params::Positional(vec![json!(1); 3]), Arguments::take);
        assert_eq!((path, &*text), (json!("params"), "expected 2 parameters (a, b), got 3"));
        let (path, text) = error(named(json!({"c": 1})), Arguments::take);
        assert_eq!((path, &*text), (json!("c"), "unknown parameter \"c\"; expected 2 parameters (a, b)"));
        let (path, _) = error(Params::Binary(vec![1].into()), Arguments::take);
        assert_eq!(path, json!("a"));
    }

    #[test]
    fn error_of_a_wrong_number_of_parameters_has_one_form() {
        for (names, expected) in [
            (&[][..], "expected no parameters, got 3"),
            (&["name"][..], "expected 1 parameter (name), got 3"),
            (TWO, "expected 2 parameters (a, b), got 3"),
        ] {
            let fault = Arguments::new(Params::Positional(vec![json!(1); 3]), names).expect_err("too many");
            assert_eq!((fault.code, &*fault.message), (Code::WRONG_PARAMETERS, expected));
        }
    }

    #[test]
    fn error_of_a_wrong_type_uses_json_terms() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Options {
            retries: u8,
        }
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum State {
            On,
        }
        fn told<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> String {
            read::<T>("x", value, None).expect_err("of another type").message
        }
        for (message, expected) in [
            (told::<usize>(json!(-1)), "x: expected an integer that is not negative, found integer `-1`"),
            (told::<u8>(json!(300)), "x: expected an integer from 0 to 255, found integer `300`"),
            (told::<Vec<u64>>(json!({})), "x: expected an array, found an object"),
            (told::<Options>(json!(7)), "x: expected an object, found integer `7`"),
            (told::<Options>(json!({})), "x: missing field `retries`"),
            (told::<Options>(json!({"a": 1})), "x: expected `retries`, found unknown field `a`"),
            (told::<State>(json!("off")), "x: expected `on`, found `off`"),
            (told::<()>(json!([])), "x: expected null, found an array"),
            (
                told::<u8>(json!("é".repeat(1_000))),
                &*format!("x: expected an integer from 0 to 255, found string \"{}…", "é".repeat(92)),
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn string_parameter_may_look_like_a_number_or_null() {
        for title in ["1984", "true", "null", "Dune", "[", "1e400"] {
            let mut arguments = Arguments::new(one(title), TEXT).expect("one");
            assert_eq!(arguments.take::<String>(), Ok(title.to_owned()));
        }
        let mut arguments = Arguments::new(one("\"Dune\""), TEXT).expect("one");
        assert_eq!(arguments.take::<String>(), Ok("Dune".to_owned()));
        let mut arguments = Arguments::new(one("1984"), TEXT).expect("one");
        assert_eq!(arguments.take::<u32>(), Ok(1984));
        let mut arguments = Arguments::new(one("x"), TEXT).expect("one");
        assert!(arguments.take::<u32>().is_err());
        // A method may get optional parameters in a later version.
        let mut arguments = Arguments::new(one("1984"), TWO).expect("one");
        assert_eq!(arguments.take::<String>(), Ok("1984".to_owned()));
        assert_eq!(arguments.take_optional::<bool>(), Ok(None));
    }

    #[test]
    fn large_integers_are_accepted_as_strings() {
        let mut arguments =
            Arguments::new(Params::Positional(vec![json!("9007199254740993"), json!("12")]), TWO)
                .expect("two");
        assert_eq!(arguments.take::<i64>(), Ok(9_007_199_254_740_993));
        assert!(arguments.take::<i64>().is_err(), "a small one is a number");
    }

    #[test]
    fn missing_and_null_optional_parameters_are_none() {
        for params in
            [Params::None, Params::Positional(vec![]), named(json!({})), named(json!({"name": null}))]
        {
            assert_eq!(Arguments::new(params, TEXT).expect("fits").take_optional::<u32>(), Ok(None));
        }
        assert_eq!(Arguments::new(one("7"), TEXT).expect("fits").take_optional::<u32>(), Ok(Some(7)));
        assert_eq!(
            Arguments::new(Params::Binary(vec![1, 2].into()), TEXT).expect("fits").take_binary(),
            Ok(vec![1, 2].into())
        );
    }

    #[test]
    fn whole_numbers_with_a_fraction_are_integers() {
        let take = |value| Arguments::new(Params::Positional(vec![value]), TEXT).expect("one").take::<i64>();
        assert_eq!([take(json!(100.0)), take(json!(-3.0))], [Ok(100), Ok(-3)]);
        assert!(take(json!(0.5)).is_err() && take(json!(1e17)).is_err());
        let mut arguments = Arguments::new(Params::Positional(vec![json!([1.0, 2])]), TEXT).expect("one");
        assert_eq!(arguments.take::<Vec<u8>>(), Ok(vec![1, 2]));
    }

    #[test]
    fn integers_beyond_the_precision_of_a_double_are_refused() {
        let take = |value| Arguments::new(Params::Positional(vec![value]), TEXT).expect("one").take::<f64>();
        assert_eq!(take(json!(9_007_199_254_740_992_u64)), Ok(9_007_199_254_740_992.0));
        assert_eq!([take(json!(1e300)), take(json!(7))], [Ok(1e300), Ok(7.0)]);
        for large in
            [json!(9_007_199_254_740_993_u64), json!(-9_007_199_254_740_993_i64), json!("9007199254740993")]
        {
            let fault = take(large.clone()).expect_err("too large");
            assert!(
                fault.code == Code::WRONG_PARAMETERS && fault.message.contains("2^53"),
                "{large}: {fault}"
            );
        }
        let one = one("9007199254740993");
        assert!(Arguments::new(one, TEXT).expect("one").take_optional::<f64>().is_err());
        let list = named(json!({"name": [1, 9_007_199_254_740_993_u64]}));
        assert!(Arguments::new(list, TEXT).expect("one").take::<Vec<f64>>().is_err());
    }
}
