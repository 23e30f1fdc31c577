//! The gateway on a real broker, called by its own side for Pyro servers. The real Pyro4 and Pyro5 are in tests/peers.

use std::net::SocketAddr;
use std::time::Duration;

use rantai_broker::{Broker, Config};
use rantai_client::object::{Answer, Answering, Call, Description, Method, Object, Parameter};
use rantai_client::session::Address;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::request::Params;
use rantai_systems::calculator::{CalculatorObject, Exact};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::frame::{Flags, Frame, FrameLimits, Kind, Version};
use crate::link::Link;
use crate::serializer::Serializer;
use crate::uri::PyroUri;
use crate::value::PyValue;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bus {
    _broker: Broker,
    address: Address,
    node: Arc<Node>,
    client: Client,
}

async fn bus() -> Bus {
    let broker = Broker::start(Config::on_free_port()).await.expect("a broker");
    let address: Address = format!("mqtt://{}", broker.addresses()[0]).parse().expect("an address");
    let node = Node::builder(address.clone()).connect().await.expect("a node");
    let client = Client::builder(address.clone()).connect().await.expect("a client");
    Bus { _broker: broker, address, node: Arc::new(node), client }
}

impl Bus {
    async fn gateway(&self, limits: &str) -> PyroGateway {
        let settings = format!("listen = '127.0.0.1:0'\n[limits]\n{limits}");
        let settings: Pyro = toml::from_str(&settings).expect("settings");
        let client = Client::builder(self.address.clone()).connect().await.expect("a client");
        PyroGateway::start(&settings, client, self.node.clone()).await.expect("a gateway")
    }

    async fn serve(&self, name: &str, object: impl Object) {
        self.node.serve(name, object).await.expect("served");
    }
}

/// Client of Pyro.
struct PyroClient {
    link: Link<TcpStream>,
    version: Version,
    serializer: Serializer,
}

impl PyroClient {
    async fn open(
        address: SocketAddr,
        version: Version,
        serializer: Serializer,
        object: &str,
    ) -> (Self, Frame) {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let limits = FrameLimits { bytes: 1 << 20 };
        let mut client = Self { link: Link::new(stream, limits, None), version, serializer };
        let hello = PyValue::dict([("handshake", PyValue::text("hello")), ("object", PyValue::text(object))]);
        let flags = if version == Version::Four { Flags::META_ON_CONNECT } else { Flags::default() };
        client.send(Kind::Connect, flags, &hello).await;
        let reply = client.receive().await.expect("a reply");
        (client, reply)
    }

    async fn connect(address: SocketAddr, version: Version, serializer: Serializer, object: &str) -> Self {
        let (client, reply) = Self::open(address, version, serializer, object).await;
        assert_eq!(reply.kind, Kind::ConnectOk, "{:?}", client.read(&reply));
        client
    }

    async fn send(&mut self, kind: Kind, flags: Flags, value: &PyValue) {
        let data = self.serializer.write(value).expect("written").into();
        let serializer = self.serializer.number(self.version);
        let (version, correlation, annotations) = (self.version, Some([7; 16]), Vec::new());
        let frame = Frame { version, kind, serializer, flags, sequence: 9, correlation, annotations, data };
        self.link.write(&frame, PATIENCE).await.expect("written");
    }

    async fn receive(&mut self) -> Result<Frame, frame::FrameError> {
        self.link.read(Some(PATIENCE), PATIENCE).await
    }

    fn read(&self, frame: &Frame) -> PyValue {
        let serializer = Serializer::of(self.version, frame.serializer).expect("a serializer");
        serializer.read(&frame.data).expect("a value")
    }

    /// Calls a method with serpent; returns flags and result.
    async fn invoke(
        &mut self,
        object: &str,
        method: &str,
        args: Vec<PyValue>,
        flags: Flags,
    ) -> (Frame, PyValue) {
        let [object, method] = [object, method].map(PyValue::text);
        let call = if self.serializer == Serializer::Json {
            let (args, kwargs) = (PyValue::Tuple(args), PyValue::Dict(vec![]));
            PyValue::dict([("object", object), ("method", method), ("params", args), ("kwargs", kwargs)])
        } else {
            PyValue::Tuple(vec![object, method, PyValue::Tuple(args), PyValue::Dict(vec![])])
        };
        self.send(Kind::Invoke, flags, &call).await;
        let reply = self.receive().await.expect("a reply");
        assert_eq!((reply.kind, reply.sequence, reply.correlation), (Kind::Result, 9, Some([7; 16])));
        let value = self.read(&reply);
        (reply, value)
    }

