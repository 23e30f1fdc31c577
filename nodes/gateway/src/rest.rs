//! REST: methods of objects as paths.
//!
//! | Path | Content |
//! |---|---|
//! | `GET /objects` | all objects with their methods |
//! | `GET /objects/{object}` | description of an object, as `OpenRPC` |
//! | `GET /objects/{object}/{method}?a=…` | call of a method that changes nothing |
//! | `POST /objects/{object}/{method}` | call of any method |
//! | `GET /events/{object}?event=…` | events of an object |
//! | `GET /openapi.json`, `GET /` | `OpenAPI` document, and a page to try it |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Json, Router};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use rantai_client::Client;
use rantai_client::object::Method;
use rantai_client::shares::{HeldPlace, ShareLimits, ShareLog, Shares};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use super::answer::answer;
use super::catalog::Catalog;
use super::guard::{AdmissionError, Caller, Counts, Guard};
use super::items::ItemFormat;
use super::location::Location;
use super::pages::Pages;
use super::settings::{BUILT_IN, Limits, Rest, Route};
use super::waiting::WaitingCalls;
use super::{arguments, events, mapping, openapi, status, ui};

/// State shared by all requests.
pub(super) struct Gateway {
    pub(super) client: Client,
    pub(super) catalog: Arc<Catalog>,
    pub(super) guard: Arc<Guard>,
    pub(super) limits: Limits,
    /// Places of event streams, shared among users, or among addresses if there are no users.
    pub(super) streams: Arc<Shares<Caller>>,
    pub(super) share_log: ShareLog,
    pub(super) waiting: Arc<WaitingCalls>,
    /// Becomes true when the gateway ends.
    pub(super) stop: watch::Receiver<bool>,
    pages: Pages,
    secured: bool,
    routes: Vec<Route>,
    location: Location,
    admins: Vec<String>,
    pub(super) events: Option<Vec<String>>,
    document: Mutex<Option<(u64, Value)>>,
}

/// Creates the router of all paths.
pub(super) fn router(
    settings: &Rest,
    client: Client,
    catalog: Arc<Catalog>,
    guard: Arc<Guard>,
    waiting: Arc<WaitingCalls>,
    location: Location,
    stop: watch::Receiver<bool>,
) -> Router {
    let is_open = guard.is_open();
    let gateway = Arc::new(Gateway {
        client,
        catalog,
        guard,
        limits: settings.limits,
        streams: Shares::new(ShareLimits {
            limit: settings.limits.streams as u64,
            per_caller: settings.limits.streams_per_caller,
        }),
        share_log: ShareLog::default(),
        waiting,
        stop,
        pages: Pages::new(&settings.origins, is_open, &location),
        secured: !is_open,
        routes: settings.routes.clone(),
        location,
        admins: settings.admins.clone(),
        events: settings.events.clone(),
        document: Mutex::default(),
    });
    let mut router = Router::new()
        .route("/objects", get(list))
        .route("/objects/{object}", get(describe))
        .route("/objects/{object}/{method}", any(call))
        .route("/events/{object}", get(events::follow))
        .route("/openapi.json", get(document))
        .route("/stats", get(stats));
    for route in &settings.routes {
        router = router.route(&route.path, mapping::route(route.clone()));
    }
    let router = router
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_verb)
        .layer(middleware::from_fn_with_state(gateway.clone(), admit))
        .with_state(gateway)
        // The page and its scripts reveal nothing about objects, and need no login.
        .merge(ui::router());
    if settings.origins.is_empty() {
        return router;
    }
    let origins = settings.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Verb::GET, Verb::POST])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            HeaderName::from_static("prefer"),
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("rantai-node"),
            HeaderName::from_static("rantai-repeated"),
        ]);
    router.layer(cors)
}

/// Authenticates the caller, and checks whether the page that sent the request may call.
async fn admit(
    State(gateway): State<Arc<Gateway>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match gateway.guard.admit(peer.ip(), request.headers(), Instant::now()).await {
        Ok(caller) => caller,
        Err(refused) => return turn_away(&refused),
    };
    if let Err(fault) = gateway.pages.check(request.headers(), &gateway.guard) {
        return status::answer(&fault);
    }
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        Counts::one(&gateway.guard.counts.failed);
    }
    response
}

