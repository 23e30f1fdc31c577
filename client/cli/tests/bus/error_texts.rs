//! Texts of errors: all public error types, each with one layer.

use std::any::type_name;
use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rantai_broker::StartError;
use rantai_client::files::FileError;
use rantai_client::session::{
    Address, ClientError, ConnectRefusal, SubscribeError, TlsFiles, TlsProblem, Unsent,
};
use rantai_client::wire::entry::{Entry, EntryError};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json::JsonError;
use rantai_client::wire::name::{ClientId, NameError, ObjectName, Root};
use rantai_client::wire::role::{BusRole, RoleError};
use rantai_client::wire::topic::TopicError;
use rantai_client::wire::user::User;
use rantai_client::{CallError, ConnectError, error_chain};
use rantai_imaging::reply::{Problem, Status};
use rantai_imaging::service::OpenError;
use rantai_imaging::storage::StorageError;
use rantai_imaging::targets::TargetError;
use rantai_nodes::{DiskError, NodeError, ServeError};
use rantai_site::{SiteEnd, SiteError};
use rantai_tasks::{Ledger, LedgerError, Limits};

use super::process::{Server, bus};

/// Error, and the name of its type.
type Example = (&'static str, Box<dyn Error>);

fn example<E: Error + 'static>(error: E) -> Example {
    (type_name::<E>(), Box::new(error))
}

fn refused() -> io::Error {
    io::Error::from_raw_os_error(13)
}

fn name() -> NameError {
    ObjectName::new("a b").expect_err("a blank")
}

/// Returns the error of a ledger whose file is open elsewhere.
fn ledger() -> LedgerError {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("tasks.redb");
    let _held = Ledger::open(Some(&file), Limits::default()).expect("it is the first");
    Ledger::open(Some(&file), Limits::default()).expect_err("it is the second")
}