    async fn call(&mut self, object: &str, method: &str, args: Vec<PyValue>) -> Result<PyValue, PyValue> {
        let (frame, value) = self.invoke(object, method, args, Flags::default()).await;
        if frame.flags.has(Flags::EXCEPTION) { Err(value) } else { Ok(value) }
    }
}

fn text(text: &str) -> PyValue {
    PyValue::text(text)
}

fn class(exception: &PyValue) -> &str {
    exception.get("__class__").and_then(PyValue::as_str).expect("a class")
}

fn message(exception: &PyValue) -> &str {
    let args = exception.get("args").and_then(PyValue::items).expect("arguments");
    args.first().and_then(PyValue::as_str).unwrap_or_default()
}

/// Object with a stream, bytes, and what it was called with.
struct Odd;

impl Object for Odd {
    fn description(&self) -> Description {
        let method = |name: &str, stream: bool| Method {
            name: name.to_owned(),
            result: Some(json!({})),
            stream,
            ..Method::default()
        };
        let bytes = Method {
            params: vec![Parameter { name: "data".to_owned(), required: true, schema: None }],
            result: None,
            ..method("bytes", false)
        };
        let methods = vec![method("count", true), method("same", false), method("_hidden", false), bytes];
        Description { methods, tags: vec!["odd".to_owned()], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            match (call.method.as_str(), call.params) {
                ("count", _) => call.context.stream(futures_util::stream::iter(0..3)).await,
                ("same", Params::Positional(values)) => Ok(Answer::Value(json!(values))),
                ("same", Params::Named(values)) => Ok(Answer::Value(json!(values))),
                ("bytes", Params::Binary(bytes)) => Ok(Answer::Binary(bytes)),
                (method, params) => Err(Fault::new(Code::BROKEN_OBJECT, format!("{method} {params:?}"))),
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_called_by_both_versions_and_every_serializer() {
    let bus = bus().await;
    bus.serve("calculator", CalculatorObject(Exact)).await;
    let gateway = bus.gateway("").await;
    for version in [Version::Four, Version::Five] {
        for serializer in [Serializer::Serpent, Serializer::Json, Serializer::Msgpack] {
            let mut client = PyroClient::connect(gateway.address, version, serializer, "calculator").await;
            let two = || vec![PyValue::Float(2.0), PyValue::Int(3)];
            assert_eq!(client.call("calculator", "add", two()).await, Ok(PyValue::Float(5.0)));
            let zero = vec![PyValue::Int(1), PyValue::Int(0)];
            let error = client.call("calculator", "div", zero).await.expect_err("an exception");
            assert_eq!((class(&error), message(&error)), ("builtins.ZeroDivisionError", "Division by zero"));
            let code = error.get("attributes").and_then(|attributes| attributes.get("code"));
            assert_eq!(code, Some(&PyValue::Int(-32000)));
            let error = client.call("calculator", "pow", two()).await.expect_err("an exception");
            assert_eq!(class(&error), "builtins.AttributeError");
            let error =
                client.call("calculator", "add", vec![PyValue::text("x")]).await.expect_err("an exception");
            assert_eq!(class(&error), "builtins.TypeError");
            let error = client.call("nobody", "add", two()).await.expect_err("an exception");
            assert_eq!(class(&error), format!("{}.errors.DaemonError", version.package()));
        }
    }
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_has_metadata_and_refuses_what_it_must() {
    let bus = bus().await;
    bus.serve("odd", Odd).await;
    let gateway = bus.gateway("").await;
    let (client, reply) = PyroClient::open(gateway.address, Version::Five, Serializer::Serpent, "odd").await;
    let metadata = client.read(&reply);
    let methods = metadata.get("meta").and_then(|meta| meta.get("methods")).expect("methods");
    assert_eq!(*methods, PyValue::List(["count", "same", "bytes"].map(PyValue::text).to_vec()));
    let (client, reply) = PyroClient::open(gateway.address, Version::Five, Serializer::Json, "nobody").await;
    assert_eq!(reply.kind, Kind::ConnectFail);
    assert!(client.read(&reply).as_str().expect("a text").contains("nobody"));
    // Number 2 is marshal.
    let mut raw = Link::new(
        TcpStream::connect(gateway.address).await.expect("it listens"),
        FrameLimits { bytes: 1_000 },
        None,
    );
    let frame = Frame { serializer: 2, kind: Kind::Connect, data: b"x"[..].into(), ..reply };
    raw.write(&frame, PATIENCE).await.expect("written");
    let reply = raw.read(Some(PATIENCE), PATIENCE).await.expect("a reply");
    assert_eq!(reply.kind, Kind::ConnectFail);
    let text = Serializer::Serpent.read(&reply.data).expect("serpent");
    assert!(text.as_str().expect("a text").contains("marshal is refused"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_bytes_batches_streams_and_pings() {
    let bus = bus().await;
    bus.serve("odd", Odd).await;
    let gateway = bus.gateway("").await;
    let mut client = PyroClient::connect(gateway.address, Version::Five, Serializer::Serpent, "odd").await;
    let list = PyValue::List;
    let tuple = PyValue::Tuple(vec![PyValue::Int(1), PyValue::None]);
    let expected = list(vec![list(vec![PyValue::Int(1), PyValue::None])]);
    assert_eq!(client.call("odd", "same", vec![tuple]).await, Ok(expected));
    let bytes = client.call("odd", "bytes", vec![PyValue::encoded_bytes(b"xy")]).await.expect("bytes");
    assert_eq!(bytes.as_bytes(), Some(b"xy".to_vec()));
    for value in [PyValue::Float(f64::NAN), PyValue::Float(f64::INFINITY), PyValue::Complex(1.0, 1.0)] {
        let error = client.call("odd", "same", vec![value]).await.expect_err("an exception");
        assert_eq!(class(&error), "Pyro5.errors.SerializeError");
    }
    for method in ["_hidden", "rpc.drain", "rpc.ping"] {
        let error = client.call("odd", method, vec![]).await.expect_err("an exception");
        assert_eq!(class(&error), "builtins.AttributeError", "{method}");
    }
    let one = |method: &str, args: Vec<PyValue>| {
        PyValue::Tuple(vec![PyValue::text(method), PyValue::Tuple(args), PyValue::Dict(vec![])])
    };
    let calls = vec![
        one("same", vec![PyValue::Int(1)]),
        one("count", vec![]),
        one("none", vec![]),
        one("same", vec![]),
    ];
    let (frame, results) = client.invoke("odd", "<batch>", calls, Flags::BATCH).await;
    assert!(frame.flags.has(Flags::BATCH));
    let results = results.items().expect("results").to_vec();
    assert_eq!(results.len(), 3, "the batch ends at the first error");
    assert_eq!(results[1], list([0, 1, 2].map(PyValue::Int).to_vec()));
    assert_eq!(class(&results[2]), "Pyro5.core._ExceptionWrapper");
    let (frame, _) = client.invoke("odd", "count", vec![], Flags::default()).await;
    assert!(frame.flags.has(Flags::ITEM_STREAM) && frame.flags.has(Flags::EXCEPTION));
    let id = frame.annotation(frame::STREAM_ID).expect("an id");
    let id = || PyValue::text(std::str::from_utf8(id).expect("UTF-8"));
    for number in 0..3 {
        let item = client.call("Pyro.Daemon", "get_next_stream_item", vec![id()]).await;
        assert_eq!(item, Ok(PyValue::Int(number)));
    }
    let end = client.call("Pyro.Daemon", "get_next_stream_item", vec![id()]).await.expect_err("the end");
    assert_eq!(class(&end), "builtins.StopIteration");
    let end = client.call("Pyro.Daemon", "get_next_stream_item", vec![id()]).await.expect_err("closed");
    assert_eq!((class(&end), message(&end)), ("Pyro5.errors.PyroError", "item stream terminated"));
    client.send(Kind::Ping, Flags::default(), &PyValue::None).await;
    let pong = client.receive().await.expect("a reply");
    assert_eq!((pong.kind, pong.data.as_ref()), (Kind::Ping, &b"pong"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_closed_with_its_connection_and_only_so_many_are_open() {
    let bus = bus().await;
    bus.serve("odd", Odd).await;
    let gateway = bus.gateway("streams = 2").await;
    let mut client = PyroClient::connect(gateway.address, Version::Five, Serializer::Serpent, "odd").await;
    for open in [true, true, false] {
        let (frame, value) = client.invoke("odd", "count", vec![], Flags::default()).await;
        assert_eq!(frame.flags.has(Flags::ITEM_STREAM), open, "{value:?}");
    }
    assert_eq!(gateway.state.streams.count(), 2);
    drop(client);
    eventually(|| gateway.state.streams.count() == 0).await;
}

async fn eventually(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it holds in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_cut_off_and_counted() {
    let bus = bus().await;
    let gateway = bus.gateway("connect_ms = 200\nframe_ms = 200\nconnections = 3\nframe_bytes = 1024").await;
    let address = gateway.address;
    let ends = |bytes: &'static [u8]| async move {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(bytes).await.expect("written");
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed").ok();
        rest
    };
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PYRO\x01\xf6", b"", b"PYRO\0\x30\0\x01", &[0x16; 100]] {
        assert!(ends(bytes).await.is_empty());
    }
    let large = PyValue::Str("x".repeat(2_000));
    let stream = TcpStream::connect(gateway.address).await.expect("it listens");
    let limits = FrameLimits { bytes: 1 << 20 };
    let mut client = PyroClient {
        link: Link::new(stream, limits, None),
        version: Version::Five,
        serializer: Serializer::Serpent,
    };
    client.send(Kind::Connect, Flags::default(), &large).await;
    assert!(client.receive().await.is_err(), "too large");
    let counts = &gateway.state.counts;
    let read = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    // A connection is counted after its client has seen its end.
    eventually(|| (read(&counts.malformed), read(&counts.too_slow), read(&counts.connections)) == (3, 3, 0))
        .await;
    let held: Vec<_> =
        futures_util::future::join_all((0..3).map(|_| TcpStream::connect(gateway.address))).await;
    // Of those that are held, each is accepted before the next.
    let mut fourth = TcpStream::connect(gateway.address).await.expect("it listens");
    let mut byte = [0];
    let began = std::time::Instant::now();
    assert!(matches!(timeout(PATIENCE, fourth.read(&mut byte)).await.expect("closed"), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_millis(150), "closed at once, and not by the time limit");
    assert_eq!(read(&counts.turned_away), 1);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_server_lists_the_bus() {
    let bus = bus().await;
    bus.serve("calculator", CalculatorObject(Exact)).await;
    bus.serve("odd", Odd).await;
    let gateway = bus.gateway("registrations = 1").await;
    let own = gateway.address;
    let name_server = "Pyro.NameServer";
    let mut client = PyroClient::connect(own, Version::Five, Serializer::Serpent, name_server).await;
    let names = |value: PyValue| -> Vec<String> {
        let PyValue::Dict(members) = value else { panic!("a dict") };
        members.into_iter().map(|(name, _)| name.as_str().expect("a text").to_owned()).collect()
    };
    let all = client.call(name_server, "list", vec![]).await.expect("names");
    let uri = PyroUri::new("calculator", "127.0.0.1", own.port());
    assert_eq!(all.get("calculator"), Some(&text(&uri.to_string())));
    assert_eq!(names(all), [name_server, "calculator", "odd"]);
    assert_eq!(client.call(name_server, "count", vec![]).await, Ok(PyValue::Int(3)));
    assert_eq!(
        client.call(name_server, "lookup", vec![text("calculator")]).await,
        Ok(uri.to_python(Version::Five))
    );
    let tags = PyValue::Set(vec![text("odd")]);
    let found =
        client.call(name_server, "yplookup", vec![tags.clone(), PyValue::None, PyValue::Bool(false)]).await;
    assert_eq!(names(found.expect("names")), ["odd"]);
    let prefix = client.call(name_server, "list", vec![text("calc")]).await.expect("names");
    assert_eq!(names(prefix), ["calculator"]);
    let error = client.call(name_server, "lookup", vec![text("x")]).await.expect_err("unknown");
    assert_eq!((class(&error), message(&error)), ("Pyro5.errors.NamingError", "unknown name: x"));
    for (uri, expected) in [
        ("PYRO:x@10.0.0.1:5000", "`dial`"),
        ("PYRO:x@./u:socket", "unix sockets"),
        (&*PyroUri::new("x", "127.0.0.1", own.port()).to_string(), "gateway itself"),
    ] {
        let error = client.call(name_server, "register", vec![text("mine"), text(uri)]).await.expect_err(uri);
        assert!(message(&error).contains(expected), "{error:?}");
    }
    for name in ["calculator", "Pyro.NameServer", "Pyro.Daemon", ""] {
        let arguments = vec![text(name), text("PYRO:x@127.0.0.1:1")];
        let error = client.call(name_server, "register", arguments).await.expect_err(name);
        assert_eq!(class(&error), "Pyro5.errors.NamingError", "{name}");
    }
    let register = |name: &str, safe: bool| {
        vec![text(name), text("PYRO:x@127.0.0.1:1"), PyValue::Bool(safe), PyValue::List(vec![text("tag")])]
    };
    assert_eq!(client.call(name_server, "register", register("mine", true)).await, Ok(PyValue::None));
    let error = client.call(name_server, "register", register("mine", true)).await.expect_err("twice");
    assert_eq!(message(&error), "name already registered: mine");
    assert_eq!(client.call(name_server, "register", register("mine", false)).await, Ok(PyValue::None));
    let looked_up = client.call(name_server, "lookup", vec![text("mine"), PyValue::Bool(true)]).await;
    let uri = PyroUri::new("x", "127.0.0.1", 1).to_python(Version::Five);
    assert_eq!(looked_up, Ok(PyValue::Tuple(vec![uri, PyValue::Set(vec![text("tag")])])));
    assert_eq!(client.call(name_server, "remove", vec![text("calculator")]).await, Ok(PyValue::Int(0)));
    assert_eq!(client.call(name_server, "remove", vec![text("mine")]).await, Ok(PyValue::Int(1)));
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pyro_server_is_an_object_of_the_bus_while_it_is_there() {
    // A gateway on another bus is the server.
    let (bus, far) = (bus().await, bus().await);
    far.serve("calculator", CalculatorObject(Exact)).await;
    far.serve("odd", Odd).await;
    for version in [Version::Five, Version::Four] {
        let server = far.gateway("").await;
        let gateway = bus.gateway("lost_ms = 500").await;
        let mut client =
            PyroClient::connect(gateway.address, version, Serializer::Serpent, "Pyro.NameServer").await;
        for (name, object) in [("lab calculator", "calculator"), ("lab.odd", "odd")] {
            let uri = PyroUri::new(object, "localhost", server.address.port()).to_string();
            let arguments = vec![PyValue::text(name), PyValue::Str(uri)];
            client.call("Pyro.NameServer", "register", arguments).await.expect("registered");
        }
        let calculator = bus.client.object("lab_calculator");
        calculator.wait_for(PATIENCE).await.expect("served");
        assert_eq!(calculator.call::<u64>("add", (2, 3)).await.expect("a sum"), 5);
        assert_eq!(calculator.call::<u64>("add", json!({"a": 2, "b": 3})).await.expect("a sum"), 5);
        let fault = calculator.call::<f64>("div", (1, 0)).await.expect_err("a fault");
        assert_eq!(fault.fault().expect("a fault").data["kind"], "ZeroDivisionError");
        assert_eq!(
            calculator.call::<f64>("pow", ()).await.expect_err("a fault").code(),
            Some(Code::NO_SUCH_METHOD)
        );
        let odd = bus.client.object("lab.odd");
        odd.wait_for(PATIENCE).await.expect("served");
        let mut items = odd.request("count").stream::<u64>().await.expect("a stream");
        let mut counted = Vec::new();
        while let Some(item) = items.next().await {
            counted.push(item.expect("a number"));
        }
        assert_eq!(counted, [0, 1, 2]);
        // The other version reaches it by the bus, its own version directly.
        let other = if version == Version::Five { Version::Four } else { Version::Five };
        let mut visitor =
            PyroClient::connect(gateway.address, other, Serializer::Serpent, "Pyro.NameServer").await;
        let uri = visitor
            .call("Pyro.NameServer", "lookup", vec![PyValue::text("lab calculator")])
            .await
            .expect("a URI");
        let uri = PyroUri::of(&uri).expect("a URI");
        assert_eq!((&*uri.object, uri.port), ("lab_calculator", gateway.address.port()));
        let removed = client.call("Pyro.NameServer", "remove", vec![PyValue::text("lab.odd")]).await;
        assert_eq!(removed, Ok(PyValue::Int(1)));
        gone(&bus, "lab.odd").await;
        server.shutdown().await;
        gone(&bus, "lab_calculator").await;
        gateway.shutdown().await;
    }
}

/// Waits until nobody serves an object.
async fn gone(bus: &Bus, object: &str) {
    let name = object.parse().expect("a name");
    let follower = bus.client.registry().follow().await.expect("followed");
    follower.complete().await;
    let mut changes = follower.changes();
    timeout(PATIENCE, async {
        while follower.look(|view| view.is_served(&name)) {
            changes.changed().await.expect("the client goes on");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{object} is gone"));
}
