//! Serves the object `broker` on each bus of the broker in this process.

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::{Administration, Broker, BrokerThread, Connector, LocalCredentials, Page, Reloader};
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::{BROKER, Root};
use rantai_nodes::{Node, ServeOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::interface::BrokerAdministrationObject;
use super::object::Administrator;
use crate::embedded::own_broker;

/// Time that the start waits for the object to be served. It takes milliseconds, unless the disk or the machine is
/// slow.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for calls to end, and for the registry entries to be removed, when the process ends.
const END_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum number of entries of earlier processes that are cleared.
const MAX_LEFTOVERS: usize = 100;

/// Handles of a broker in this process.
pub(crate) struct EmbeddedBroker {
    administration: Option<Administration>,
    reloader: Option<Reloader>,
    connector: Option<Connector>,
    credentials: Option<LocalCredentials>,
}

/// Object that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Administered {
    stop: watch::Sender<bool>,
    nodes: JoinSet<()>,
}

impl From<&Broker> for EmbeddedBroker {
    fn from(broker: &Broker) -> Self {
        Self {
            administration: broker.administration(),
            reloader: broker.reloader(),
            connector: broker.connector(),
            credentials: broker.local_credentials(),
        }
    }
}

impl From<&BrokerThread> for EmbeddedBroker {
    fn from(broker: &BrokerThread) -> Self {
        Self {
            administration: broker.administration(),
            reloader: broker.reloader(),
            connector: broker.connector(),
            credentials: broker.local_credentials(),
        }
    }
}

impl Administered {
    /// Serves the object on the buses below these roots, each by its own node; does nothing if the broker cannot be
    /// administered (rumqttd). Returns once it is served, or after a second, and then continues in the background.
    pub(crate) async fn start(broker: EmbeddedBroker, roots: &[String]) -> Self {
        let mut administered = Self { stop: watch::Sender::new(false), nodes: JoinSet::new() };
        let EmbeddedBroker { administration: Some(administration), connector: Some(connector), .. } = broker
        else {
            return administered;
        };
        let object = Administrator { administration, reloader: broker.reloader, roots: roots.to_vec() };
        let (served, mut all_served) = mpsc::channel::<()>(1);
        for root in roots {
            let (object, served) = (object.clone(), served.clone());
            let (connector, credentials) = (connector.clone(), broker.credentials.clone());
            let (root, stop) = (root.clone(), administered.stop.subscribe());
            administered.nodes.spawn(async move {
                match serve(object, &root, connector, credentials).await {
                    Ok(node) => {
                        drop(served);
                        stopped(stop).await;
                        node.drain(END_TIMEOUT).await;
                    }
                    Err(why) => tracing::warn!("the object {BROKER} is not served below {root}: {why}"),
                }
            });
        }
        drop(served);
        // Nothing is sent: the channel closes when the last node serves it, or cannot.
        let _ = timeout(START_TIMEOUT, all_served.recv()).await;
        administered
    }

    /// Ends calls and removes the object from the registry, within a fraction of a second.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.nodes.join_next().await.is_some() {} };
        // The broker stops next, whether the registry entries were removed or not.
        let _ = timeout(END_TIMEOUT * 2, all).await;
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the handle that could stop it is gone.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Serves the object by a new node.
async fn serve(
    object: Administrator,
    root: &str,
    connector: Connector,
    credentials: Option<LocalCredentials>,
) -> Result<Node, String> {
    let root = Root::new(root).map_err(|error| error.to_string())?;
    clear_leftovers(&object.administration, &root).await;
    let address = own_broker(Some(connector), None, credentials);
    let node = Node::builder(address).root(root).patient().connect().await;
    let node = node.map_err(|error| error.to_string())?;
    // The broker reserves the name, so that a claim need not be contested.
    let options = ServeOptions { mode: Mode::Replica, ..ServeOptions::default() };
    let object = Arc::new(BrokerAdministrationObject(object));
    node.serve_with(BROKER, object, options).await.map_err(|error| error.to_string())?;
    Ok(node)
}

/// Deletes the entries of earlier processes that were killed, and the states of their nodes: only this process serves
/// the object.
async fn clear_leftovers(administration: &Administration, root: &Root) {
    let entries = format!("{root}/name/{BROKER}/");
    let page = Page { after: None, most: MAX_LEFTOVERS };
    let Ok(left) = administration.retained(format!("{entries}+"), page).await else { return };
    for node in left.items.iter().filter_map(|entry| entry.topic.strip_prefix(&entries)) {
        for topic in [format!("{root}/node/{node}"), format!("{entries}{node}")] {
            if let Err(error) = administration.delete_retained(topic, 1).await {
                tracing::debug!("what an earlier process has left stays: {error}");
            }
        }
    }
}
