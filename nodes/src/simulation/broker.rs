//! A broker of the simulation: retained messages, subscriptions and wills, behind links that delay and break.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::session::{Filter, Publish, Status, SubscribeError, Unsent};
use rantai_client::wire::entry::Entry;
use rantai_client::wire::topic::matches;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::announcer::{Announcer, Origin};
use crate::bus::{Bus, Operation};
use crate::dispatch::Served;

/// Longest way of a message in one direction, in milliseconds.
const LONGEST_DELAY_MS: u64 = 80;
/// Longest time until one side notices that a link is broken, in milliseconds.
const LONGEST_SILENCE_MS: u64 = 3_000;

type Sender<E> = oneshot::Sender<Result<(), E>>;

/// The broker and the clients' ends of its links.
pub(super) struct FakeBroker {
    pub(super) state: Mutex<BrokerState>,
    chance: Environment,
    began: Instant,
}

#[derive(Default)]
pub(super) struct BrokerState {
    pub(super) retained: BTreeMap<String, Bytes>,
    pub(super) clients: BTreeMap<String, FakeClient>,
    pub(super) trace: Vec<String>,
    /// Moments at which more than one client was subscribed to the calls.
    pub(super) violations: Vec<String>,
}

pub(super) struct FakeClient {
    pub(super) announcer: Option<Arc<Announcer>>,
    pub(super) served: Arc<Served>,
    status: watch::Sender<Status>,
    will: (String, Bytes),
    own_topics: Vec<String>,
    /// The number of the present or last connection.
    connection: u64,
    /// Whether the link carries messages.
    carries: bool,
    /// Whether the client believes that it is connected.
    online: bool,
    /// Whether the broker believes that it is.
    connected: bool,
    pub(super) filters: BTreeSet<String>,
    /// When the last message arrives, up and down: none overtakes another.
    arrivals: [Instant; 2],
    sent: u64,
    unacknowledged: BTreeMap<u64, (Publish, Option<Sender<Unsent>>)>,
}

