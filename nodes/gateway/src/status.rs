//! HTTP statuses and responses of errors.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rantai_client::CallError;
use rantai_client::wire::fault::{Code, Fault};
use serde_json::json;

/// `Retry-After` for an object whose node is lost, in seconds.
const LOST_AGAIN_S: u64 = 5;

/// Returns the HTTP status for an error code.
pub(super) fn of_code(code: Code) -> StatusCode {
    match code {
        Code::NOT_JSON | Code::NOT_A_REQUEST => StatusCode::BAD_REQUEST,
        Code::NO_SUCH_METHOD | Code::UNKNOWN_OBJECT => StatusCode::NOT_FOUND,
        Code::LOST_OBJECT => StatusCode::SERVICE_UNAVAILABLE,
        Code::WRONG_PARAMETERS => StatusCode::UNPROCESSABLE_ENTITY,
        Code::EXPIRED | Code::TIMED_OUT => StatusCode::GATEWAY_TIMEOUT,
        Code::BUSY => StatusCode::TOO_MANY_REQUESTS,
        Code::DENIED => StatusCode::FORBIDDEN,
        Code::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        // The status of nginx for "client closed request"; the standard has none.
        Code::CANCELLED => StatusCode::from_u16(499).expect("three digits"),
        Code::TRAIL_LIMIT => StatusCode::LOOP_DETECTED,
        Code::DEAD_HOP => StatusCode::BAD_GATEWAY,
        Code::NAME_TAKEN | Code::IDENTITY_REUSED => StatusCode::CONFLICT,
        Code::MISMATCH => StatusCode::PRECONDITION_FAILED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Converts an error of a call to a fault; errors without a code get the nearest one.
pub(super) fn fault(error: CallError) -> Fault {
    match error {
        CallError::Fault(fault) => *fault,
        CallError::Name(_) => Fault::new(Code::UNKNOWN_OBJECT, error.to_string()),
        CallError::Parameters(_) => Fault::new(Code::NOT_A_REQUEST, error.to_string()),
        CallError::Unsent(_) => Fault::new(Code::LOST_OBJECT, error.to_string()),
        CallError::Lost => Fault::new(Code::LOST_OBJECT, error.to_string()).with_maybe_executed(),
        _ => Fault::new(Code::BROKEN_OBJECT, error.to_string()),
    }
}

/// Creates the response for a fault: `{"error": {…}}`.
pub(super) fn answer(fault: &Fault) -> Response {
    with(of_code(fault.code), fault)
}

/// Creates the response for a fault, with this status.
pub(super) fn with(status: StatusCode, fault: &Fault) -> Response {
    let mut response = (status, Json(json!({ "error": fault }))).into_response();
    if let Some(wait) = fault.data.get("retry_after_ms").and_then(serde_json::Value::as_u64) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000).max(1)));
    } else if status == StatusCode::SERVICE_UNAVAILABLE && !fault.maybe_executed() {
        // A lost node is often back soon. A retry is not suggested if the method may have been executed.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(LOST_AGAIN_S));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_contract() {
        for (codes, status) in [
            (&[-32700, -32600][..], 400),
            (&[-32601, -32003], 404),
            (&[-32004], 503),
            (&[-32602], 422),
            (&[-32603, -32000, -1], 500),
            (&[-32001, -32002], 504),
            (&[-32005], 429),
            (&[-32006], 403),
            (&[-32007], 413),
            (&[-32008], 499),
            (&[-32009], 508),
            (&[-32010], 502),
            (&[-32013, -32014], 409),
            (&[-32015], 412),
        ] {
            for code in codes {
                assert_eq!(of_code(Code(*code)).as_u16(), status, "{code}");
            }
        }
    }

    #[test]
    fn busy_response_has_retry_after() {
        let response = answer(&Fault::busy(1_200));
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let lost = answer(&Fault::new(Code::LOST_OBJECT, "its node is lost"));
        assert_eq!(lost.headers()[header::RETRY_AFTER], "5");
        let in_the_middle = Fault::new(Code::LOST_OBJECT, "its node was lost").with_maybe_executed();
        let unknown = answer(&in_the_middle);
        assert_eq!((unknown.status().as_u16(), unknown.headers().get(header::RETRY_AFTER)), (503, None));
    }
}
