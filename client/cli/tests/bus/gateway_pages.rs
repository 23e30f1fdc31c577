//! Web pages that call a gateway: its own, listed ones, and others.

use std::io::BufReader;

use super::gateway::{JSON, ask, connect, gateway, receive, send};
use super::process::bus;

/// For a browser, a page whose host name resolves to this machine has the same origin as the gateway (DNS rebinding).
#[test]
fn page_of_a_foreign_name_that_resolves_here_is_refused() {
    let (bus, another) = (bus(), bus());
    let open = gateway(&bus, "origins = ['https://gateway.example']\n[rest.limits]\n");
    let asked = |address: &str, host: &str, target: &str| {
        let mut stream = connect(address);
        send(&mut stream, host, "GET", target, &[], b"");
        receive(&mut BufReader::new(stream)).status
    };
    let port = open.rest.rsplit(':').next().expect("a port");
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux").trim().to_owned();
    for (host, status) in [
        ("elsewhere.example", 403),
        ("127.0.0.1.elsewhere.example", 403),
        ("localhost.elsewhere.example", 403),
        ("elsewhere.example.", 403),
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]", 200),
        ("raspberry", 403),
        ("raspberry.local", 403),
        ("rest.localhost", 200),
        (&*own, 200),
        ("gateway.example", 200),
    ] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let rest = asked(&open.rest, &host, "/objects/calculator/add?a=1&b=2");
            assert_eq!(rest, status, "{host}");
            let soap = asked(&open.soap, &host, "/calculator?wsdl");
            assert_eq!(soap, if host.starts_with("gateway.example") { 403 } else { status }, "{host}");
        }
    }
    let asks = [
        "Origin: https://gateway.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type,idempotency-key,prefer",
    ];
    let allowed = ask(&open.rest, "OPTIONS", "/objects/calculator/add", &asks, b"");
    let names = allowed.header("access-control-allow-headers").expect("some");
    assert!(names.contains("idempotency-key") && names.contains("prefer"), "{allowed:?}");
    let shown = ask(&open.rest, "GET", "/objects/calculator/add?a=1&b=2", &asks[..1], b"");
    let names = shown.header("access-control-expose-headers").expect("some");
    assert!(names.contains("rantai-node") && names.contains("retry-after"), "{shown:?}");
    // If users have to log in, a foreign page cannot call on their behalf.
    let closed = gateway(&another, "users = [{ name = 'kiosk', key = 'k1' }]\n[rest.limits]\n");
    assert_eq!(asked(&closed.rest, "elsewhere.example", "/stats"), 401);
}

/// A browser adds the password of a logged-in user to all requests that a page sends to the gateway.
#[test]
fn a_foreign_page_cannot_use_the_password_that_a_browser_remembers() {
    let bus = bus();
    let users = "users = [{ name = 'ada', password = '$6$c2FsdHNhbHQxMjM0$d/5KooXCzyqGAOF4q1GTV/3P8YVDSdFim/G/QDXLp6mBUUtiHppG2I3O879YXOQrliIu8ETwnO+Utg0ZfaWLbw==' }]\n[rest.limits]\n";
    let gateway = gateway(&bus, users);
    let rest = &*gateway.rest;
    let ada = "Authorization: Basic YWRhOnA6dw==";
    let own = format!("Origin: http://{rest}");
    let (path, form) = ("/objects/calculator/add", "Content-Type: application/x-www-form-urlencoded");
    for (headers, status) in [
        (&[ada, JSON][..], 200),
        (&[ada, JSON, &own, "Sec-Fetch-Site: same-origin"], 200),
        (&[ada, form], 415),
        (&[ada, "Content-Type: text/plain"], 415),
        (&[ada, "Content-Type: text/plain; charset=application/json"], 415),
        (&[ada, "Content-Type: multipart/form-data; boundary=x"], 415),
        (&[ada], 415),
        (&[ada, form, "X-HTTP-Method-Override: GET"], 415),
        (&[ada, JSON, "Origin: null"], 403),
        (&[ada, JSON, "Origin: http://elsewhere.example"], 403),
        (&[ada, JSON, &format!("{own}.elsewhere.example")], 403),
        (&[ada, JSON, "Sec-Fetch-Site: cross-site"], 403),
        (&[ada, JSON, "Sec-Fetch-Site: same-site"], 403),
    ] {
        assert_eq!(ask(rest, "POST", path, headers, b"[2, 3]").status, status, "{headers:?}");
    }
    let get = |headers: &[&str]| ask(rest, "GET", "/objects/calculator/add?a=2&b=3", headers, b"").status;
    assert_eq!(get(&[ada, "Sec-Fetch-Site: cross-site"]), 403, "as a picture");
    assert_eq!(get(&[ada, "Sec-Fetch-Site: none"]), 200, "typed into the address bar");
    let socket = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let foreign = [&socket[..], &[key, ada, "Origin: http://elsewhere.example"]].concat();
    assert_eq!(ask(rest, "GET", "/events/tasks", &foreign, b"").status, 403, "a WebSocket");
    let asks = [ada, "Origin: http://elsewhere.example", "Access-Control-Request-Method: POST"];
    let preflight = ask(rest, "OPTIONS", path, &asks, b"");
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (403, None),
        "{preflight:?}"
    );
}

/// Each spelling of a path leads to one method of an object, or to none.
#[test]
fn paths_have_no_alternative_spelling() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let rest = &*gateway.rest;
    for (target, status) in [
        ("/objects/calculator/add?a=2&b=3", 200),
        ("/objects/calculator/%61dd?a=2&b=3", 200),
        ("/objects/calculator/add/?a=2&b=3", 404),
        ("//objects/calculator/add?a=2&b=3", 404),
        ("/objects//calculator/add?a=2&b=3", 404),
        ("/objects/../objects/calculator/add?a=2&b=3", 404),
        ("/%2e%2e/objects/calculator/add?a=2&b=3", 404),
        ("/objects/%2e%2e/add?a=2&b=3", 404),
        ("/objects/calculator%2Fadd?a=2&b=3", 404),
        ("/objects/calculator%00/add?a=2&b=3", 404),
        ("/objects/calculator/%2e%2e?a=2&b=3", 404),
        ("/objects/calculator/rpc%2Eyield", 404),
        ("/Objects/calculator/add?a=2&b=3", 404),
        ("/ui/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/ui/..%2f..%2fetc%2fpasswd", 404),
    ] {
        assert_eq!(ask(rest, "GET", target, &[], b"").status, status, "{target}");
    }
}