impl FakeBroker {
    pub(super) fn new(chance: Environment) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), chance, began: Instant::now() })
    }

    /// Adds a client that is not connected.
    pub(super) fn add(
        self: &Arc<Self>,
        node: &str,
        served: Arc<Served>,
        will: (String, Bytes),
        own_topics: Vec<String>,
    ) -> FakeBus {
        let client = FakeClient {
            announcer: None,
            served,
            status: watch::Sender::new(Status::Offline),
            will,
            own_topics,
            connection: 0,
            carries: false,
            online: false,
            connected: false,
            filters: BTreeSet::new(),
            arrivals: [Instant::now(); 2],
            sent: 0,
            unacknowledged: BTreeMap::new(),
        };
        self.state.lock().clients.insert(node.to_owned(), client);
        FakeBus { broker: self.clone(), node: node.to_owned() }
    }

    /// Connects a client that has noticed the end of its last connection; false where it has not.
    pub(super) fn connect(self: &Arc<Self>, node: &str) -> bool {
        self.forget_session(node);
        let (announcer, own_topics, unsent, connection) = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            if client.online {
                return false;
            }
            (client.carries, client.online, client.connected) = (true, true, true);
            client.connection += 1;
            let unsent: Vec<u64> = client.unacknowledged.keys().copied().collect();
            let announcer = client.announcer.clone().expect("it has one");
            (announcer, client.own_topics.clone(), unsent, client.connection)
        };
        self.note(&format!("{node} connects"));
        self.subscribe(node, own_topics, oneshot::channel().0);
        for number in unsent {
            self.transmit(node, number);
        }
        announcer.connected();
        let state = self.state.lock();
        state.clients[node].status.send_replace(Status::Online(connection));
        true
    }

    /// Breaks a link. Each side notices in its own time.
    pub(super) fn cut(self: &Arc<Self>, node: &str) {
        let connection = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            if !std::mem::take(&mut client.carries) {
                return;
            }
            client.connection
        };
        self.note(&format!("{node} is cut off"));
        let (broker, name) = (self.clone(), node.to_owned());
        let silence = self.wait(LONGEST_SILENCE_MS);
        tokio::spawn(async move {
            sleep(silence).await;
            if broker.state.lock().clients[&name].connection == connection {
                broker.forget_session(&name);
            }
        });
        let (broker, name) = (self.clone(), node.to_owned());
        let silence = self.wait(LONGEST_SILENCE_MS);
        tokio::spawn(async move {
            sleep(silence).await;
            // Only now it may connect again: this is still the same connection.
            broker.notice(&name);
        });
    }

    /// A client is gone, and with it the broker that it was connected to: nobody publishes its will.
    pub(super) fn vanish(&self, node: &str) {
        self.note(&format!("{node} vanishes"));
        let mut state = self.state.lock();
        let client = state.clients.get_mut(node).expect("a client");
        client.filters.clear();
        (client.carries, client.online, client.connected) = (false, false, false);
        client.status.send_replace(Status::Offline);
    }

    /// A client ends its session in order, so that its will is not published.
    fn end(&self, node: &str, reason: &str) {
        let mut state = self.state.lock();
        let client = state.clients.get_mut(node).expect("a client");
        client.filters.clear();
        (client.carries, client.online, client.connected) = (false, false, false);
        client.status.send_replace(Status::Ended(reason.to_owned()));
    }

    /// What somebody else writes on a retained topic.
    pub(super) fn write(self: &Arc<Self>, topic: &str, payload: Vec<u8>) {
        self.receive(&Publish::new(topic.to_owned(), payload).retain());
    }

    /// The connection status of a client, as itself knows it.
    pub(super) fn status(&self, node: &str) -> Status {
        self.state.lock().clients[node].status.borrow().clone()
    }

    /// Clients that are subscribed to the calls, and reached by them: of a node that is cut off before it has settled, the
    /// broker keeps the session for a while.
    pub(super) fn holders(&self) -> Vec<String> {
        let state = self.state.lock();
        let holds = |client: &FakeClient| {
            client.carries && client.filters.iter().any(|filter| filter.starts_with("$share/"))
        };
        state.clients.iter().filter(|(_, client)| holds(client)).map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn note(&self, text: &str) {
        let line = format!("{} {text}", self.began.elapsed().as_millis());
        self.state.lock().trace.push(line);
    }

    fn wait(&self, longest_ms: u64) -> Duration {
        Duration::from_millis(1 + self.chance.random_below(longest_ms))
    }

    /// A client notices that its connection is lost.
    fn notice(&self, node: &str) {
        let announcer = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            client.online = false;
            for (publish, sender) in client.unacknowledged.values_mut() {
                if let Some(sender) = sender.take_if(|_| !publish.resend) {
                    let _ = sender.send(Err(Unsent::Lost));
                }
            }
            client.unacknowledged.retain(|_, (publish, _)| publish.resend);
            client.announcer.clone().expect("it has one")
        };
        announcer.disconnected();
        self.state.lock().clients[node].status.send_replace(Status::Offline);
    }

    /// The broker ends a session: subscriptions go, and the will is published.
    fn forget_session(self: &Arc<Self>, node: &str) {
        let will = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            client.filters.clear();
            std::mem::take(&mut client.connected).then(|| client.will.clone())
        };
        if let Some((topic, payload)) = will {
            self.note(&format!("the broker misses {node}"));
            self.receive(&Publish::new(topic, payload).retain());
        }
    }

    /// Runs `action` at the other end of a link, unless the link breaks before; `way` is 0 up and 1 down.
    fn carry(self: &Arc<Self>, node: &str, way: usize, action: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let delay = self.wait(LONGEST_DELAY_MS);
        let (arrival, connection) = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            let earliest = client.arrivals[way] + Duration::from_millis(1);
            client.arrivals[way] = earliest.max(Instant::now() + delay);
            (client.arrivals[way], client.connection)
        };
        let (broker, node) = (self.clone(), node.to_owned());
        tokio::spawn(async move {
            sleep_until(arrival).await;
            let arrives = {
                let state = broker.state.lock();
                let client = &state.clients[&node];
                client.carries && client.connection == connection
            };
            if arrives {
                action(&broker);
            }
        });
    }

    fn publish(self: &Arc<Self>, node: &str, publish: Publish, sender: Option<Sender<Unsent>>) {
        let number = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            client.sent += 1;
            client.unacknowledged.insert(client.sent, (publish, sender));
            client.online.then_some(client.sent)
        };
        if let Some(number) = number {
            self.transmit(node, number);
        }
    }

    fn transmit(self: &Arc<Self>, node: &str, number: u64) {
        let publish = self.state.lock().clients[node].unacknowledged[&number].0.clone();
        let name = node.to_owned();
        self.carry(node, 0, move |broker| {
            broker.receive(&publish);
            broker.carry(&name.clone(), 1, move |broker| {
                let mut state = broker.state.lock();
                let client = state.clients.get_mut(&name).expect("a client");
                if let Some((_, Some(sender))) = client.unacknowledged.remove(&number) {
                    let _ = sender.send(Ok(()));
                }
            });
        });
    }

    /// A message arrives at the broker.
    fn receive(self: &Arc<Self>, publish: &Publish) {
        let topic = publish.topic.to_string();
        self.note(&format!("{topic} {}", String::from_utf8_lossy(&publish.payload)));
        if let Some(rest) = topic.strip_prefix("rantai/at/") {
            // The one request there is here: to give the name up.
            let node = rest.split('/').next().unwrap_or_default().to_owned();
            self.carry(&node.clone(), 1, move |broker| {
                let (announcer, served) = {
                    let client = &broker.state.lock().clients[&node];
                    (client.announcer.clone().expect("it has one"), client.served.clone())
                };
                if announcer.is_claimed_by(&served.name, None) {
                    served.yielded.notify_one();
                }
            });
            return;
        }
        let receivers: Vec<String> = {
            let mut state = self.state.lock();
            if publish.payload.is_empty() {
                state.retained.remove(&topic);
            } else {
                state.retained.insert(topic.clone(), publish.payload.clone());
            }
            let wants = |client: &FakeClient| client.filters.iter().any(|filter| matches(filter, &topic));
            state.clients.iter().filter(|(_, client)| wants(client)).map(|(node, _)| node.clone()).collect()
        };
        for node in receivers {
            self.deliver(&node, topic.clone(), publish.payload.clone(), false);
        }
    }

    fn deliver(self: &Arc<Self>, node: &str, topic: String, payload: Bytes, stored: bool) {
        let name = node.to_owned();
        self.carry(node, 1, move |broker| {
            let announcer = broker.state.lock().clients[&name].announcer.clone();
            announcer.expect("it has one").registry(&topic, &payload, Origin { stored, ..Origin::default() });
        });
    }

    fn subscribe(self: &Arc<Self>, node: &str, filters: Vec<String>, sender: Sender<SubscribeError>) {
        let name = node.to_owned();
        self.carry(node, 0, move |broker| {
            let retained: Vec<(String, Bytes)> = {
                let mut state = broker.state.lock();
                let client = state.clients.get_mut(&name).expect("a client");
                client.filters.extend(filters.iter().cloned());
                let new = |topic: &String| filters.iter().any(|filter| matches(filter, topic));
                let retained = state.retained.iter().filter(|(topic, _)| new(topic));
                retained.map(|(topic, payload)| (topic.clone(), payload.clone())).collect()
            };
            let holders = broker.holders();
            broker.note(&format!("{name} subscribes to {filters:?}: {holders:?}"));
            if holders.len() > 1 {
                let line = format!("{} {holders:?}", broker.began.elapsed().as_millis());
                broker.state.lock().violations.push(line);
            }
            broker.carry(&name, 1, move |_| drop(sender.send(Ok(()))));
            for (topic, payload) in retained {
                broker.deliver(&name, topic, payload, true);
            }
        });
    }

    fn unsubscribe(self: &Arc<Self>, node: &str, filters: Vec<String>, sender: Sender<SubscribeError>) {
        let name = node.to_owned();
        self.carry(node, 0, move |broker| {
            broker.note(&format!("{name} unsubscribes from {filters:?}"));
            {
                let mut state = broker.state.lock();
                let client = state.clients.get_mut(&name).expect("a client");
                client.filters.retain(|filter| !filters.contains(filter));
            }
            broker.carry(&name, 1, move |_| drop(sender.send(Ok(()))));
        });
    }
}

