//! Nodes of these tests: this program, run as a separate process that can be killed. Executions are appended to a file,
//! in lines that are written atomically.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use rantai_client::interface;
use rantai_client::object::Stream;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::ClientId;
use rantai_nodes::{Node, ServeError, ServeOptions};
use tokio::time::sleep;

use crate::travel::links_of;

/// Object that is called.
#[interface]
pub(crate) trait Book {
    /// Returns the sum.
    #[method(read_only)]
    async fn sum(&self, a: u64, b: u64) -> Result<u64, Fault>;

    /// Records a number after `pause` milliseconds.
    async fn note(&self, id: u64, pause: u64) -> Result<u64, Fault>;

    /// Records a number, as a method marked `once`.
    #[method(once)]
    async fn once(&self, id: u64, pause: u64) -> Result<u64, Fault>;

    /// Streams the numbers below `to`.
    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault>;

    /// Never returns.
    async fn wait(&self, id: u64) -> Result<u64, Fault>;
}

/// Name that each node wants to serve alone.
pub(crate) const CROWN: &str = "crown";
/// Delay before a node claims a name again that another node has.
const AGAIN: Duration = Duration::from_millis(500);

/// Returns the result of `note` and `once`.
pub(crate) fn noted(id: u64) -> u64 {
    id.wrapping_mul(3) ^ 0x55
}

struct Pages(Arc<File>);

impl Pages {
    fn write(&self, method: &str, id: u64) {
        // A single write in append mode, so that the line is written as a whole or not at all.
        let _ = (&*self.0).write_all(format!("{method} {id}\n").as_bytes());
    }
}

impl Book for Pages {
    async fn sum(&self, a: u64, b: u64) -> Result<u64, Fault> {
        Ok(a + b)
    }

    async fn note(&self, id: u64, pause: u64) -> Result<u64, Fault> {
        self.write("note", id);
        sleep(Duration::from_millis(pause)).await;
        Ok(noted(id))
    }

    async fn once(&self, id: u64, pause: u64) -> Result<u64, Fault> {
        self.write("once", id);
        sleep(Duration::from_millis(pause)).await;
        Ok(noted(id))
    }

    async fn count(&self, to: u64) -> Result<impl Stream<Item = u64>, Fault> {
        Ok(stream::iter(0..to))
    }

    async fn wait(&self, _id: u64) -> Result<u64, Fault> {
        std::future::pending().await
    }
}

/// Not a test: a node, which is started by `World`.
#[tokio::test]
#[ignore = "a process of the other tests"]
async fn node_process() {
    let Ok(name) = std::env::var("RANTAI_FAULTS_NODE") else { return };
    let folder = PathBuf::from(std::env::var("RANTAI_FAULTS_FOLDER").expect("a folder"));
    let log = OpenOptions::new().append(true).create(true).open(folder.join(format!("{name}.log")));
    let log = Arc::new(log.expect("opened"));
    let address = std::env::var("RANTAI_FAULTS_URL").expect("a URL").parse().expect("an address");
    let root = std::env::var("RANTAI_FAULTS_ROOT").expect("a root").parse().expect("a root");
    let id = ClientId::new(&name).expect("a name");
    let builder = Node::builder(address).name(id).root(root).journal(folder.join(&name).join("once.redb"));
    let node = builder.patient().connect().await.expect("a node");
    let serve = async |object: &str, mode: Mode| {
        let options = ServeOptions { mode, ..ServeOptions::default() };
        node.serve_with(object, Arc::new(BookObject(Pages(log.clone()))), options).await.expect("served");
    };
    serve("book", Mode::Replica).await;
    serve(if name.ends_with("-a") { "lone" } else { "other" }, Mode::Exclusive).await;
    for (object, link) in links_of(&name) {
        node.serve(&object, link).await.expect("served");
    }
    loop {
        match node.serve(CROWN, BookObject(Pages(log.clone()))).await {
            Ok(()) => break,
            Err(ServeError::Taken { .. }) => sleep(AGAIN).await,
            Err(error) => panic!("{error}"),
        }
    }
    std::future::pending::<()>().await;
}
