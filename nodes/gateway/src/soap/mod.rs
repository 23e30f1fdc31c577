//! SOAP 1.1: methods of objects as operations, described by WSDL.
//!
//! Every object with methods of simple types is a service at `/{object}`, described at `/{object}?wsdl`; further services
//! are defined in the configuration.

pub mod client;
mod envelope;
pub(super) mod service;
mod wsdl;
mod xml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method as Verb, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{Client, Content};
use serde_json::Value;

pub use self::service::Simple;

use self::service::Service;
use super::catalog::Catalog;
use super::guard::{Caller, Counts, Guard};
use super::location::Location;
use super::pages::Pages;
use super::settings::{Limits, Soap};
use super::waiting::WaitingCalls;
use super::{rest, status};

struct SoapGateway {
    client: Client,
    catalog: Arc<Catalog>,
    guard: Arc<Guard>,
    pages: Pages,
    limits: Limits,
    waiting: Arc<WaitingCalls>,
    location: Location,
    /// Configured services, by path.
    configured: BTreeMap<String, Arc<Service>>,
}

/// Creates the router of all paths.
pub(super) fn router(
    settings: &Soap,
    client: Client,
    catalog: Arc<Catalog>,
    guard: Arc<Guard>,
    waiting: Arc<WaitingCalls>,
    location: Location,
) -> Router {
    let configured = settings.services.iter().filter_map(|service| {
        // Checked when the configuration was read.
        Some((service.path.clone(), Arc::new(Service::configured(service).ok()?)))
    });
    let configured = configured.collect();
    let pages = Pages::new(&settings.origins, guard.is_open(), &location);
    let limits = settings.limits;
    let gateway = SoapGateway { client, catalog, guard, pages, limits, waiting, location, configured };
    Router::new().fallback(answer).with_state(Arc::new(gateway))
}

async fn answer(
    State(gateway): State<Arc<SoapGateway>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    request: Request,
) -> Response {
    let caller = match gateway.guard.admit(peer.ip(), request.headers(), Instant::now()).await {
        Ok(caller) => caller,
        Err(refused) => return rest::turn_away(&refused),
    };
    let response = match gateway.pages.check(request.headers(), &gateway.guard) {
        Ok(()) => gateway.answer(&caller, request).await,
        Err(fault) => xml(status::of_code(fault.code), envelope::fault(&fault)),
    };
    if !response.status().is_success() {
        Counts::one(&gateway.guard.counts.failed);
    }
    response
}

impl SoapGateway {
    async fn answer(&self, caller: &Caller, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let service = match self.service(&path).await {
            Ok(service) => service,
            Err(fault) => return xml(status::of_code(fault.code), envelope::fault(&fault)),
        };
        let wanted = request.uri().query().unwrap_or_default();
        match *request.method() {
            Verb::GET | Verb::HEAD if is_wsdl(wanted) => {
                xml(StatusCode::OK, wsdl::document(&service, &self.location.url(request.headers(), &path)))
            }
            Verb::POST => self.call(caller, &service, request).await,
            _ => {
                let text = format!("GET {path}?wsdl describes this service, POST calls it\n");
                (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, POST")], text).into_response()
            }
        }
    }

    async fn service(&self, path: &str) -> Result<Arc<Service>, Fault> {
        if let Some(service) = self.configured.get(path) {
            return Ok(service.clone());
        }
        let object = path.trim_matches('/');
        if object.is_empty() || object.contains('/') || !self.catalog.allows(object) {
            return Err(Fault::new(
                Code::UNKNOWN_OBJECT,
                format!("no service at {path}; objects are at /NAME?wsdl"),
            ));
        }
        let description = self.catalog.of(object).await.map_err(status::fault)?;
        let service = Service::of(object, &description);
        if service.operations.is_empty() {
            let text = format!("{object} has no method of simple types alone");
            return Err(Fault::new(Code::NO_SUCH_METHOD, text));
        }
        Ok(Arc::new(service))
    }

    async fn call(&self, caller: &Caller, service: &Service, request: Request) -> Response {
        if !is_xml(request.headers()) {
            let wrong = envelope::Wrong::Client("a SOAP 1.1 call is text/xml in UTF-8".to_owned());
            return xml(StatusCode::UNSUPPORTED_MEDIA_TYPE, envelope::wrong(&wrong));
        }
        let body = match rest::read(request.into_body(), &self.limits, &self.guard.counts).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let read = std::str::from_utf8(&body)
            .map_err(|_| envelope::Wrong::Client("the body is no UTF-8".to_owned()))
            .and_then(|text| envelope::read(service, text));
        let (operation, mut params) = match read {
            Ok(read) => read,
            // SOAP 1.1, 6.2: faults have the status 500.
            Err(wrong) => return xml(StatusCode::INTERNAL_SERVER_ERROR, envelope::wrong(&wrong)),
        };
        let proxy = caller.object(&self.client, &operation.object).deadline(self.limits.call());
        let request = proxy.request(&operation.method);
        let described = self.configured.values().all(|known| !std::ptr::eq(&raw const **known, service));
        let request = if described {
            request.params((!params.is_empty()).then_some(Value::Object(params)))
        } else {
            // Parameters of a configured service are passed by position, as their names may differ from the method's.
            let values = operation.params.iter().filter_map(|param| params.remove(&param.name));
            request.params(values.collect::<Vec<_>>())
        };
        let outcome = match self.waiting.begin(&operation.object, caller) {
            Ok(_place) => match request.send().await {
                Ok(response) => response.outcome.map_err(|fault| *fault),
                Err(error) => Err(status::fault(error)),
            },
            Err(fault) => Err(fault),
        };
        let written = outcome.and_then(|content| match &content {
            Content::Value(value) => envelope::result(service, operation, value).ok_or_else(|| {
                let of = operation.result.map_or("nothing", Simple::name);
                Fault::failed("wrong_type", format!("the result is not of the type {of}: {value}"))
            }),
            Content::Binary(_) => Err(Fault::failed("wrong_type", "the result is binary")),
        });
        match written {
            Ok(envelope) => xml(StatusCode::OK, envelope),
            Err(fault) => xml(StatusCode::INTERNAL_SERVER_ERROR, envelope::fault(&fault)),
        }
    }
}

fn xml(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml; charset=utf-8")], body).into_response()
}

/// Checks whether a query requests the WSDL, in one of the forms that toolkits use. The WSDL refers to no other document.
fn is_wsdl(query: &str) -> bool {
    let name = query.strip_suffix('=').unwrap_or(query);
    name.eq_ignore_ascii_case("wsdl") || name.eq_ignore_ascii_case("singleWsdl")
}

fn is_xml(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let mut parts = kind.split(';').map(str::trim);
    let is_xml = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/xml"));
    let utf8 = |part: &str| {
        let charset = part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        charset.is_none_or(|(_, charset)| charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
    };
    is_xml && parts.all(utf8)
}
