//! Configured paths, such as `GET /add?a=2&b=3`; POST if the method may change something.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method as Verb, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json::portable;
use rantai_client::{Content, object::Method};
use serde_json::{Map, Value, json};

use super::guard::Caller;
use super::rest::{self, Gateway, query};
use super::settings::Route;
use super::{arguments, status};

/// Builds the handler of a route.
pub(super) fn route(route: Route) -> MethodRouter<Arc<Gateway>> {
    let route = Arc::new(route);
    // HEAD would be a call whose result nobody gets.
    let handler = move |verb: Verb,
                        State(gateway): State<Arc<Gateway>>,
                        Extension(caller): Extension<Caller>,
                        headers: HeaderMap,
                        RawQuery(raw): RawQuery| async move {
        match called(&gateway, &caller, &route, &verb, &headers, raw.as_deref()).await {
            Ok(response) => response,
            Err(fault) => {
                let (status, text) = error_response(&route, &fault);
                (status, Json(json!({ "error": text }))).into_response()
            }
        }
    };
    let refuse = || rest::wrong_verb_for("GET, POST");
    get(handler.clone()).head(refuse).post(handler).fallback(refuse)
}

async fn called(
    gateway: &Gateway,
    caller: &Caller,
    route: &Route,
    verb: &Verb,
    headers: &HeaderMap,
    raw: Option<&str>,
) -> Result<Response, Fault> {
    let description = gateway.catalog.of(&route.object).await.map_err(status::fault)?;
    let method = description.method(&route.method);
    if *verb == Verb::GET && method.is_some_and(|method| !method.read_only) {
        return Ok(rest::not_by_get(&route.object, &route.method));
    }
    let params = params(route, method, &query(raw))?;
    let _place = gateway.waiting.begin(&route.object, caller)?;
    let proxy = caller.object(&gateway.client, &route.object).deadline(gateway.patience(headers));
    let answered = proxy.request(&route.method).params(params).send().await.map_err(status::fault)?;
    let value = match answered.outcome.map_err(|fault| *fault)? {
        Content::Value(value) => portable(value),
        Content::Binary(_) => return Err(Fault::failed("binary", "the result is binary")),
    };
    let value = match &route.result {
        Some(name) => Value::Object(Map::from_iter([(name.clone(), value)])),
        None => value,
    };
    Ok(Json(value).into_response())
}

/// Returns the parameters by position, up to the first that is missing; the object reports missing ones. If a name occurs
/// twice, the first value counts.
fn params(route: &Route, method: Option<&Method>, query: &[(String, String)]) -> Result<Vec<Value>, Fault> {
    let given = |(index, name): (usize, &String)| {
        let (_, text) = query.iter().find(|(given, _)| given == name)?;
        Some(arguments::value(method.and_then(|method| method.params.get(index)), text))
    };
    route.params.iter().enumerate().map_while(given).collect()
}

fn error_response(route: &Route, fault: &Fault) -> (StatusCode, String) {
    let kind = fault.data.get("kind").and_then(Value::as_str);
    let fits = |error: &&super::settings::RouteError| {
        error.code.is_none_or(|code| code == fault.code.0)
            && error.kind.as_deref().is_none_or(|name| Some(name) == kind)
    };
    let own = route
        .errors
        .iter()
        .find(fits)
        .and_then(|error| Some((StatusCode::from_u16(error.status).ok()?, error.error.clone())));
    own.unwrap_or_else(|| (status::of_code(fault.code), fault.message.clone()))
}