/// The bus of one client.
pub(super) struct FakeBus {
    broker: Arc<FakeBroker>,
    node: String,
}

impl std::fmt::Debug for FakeBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeBus({})", self.node)
    }
}

impl FakeBus {
    async fn online(&self) {
        let _ = self.status().wait_for(|status| matches!(status, Status::Online(_))).await;
    }
}

impl Bus for FakeBus {
    fn status(&self) -> watch::Receiver<Status> {
        self.broker.state.lock().clients[&self.node].status.subscribe()
    }

    fn end(&self, reason: &str) {
        self.broker.note(&format!("{} ends: {reason}", self.node));
        self.broker.end(&self.node, reason);
    }

    fn send_now(&self, publish: Publish) -> Result<(), Unsent> {
        self.broker.publish(&self.node, publish, None);
        Ok(())
    }

    fn send(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(async move {
            self.online().await;
            self.send_now(publish)
        })
    }

    fn publish(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(async move {
            self.online().await;
            let (sender, result) = oneshot::channel();
            self.broker.publish(&self.node, publish, Some(sender));
            result.await.unwrap_or(Err(Unsent::Ended))
        })
    }

    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError> {
        Box::pin(async move {
            self.online().await;
            let (sender, result) = oneshot::channel();
            let filters = filters.into_iter().map(|filter| filter.topic).collect();
            self.broker.subscribe(&self.node, filters, sender);
            result.await.unwrap_or(Err(SubscribeError::Lost))
        })
    }

    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError> {
        Box::pin(async move {
            if *self.status().borrow() == Status::Offline {
                return Ok(());
            }
            let (sender, result) = oneshot::channel();
            self.broker.unsubscribe(&self.node, filters, sender);
            result.await.unwrap_or(Err(SubscribeError::Lost))
        })
    }

    fn answers<'a>(&'a self, holder: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            sleep(self.broker.wait(2 * LONGEST_DELAY_MS)).await;
            let reached = self.broker.state.lock().clients.get(&holder.node).is_some_and(|node| node.carries);
            if !reached {
                sleep(Duration::from_secs(3)).await;
            }
            reached
        })
    }
}
