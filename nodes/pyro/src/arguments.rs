//! Arguments of Python as parameters of a method, and arguments of the gateway's own methods.

use bytes::Bytes;
use rantai_client::object::Method;
use serde_json::{Map, Value};

use crate::exception::Raised;
use crate::serializer::PyArguments;
use crate::value::PyValue;

/// Parameters of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameters {
    None,
    /// Positional or named parameters.
    Json(Value),
    /// A single binary parameter.
    Binary(Bytes),
}

/// Converts the arguments of a call by the description of its method. Arguments by position and by keyword together become
/// named parameters, in the order of the description.
///
/// # Errors
///
/// An argument is given twice or is not described, or cannot be sent on the bus.
pub(crate) fn parameters(method: &Method, (args, kwargs): PyArguments) -> Result<Parameters, Raised> {
    if let [parameter] = &method.params[..]
        && parameter.schema.is_none()
    {
        let given = match (&args[..], &kwargs[..]) {
            ([value], []) => value,
            ([], [(name, value)]) if *name == parameter.name => value,
            _ => return Err(wrong(method, "takes one argument, which is bytes")),
        };
        let bytes = given.as_bytes().ok_or_else(|| wrong(method, "takes bytes"))?;
        return Ok(Parameters::Binary(bytes.into()));
    }
    if kwargs.is_empty() {
        if args.is_empty() {
            return Ok(Parameters::None);
        }
        let values: Result<_, _> = args.iter().map(PyValue::to_json).collect();
        return Ok(Parameters::Json(Value::Array(values?)));
    }
    let mut named = Map::new();
    for (place, value) in args.iter().enumerate() {
        let Some(parameter) = method.params.get(place) else {
            let most = method.params.len();
            return Err(wrong(
                method,
                &format!("takes {most} positional arguments but {} were given", args.len()),
            ));
        };
        named.insert(parameter.name.clone(), value.to_json()?);
    }
    for (name, value) in kwargs {
        if named.insert(name.clone(), value.to_json()?).is_some() {
            return Err(wrong(method, &format!("got multiple values for argument {name:?}")));
        }
    }
    Ok(Parameters::Json(Value::Object(named)))
}

fn wrong(method: &Method, text: &str) -> Raised {
    Raised::builtin("TypeError", format!("{}() {text}", method.name))
}

/// Assigns arguments to the parameters of one of the gateway's own methods, of which the first `required` have to be given.
///
/// # Errors
///
/// An argument is missing, unknown, or given twice.
pub(crate) fn bind<const N: usize>(
    method: &str,
    names: [&str; N],
    required: usize,
    (args, kwargs): PyArguments,
) -> Result<[PyValue; N], Raised> {
    let wrong = |text: String| Raised::builtin("TypeError", format!("{method}() {text}"));
    if args.len() > N {
        return Err(wrong(format!("takes {N} arguments but {} were given", args.len())));
    }
    let mut values = [const { None }; N];
    for (value, arg) in values.iter_mut().zip(args) {
        *value = Some(arg);
    }
    for (name, arg) in kwargs {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(wrong(format!("got an unexpected keyword argument {name:?}")));
        };
        if values[place].replace(arg).is_some() {
            return Err(wrong(format!("got multiple values for argument {name:?}")));
        }
    }
    if let Some(missing) = values.iter().take(required).position(Option::is_none) {
        return Err(wrong(format!("misses the argument {:?}", names[missing])));
    }
    Ok(values.map(|value| value.unwrap_or(PyValue::None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::object::Parameter;
    use serde_json::json;

    fn method(params: &[(&str, bool)]) -> Method {
        let parameter = |(name, is_binary): &(&str, bool)| Parameter {
            name: (*name).to_owned(),
            required: true,
            schema: (!is_binary).then(|| json!({})),
        };
        Method { name: "m".to_owned(), params: params.iter().map(parameter).collect(), ..Method::default() }
    }

    fn message(result: Result<Parameters, Raised>) -> String {
        result.expect_err("wrong").message
    }

    #[test]
    fn arguments_are_ordered_by_the_description() {
        let add = method(&[("a", false), ("b", false)]);
        let int = PyValue::Int;
        let named = |name: &str, value| (name.to_owned(), int(value));
        for (args, kwargs, expected) in [
            (vec![], vec![], Parameters::None),
            (vec![int(1), int(2)], vec![], Parameters::Json(json!([1, 2]))),
            (vec![], vec![named("b", 2), named("a", 1)], Parameters::Json(json!({"a": 1, "b": 2}))),
            (vec![int(1)], vec![named("b", 2)], Parameters::Json(json!({"a": 1, "b": 2}))),
            // The object says what is wrong with these.
            (vec![int(1), int(2), int(3)], vec![], Parameters::Json(json!([1, 2, 3]))),
            (vec![], vec![named("c", 3)], Parameters::Json(json!({"c": 3}))),
        ] {
            assert_eq!(parameters(&add, (args, kwargs)), Ok(expected));
        }
        assert!(message(parameters(&add, (vec![int(1)], vec![named("a", 2)]))).contains("multiple values"));
        let three = vec![int(1), int(2), int(3)];
        assert!(message(parameters(&add, (three, vec![named("b", 2)]))).contains("positional"));
        assert!(message(parameters(&add, (vec![PyValue::Float(f64::NAN)], vec![]))).contains("nan"));
    }

    #[test]
    fn bytes_are_a_binary_parameter_and_nothing_else_is() {
        let bytes = method(&[("data", true)]);
        for value in [PyValue::Bytes(b"xy".to_vec()), PyValue::encoded_bytes(b"xy")] {
            let expected = Ok(Parameters::Binary(Bytes::from_static(b"xy")));
            assert_eq!(parameters(&bytes, (vec![value.clone()], vec![])), expected);
            assert_eq!(parameters(&bytes, (vec![], vec![("data".to_owned(), value)])), expected);
        }
        assert!(message(parameters(&bytes, (vec![PyValue::text("xy")], vec![]))).contains("bytes"));
        assert!(message(parameters(&bytes, (vec![], vec![]))).contains("one argument"));
    }

    #[test]
    fn arguments_of_own_methods_are_bound_as_python_does() {
        let bound = |args, kwargs| bind("f", ["name", "safe"], 1, (args, kwargs));
        let name = || PyValue::text("x");
        let safe = || vec![("safe".to_owned(), PyValue::Bool(true))];
        assert_eq!(bound(vec![name()], vec![]), Ok([name(), PyValue::None]));
        assert_eq!(bound(vec![name()], safe()), Ok([name(), PyValue::Bool(true)]));
        assert!(bound(vec![], safe()).expect_err("no name").message.contains("\"name\""));
        assert!(bound(vec![name(), name(), name()], vec![]).is_err());
        assert!(bound(vec![name(), name()], safe()).is_err());
        assert!(bound(vec![name()], vec![("else".to_owned(), name())]).is_err());
    }
}
