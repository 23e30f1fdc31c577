//! SOAP gateway, and the calculator's client, which can use it.

use rantai_testing::{Authority, Layers, Tunnel};

use super::gateway::{Answer, Gateway, ask, gateway, get};
use super::process::bus;

fn soap(gateway: &Gateway, path: &str, body: &str) -> Answer {
    let envelope = format!(
        "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>{body}</s:Body></s:Envelope>"
    );
    ask(&gateway.soap, "POST", path, &["Content-Type: text/xml; charset=utf-8"], envelope.as_bytes())
}

#[test]
fn soap_calls_and_faults() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let own = "xmlns='urn:example:calculator'";
    let answer = soap(&gateway, "/", &format!("<add {own}><a>10</a><b>5</b></add>"));
    assert!(answer.status == 200 && answer.body.contains("<addResult>15</addResult>"), "{answer:?}");
    let answer = soap(&gateway, "/", &format!("<subtract {own}><b>5</b><a>10</a></subtract>"));
    assert!(answer.body.contains("<subtractResult>5</subtractResult>"), "by name: {answer:?}");
    let object = "xmlns='urn:rantai:calculator'";
    let answer = soap(&gateway, "/calculator", &format!("<div {object}><a>1</a><b>2</b></div>"));
    assert!(answer.body.contains("<divResult>0.5</divResult>"), "{answer:?}");
    let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'><!ENTITY c '&b;&b;&b;&b;&b;&b;'>]><a>&c;</a>";
    let raw = |body: &str, kind: &str| ask(&gateway.soap, "POST", "/", &[kind], body.as_bytes());
    let xml = "Content-Type: text/xml";
    for (answer, status, says) in [
        (soap(&gateway, "/", &format!("<add {own}><a>1.5</a><b>5</b></add>")), 500, "soap:Client"),
        (soap(&gateway, "/", &format!("<add {own}><a>1</a></add>")), 500, "b is missing"),
        (soap(&gateway, "/", &format!("<add {own}><a>2147483647</a><b>1</b></add>")), 500, "soap:Server"),
        (
            soap(&gateway, "/calculator", &format!("<div {object}><a>1</a><b>0</b></div>")),
            500,
            "division_by_zero",
        ),
        (soap(&gateway, "/", "<power/>"), 500, "no operation power"),
        (soap(&gateway, "/nothing", "<add/>"), 404, "soap:Server"),
        (raw(bomb, xml), 500, "document type declarations are refused"),
        (raw("<a>&b;</a>", xml), 500, "an entity that is not one of XML"),
        (raw("{}", "Content-Type: application/json"), 415, "text/xml"),
        (raw("", xml), 500, "no element"),
        (get(&gateway.soap, "/"), 405, "?wsdl"),
    ] {
        assert!(answer.status == status && answer.body.contains(says), "{says}: {answer:?}");
    }
    let large = format!("<add {own}><a>{}</a></add>", "1".repeat(2 << 20));
    assert_eq!(soap(&gateway, "/", &large).status, 413);
    let described = get(&gateway.soap, "/?wsdl");
    assert!(
        described.status == 200 && described.body.contains(&format!("location=\"http://{}/\"", gateway.soap))
    );
}

