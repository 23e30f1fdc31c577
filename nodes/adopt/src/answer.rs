//! Answers of a device: JSON-RPC responses that nobody trusts.

use std::borrow::Cow;

use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json;
use serde::Deserialize;
use serde_json::{Value, json};

/// Kind of the error that replaces one whose code a device has no right to.
const WRONG_CODE: &str = "device_error";

/// The `id` of a response; everything else is only checked to be JSON.
#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Returns the `id` of a response without building the rest of it; `None` for what is no JSON object with an `id` that is a text.
pub(crate) fn id(payload: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<Addressed<'_>>(payload).ok().map(|answer| answer.id)
}

/// Returns what a response says. One that breaks the contract becomes -32603.
pub(crate) fn outcome(payload: &[u8]) -> Result<Value, Fault> {
    let broken = |text: &str| Fault::new(Code::BROKEN_OBJECT, text);
    let mut members = match json::read(payload) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(broken("the answer of the device is no JSON object")),
        Err(error) => return Err(broken(&format!("the answer of the device cannot be read: {error}"))),
    };
    match (members.remove("error").filter(|error| !error.is_null()), members.remove("result")) {
        (None, Some(result)) => Ok(result),
        (None, None) => Err(broken("the answer of the device has neither result nor error")),
        (Some(error), _) => match serde_json::from_value::<Fault>(error) {
            Ok(fault) => Err(permitted(fault)),
            Err(_) => Err(broken("the error that the device answered with cannot be read")),
        },
    }
}

/// Replaces codes by which callers, brokers and nodes tell what became of a request: a device knows nothing of that.
fn permitted(mut fault: Fault) -> Fault {
    match fault.code {
        Code::EXPIRED
        | Code::TIMED_OUT
        | Code::UNKNOWN_OBJECT
        | Code::LOST_OBJECT
        | Code::CANCELLED
        | Code::TRAIL_LIMIT
        | Code::DEAD_HOP
        | Code::NAME_TAKEN
        | Code::IDENTITY_REUSED
        | Code::MISMATCH => {
            let text = format!(
                "{} (the device answered with the code {}, which it may not use)",
                fault.message, fault.code
            );
            Fault::failed(WRONG_CODE, text)
        }
        code => {
            if !fault.data.get("retryable").is_some_and(Value::is_boolean) {
                fault = fault.with("retryable", code.is_retryable());
            }
            // 0 would make callers repeat the request at once.
            if code == Code::BUSY
                && fault.data.get("retry_after_ms").and_then(Value::as_u64).is_none_or(|ms| ms == 0)
            {
                fault = fault.with("retry_after_ms", json!(500));
            }
            fault
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_whatever_is_around_it() {
        let huge = format!("{{\"result\":\"{}\",\"id\":\"a-\\u0031\"}}", "x".repeat(100_000));
        assert_eq!(id(huge.as_bytes()).as_deref(), Some("a-1"));
        for none in [
            "",
            "{}",
            "[]",
            "{\"id\":1}",
            "{\"id\":null}",
            "{\"id\":\"a\",\"id\":\"b\"}",
            "{\"id\":\"a\"",
            "\u{0}",
        ] {
            assert_eq!(id(none.as_bytes()), None, "{none:?}");
        }
        let deep = format!("{{\"result\":{}1{},\"id\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(id(deep.as_bytes()).as_deref(), Some("a"));
        assert_eq!(outcome(deep.as_bytes()).expect_err("too deep").code, Code::BROKEN_OBJECT);
    }

    #[test]
    fn a_result_is_a_result_and_everything_else_is_an_error() {
        let read = |text: &str| outcome(text.as_bytes());
        assert_eq!(read(r#"{"result":null,"id":"a"}"#), Ok(json!(null)));
        assert_eq!(read(r#"{"result":5,"error":null,"jsonrpc":"2.0"}"#), Ok(json!(5)));
        let code = |text: &str| read(text).expect_err("an error").code;
        assert_eq!(code(r#"{"id":"a"}"#), Code::BROKEN_OBJECT);
        assert_eq!(code(r#"{"result":1e999,"id":"a"}"#), Code::BROKEN_OBJECT);
        assert_eq!(code(r#"{"result":{"a":1,"a":2},"id":"a"}"#), Code::BROKEN_OBJECT);
        assert_eq!(code(r#"{"error":"worn out","id":"a"}"#), Code::BROKEN_OBJECT);
        assert_eq!(code(r#"{"error":{"code":1e9},"result":5}"#), Code::BROKEN_OBJECT);
    }

    #[test]
    fn a_device_speaks_for_itself_and_not_for_the_bus() {
        let fault = |code: i32, data: &str| {
            let text = format!("{{\"error\":{{\"code\":{code},\"message\":\"m\",\"data\":{data}}}}}");
            outcome(text.as_bytes()).expect_err("an error")
        };
        let own = fault(-32000, r#"{"kind":"worn_out"}"#);
        assert_eq!(
            (own.code, &own.data["kind"], own.is_retryable()),
            (Code::FAILED, &json!("worn_out"), false)
        );
        for code in [-32602, -32601, -32700, 7, -32099] {
            assert_eq!(fault(code, "{}").code.0, code);
        }
        for code in [-32001, -32002, -32003, -32004, -32008, -32009, -32010, -32013, -32014, -32015] {
            let replaced = fault(code, r#"{"form":"json-rpc","starting":true}"#);
            assert_eq!((replaced.code, &replaced.data["kind"]), (Code::FAILED, &json!(WRONG_CODE)));
            assert!(replaced.message.starts_with('m') && !replaced.data.contains_key("form"), "{replaced}");
        }
        assert_eq!(fault(-32005, r#"{"retry_after_ms":0}"#).data["retry_after_ms"], 500);
        assert_eq!(fault(-32005, r#"{"retry_after_ms":20}"#).data["retry_after_ms"], 20);
    }
}
