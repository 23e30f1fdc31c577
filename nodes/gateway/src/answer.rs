//! HTTP responses from replies of objects.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rantai_client::Content;
use rantai_client::wire::json;

use super::status;

/// Creates the HTTP response for the reply of an object.
pub(super) fn answer(answered: rantai_client::Response) -> Response {
    let mut response = match answered.outcome {
        Ok(Content::Value(value)) => Json(json::portable(value)).into_response(),
        Ok(Content::Binary(bytes)) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
        }
        Err(fault) => status::answer(&fault),
    };
    let headers = response.headers_mut();
    if let Some(node) = answered.node.and_then(|node| HeaderValue::from_str(&node).ok()) {
        headers.insert("rantai-node", node);
    }
    if answered.repeated {
        headers.insert("rantai-repeated", HeaderValue::from_static("1"));
    }
    // Results are for the caller only, and may change.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
