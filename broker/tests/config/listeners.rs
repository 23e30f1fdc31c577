//! `[[listeners]]`: required and allowed keys of each protocol.

use std::path::{Path, PathBuf};

use rantai_broker::{
    CertificateFiles, ClientCertificates, Config, Endpoint, Listener, Origins, TlsSettings, UserFrom,
    WebSettings,
};

use super::{assert_marked, documented_defaults, parse, refused};

fn beside(file: &str) -> PathBuf {
    Path::new("/etc/rantai").join(file)
}

fn parse_in_etc(text: &str) -> Config {
    Config::from_toml(text, Path::new("/etc/rantai/broker.toml")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_protocol_is_read_with_its_keys() {
    let config = parse_in_etc(
        r#"
        users = [{ name = "ada" }, { name = "sister" }]
        [[listeners]]
        protocol = "tcp"
        address = "127.0.0.1:1884"
        connections = 3
        [[listeners]]
        protocol = "tls"
        address = "0.0.0.0:8883"
        certificate = "server.pem"
        key = "/secret/server.key"
        [[listeners]]
        protocol = "ws"
        address = "127.0.0.1:8083"
        [[listeners]]
        protocol = "wss"
        address = "[::1]:8084"
        certificate = "server.pem"
        key = "server.key"
        additional_certificates = [{ certificate = "office.pem", key = "/secret/office.key" }]
        client_ca = "ca.pem"
        client_certificates = "wanted"
        user_from = "san"
        revocations = "crl.pem"
        path = "/"
        origins = ["https://Lab.Example", "http://localhost:8080"]
        [[listeners]]
        protocol = "unix"
        socket = "mqtt.sock"
        mode = "0660"
        anonymous = true
        users = ["ada"]
        "#,
    );
    let plain = |address: &str| Listener::tcp(address.parse().expect("an address"));
    let tls = TlsSettings {
        certificate: beside("server.pem"),
        key: "/secret/server.key".into(),
        additional_certificates: Vec::new(),
        client_ca: None,
        client_certificates: ClientCertificates::None,
        user_from: UserFrom::Cn,
        revocations: None,
    };
    let with_clients = TlsSettings {
        key: beside("server.key"),
        additional_certificates: vec![CertificateFiles {
            certificate: beside("office.pem"),
            key: "/secret/office.key".into(),
        }],
        client_ca: Some(beside("ca.pem")),
        client_certificates: ClientCertificates::Wanted,
        user_from: UserFrom::San,
        revocations: Some(beside("crl.pem")),
        ..tls.clone()
    };
    let origins = ["https://lab.example", "http://localhost:8080"].map(str::to_owned).into();
    let web = WebSettings { path: "/".to_owned(), origins: Origins::Of(origins) };
    let unix = Endpoint::Unix { path: beside("mqtt.sock"), mode: Some(0o660) };
    let expected = [
        Listener { connections: Some(3), ..plain("127.0.0.1:1884") },
        Listener { tls: Some(tls), ..plain("0.0.0.0:8883") },
        Listener { web: Some(WebSettings::default()), ..plain("127.0.0.1:8083") },
        Listener { tls: Some(with_clients), web: Some(web), ..plain("[::1]:8084") },
        Listener {
            endpoint: unix,
            anonymous: Some(true),
            users: Some(vec!["ada".to_owned()]),
            ..plain("127.0.0.1:0")
        },
    ];
    assert_eq!(config.listeners, expected);
    assert_eq!(
        config.listeners.iter().map(Listener::protocol).collect::<Vec<_>>(),
        ["tcp", "tls", "ws", "wss", "unix"]
    );
    assert_eq!(config.listen, [], "nothing is listened on that the file does not name");
}

#[test]
fn the_documented_listeners_are_valid() {
    let config = parse(&documented_defaults(true));
    assert_eq!(config.listeners.iter().map(Listener::protocol).collect::<Vec<_>>(), ["wss", "unix"]);
    assert_eq!(config.listen, Config::default().listen, "it is written there");
}

#[test]
fn client_certificates_are_required_where_there_is_a_root_for_them() {
    let config = parse(
        "[[listeners]]\nprotocol = 'tls'\naddress = '127.0.0.1:0'\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'r'",
    );
    let tls = config.listeners[0].tls.as_ref().expect("TLS");
    assert_eq!(tls.client_certificates, ClientCertificates::Required);
}

#[test]
fn a_single_star_allows_any_origin() {
    let config =
        parse("listeners = [{ protocol = 'ws', address = '127.0.0.1:0', origins = ['http://a', '*'] }]");
    assert_eq!(config.listeners[0].web.as_ref().map(|web| &web.origins), Some(&Origins::Any));
}

#[test]
fn each_error_of_a_listener_names_the_correction() {
    const TLS: &str = "tls and wss listeners, and this one is tcp; remove the key";
    assert_marked(&[
        (
            "listeners = [{ protocol = 'mqtt' }]",
            "'mqtt'",
            "expected one of `tcp`, `tls`, `ws`, `wss`, `unix`",
        ),
        ("listeners = [{ address = '[::]:1' }]", "{ address = '[::]:1' }", "missing field `protocol`"),
        ("listeners = [{ protocol = 'ws', port = 1 }]", "port", "unknown field `port`"),
        ("listeners = [{ protocol = 'ws' }]", "'ws'", "a ws listener needs `address`"),
        ("listeners = [{ protocol = 'ws', address = 'lab' }]", "'lab'", "as in \"lab:1883\""),
        ("listeners = [{ protocol = 'unix' }]", "'unix'", "needs `socket`"),
        ("listeners = [{ protocol = 'unix', socket = '' }]", "''", "write its path"),
        ("listeners = [{ protocol = 'unix', socket = 's', mode = '666 ' }]", "'666 '", "as in \"0660\""),
        ("listeners = [{ protocol = 'unix', socket = 's', mode = '7777' }]", "'7777'", "as in \"0660\""),
        (
            "listeners = [{ protocol = 'unix', address = '[::]:1' }]",
            "'[::]:1'",
            "tcp, tls, ws and wss listeners",
        ),
        (
            "listeners = [{ protocol = 'tcp', address = '[::1]:1', socket = 's' }]",
            "'s'",
            "for unix listeners",
        ),
        (
            "listeners = [{ protocol = 'tcp', address = '[::1]:1', mode = '0600' }]",
            "'0600'",
            "for unix listeners",
        ),
        (
            "listeners = [{ protocol = 'tcp', address = '[::1]:1', path = '/' }]",
            "'/'",
            "for ws and wss listeners",
        ),
        (
            "listeners = [{ protocol = 'tcp', address = '[::1]:1', origins = ['*'] }]",
            "['*']",
            "for ws and wss",
        ),
        ("listeners = [{ protocol = 'tcp', address = '[::1]:1', certificate = 'c' }]", "'c'", TLS),
        ("listeners = [{ protocol = 'tcp', address = '[::1]:1', key = 'c' }]", "'c'", TLS),
        ("listeners = [{ protocol = 'tcp', address = '[::1]:1', client_ca = 'c' }]", "'c'", TLS),
        (
            "listeners = [{ protocol = 'tcp', address = '[::1]:1', client_certificates = 'none' }]",
            "'none'",
            TLS,
        ),
        ("listeners = [{ protocol = 'tcp', address = '[::1]:1', user_from = 'cn' }]", "'cn'", TLS),
        ("listeners = [{ protocol = 'tcp', address = '[::1]:1', revocations = 'c' }]", "'c'", TLS),
        ("listeners = [{ protocol = 'tls', address = '[::1]:1' }]", "'tls'", "needs `certificate`"),
        (
            "listeners = [{ protocol = 'tls', address = '[::1]:1', certificate = 'c' }]",
            "'tls'",
            "needs `key`",
        ),
        (
            "listeners = [{ protocol = 'tls', address = '[::1]:1', certificate = 'c', key = 'k', user_from = 'cn' }]",
            "'cn'",
            "add client_ca",
        ),
        (
            "listeners = [{ protocol = 'tls', address = '[::1]:1', certificate = 'c', key = 'k', revocations = 'r' }]",
            "'r'",
            "add client_ca",
        ),
        (
            "listeners = [{ protocol = 'tls', address = '[::1]:1', certificate = 'c', key = 'k', client_certificates = 'wanted' }]",
            "'wanted'",
            "add client_ca",
        ),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', path = 'mqtt' }]",
            "'mqtt'",
            "as in \"/mqtt\"",
        ),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', path = '/a?b' }]",
            "'/a?b'",
            "without a query",
        ),
        ("listeners = [{ protocol = 'ws', address = '[::1]:1', origins = [] }]", "[]", "leave the key out"),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', origins = ['lab'] }]",
            "'lab'",
            "https://lab.example",
        ),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', origins = ['a://b/'] }]",
            "'a://b/'",
            "no path",
        ),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', users = ['ada'] }]",
            "'ada'",
            "no user `ada`; add it",
        ),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1', anonymous = false }]",
            "false",
            "add [[users]]",
        ),
        ("listeners = [{ protocol = 'ws', address = '[::1]:1', connections = 0 }]", "0", "at least 1"),
        (
            "listeners = [{ protocol = 'ws', address = '[::1]:1' }, { protocol = 'tcp', address = '[0::1]:1' }]",
            "'[0::1]:1'",
            "the tcp listener on [::1]:1 is where the ws listener on [::1]:1 is, too",
        ),
        (
            "listeners = [{ protocol = 'unix', socket = '/a/b', mode = '600' }, { protocol = 'unix', socket = '/a/./b' }]",
            "'/a/./b'",
            "the unix listener on /a/./b is where the unix listener on /a/b is, too",
        ),
    ]);
    let twice = refused(
        "listen = ['127.0.0.1:1']\n[[listeners]]\nprotocol = 'ws'\naddress = '[::ffff:127.0.0.1]:1'\n",
    );
    let expected = "broker.toml:4:11: the ws listener on [::ffff:127.0.0.1]:1 is where the tcp listener on 127.0.0.1:1 is, too";
    assert!(twice.starts_with(expected), "{twice}");
    let free = "listen = ['[::1]:0']\n[[listeners]]\nprotocol = 'ws'\naddress = '[::1]:0'\n";
    Config::from_toml(free, "broker.toml".as_ref()).expect("two ports");
}
