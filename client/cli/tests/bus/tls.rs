//! Commands and nodes with TLS, WebSocket and unix sockets, and with several brokers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rantai_client::wire::fault::Code;
use rantai_testing::{Authority, Issued, KeptToTcp, Layers, Tunnel, keep_to_tcp};

use super::process::{Bus, Done, PATIENCE, Server, finish, own, rantai};

/// Names of this machine in certificates.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// Starts a tunnel in front of a bus.
fn tunnel(layers: Layers, bus: &Bus) -> Tunnel {
    let address: SocketAddr = bus.url.strip_prefix("mqtt://").expect("TCP").parse().expect("an address");
    Tunnel::start(layers, address).expect("a tunnel starts")
}

/// Keeps the transport under test at TCP, while a test has tunnels.
fn before_tunnels() -> KeptToTcp {
    keep_to_tcp("its tunnels stand in front of a broker on TCP")
}

/// Returns the same bus by another address.
fn by(url: String, bus: &Bus) -> Bus {
    Bus { broker: None, url, root: bus.root.clone() }
}

fn by_tls(issued: &Issued, clients: Option<&Authority>, bus: &Bus) -> (Tunnel, Bus) {
    let tunnel = tunnel(Layers::Tls(issued.server(clients)), bus);
    let url = format!("mqtts://localhost:{}", tunnel.port());
    (tunnel, by(url, bus))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Creates a command that trusts this authority.
fn trusting(bus: &Bus, authority: &Authority, arguments: &[&str]) -> Command {
    let mut command = bus.command(arguments);
    command.args(["--ca", path(&authority.file())]);
    command
}

fn ok(command: &mut Command) -> String {
    let done = finish(command);
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout
}

#[test]
fn commands_and_nodes_work_by_tls_websocket_and_unix_sockets() {
    let _tcp = before_tunnels();
    let bus = own();
    let authority = Authority::new("lab");
    let issued = authority.issue(&HOSTS);
    let (_tunnel, tls) = by_tls(&issued, None, &bus);
    let web = tunnel(Layers::Web(Some(issued.server(None))), &bus);
    let web = (by(format!("wss://127.0.0.1:{}/mqtt", web.port()), &bus), web);
    let socket = authority.folder().join("mqtt.sock");
    let unix = (by(format!("unix:{}", socket.display()), &bus), tunnel(Layers::Unix(socket), &bus));

    let mut node = Server::spawn(&mut trusting(&tls, &authority, &["serve", "calculator"]));
    node.wait_for("serving calculator");
    for bus in [&tls, &web.0] {
        let sum = ok(&mut trusting(bus, &authority, &["call", "calculator.add", "2", "3"]));
        assert_eq!(sum.trim(), "5");
        assert!(ok(&mut trusting(bus, &authority, &["ls"])).contains("calculator"));
        let topic = format!("{}/sister/plain", bus.root);
        let arguments = ["sub", &*topic, "--count", "1"];
        let mut reader = Server::spawn(&mut trusting(bus, &authority, &arguments));
        reader.wait_for("subscribed");
        ok(&mut trusting(bus, &authority, &["pub", &topic, "halo"]));
        reader.wait_for("halo");
        assert_eq!(reader.exit_code(), 0);
    }
    if !super::users::are_on() {
        assert_eq!(unix.0.ok(&["call", "calculator.add", "2", "3"]).trim(), "5");
    }
}

#[test]
fn errors_of_tls_say_what_to_do() {
    let _tcp = before_tunnels();
    let bus = own();
    let (authority, other) = (Authority::new("lab"), Authority::new("town"));
    let (_tunnel, usual) = by_tls(&authority.issue(&HOSTS), None, &bus);
    let (_other, elsewhere) = by_tls(&authority.issue(&["pi.local"]), None, &bus);
    let old = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2011, 1, 1);
    let (_old, expired) = by_tls(&authority.issue_with(&HOSTS, old), None, &bus);
    let (_closed, closed) = by_tls(&authority.issue(&HOSTS), Some(&authority), &bus);
    let plain = by(bus.url.replace("mqtt://", "mqtts://"), &bus);
    let reversed = by(usual.url.replace("mqtts://", "mqtt://"), &bus);
    for (bus, trusted, code, told) in [
        (
            &usual,
            &other,
            3,
            "which this machine does not trust; name the file of its authority's certificate with --ca",
        ),
        (
            &elsewhere,
            &authority,
            3,
            "its certificate is for pi.local, not for localhost; use one of those in the address",
        ),
        (&expired, &authority, 3, "2011 +00:00 and this machine's clock says "),
        (
            &closed,
            &authority,
            4,
            "it lets in only clients that show a certificate; name yours with --cert and --key",
        ),
        (&plain, &authority, 3, &*format!("as ports without TLS do; try {}", bus.url)),
        (&reversed, &authority, 3, &*format!("answers by TLS; try {}", usual.url)),
    ] {
        let done = finish(&mut trusting(bus, trusted, &["ls"]));
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.stderr.contains(told) && done.stderr.lines().count() == 1, "{told}: {done:?}");
    }
    let mut command = bus.command(&["ls", "--ca", "/no/such.pem"]);
    let missing = finish(command.env("RANTAI_BROKER", &usual.url));
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("cannot set up TLS: cannot read /no/such.pem"), "{missing:?}");
    let alone = finish(&mut bus.command(&["ls", "--key", "client.key"]));
    assert!(alone.code == 2 && alone.stderr.contains("--cert or RANTAI_CERT"), "{alone:?}");
}