/// Creates the response to a request that was refused because of its caller.
pub(super) fn turn_away(refused: &AdmissionError) -> Response {
    match refused {
        AdmissionError::Unknown => {
            let fault = Fault::new(Code::DENIED, "a user's password (Basic) or key (Bearer) is needed");
            let mut response = status::with(StatusCode::UNAUTHORIZED, &fault);
            let ways = HeaderValue::from_static("Basic realm=\"rantai\", Bearer realm=\"rantai\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ways);
            response
        }
        AdmissionError::TooOften(wait) => {
            let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            status::answer(&Fault { message: "too many requests".to_owned(), ..Fault::busy(wait) })
        }
    }
}

impl Gateway {
    /// Checks whether an object may be called at all.
    pub(super) fn allowed(&self, object: &str) -> Result<(), Fault> {
        if self.catalog.allows(object) {
            return Ok(());
        }
        Err(Fault::new(Code::UNKNOWN_OBJECT, format!("no object {object:?} here")))
    }

    /// Returns the `OpenAPI` document of all objects; cached until an object changes.
    async fn document(&self) -> Value {
        let version = self.catalog.version();
        if let Some((of, document)) = &*self.document.lock()
            && *of == version
        {
            return document.clone();
        }
        let may_follow = |object: &str| self.may_follow(object).is_ok();
        let objects = self.catalog.all().await;
        let document = openapi::document(&objects, &self.routes, self.secured, may_follow);
        *self.document.lock() = Some((version, document.clone()));
        document
    }

    /// Returns the time limit of a call: that of the request, up to the configured one.
    pub(super) fn patience(&self, headers: &HeaderMap) -> Duration {
        let prefers = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let mut wishes = prefers.flat_map(|value| value.split([',', ';']));
        let wait = wishes.find_map(|wish| wish.trim().strip_prefix("wait=")?.trim().parse::<u64>().ok());
        let most = self.limits.call();
        wait.map_or(most, |seconds| Duration::from_secs(seconds).min(most))
    }

    /// Reads the whole body within its time limit.
    pub(super) async fn body(&self, body: Body) -> Result<bytes::Bytes, Response> {
        read(body, &self.limits, &self.guard.counts).await
    }
}

/// Reads the whole body within its size and time limits.
pub(super) async fn read(body: Body, limits: &Limits, counts: &Counts) -> Result<bytes::Bytes, Response> {
    let most = limits.body_bytes;
    if body.size_hint().lower() > most as u64 {
        Counts::one(&counts.too_large);
        return Err(last(status::answer(&Fault::too_large(most))));
    }
    match timeout(limits.body(), Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Counts::one(&counts.too_large);
            Err(last(status::answer(&Fault::too_large(most))))
        }
        Ok(Err(error)) => {
            let fault = Fault::new(Code::NOT_A_REQUEST, format!("the body did not arrive: {error}"));
            Err(last(status::answer(&fault)))
        }
        Err(_) => {
            Counts::one(&counts.too_slow);
            let text = format!("the body did not arrive within {} ms", limits.body_ms);
            let fault = Fault::new(Code::TIMED_OUT, text);
            Err(last(status::with(StatusCode::REQUEST_TIMEOUT, &fault)))
        }
    }
}