fn disk() -> DiskError {
    match ledger() {
        LedgerError::Store { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn role() -> RoleError {
    let lab = BusRole { name: "lab".to_owned(), call: vec!["calculator".to_owned()], ..BusRole::default() };
    lab.rules(&Root::default()).expect_err("no method")
}

fn entry() -> EntryError {
    let (object, node) = (ObjectName::new("a").expect("a name"), ClientId::new("n").expect("an id"));
    Entry::read(&object, &node, b"[").expect_err("no JSON")
}

fn broker() -> Vec<Example> {
    let address = "127.0.0.1:1883".parse().expect("an address");
    vec![
        example(rantai_broker::Config::load("/no/such").expect_err("there is none")),
        example(rantai_broker::Config::from_toml("listen = 1", Path::new("a.toml")).expect_err("wrong")),
        example(StartError::Bind { address, source: refused() }),
        example(StartError::Store { path: PathBuf::from("data"), source: Box::new(refused()) }),
        example(StartError::Open { address }),
        example(StartError::Clear { address }),
        example(StartError::ClearHttp { address }),
        example(rantai_broker::MonitorError::Busy),
        example(rantai_broker::AdministrationError::NoSuchPage),
        example(rantai_broker::AdministrationError::NoFilter),
        example(StartError::NoSuchEngine),
        example(rantai_broker::ReloadError::NoFile),
        example(rantai_broker::ReloadError::Unprotected {
            file: PathBuf::from("broker.toml"),
            lost: "users",
        }),
        example(rantai_broker::ReloadError::Clear { address }),
        example(rantai_broker::ReloadError::ClearHttp { address }),
        example(StartError::OtherEngine("why".to_owned())),
    ]
}

/// Returns the error of TLS files that do not exist.
fn no_file() -> ClientError {
    let files = TlsFiles { ca: Some(PathBuf::from("/no/such")), ..TlsFiles::default() };
    rantai_tls::ClientTls::new(&files, "localhost").expect_err("there is none")
}

fn client() -> Vec<Example> {
    let address = || "mqtt://127.0.0.1:1".to_owned();
    let unsent = [
        Unsent::NobodyThere,
        Unsent::Denied { why: "no rule".to_owned() },
        Unsent::TooLarge { size: 2, limit: 1 },
        Unsent::Refused("why".into()),
        Unsent::BadTopic("a/#".to_owned()),
        Unsent::Lost,
        Unsent::Offline,
        Unsent::Ended,
    ];
    let mut all: Vec<Example> = unsent.iter().cloned().map(example).collect();
    all.extend(unsent.into_iter().map(|unsent| example(CallError::Unsent(unsent))));
    all.extend([
        example("http://x".parse::<Address>().expect_err("no broker")),
        example(name()),
        example(User::new("").expect_err("an empty name")),
        example(role()),
        example(ConnectError::Address("http://x".parse::<Address>().expect_err("no broker"))),
        example(ConnectError::Unreachable { address: address(), source: refused() }),
        example(ConnectError::Tls { address: address(), source: TlsProblem::CertificateRequired }),
        example(TlsProblem::OtherName { server: "a".to_owned(), names: "b".to_owned() }),
        example(ConnectError::TlsFiles(ClientError::NoAuthorities)),
        example(no_file()),
        example(ClientError::ServerName("a b".to_owned())),
        example(ConnectError::Web { address: address(), reason: "why".to_owned() }),
        example(ConnectError::OtherProtocol {
            address: address(),
            is: "answers by TLS",
            instead: "mqtts://127.0.0.1:1".to_owned(),
        }),
        example(ConnectError::Unresolved { host: "pi".to_owned(), source: refused() }),
        example(ConnectError::All {
            errors: vec![ConnectError::Unreachable { address: address(), source: refused() }],
        }),
        example(ConnectError::Silent { address: address(), within: Duration::from_secs(5) }),
        example(ConnectError::Refused {
            address: address(),
            reason: "why".to_owned(),
            refusal: ConnectRefusal::Other,
        }),
        example(ConnectError::Protocol { address: address(), reason: "why".to_owned() }),
        example(ConnectError::Closed { address: address(), hint: String::new() }),
        example(SubscribeError::Refused { filter: "a".to_owned(), reason: "why".into() }),
        example(SubscribeError::Lost),
        example(SubscribeError::Ended),
        example(CallError::Lost),
        example(CallError::from(Fault::failed("kind", "detail"))),
        example(CallError::Name(name())),
        example(CallError::Parameters("why".to_owned())),
        example(CallError::Result("why".to_owned())),
        example(Fault::busy(5)),
        example(FileError::Call(CallError::Lost)),
        example(FileError::Disk { path: PathBuf::from("a"), source: refused() }),
        example(FileError::Busy(PathBuf::from("a"))),
        example(FileError::Digest { path: "a".to_owned() }),
        example(entry()),
        example(EntryError::TooLarge(20_000)),
        example(EntryError::Version(2)),
        example(JsonError::Syntax("why".to_owned())),
        example(JsonError::TooDeep),
        example(TopicError::Other),
        example(TopicError::TooManyLevels),
        example(TopicError::NoName),
    ]);
    all
}

fn nodes() -> Vec<Example> {
    let object = || "a".to_owned();
    let config = |text: &str| rantai_site::config::Config::from_toml(text, "nodes.toml").expect_err("wrong");
    let mut all = vec![
        example(rantai_site::config::Config::load(Path::new("/no/such")).expect_err("there is none")),
        example(config("root = 1")),
        example(config("[[echo]]\nname = 'a b'")),
        example(ServeError::Name(name())),
        example(ServeError::Taken { object: object(), holder: "n".to_owned() }),
        example(ServeError::Refused(SubscribeError::Lost)),
        example(ServeError::Unregistered {
            object: object(),
            source: Unsent::Denied { why: "no rule".to_owned() },
        }),
        example(ServeError::Entry(entry())),
        example(ServeError::Ended),
        example(NodeError::Connect(ConnectError::Unreachable { address: object(), source: refused() })),
        example(NodeError::Journal { file: PathBuf::from("once.redb"), source: disk() }),
        example(SiteError::Unknown(object())),
        example(SiteError::Alone(object())),
        example(SiteError::Open { object: object(), reason: "why".to_owned() }),
        example(SiteError::DataDir { path: PathBuf::from("data"), source: refused() }),
        example(SiteError::NodeName { file: PathBuf::from("node-name"), source: refused() }),
        example(SiteError::WrongNodeName { file: PathBuf::from("node-name"), source: name() }),
        example(SiteError::Name(name())),
        example(SiteError::Node(NodeError::Connect(ConnectError::Unreachable {
            address: object(),
            source: refused(),
        }))),
        example(SiteError::Ledger(ledger())),
        example(SiteError::Serve(ServeError::Ended)),
        example(SiteError::Connect(ConnectError::Unreachable { address: object(), source: refused() })),
        example(SiteError::Listen {
            section: "rest",
            address: ([127, 0, 0, 1], 80).into(),
            source: refused(),
        }),
        example(SiteEnd::Node { node: ClientId::new("n").expect("an id"), reason: "why".to_owned() }),
        example(SiteEnd::Gateways("why".to_owned())),
        example(ledger()),
        example(LedgerError::Write(disk())),
        example(disk()),
        example(OpenError::Folder(refused())),
        example(OpenError::State(disk())),
        example(OpenError::Target(TargetError("why".to_owned()))),
        example(TargetError("why".to_owned())),
        example(StorageError::NotFound(object())),
        example(StorageError::Exists(object())),
        example(StorageError::NoRoom(object(), 2, 1)),
        example(StorageError::Failed("why".to_owned())),
        example(Problem { status: Status::Failed, text: "why".to_owned() }),
    ];
    all.extend(pyro());
    all.extend(gateway());
    all
}

fn pyro() -> [Example; 4] {
    use rantai_pyro::PyroGatewayError;
    let key = PyroGatewayError::Key { file: PathBuf::from("hmac.key"), reason: "why".to_owned() };
    [
        example(PyroGatewayError::Listen(refused())),
        example(PyroGatewayError::Broadcast(refused())),
        example(key),
        example(PyroGatewayError::Settings("why".to_owned())),
    ]
}

#[cfg(feature = "gateway")]
fn gateway() -> [Example; 6] {
    use rantai_gateway::GatewayError;
    use rantai_gateway::soap::client::ResponseError;
    [
        example(GatewayError::Listen(refused())),
        example(GatewayError::Users(refused())),
        example(GatewayError::Incomplete("why".to_owned())),
        example(SiteError::Gateway { section: "rest", source: GatewayError::Users(refused()) }),
        example(ResponseError::NoAnswer("why".to_owned())),
        example(ResponseError::Fault { code: "soap:Client".to_owned(), text: "why".to_owned() }),
    ]
}

#[cfg(not(feature = "gateway"))]
fn gateway() -> [Example; 0] {
    []
}

fn examples() -> Vec<Example> {
    [broker(), client(), nodes()].into_iter().flatten().collect()
}

#[test]
fn errors_display_one_layer_and_sources_the_rest() {
    for (kind, error) in examples() {
        let text = error.to_string();
        assert!(!text.is_empty() && text == text.trim(), "{kind}: {text:?}");
        let mut first = text.chars();
        let capital =
            first.next().is_some_and(char::is_uppercase) && first.next().is_some_and(char::is_lowercase);
        assert!(!capital, "{kind} begins with a capital: {text}");
        assert!(!text.ends_with('.'), "{kind} ends with a period: {text}");
        let mut above = text.clone();
        let mut source = error.source();
        while let Some(error) = source {
            let below = error.to_string();
            assert!(!above.contains(&below), "{kind}: {above:?} tells its source too: {below:?}");
            above = below;
            source = error.source();
        }
        let chain = error_chain(&*error);
        assert!(chain.matches("os error").count() <= 1, "{kind}: {chain}");
        for word in ["usize", "not there is", "expected there"] {
            assert!(!chain.contains(word), "{kind}: {word} in {chain}");
        }
    }
}

#[test]
fn every_public_error_type_is_among_the_examples() {
    let examples = examples();
    let known: BTreeSet<&str> = examples.iter().filter_map(|(kind, _)| kind.rsplit("::").next()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = BTreeSet::new();
    for folder in ["broker/src", "client/src", "nodes", "client/cli/src"] {
        public_errors(&root.join(folder), &mut found);
    }
    assert!(found.len() > 15, "the sources are there: {found:?}");
    if cfg!(not(feature = "gateway")) {
        found.remove("ResponseError");
        found.remove("GatewayError");
    }
    let unknown: Vec<&String> = found.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "without an example: {unknown:?}");
}

/// Collects the names of public error types.
fn public_errors(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            public_errors(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            for part in text.split("thiserror::Error)]").skip(1) {
                let declared = part.lines().map(str::trim).find(|line| line.starts_with("pub"));
                let name = declared.and_then(|line| {
                    line.strip_prefix("pub enum ").or_else(|| line.strip_prefix("pub struct "))
                });
                let name =
                    name.map(|name| name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default());
                found.extend(name.map(ToOwned::to_owned));
            }
            let by_hand = text.lines().filter(|line| line.starts_with("impl") && line.contains("Error for "));
            let names =
                by_hand.filter(|line| line.contains(" Error for ") || line.contains("error::Error for "));
            found.extend(names.filter_map(|line| {
                Some(line.split(" for ").nth(1)?.split(|c: char| !c.is_alphanumeric()).next()?.to_owned())
            }));
        }
    }
}

#[test]
fn ledger_file_in_use_is_reported_once() {
    let bus = bus();
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().to_str().expect("UTF-8");
    let config = folder.path().join("nodes.toml");
    std::fs::write(&config, "[tasks]\nfile = 'tasks.redb'\n").expect("written");
    let arguments = ["--config", config.to_str().expect("UTF-8"), "--data-dir", data];
    let mut first: Server = bus.serve(&arguments);
    first.wait_for("serving tasks");
    // With a journal of its own, so that only the ledger is in use.
    let other = tempfile::tempdir().expect("a directory");
    let mut arguments = arguments;
    arguments[3] = other.path().to_str().expect("UTF-8");
    let done = bus.run(&[&["serve"], &arguments[..]].concat());
    let file = folder.path().join("tasks.redb");
    let expected = format!(
        "error: cannot open the ledger {}: another process may have it open; stop that process, or choose \
         another file\n",
        file.display()
    );
    assert_eq!((done.code, done.stderr.ends_with(&expected)), (1, true), "{}", done.stderr);
}

#[test]
fn missing_file_is_reported_once() {
    let bus = bus();
    let _node = bus.serve(&["echo"]);
    let done = bus.run(&["put", "echo", "/no/such/file"]);
    assert_eq!(done.stderr.matches("os error 2").count(), 1, "{}", done.stderr);
    assert!(done.stderr.starts_with("error: cannot "), "{}", done.stderr);
}