#[test]
fn certificates_of_clients_are_shown_and_their_keys_kept_private() {
    let _tcp = before_tunnels();
    let bus = own();
    let authority = Authority::new("lab");
    let (_tunnel, closed) = by_tls(&authority.issue(&HOSTS), Some(&authority), &bus);
    let issued = authority.issue(&["ada"]);
    let (cert, key) = (path(&issued.certificate), path(&issued.key));
    let shown = |arguments: &[&str]| finish(trusting(&closed, &authority, arguments).args(["--cert", cert]));
    let mode = |mode| fs::set_permissions(&issued.key, fs::Permissions::from_mode(mode)).expect("set");
    mode(0o644);
    let open = shown(&["ls", "--key", key]);
    assert!(open.code == 0 && open.stderr.contains(&format!("chmod 600 {key}")), "{open:?}");
    mode(0o600);
    let private = shown(&["ls", "--key", key]);
    assert!(private.code == 0 && !private.stderr.contains("warning"), "{private:?}");

    // `--key` of a task is another option.
    let mut node = Server::spawn(
        trusting(&closed, &authority, &["serve", "tasks"]).env("RANTAI_CERT", cert).env("RANTAI_KEY", key),
    );
    node.wait_for("serving tasks");
    let submit = ["task", "submit", "nobody.add", "--key", "one"];
    let by_flag = shown(&[&submit[..], &["--tls-key", key]].concat());
    let mut command = trusting(&closed, &authority, &submit);
    let by_environment = finish(command.env("RANTAI_CERT", cert).env("RANTAI_KEY", key));
    assert_eq!((by_flag.code, by_environment.code), (0, 0), "{by_flag:?} {by_environment:?}");
    assert_eq!(by_flag.stdout, by_environment.stdout, "one key, one task");
}

/// Runs a command in `folder`, which contains its contexts.
fn with_contexts(folder: &Path, arguments: &[&str]) -> Done {
    let mut command = rantai();
    finish(command.args(arguments).current_dir(folder).env("XDG_CONFIG_HOME", folder.join("config")))
}

#[test]
fn contexts_keep_the_files_of_tls_for_their_own_brokers() {
    let _tcp = before_tunnels();
    let bus = own();
    let authority = Authority::new("lab");
    let (_tunnel, tls) = by_tls(&authority.issue(&HOSTS), None, &bus);
    let list = format!("unix:/no/such/socket,{}", tls.url);
    let add = ["context", "add", "lab", "--root", &tls.root, "--broker"];
    let url = super::users::log_in(&list, super::users::CALLING);
    let added = with_contexts(authority.folder(), &[&add[..], &[&url, "--ca", "ca.pem"]].concat());
    assert_eq!(added.code, 0, "{added:?}");
    let missing =
        with_contexts(authority.folder(), &[&add[..], &[&url, "--ca", "no.pem", "--replace"]].concat());
    assert!(missing.code == 2 && missing.stderr.contains("no.pem"), "{missing:?}");

    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = authority.folder().join("config");
    let run = |arguments: &[&str]| {
        let mut command = rantai();
        finish(command.args(arguments).current_dir(elsewhere.path()).env("XDG_CONFIG_HOME", &config))
    };
    let shown = run(&["context", "show", "lab"]);
    assert!(shown.stdout.contains(&format!("ca = \"{}\"", authority.file().display())), "{shown:?}");
    assert!(shown.stdout.contains(&format!("broker = \"{list}\"")), "{shown:?}");
    assert_eq!(run(&["ls", "--context", "lab"]).code, 0);
    // One of the addresses is that of the context's broker; the other is not.
    assert_eq!(run(&["ls", "--context", "lab", "--broker", &tls.url]).code, 0);
    let (_other, other) = by_tls(&authority.issue(&HOSTS), None, &bus);
    let other = run(&["ls", "--context", "lab", "--broker", &other.url]);
    assert!(other.code == 3 && other.stderr.contains("does not trust"), "{other:?}");
}