#[test]
fn calc_prints_the_same_over_mqtt_rest_and_soap() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let (rest, soap) = (format!("http://{}/", gateway.rest), format!("http://{}/calculator", gateway.soap));
    let base = format!("http://{}", gateway.soap);
    let ways = [
        vec![],
        vec!["--via", "rest", "--url", &rest],
        vec!["--via", "soap", "--url", &soap],
        vec!["--via", "soap", "--url", &base],
    ];
    for way in &ways {
        let calc = |op: &str, a: &str, b: &str| {
            bus.run(&[&["calc", "--op", op, "-a", a, "-b", b][..], way].concat())
        };
        let all = calc("all", "2", "3");
        let lines = "add(2.0,3.0) = 5.0\nsub(2.0,3.0) = -1.0\nmul(2.0,3.0) = 6.0\ndiv(2.0,3.0) = 0.6666666666666666\n";
        assert_eq!((all.code, &*all.stdout), (0, lines), "{way:?}: {all:?}");
        assert_eq!(calc("both", "-2.5", "4").stdout, "add(-2.5,4.0) = 1.5\nmul(-2.5,4.0) = -10.0\n");
        let failed = calc("div", "1", "0");
        assert!(failed.code == 1 && failed.stderr.starts_with("div error "), "{way:?}: {failed:?}");
        let some = calc("all", "1", "0");
        assert!(some.code == 1 && some.stdout.lines().count() == 3, "the others are told: {some:?}");
    }
    let failed = bus.run(&[&["calc", "--op", "div", "-a", "1", "-b", "0"][..], &ways[1]].concat());
    assert_eq!(failed.stderr, "div error 400: {\"error\":\"Division by zero\"}\n");
    let nobody =
        ["calc", "--op", "add", "-a", "1", "-b", "2", "--via", "rest", "--url", "http://127.0.0.1:1"];
    assert_eq!(bus.run(&nobody).code, 3);
    assert_eq!(bus.run(&["calc", "--op", "add", "-a", "1"]).code, 2);
    assert_eq!(bus.run(&["calc", "--op", "add", "-a", "x", "-b", "2"]).code, 2);
}

#[test]
fn calc_trusts_the_given_authority() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let (authority, other) = (Authority::new("lab"), Authority::new("town"));
    let front = |address: &str, clients| {
        let server = authority.issue(&["localhost"]).server(clients);
        Tunnel::start(Layers::Tls(server), address.parse().expect("an address")).expect("a tunnel starts")
    };
    let file = |authority: &Authority| authority.file().to_str().expect("UTF-8").to_owned();
    let calc = |via: &str, port: u16, more: &[&str]| {
        let url = format!("https://localhost:{port}");
        let sum = ["calc", "--op", "add", "-a", "2", "-b", "3", "--via", via, "--url", &url];
        bus.run(&[&sum[..], more].concat())
    };
    let (rest, soap) = (front(&gateway.rest, None), front(&gateway.soap, None));
    for (via, port) in [("rest", rest.port()), ("soap", soap.port())] {
        let sum = calc(via, port, &["--ca", &file(&authority)]);
        assert_eq!((sum.code, &*sum.stdout, &*sum.stderr), (0, "add(2.0,3.0) = 5.0\n", ""), "{via}: {sum:?}");
        let unknown = calc(via, port, &["--ca", &file(&other)]);
        assert!(unknown.code == 3 && unknown.stderr.contains("UnknownIssuer"), "{via}: {unknown:?}");
    }
    let missing = calc("rest", rest.port(), &["--ca", "/no/such.pem"]);
    assert!(missing.code == 2 && missing.stderr.contains("cannot read /no/such.pem"), "{missing:?}");
    // With a client certificate, if the server requires one.
    let closed = front(&gateway.rest, Some(&authority));
    let issued = authority.issue(&["ada"]);
    let (cert, key) = (issued.certificate.to_str().expect("UTF-8"), issued.key.to_str().expect("UTF-8"));
    let ca = file(&authority);
    assert_eq!(calc("rest", closed.port(), &["--ca", &ca]).code, 3);
    let shown = calc("rest", closed.port(), &["--ca", &ca, "--cert", cert, "--key", key]);
    assert_eq!((shown.code, &*shown.stdout), (0, "add(2.0,3.0) = 5.0\n"), "{shown:?}");
    let server = authority.issue(&["localhost"]);
    let another = calc(
        "rest",
        closed.port(),
        &["--ca", &ca, "--cert", cert, "--key", server.key.to_str().expect("UTF-8")],
    );
    assert!(another.code == 2 && another.stderr.contains("cannot use the certificate"), "{another:?}");
}
