//! Checks of request heads in addition to hyper's: the host and the form of the target (RFC 9112, 3.2), and unsupported
//! codings of the body.

use axum::http::request::Parts;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use rantai_client::wire::fault::{Code, Fault};

use super::status;

/// Error of parsing the head of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    status: StatusCode,
    text: &'static str,
    header: Option<(HeaderName, &'static str)>,
}

impl Malformed {
    fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, header: None }
    }

    /// Returns the response, which closes the connection: where the next request would begin is not certain.
    pub(super) fn answer(self) -> Response {
        let mut response = status::with(self.status, &Fault::new(Code::NOT_A_REQUEST, self.text));
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Checks a head. Sets `Host` to the host that the request is for, if its target contains that.
pub(super) fn check(head: &mut Parts) -> Result<(), Malformed> {
    let wrong = |text| Err(Malformed::new(StatusCode::BAD_REQUEST, text));
    if head.method == Method::CONNECT {
        let mut refused = Malformed::new(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is for proxies");
        refused.header = Some((header::ALLOW, "GET, POST"));
        return Err(refused);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version >= Version::HTTP_11 => {
            return wrong("there has to be a header Host");
        }
        (Some(_), Some(_)) => return wrong("there is more than one header Host"),
        (Some(host), None) if !host.to_str().is_ok_and(is_host) => {
            return wrong("the header Host is no host, as in example.org:5151");
        }
        _ => {}
    }
    if let Some(authority) = head.uri.authority() {
        if !head.uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
            return wrong("the target of a request is a path, or begins with http:// or https://");
        }
        let host = Some(authority.as_str()).filter(|host| is_host(host));
        let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) else {
            return wrong("the target of the request names no host, or a user");
        };
        // RFC 9112, 3.2.2: the header is ignored then.
        head.headers.insert(header::HOST, host);
    } else if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return wrong("the target * is for OPTIONS alone");
    }
    codings(head)
}

/// Checks that the body has no unsupported coding, and that there is no unsupported expectation.
fn codings(head: &Parts) -> Result<(), Malformed> {
    let values = |name: &HeaderName| -> Vec<String> {
        let values = head.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
        values.flat_map(|value| value.split(',')).map(|value| value.trim().to_ascii_lowercase()).collect()
    };
    let transfer = values(&header::TRANSFER_ENCODING);
    if !transfer.is_empty() && transfer != ["chunked"] {
        let text = "the only transfer coding here is chunked, once";
        return Err(Malformed::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    if values(&header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        let text = "a body is sent as it is, without Content-Encoding";
        let mut refused = Malformed::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        refused.header = Some((header::ACCEPT_ENCODING, "identity"));
        return Err(refused);
    }
    if values(&header::EXPECT).iter().any(|expected| expected != "100-continue") {
        let text = "the only expectation that is met here is 100-continue";
        return Err(Malformed::new(StatusCode::EXPECTATION_FAILED, text));
    }
    Ok(())
}

/// Checks whether a text is a host, with or without a port, and contains no user.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let port = text.strip_prefix(authority.host()).unwrap_or("@");
    // RFC 3986, 3.2.3: the port may be empty.
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    !authority.host().is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn checked(method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, Option<String>) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        let status = check(&mut head).map_or_else(|refused| refused.status.as_u16(), |()| 200);
        let host = head.headers.get(header::HOST).map(|host| host.to_str().expect("a text").to_owned());
        (status, host)
    }

    #[test]
    fn a_request_has_one_host() {
        for (headers, status) in [
            (&[("host", "localhost")][..], 200),
            (&[("host", "localhost:5151")], 200),
            (&[("host", "[::1]:5151")], 200),
            (&[("host", "192.168.1.9")], 200),
            (&[], 400),
            (&[("host", "a"), ("host", "b")], 400),
            (&[("host", "a"), ("host", "a")], 400),
            (&[("host", "")], 400),
            (&[("host", "a b")], 400),
            (&[("host", "a/b")], 400),
            (&[("host", "user@a")], 400),
            (&[("host", "a:b")], 400),
            (&[("host", "a:")], 200),
            (&[("host", "a:65535")], 200),
            (&[("host", "a:65536")], 400),
            (&[("host", "localhost:99999")], 400),
            (&[("host", "a:1:2")], 400),
        ] {
            assert_eq!(checked("GET", "/", headers).0, status, "{headers:?}");
        }
        let (mut head, ()) =
            Request::builder().version(Version::HTTP_10).body(()).expect("a request").into_parts();
        assert_eq!(check(&mut head), Ok(()), "HTTP/1.0 has no Host");
    }

    #[test]
    fn host_of_an_absolute_target_takes_precedence() {
        let host = [("host", "localhost")];
        for (method, target, status, expected) in [
            ("GET", "http://elsewhere.example/objects", 200, "elsewhere.example"),
            ("GET", "https://elsewhere.example:1/", 200, "elsewhere.example:1"),
            ("GET", "ftp://elsewhere.example/", 400, "localhost"),
            ("GET", "http://user@elsewhere.example/", 400, "localhost"),
            ("GET", "elsewhere.example:80", 400, "localhost"),
            ("GET", "*", 400, "localhost"),
            ("OPTIONS", "*", 200, "localhost"),
            ("CONNECT", "elsewhere.example:80", 405, "localhost"),
        ] {
            let checked = checked(method, target, &host);
            assert_eq!(checked, (status, Some(expected.to_owned())), "{method} {target}");
        }
        assert_eq!(checked("GET", "http://elsewhere.example/", &[]).0, 400, "there is a header all the same");
    }

    #[test]
    fn unsupported_codings_are_refused() {
        for (name, value, status) in [
            ("transfer-encoding", "chunked", 200),
            ("transfer-encoding", "Chunked", 200),
            ("transfer-encoding", "gzip, chunked", 501),
            ("transfer-encoding", "chunked, chunked", 501),
            ("content-encoding", "identity", 200),
            ("content-encoding", "gzip", 415),
            ("expect", "100-Continue", 200),
            ("expect", "a-miracle", 417),
        ] {
            assert_eq!(checked("POST", "/", &[("host", "a"), (name, value)]).0, status, "{name}: {value}");
        }
    }
}
