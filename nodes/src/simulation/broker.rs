//! Simulated broker: retained messages, subscriptions and wills, with links that delay and break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::session::{Publish, Status, SubscribeError, Unsent};
use rantai_client::wire::topic::matches;
use rantai_testing::Record;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::bus::FakeBus;
use super::client::FakeClient;
use super::odds::Links;
use crate::announcer::Origin;
use crate::dispatch::Served;

/// Time for which nodes may take a name from each other after another client has written in place of one.
const REPAIR: Duration = Duration::from_secs(5);

pub(super) type Sender<E> = oneshot::Sender<Result<(), E>>;

/// Broker, and the client side of its links.
pub(super) struct FakeBroker {
    pub(super) state: Mutex<BrokerState>,
    pub(super) links: Links,
    pub(super) record: Record,
    chance: Environment,
    began: Instant,
}

#[derive(Default)]
pub(super) struct BrokerState {
    pub(super) retained: BTreeMap<String, Bytes>,
    /// Clients by process name.
    pub(super) clients: BTreeMap<String, FakeClient>,
    /// Times at which calls reached more than one client that were not all replicas.
    pub(super) violations: Vec<String>,
    /// Time at which another client has last written in place of a node.
    forged: Option<Instant>,
}

impl FakeBroker {
    pub(super) fn new(chance: Environment, links: Links, record: Record) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), links, record, chance, began: Instant::now() })
    }

    /// Adds a process without a connection.
    pub(super) fn add(
        self: &Arc<Self>,
        node: &str,
        id: &str,
        served: Arc<Served>,
        will: (String, Bytes),
        own_topics: Vec<String>,
    ) -> FakeBus {
        let client = FakeClient::new(id, served, will, own_topics);
        self.state.lock().clients.insert(node.to_owned(), client);
        FakeBus { broker: self.clone(), node: node.to_owned() }
    }

    /// Connects a client; returns false if it has not noticed the end of its last connection, does not reach the
    /// broker, or has ended.
    pub(super) fn connect(self: &Arc<Self>, node: &str) -> bool {
        {
            let state = self.state.lock();
            let client = &state.clients[node];
            let has_ended = matches!(client.status.now(), Status::Ended(_));
            if client.online || has_ended || Instant::now() < client.unreachable {
                return false;
            }
        }
        self.take_over(node);
        let (announcer, own_topics, unsent, connection) = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            (client.carries, client.online, client.connected) = (true, true, true);
            client.connection += 1;
            let unsent: Vec<u64> = client.unacknowledged.keys().copied().collect();
            let announcer = client.announcer.clone().expect("it has one");
            (announcer, client.own_topics.clone(), unsent, client.connection)
        };
        self.note(&format!("{node} connects"));
        self.subscribe(node, own_topics, oneshot::channel().0);
        if !unsent.is_empty() {
            self.record.reached("a message is sent again");
        }
        for number in unsent {
            self.transmit(node, number);
        }
        announcer.connected();
        self.set_status(node, Status::Online(connection));
        true
    }

    /// Ends the sessions of all other processes with the id of this process, which connects.
    fn take_over(self: &Arc<Self>, node: &str) {
        self.forget_session(node);
        let others: Vec<String> = {
            let state = self.state.lock();
            let id = &state.clients[node].id;
            let has_id = |(other, client): &(&String, &FakeClient)| *other != node && client.id == *id;
            let others = state.clients.iter().filter(has_id).filter(|(_, client)| client.connected);
            others.map(|(other, _)| other.clone()).collect()
        };
        for other in others {
            self.note(&format!("{node} takes over from {other}"));
            self.forget_session(&other);
            let carried =
                std::mem::take(&mut self.state.lock().clients.get_mut(&other).expect("a client").carries);
            if !carried {
                continue;
            }
            self.record.reached("a node takes the connection of another one with its id");
            let says_so = self.happens(self.links.says_taken_over);
            let (broker, delay) = (self.clone(), self.wait(self.links.longest_delay_ms));
            tokio::spawn(async move {
                sleep(delay).await;
                if says_so {
                    broker.record.reached("a node is told that another one has its id");
                    broker.end(&other, "taken over");
                } else {
                    broker.notice(&other);
                }
            });
        }
    }

    /// Breaks a link. Each side notices that after its own delay.
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
        let silence = self.wait(self.links.longest_silence_ms);
        tokio::spawn(async move {
            sleep(silence).await;
            if broker.state.lock().clients[&name].connection == connection {
                broker.forget_session(&name);
            }
        });
        let (broker, name) = (self.clone(), node.to_owned());
        let silence = self.wait(self.links.longest_silence_ms);
        tokio::spawn(async move {
            sleep(silence).await;
            // From now on the client may connect again, if this is still the same connection.
            broker.notice(&name);
        });
    }

    /// Breaks a link that cannot be restored before this time.
    pub(super) fn cut_until(self: &Arc<Self>, node: &str, time: Instant) {
        self.state.lock().clients.get_mut(node).expect("a client").unreachable = time;
        self.cut(node);
    }

    /// Kills a process; the broker notices the end of its connection.
    pub(super) fn kill(self: &Arc<Self>, node: &str) {
        self.cut(node);
        self.note(&format!("{node} is killed"));
        self.set_status(node, Status::Ended("killed".to_owned()));
    }

    /// Kills the broker and starts it again: it keeps its retained messages, and publishes no wills.
    pub(super) fn restart(self: &Arc<Self>) {
        self.note("the broker is killed");
        let nodes: Vec<String> = {
            let mut state = self.state.lock();
            for client in state.clients.values_mut() {
                client.filters.clear();
                client.connected = false;
            }
            state.clients.keys().cloned().collect()
        };
        for node in nodes {
            self.cut(&node);
        }
    }

    /// Removes a client together with the broker that it was connected to, so that nobody publishes its will.
    pub(super) fn vanish(&self, node: &str) {
        self.note(&format!("{node} vanishes"));
        let mut state = self.state.lock();
        let client = state.clients.get_mut(node).expect("a client");
        client.filters.clear();
        (client.carries, client.online, client.connected) = (false, false, false);
        client.status.set(Status::Ended("killed".to_owned()));
    }

    /// Ends a client's session in order, so that its will is not published.
    pub(super) fn end(&self, node: &str, reason: &str) {
        self.note(&format!("{node} ends: {reason}"));
        let mut state = self.state.lock();
        let client = state.clients.get_mut(node).expect("a client");
        client.filters.clear();
        (client.carries, client.online, client.connected) = (false, false, false);
        client.status.set(Status::Ended(reason.to_owned()));
    }

    /// Writes on a retained topic, as another client.
    pub(super) fn write(self: &Arc<Self>, topic: &str, payload: Vec<u8>) {
        self.receive(&Publish::new(topic.to_owned(), payload).retain());
    }

    /// Writes on a node's topic, as another client. Until the node has repaired that, another node may take its name.
    pub(super) fn forge(self: &Arc<Self>, topic: &str, payload: Vec<u8>) {
        self.state.lock().forged = Some(Instant::now());
        self.write(topic, payload);
    }

    /// Makes the broker refuse a client's subscriptions to this filter from now on.
    pub(super) fn refuse(&self, node: &str, filter: &str) {
        let mut state = self.state.lock();
        state.clients.get_mut(node).expect("a client").refused.insert(filter.to_owned());
    }

    /// Makes the broker reachable for all processes from now on.
    pub(super) fn reach_all(&self) {
        for client in self.state.lock().clients.values_mut() {
            client.unreachable = Instant::now();
        }
    }

    /// Returns the connection status as the client sees it.
    pub(super) fn status(&self, node: &str) -> Status {
        self.state.lock().clients[node].status.now().clone()
    }

    fn set_status(&self, node: &str, status: Status) {
        self.state.lock().clients.get_mut(node).expect("a client").status.set(status);
    }

    /// Returns a receiver of a client's connection status, for one task.
    pub(super) fn follow(&self, node: &str) -> watch::Receiver<Status> {
        self.state.lock().clients.get_mut(node).expect("a client").status.follow()
    }

    /// Returns the clients that are subscribed to the calls and reachable: after a node is cut off before it has
    /// settled, the broker keeps its session for a while.
    pub(super) fn holders(&self) -> Vec<String> {
        let state = self.state.lock();
        let holds = |client: &FakeClient| {
            client.carries && client.filters.iter().any(|filter| filter.starts_with("$share/"))
        };
        state.clients.iter().filter(|(_, client)| holds(client)).map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn note(&self, text: &str) {
        self.record.note(format!("{} {text}", self.began.elapsed().as_millis()));
    }

    /// Draws an event with this probability.
    fn happens(&self, percent: u64) -> bool {
        self.chance.random_below(100) < percent
    }

    pub(super) fn wait(&self, longest_ms: u64) -> Duration {
        Duration::from_millis(1 + self.chance.random_below(longest_ms))
    }

    /// Makes a client notice that its connection is lost.
    fn notice(&self, node: &str) {
        let announcer = {
            let mut state = self.state.lock();
            let client = state.clients.get_mut(node).expect("a client");
            client.online = false;
            if matches!(client.status.now(), Status::Ended(_)) {
                return;
            }
            for (publish, sender) in client.unacknowledged.values_mut() {
                if let Some(sender) = sender.take_if(|_| !publish.resend) {
                    let _ = sender.send(Err(Unsent::Lost));
                }
            }
            client.unacknowledged.retain(|_, (publish, _)| publish.resend);
            client.announcer.clone().expect("it has one")
        };
        announcer.disconnected();
        self.set_status(node, Status::Offline);
    }

    /// Ends a session: removes its subscriptions, and publishes its will.
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

    /// Runs `action` at the other end of a link, unless the link breaks before; `way` is 0 for up and 1 for down.
    fn carry(self: &Arc<Self>, node: &str, way: usize, action: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let delay = self.wait(self.links.longest_delay_ms);
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
                broker.record.event();
                action(&broker);
            }
        });
    }

    pub(super) fn publish(self: &Arc<Self>, node: &str, publish: Publish, sender: Option<Sender<Unsent>>) {
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

    /// Handles a message that arrives at the broker.
    fn receive(self: &Arc<Self>, publish: &Publish) {
        let topic = publish.topic.to_string();
        self.note(&format!("{topic} {}", String::from_utf8_lossy(&publish.payload)));
        if let Some(rest) = topic.strip_prefix("rantai/at/") {
            // The only kind of request in this simulation: to give the name up.
            let id = rest.split('/').next().unwrap_or_default();
            let Some(node) = self.connected_as(id) else { return };
            self.carry(&node.clone(), 1, move |broker| {
                let (announcer, served) = {
                    let client = &broker.state.lock().clients[&node];
                    (client.announcer.clone().expect("it has one"), client.served.clone())
                };
                if announcer.is_claimed_by(&served.name, None) {
                    broker.record.reached("a holder is asked to give its name up");
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
            // Once for each filter that matches, as some brokers deliver.
            if self.happens(self.links.duplicates) {
                self.record.reached("a message comes twice");
                self.deliver(&node, topic.clone(), publish.payload.clone(), false);
            }
        }
    }

    /// Returns the process that is connected with this id.
    pub(super) fn connected_as(&self, id: &str) -> Option<String> {
        let state = self.state.lock();
        let mut clients = state.clients.iter();
        clients.find(|(_, client)| client.id == id && client.connected).map(|(node, _)| node.clone())
    }

    fn deliver(self: &Arc<Self>, node: &str, topic: String, payload: Bytes, stored: bool) {
        let name = node.to_owned();
        self.carry(node, 1, move |broker| {
            let announcer = broker.state.lock().clients[&name].announcer.clone();
            announcer.expect("it has one").registry(&topic, &payload, Origin { stored, ..Origin::default() });
        });
    }

    pub(super) fn subscribe(
        self: &Arc<Self>,
        node: &str,
        filters: Vec<String>,
        sender: Sender<SubscribeError>,
    ) {
        let name = node.to_owned();
        self.carry(node, 0, move |broker| {
            let retained: Vec<(String, Bytes)> = {
                let mut state = broker.state.lock();
                let client = state.clients.get_mut(&name).expect("a client");
                let granted = filters.iter().filter(|filter| !client.refused.contains(*filter));
                client.filters.extend(granted.cloned());
                let new = |topic: &String| filters.iter().any(|filter| matches(filter, topic));
                let retained = state.retained.iter().filter(|(topic, _)| new(topic));
                retained.map(|(topic, payload)| (topic.clone(), payload.clone())).collect()
            };
            let holders = broker.holders();
            broker.note(&format!("{name} subscribes to {filters:?}: {holders:?}"));
            if holders.len() > 1 {
                let mut state = broker.state.lock();
                if holders.iter().all(|holder| state.clients[holder].is_replica) {
                    broker.record.reached("replicas share the name");
                } else if state.forged.is_none_or(|time| time.elapsed() > REPAIR) {
                    state.violations.push(format!("{} {holders:?}", broker.began.elapsed().as_millis()));
                }
            }
            let refused =
                filters.iter().find(|filter| broker.state.lock().clients[&name].refused.contains(*filter));
            let granted = refused.map_or(Ok(()), |filter| {
                Err(SubscribeError::Refused { filter: filter.clone(), reason: "not authorized".into() })
            });
            broker.carry(&name, 1, move |_| drop(sender.send(granted)));
            for (topic, payload) in retained {
                broker.deliver(&name, topic, payload, true);
            }
        });
    }

    pub(super) fn unsubscribe(
        self: &Arc<Self>,
        node: &str,
        filters: Vec<String>,
        sender: Sender<SubscribeError>,
    ) {
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
