//! What the description of a device has to be.

use std::collections::HashSet;

use rantai_client::object::{Description, Method};
use rantai_client::wire::name::MethodName;
use rantai_client::wire::request::MAX_TTL_MS;

/// Error of a method that is private or built in.
pub(crate) const NOT_CALLED: &str = "cannot be called from outside or is a method of every object; choose a name that begins with neither _ nor rpc.";
/// Error of a binary parameter or result.
pub(crate) const BINARY: &str =
    "a device gets and gives JSON, nothing binary; write { type = \"string\" }, for instance of base64";
/// Maximum number of methods and of events, each.
const MOST: usize = 256;
/// Maximum number of parameters of a method.
const MOST_PARAMETERS: usize = 32;

/// Checks whether a device can be served by this description.
///
/// # Errors
///
/// It cannot; the text says which part is wrong, and what to do.
pub(crate) fn check(description: &Description) -> Result<(), String> {
    let Description { methods, events, .. } = description;
    for (what, count) in [("methods", methods.len()), ("events", events.len())] {
        if count > MOST {
            return Err(format!("{what}: expected {MOST} at most, got {count}"));
        }
    }
    let mut names = HashSet::new();
    for (index, method) in methods.iter().enumerate() {
        let path = format!("methods[{index}]");
        name(&path, &method.name, &mut names)?;
        check_method(&path, method)?;
    }
    let mut names = HashSet::new();
    for (index, event) in events.iter().enumerate() {
        name(&format!("events[{index}]"), &event.name, &mut names)?;
    }
    Ok(())
}

fn name<'a>(path: &str, name: &'a str, names: &mut HashSet<&'a str>) -> Result<(), String> {
    let known = MethodName::new(name).map_err(|error| format!("{path}.name: {error}"))?;
    if known.is_private() || known.is_built_in() {
        return Err(format!("{path}.name: {name:?} {NOT_CALLED}"));
    }
    if !names.insert(name) {
        return Err(format!("{path}.name: {name:?} stands there twice"));
    }
    Ok(())
}

fn check_method(path: &str, method: &Method) -> Result<(), String> {
    if method.stream {
        return Err(format!("{path}: a device answers in one part; remove `x-stream`"));
    }
    if method.result.is_none() {
        return Err(format!("{path}.result: {BINARY}"));
    }
    if method.time_limit_ms.is_some_and(|ms| !(1..=MAX_TTL_MS).contains(&ms)) {
        return Err(format!("{path}.x-time-limit-ms: expected an integer from 1 to {MAX_TTL_MS}"));
    }
    if method.params.len() > MOST_PARAMETERS {
        return Err(format!(
            "{path}.params: expected {MOST_PARAMETERS} at most, got {}",
            method.params.len()
        ));
    }
    let mut names = HashSet::new();
    let mut optional = None;
    for (index, param) in method.params.iter().enumerate() {
        let path = format!("{path}.params[{index}]");
        if param.name.is_empty() {
            return Err(format!("{path}.name: it is missing"));
        }
        if !names.insert(&*param.name) {
            return Err(format!("{path}.name: {:?} stands there twice", param.name));
        }
        if param.schema.is_none() {
            return Err(format!("{path}.schema: {BINARY}"));
        }
        if param.required {
            if let Some(before) = optional {
                return Err(format!(
                    "{path}: {:?} is required, and {before:?} before it is not; add `required` there, or put it behind",
                    param.name
                ));
            }
        } else {
            optional = Some(&param.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_device_cannot_do_is_refused_with_its_path() {
        let binary = json!({"type": "string", "format": "binary"});
        for (methods, told) in [
            (json!([{"name": "a"}, {"name": "a"}]), "methods[1].name: \"a\" stands there twice"),
            (json!([{}]), "methods[0].name: \"\" is no method name"),
            (json!([{"name": "rpc.a"}]), "methods[0].name: \"rpc.a\" cannot be called"),
            (json!([{"name": "a", "x-stream": true}]), "methods[0]: a device answers in one part"),
            (
                json!([{"name": "a", "result": {"schema": binary}}]),
                "methods[0].result: a device gets and gives JSON",
            ),
            (json!([{"name": "a", "x-time-limit-ms": 0}]), "methods[0].x-time-limit-ms: expected an integer"),
            (
                json!([{"name": "a", "params": [{"name": "p", "schema": binary}]}]),
                "methods[0].params[0].schema: a device",
            ),
            (json!([{"name": "a", "params": [{}]}]), "methods[0].params[0].name: it is missing"),
            (
                json!([{"name": "a", "params": [{"name": "p"}, {"name": "p"}]}]),
                "params[1].name: \"p\" stands there twice",
            ),
            (
                json!([{"name": "a", "params": [{"name": "p"}, {"name": "q", "required": true}]}]),
                "\"p\" before it is not",
            ),
            (
                json!((0..257).map(|n| json!({"name": format!("m{n}")})).collect::<Vec<_>>()),
                "methods: expected 256 at most",
            ),
        ] {
            let document = json!({"methods": methods});
            let error = check(&Description::from_open_rpc(&document)).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
        let events = json!({"methods": [], "x-events": [{"name": "e"}, {"name": "e"}]});
        assert!(check(&Description::from_open_rpc(&events)).expect_err("twice").contains("events[1].name"));
    }
}