#[test]
fn unencrypted_passwords_over_a_network_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, "rahasia\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    let run = |url: &str| {
        let mut command = rantai();
        let arguments = ["ls", "--user", "ada", "--timeout", "100ms", "--broker", url, "--password-file"];
        finish(command.args(arguments).arg(&file)).stderr
    };
    // Addresses for documentation, where no host is.
    let open = run("mqtts://192.0.2.1,mqtt://192.0.2.2");
    assert_eq!(
        open.matches("warning: the password goes to mqtt://192.0.2.2:1883 in the clear").count(),
        1,
        "{open}"
    );
    for url in ["mqtts://192.0.2.1", "mqtt://127.0.0.1:1,ws://localhost:1,unix:/no/such/socket"] {
        assert!(!run(url).contains("warning"), "{url}");
    }
}

#[tokio::test]
async fn a_node_whose_broker_dies_claims_its_names_at_the_next_one() {
    let _tcp = before_tunnels();
    let (mut first, second) = (own(), own());
    let authority = Authority::new("lab");
    let (_tunnel, tls) = by_tls(&authority.issue(&HOSTS), None, &second);
    let list = by(format!("{},{}", first.url, tls.url), &first);
    let config = authority.folder().join("nodes.toml");
    let brokers = [&first.url, &tls.url];
    fs::write(&config, format!("broker = {brokers:?}\nca = 'ca.pem'\n[[echo]]\nname = 'echo'\n"))
        .expect("written");
    let mut calculator = Server::spawn(&mut trusting(&list, &authority, &["serve", "calculator"]));
    let mut command = first.command(&["serve", "--config", path(&config)]);
    if super::users::are_on() {
        command.env("RANTAI_BROKER", super::users::log_in(&list.url, super::users::SERVING));
    } else {
        // The broker is set in the configuration.
        command.env_remove("RANTAI_BROKER");
    }
    let mut echo = Server::spawn(&mut command);
    for node in [&mut calculator, &mut echo] {
        node.wait_for("serving");
    }
    let client = second.client().await;
    let nobody = client.object("echo").call::<String>("echo", "x").await.expect_err("it is at the first");
    assert_eq!(nobody.code(), Some(Code::UNKNOWN_OBJECT));

    first.broker.take().expect("ours").kill();
    for name in ["calculator", "echo"] {
        client.registry().wait_for_name(name, PATIENCE).await.expect("it is claimed here");
    }
    let sum: serde_json::Value = client.object("calculator").call("add", (2, 3)).await.expect("a sum");
    assert_eq!(sum, 5.0);
    calculator.wait_for("lost the connection to mqtt://");
}

/// Regression: the broker printed neither its address nor that it had started.
#[test]
fn a_broker_with_nothing_but_a_unix_socket_says_where_it_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, socket) = (folder.path().join("broker.toml"), folder.path().join("mqtt.sock"));
    fs::write(&config, "[[listeners]]\nprotocol = 'unix'\nsocket = 'mqtt.sock'\n").expect("written");
    let url = format!("unix:{}", socket.display());
    for arguments in [&["broker", "--config"][..], &["up", "--broker-config"]] {
        let mut server = Server::spawn(rantai().args(arguments).arg(&config));
        server.wait_for(&format!("listening on {url}"));
        let listed = finish(rantai().args(["ls", "--broker", &url]));
        assert_eq!(listed.code, 0, "{listed:?}");
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.exit_code(), 0);
    }
}