/// Closes the connection after the response, as the request's body was not read to its end.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Splits a query `name=value&…`.
pub(super) fn query(raw: Option<&str>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

async fn call(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    Path((object, method)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
    request: Request,
) -> Response {
    let response = match *request.method() {
        Verb::GET => gateway.get(&caller, &object, &method, raw.as_deref(), request.headers()).await,
        Verb::POST => gateway.post(&caller, &object, &method, raw.as_deref(), request).await,
        _ => return wrong_verb_for("GET, POST").await,
    };
    response.unwrap_or_else(|refused| refused)
}

impl Gateway {
    async fn get(
        &self,
        caller: &Caller,
        object: &str,
        method: &str,
        raw: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Response, Response> {
        let refuse = |fault: Fault| status::answer(&fault);
        self.allowed(object).map_err(refuse)?;
        let known = if BUILT_IN.contains(&method) {
            None
        } else {
            let description = self.catalog.of(object).await.map_err(|error| refuse(status::fault(error)))?;
            let known = described(&description.methods, method).map_err(refuse)?;
            if !known.read_only {
                return Err(not_by_get(object, method));
            }
            Some(known)
        };
        let params = arguments::named(known.as_ref(), &query(raw)).map_err(refuse)?;
        let params = (!params.is_empty()).then_some(Value::Object(params));
        let place = self.waiting.begin(object, caller).map_err(refuse)?;
        let proxy = caller.object(&self.client, object).deadline(self.patience(headers)).idempotent();
        self.respond(caller, proxy.request(method).params(params), headers, place).await
    }

    async fn post(
        &self,
        caller: &Caller,
        object: &str,
        method: &str,
        raw: Option<&str>,
        request: Request,
    ) -> Result<Response, Response> {
        let refuse = |fault: Fault| status::answer(&fault);
        self.allowed(object).map_err(refuse)?;
        if method.starts_with("rpc.") && !BUILT_IN.contains(&method) {
            let text = format!("{method} is not for callers from outside");
            return Err(refuse(Fault::new(Code::DENIED, text)));
        }
        if raw.is_some_and(|raw| !raw.is_empty()) {
            let text = "parameters of a POST stand in its body";
            return Err(refuse(Fault::new(Code::NOT_A_REQUEST, text)));
        }
        let headers = request.headers().clone();
        let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?").to_owned());
        let kind = kind.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let is = |name: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(name));
        let binary = is("application/octet-stream");
        let payload = self.body(request.into_body()).await?;
        if !binary && !is("application/json") && (kind.is_some() || !payload.is_empty()) {
            let text = "a body is application/json, or application/octet-stream for one binary parameter";
            let fault = Fault::new(Code::NOT_A_REQUEST, text);
            return Err(status::with(StatusCode::UNSUPPORTED_MEDIA_TYPE, &fault));
        }
        let payload = if binary || payload.is_empty() {
            payload
        } else {
            // Checked here, as the object would treat invalid JSON as a string.
            json::read(&payload).map_err(|error| refuse(Fault::from(&error)))?;
            json::quote_large_integers(&payload).map_or(payload, bytes::Bytes::from)
        };
        let (patience, began) = (self.patience(&headers), Instant::now());
        let mut proxy = caller.object(&self.client, object);
        let key = headers.get("idempotency-key");
        let identity = key.map(|key| identity(caller, object, method, key.as_bytes()));
        if let Some(identity) = identity
            && let Ok(Some(node)) = timeout(patience, self.catalog.replica(object, identity)).await
        {
            proxy = proxy.at(node);
        }
        let mut request = proxy.deadline(patience.saturating_sub(began.elapsed())).request(method);
        if let Some(identity) = identity {
            request = request.identity(identity);
        }
        let place = self.waiting.begin(object, caller).map_err(refuse)?;
        let request = if binary { request.binary(payload) } else { request.payload(payload) };
        self.respond(caller, request, &headers, place).await
    }

    /// Calls the method, and responds in the format that the request accepts. `place` is the place of the call.
    async fn respond(
        &self,
        caller: &Caller,
        request: rantai_client::Request,
        headers: &HeaderMap,
        place: HeldPlace<Caller>,
    ) -> Result<Response, Response> {
        if let Some(format) = ItemFormat::asked_for(headers) {
            return self.respond_in_items(caller, request, format, place).await;
        }
        let answered = request.send().await.map_err(|error| status::answer(&status::fault(error)))?;
        Ok(answer(answered))
    }
}

/// Derives the identity of a call from its idempotency key; the same key of another caller gives another identity.
fn identity(caller: &Caller, object: &str, method: &str, key: &[u8]) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for part in [format!("{caller:?}").as_bytes(), object.as_bytes(), method.as_bytes(), key] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::from_bytes(bytes)
}

/// Creates the response to GET of a method that may change something: links and prefetching must not call it.
pub(super) fn not_by_get(object: &str, method: &str) -> Response {
    let text = format!("{object}.{method} may change something: POST calls it");
    let mut response = status::with(StatusCode::METHOD_NOT_ALLOWED, &Fault::new(Code::NOT_A_REQUEST, text));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

fn described(methods: &[Method], name: &str) -> Result<Method, Fault> {
    let known: Vec<&str> = methods.iter().map(|method| &*method.name).collect();
    let found = methods.iter().find(|method| method.name == name);
    found.cloned().ok_or_else(|| rantai_client::object::no_such_method(name, &known))
}

async fn list(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let objects = gateway.catalog.all().await;
    let listed = objects.iter().map(|(name, description)| {
        let methods: Vec<&str> = description.methods.iter().map(|method| &*method.name).collect();
        let events: Vec<&str> = description.events.iter().map(|event| &*event.name).collect();
        json!({
            "name": name, "summary": description.summary, "version": description.version,
            "tags": description.tags, "methods": methods, "events": events,
        })
    });
    Json(listed.collect())
}

async fn describe(State(gateway): State<Arc<Gateway>>, Path(object): Path<String>) -> Response {
    if let Err(fault) = gateway.allowed(&object) {
        return status::answer(&fault);
    }
    match gateway.catalog.of(&object).await {
        Ok(description) => Json(description.open_rpc(&object)).into_response(),
        Err(error) => status::answer(&status::fault(error)),
    }
}

async fn document(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Json<Value> {
    let mut document = gateway.document().await;
    document["servers"] = json!([{"url": gateway.location.base(&headers)}]);
    Json(document)
}

async fn stats(State(gateway): State<Arc<Gateway>>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let counts = &gateway.guard.counts;
    let read = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    let mut shares = vec![gateway.streams.report("streams", &gateway.share_log)];
    shares.extend(gateway.waiting.reports());
    let user = caller.user().map(rantai_client::wire::user::User::as_str);
    if !user.is_some_and(|user| gateway.admins.iter().any(|admin| admin == user)) {
        shares = shares.into_iter().map(|report| report.hide_users_except(user)).collect();
    }
    Json(json!({
        "shares": shares,
        "requests": read(&counts.requests),
        "failed": read(&counts.failed),
        "connections": read(&counts.connections),
        "streams": read(&counts.streams),
        "refused": {
            "unknown_callers": read(&counts.unknown_callers),
            "too_often": read(&counts.too_often),
            "too_large": read(&counts.too_large),
            "too_slow": read(&counts.too_slow),
            "foreign_pages": read(&counts.foreign_pages),
            "turned_away": read(&counts.turned_away),
            "crowded_addresses": read(&counts.crowded_addresses),
            "handshakes": read(&counts.handshakes),
            "malformed": read(&counts.malformed),
        },
    }))
}

async fn nothing() -> Response {
    let text = "nothing is here; /objects lists what can be called, and / is a page to try it";
    status::with(StatusCode::NOT_FOUND, &Fault::new(Code::NO_SUCH_METHOD, text))
}

/// Creates the response to a method that is not one of `allowed`.
pub(super) async fn wrong_verb_for(allowed: &'static str) -> Response {
    let mut response = wrong_verb().await;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn wrong_verb() -> Response {
    let fault =
        Fault::new(Code::NOT_A_REQUEST, "this path does not take that method; Allow names those it takes");
    status::with(StatusCode::METHOD_NOT_ALLOWED, &fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_of_callers_are_separate() {
        let user = |name: &str| Caller::User(name.parse().expect("a name"));
        let ada = user("ada");
        let one = identity(&ada, "pages", "add", b"1");
        assert_eq!(one, identity(&ada, "pages", "add", b"1"));
        for other in [
            identity(&user("pi"), "pages", "add", b"1"),
            identity(&ada, "pagesa", "dd", b"1"),
            identity(&ada, "pages", "add", b"2"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn query_is_split_and_decoded() {
        let pairs = query(Some("a=2&b=x%20y&c=%C3%A9&d&=e"));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("a", "2"), ("b", "x y"), ("c", "é"), ("d", ""), ("", "e")]);
        assert!(query(None).is_empty());
    }
}
