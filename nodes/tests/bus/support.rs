//! A bus for one test.

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::{Broker, Config};
use rantai_client::Client;
use rantai_client::client::random_id;
use rantai_client::object::{Answer, Answering, Call, Description, Method, Object, no_such_method};
use rantai_client::session::Address;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::{ClientId, Root};
use rantai_nodes::Node;

/// No wait in these tests is longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A broker, or a part of one.
pub(crate) struct Bus {
    /// Stopped when dropped; none where the broker is somebody else's.
    pub(crate) broker: Option<Broker>,
    pub(crate) address: Address,
    pub(crate) root: Root,
}

/// On an embedded broker, or on that of `RANTAI_TEST_BROKER`.
pub(crate) async fn bus() -> Bus {
    match std::env::var("RANTAI_TEST_BROKER") {
        Ok(url) => {
            let root = Root::new(&format!("{}/{}", root("test"), random_id("t"))).expect("a root");
            Bus { broker: None, address: url.parse().expect("RANTAI_TEST_BROKER is an address"), root }
        }
        Err(_) => embedded(Config::on_free_port()).await,
    }
}

/// On an embedded broker in any case.
pub(crate) async fn embedded(config: Config) -> Bus {
    let broker = Broker::start(config).await.expect("a broker starts");
    let address = Address::local(broker.addresses()[0].port());
    Bus { broker: Some(broker), address, root: root("rantai") }
}

/// The root of `RANTAI_TEST_ROOT`, else this one.
fn root(otherwise: &str) -> Root {
    let root = std::env::var("RANTAI_TEST_ROOT").unwrap_or_else(|_| otherwise.to_owned());
    Root::new(&root).expect("RANTAI_TEST_ROOT is a root")
}

impl Bus {
    pub(crate) async fn client(&self) -> Client {
        Client::builder(self.address.clone()).root(self.root.clone()).connect().await.expect("a client")
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

/// An object with one method, `run`.
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

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
