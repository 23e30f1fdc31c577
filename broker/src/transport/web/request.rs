//! HTTP upgrade request of a WebSocket, and its answer.

use std::borrow::Cow;

use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use crate::config::{Origins, WebSettings};

/// Supported subprotocols (MQTT 5, 6; the second one is that of MQTT 3.1).
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Refusal of an upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpRefusal {
    /// Status line after the version, with further headers.
    status: &'static str,
    /// Text for the client.
    text: Cow<'static, str>,
    /// Text for the log, without text sent by the client.
    pub(crate) logged: &'static str,
}

impl HttpRefusal {
    pub(crate) const TOO_LARGE: Self = Self {
        status: "431 Request Header Fields Too Large",
        text: Cow::Borrowed("The request is too large; send fewer headers, or shorter cookies."),
        logged: "a request with too many headers",
    };

    fn new(status: &'static str, logged: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), logged }
    }

    /// Encodes the response.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { status, text, .. } = self;
        let length = text.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}\n"
        )
        .into_bytes()
    }
}

/// Returns the response to a complete request head that begins the WebSocket.
///
/// # Errors
///
/// The refusal of a request for something else, or from a page that is not admitted.
pub(crate) fn answer(head: &[u8], settings: &WebSettings) -> Result<Vec<u8>, HttpRefusal> {
    let not_http =
        || HttpRefusal::new("400 Bad Request", "not an HTTP request", "This is no HTTP/1.1 GET request.");
    let (length, request) = Request::try_parse(head).ok().flatten().ok_or_else(not_http)?;
    if length < head.len() {
        let text = "Wait for the answer to the request before sending frames.";
        return Err(HttpRefusal::new("400 Bad Request", "frames before the answer to its request", text));
    }
    let mut response = create_response(&request).map_err(|_| {
        let text = format!(
            "This port speaks MQTT over WebSocket, and no pages: connect an MQTT client to ws://HOST:PORT{}.",
            settings.path
        );
        let status = "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        HttpRefusal::new(status, "an HTTP request for no WebSocket", text)
    })?;
    if request.uri().path() != settings.path {
        let text = format!("There is nothing here; the path of MQTT is {}.", settings.path);
        return Err(HttpRefusal::new("404 Not Found", "a WebSocket path that is not the listener's", text));
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    for origin in request.headers().get_all(ORIGIN) {
        if !is_let_in(origin, host, &settings.origins) {
            let text = "Pages of this origin are not let in; add it to `origins` of the listener.";
            return Err(HttpRefusal::new("403 Forbidden", "an origin that is not let in", text));
        }
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut offered = offered.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    let Some(spoken) = offered.find_map(|name| SUBPROTOCOLS.into_iter().find(|known| *known == name.trim()))
    else {
        let text = "No subprotocol that is spoken here; offer `mqtt` (MQTT 3.1.1 and 5) or `mqttv3.1`.";
        return Err(HttpRefusal::new("400 Bad Request", "a WebSocket without the subprotocol mqtt", text));
    };
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(spoken));
    let mut encoded = Vec::new();
    write_response(&mut encoded, &response).map_err(|_| not_http())?;
    Ok(encoded)
}

/// Returns whether a page of this origin may connect to a listener that it has reached as `host`.
fn is_let_in(origin: &HeaderValue, host: Option<&str>, origins: &Origins) -> bool {
    let Ok(origin) = origin.to_str() else { return *origins == Origins::Any };
    match origins {
        Origins::Any => true,
        Origins::Of(origins) => origins.iter().any(|known| known.eq_ignore_ascii_case(origin)),
        Origins::SameHost => {
            let of_origin = origin.split_once("://").map(|(_, authority)| without_port(authority));
            of_origin.zip(host.map(without_port)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        }
    }
}

/// Returns a host without its port; IPv6 addresses are in brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: Lab.example:8083\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn status(request: &str, origins: &Origins) -> String {
        let settings = WebSettings { origins: origins.clone(), ..WebSettings::default() };
        let answer = answer(request.as_bytes(), &settings).unwrap_or_else(|refusal| refusal.encode());
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.contains("\r\n\r\n"), "{answer}");
        answer[9..12].to_owned()
    }

    #[test]
    fn a_valid_request_is_answered_as_the_standards_require() {
        let answer = answer(GOOD.as_bytes(), &WebSettings::default()).expect("let in");
        let answer = String::from_utf8(answer).expect("text").to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
        assert!(answer.contains("sec-websocket-protocol: mqtt\r\n"), "MQTT-6.0.0-4: {answer}");
    }

    #[test]
    fn each_other_request_is_refused_with_its_status() {
        let same = Origins::SameHost;
        for (from, to, expected) in [
            ("GET", "POST", "400"),
            ("/mqtt", "/mqtt?token=1", "101"),
            ("/mqtt", "/", "404"),
            ("/mqtt", "/mqtt/", "404"),
            ("Upgrade: websocket\r\n", "", "426"),
            ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 8\r\n", "426"),
            ("Sec-WebSocket-Key", "Key", "426"),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", "400"),
            (": mqtt\r", ": mqtt5, wamp\r", "400"),
            (": mqtt\r", ": wamp, mqttv3.1\r", "101"),
            (": mqtt\r", ": wamp\r\nSec-WebSocket-Protocol: mqtt\r", "101"),
            ("\r\n\r\n", "\r\n\r\n\u{1}", "400"),
        ] {
            assert_eq!(status(&GOOD.replacen(from, to, 1), &same), expected, "{to}");
        }
        assert_eq!(status("no HTTP\r\n\r\n", &same), "400");
    }

    #[test]
    fn pages_are_admitted_by_their_origin() {
        let of = |origin: &str, origins: &Origins| {
            status(&GOOD.replacen("Host:", &format!("Origin: {origin}\r\nHost:"), 1), origins)
        };
        let listed = Origins::Of(vec!["https://lab.example:444".to_owned()]);
        for (origin, same_host, in_list) in [
            ("http://lab.example", "101", "403"),
            ("https://lab.example:444", "101", "101"),
            ("https://LAB.example:444", "101", "101"),
            ("https://lab.example.org:444", "403", "403"),
            ("https://evil-lab.example", "403", "403"),
            ("null", "403", "403"),
            ("http://lab.example\u{e9}", "403", "403"),
        ] {
            assert_eq!(of(origin, &Origins::SameHost), same_host, "{origin}");
            assert_eq!(of(origin, &listed), in_list, "{origin}");
            assert_eq!(of(origin, &Origins::Any), "101", "{origin}");
        }
        let two = "http://lab.example\r\nOrigin: http://evil.example";
        assert_eq!(of(two, &Origins::SameHost), "403", "each of several");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
