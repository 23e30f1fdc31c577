//! Bus for one test: a broker, or a part of one, with a root of topics.

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::{Broker, Config, Cost, Record, User};
use rantai_client::Client;
use rantai_client::client::random_id;
use rantai_client::object::{Answer, Answering, Call, Description, Method, Object, no_such_method};
use rantai_client::session::{Address, TlsFiles};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::{ClientId, Root};
use rantai_nodes::Node;
use rantai_testing::{Place, Stream, server_files};

use super::listen;
use super::users::{ADMIN, CALLING, SERVING, log_in, with_users};

/// Time limit of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Broker, or a part of one.
pub(crate) struct Bus {
    /// Stopped when dropped; `None` if the broker is an external one.
    pub(crate) broker: Option<Broker>,
    /// Address that the broker listens on.
    pub(crate) place: Place,
    pub(crate) address: Address,
    pub(crate) root: Root,
}

/// Creates a bus on an embedded broker, or on that of `RANTAI_TEST_BROKER`.
pub(crate) async fn bus() -> Bus {
    match foreign() {
        Some(bus) => bus,
        None => embedded(Config::on_free_port()).await,
    }
}

/// Creates buses on one broker, each with another root below that of the test. The first one owns the broker.
pub(crate) async fn buses_below(levels: impl FnOnce(&str) -> Vec<String>) -> Vec<Bus> {
    let foreign = foreign();
    let above = foreign.as_ref().map_or_else(|| root("rantai"), |bus| bus.root.clone());
    let below = |levels: String| Root::new(&format!("{above}/{levels}")).expect("a root");
    let roots: Vec<Root> = levels(above.as_str()).into_iter().map(below).collect();
    let Bus { mut broker, place, address, .. } = match foreign {
        Some(bus) => bus,
        None => open(with_users(Config::on_free_port(), &roots)).await,
    };
    let bus = |root| Bus { broker: broker.take(), place: place.clone(), address: address.clone(), root };
    roots.into_iter().map(bus).collect()
}

/// Creates a bus on the broker of `RANTAI_TEST_BROKER`, if it is set.
fn foreign() -> Option<Bus> {
    let url = std::env::var("RANTAI_TEST_BROKER").ok()?;
    let root = Root::new(&format!("{}/{}", root("test"), random_id("t"))).expect("a root");
    let place = url.parse().unwrap_or_else(|error| panic!("RANTAI_TEST_BROKER is a URL: {error}"));
    let address = url.parse::<Address>().expect("RANTAI_TEST_BROKER is an address");
    Some(Bus { broker: None, place, address: trusting(address), root })
}

/// Creates a bus on an embedded broker, whatever `RANTAI_TEST_BROKER` is.
pub(crate) async fn embedded(mut config: Config) -> Bus {
    let root = root("rantai");
    config.bus_roots = vec![root.to_string()];
    open(with_users(config, &[root])).await
}

/// Creates a bus on an embedded broker with the users of this configuration only.
pub(crate) async fn open(config: Config) -> Bus {
    let has_users = config.users.iter().any(|user| user.name == SERVING);
    let (broker, place) = listen::start(config).await.expect("a broker starts");
    let address = address_of(&place);
    let address = if has_users { log_in(address, SERVING) } else { address };
    Bus { broker: Some(broker), place, address, root: root("rantai") }
}

/// Restarts the broker of a bus at the same address, with the users of [`embedded`].
pub(crate) async fn again(bus: &Bus) -> Broker {
    let config = with_users(Config::on_free_port(), &[root("rantai")]);
    listen::start_again(config, &bus.place).await.expect("the same port").0
}

/// Returns the address of a place, without a user.
pub(crate) fn address_of(place: &Place) -> Address {
    trusting(place.to_string().parse().expect("an address"))
}

/// Adds the certificate authority of these tests to an address.
fn trusting(address: Address) -> Address {
    if !address.uses_tls() {
        return address;
    }
    address.with_tls(TlsFiles { ca: Some(server_files().ca.clone()), ..TlsFiles::default() })
}

/// Returns the root of `RANTAI_TEST_ROOT`, or `otherwise`.
fn root(otherwise: &str) -> Root {
    let root = std::env::var("RANTAI_TEST_ROOT").unwrap_or_else(|_| otherwise.to_owned());
    Root::new(&root).expect("RANTAI_TEST_ROOT is a root")
}

impl Bus {
    /// Connects a client that calls, and watches events.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(CALLING).await
    }

    /// Connects a client of another user than [`client`](Self::client), which may do everything.
    pub(crate) async fn admin(&self) -> Client {
        self.client_of(ADMIN).await
    }

    async fn client_of(&self, user: &str) -> Client {
        let address = match self.address.user() {
            Some(SERVING) => log_in(self.address.clone(), user),
            _ => self.address.clone(),
        };
        Client::builder(address).root(self.root.clone()).connect().await.expect("a client")
    }

    /// Returns the address of a relay on this port, which forwards the bytes of any transport.
    pub(crate) fn through(&self, port: u16, user: &str) -> Address {
        log_in(address_of(&self.place.through(port)), user)
    }

    /// Opens a connection without sending anything.
    pub(crate) async fn open(&self) -> Stream {
        self.place.open().await.expect("it listens")
    }

    pub(crate) async fn node(&self) -> Node {
        self.named_node(random_id("node").as_str()).await
    }

    pub(crate) async fn named_node(&self, name: &str) -> Node {
        let name = ClientId::new(name).expect("a name");
        let builder = Node::builder(self.address.clone()).root(self.root.clone()).name(name);
        builder.connect().await.expect("a node")
    }
}

/// Object with one method, `run`.
pub(crate) struct Run<F>(pub(crate) F);

impl<F, A> Object for Run<F>
where
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Answer, Fault>> + Send + 'static,
{
    fn description(&self) -> Description {
        let method = Method { name: "run".to_owned(), ..Method::default() };
        Description { methods: vec![method], ..Description::default() }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        if call.method.as_str() != "run" {
            let fault = no_such_method(call.method.as_str(), &["run"]);
            return Box::pin(async { Err(fault) });
        }
        Box::pin((self.0)(call))
    }
}

/// Creates a user of a broker whose password is fast to check.
pub(crate) fn user(name: &str, password: &str) -> User {
    User::new(name, Some(Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed")))
}

/// Waits until a condition is true.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
