//! One connection to a broker, kept up: whoever holds a [`Session`] publishes and subscribes, one task owns the
//! socket.
//!
//! | Room | What |
//! |---|---|
//! | [`Address`] | `mqtt://user:password@host:port` |
//! | `outbox` | What is to be written, and what waits for its acknowledgement; no I/O |
//! | `frame` | Bytes to packets |
//! | `connection` | The task: connects, reads, writes, keeps alive |
//! | `backoff` | How long to wait before the next try |
//!
//! Reading and writing do not wait for each other: while the peer does not take what is written, what it sends
//! is still read, so that two clients which stream at each other cannot stall. Everything that is published
//! while the task is busy goes out in one write.

mod address;
mod backoff;
mod connection;
mod frame;
mod outbox;
mod stalls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use crate::wire::Properties;
use crate::wire::name::ClientId;
pub use address::{Address, AddressError};
use connection::PATIENCE;
use outbox::{Farewell, Outbox, Waiter};

/// Delivery guarantee. Rantai needs no more than at least once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// 0.
    AtMostOnce,
    /// 1.
    #[default]
    AtLeastOnce,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// To which topic.
    pub topic: ByteString,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// With which properties.
    pub properties: Properties,
    /// How surely.
    pub qos: QoS,
    /// Whether the broker keeps it as the topic's last value.
    pub retain: bool,
    /// At QoS 1: whether it waits for the next connection, and is sent again there if it was not acknowledged.
    /// Where it must not arrive twice, or late, this is false: [`Unsent::Lost`] says that nobody knows whether
    /// it arrived, [`Unsent::Offline`] that it did not.
    pub resend: bool,
}

impl Publish {
    /// A message at QoS 1 that is not retained and is sent again until it is acknowledged.
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            properties: Properties::default(),
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: true,
        }
    }

    /// With these properties.
    #[must_use]
    pub fn properties(self, properties: Properties) -> Self {
        Self { properties, ..self }
    }

    /// At this QoS.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Retained.
    #[must_use]
    pub fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    /// At most once, and on the present connection or not at all.
    #[must_use]
    pub fn once(self) -> Self {
        Self { resend: false, ..self }
    }
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// On which topic.
    pub topic: ByteString,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// With which properties.
    pub properties: Properties,
    /// At which QoS it was delivered.
    pub qos: QoS,
    /// Whether it is a stored copy (the broker says so while a subscription starts).
    pub retain: bool,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Which topics, wildcards and `$share/GROUP/` included.
    pub topic: String,
    /// The highest QoS they are delivered at.
    pub qos: QoS,
    /// Whether retained messages are wanted at the start.
    pub retained: bool,
    /// Whether it is made again after a reconnect.
    pub lasting: bool,
}

impl Filter {
    /// At QoS 1, with what is retained.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), qos: QoS::AtLeastOnce, retained: true, lasting: true }
    }

    /// At this QoS.
    #[must_use]
    pub fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// Without what is retained (retain handling 2).
    #[must_use]
    pub fn live(self) -> Self {
        Self { retained: false, ..self }
    }

    /// Until the connection ends, and no longer.
    #[must_use]
    pub fn passing(self) -> Self {
        Self { lasting: false, ..self }
    }
}

/// Whose task reads the socket tells this. None of it may block: the connection stands still meanwhile.
pub trait Receiver: Send + 'static {
    /// The connection is up, and remembered subscriptions are on their way.
    fn connected(&mut self) {}

    /// The connection is gone, and of what was published with [`Publish::once`] everything has been settled; the
    /// session goes on trying unless it has ended.
    fn disconnected(&mut self) {}

    /// A message.
    fn message(&mut self, message: Message);

    /// What became of a message published with a token.
    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        let _ = (token, result);
    }
}

/// Why a message did not reach the broker, or was not taken by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// Nobody subscribes to its topic (PUBACK 0x10), and it was not to be retained: it was thrown away.
    #[error("nobody subscribes to the topic")]
    NobodyThere,
    /// PUBACK 0x87.
    #[error("the broker does not allow it")]
    Denied,
    /// PUBACK 0x97: no subscriber that should take it has room in its queue; the same publish may succeed later.
    #[error("its subscribers take no more messages now")]
    Busy,
    /// Above the broker's limit, in bytes.
    #[error("a packet of {size} bytes; the broker takes {limit} at most")]
    TooLarge {
        /// The packet's size.
        size: usize,
        /// The broker's limit.
        limit: usize,
    },
    /// Any other refusal.
    #[error("the broker refused it ({0})")]
    Refused(&'static str),
    /// A topic that is none.
    #[error("{0:?} is no topic to publish to")]
    BadTopic(String),
    /// The connection was lost before the acknowledgement: it may have arrived or not.
    #[error("the connection was lost before the broker acknowledged it")]
    Lost,
    /// There is no connection, and the message does not wait for one: it was not sent.
    #[error("not connected to the broker")]
    Offline,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody listens there, or the network does not lead there.
    #[error("cannot reach the broker at {address}")]
    Unreachable {
        /// The address of the broker, without user name and password.
        address: String,
        /// What the system or library said.
        source: std::io::Error,
    },
    /// It does not answer as a broker in time.
    #[error("{address} did not answer as an MQTT 5 broker within {} s", .within.as_secs())]
    Silent {
        /// The address of the broker, without user name and password.
        address: String,
        /// The time it was given.
        within: Duration,
    },
    /// It refused: user name and password, client id, or that it is busy.
    #[error("the broker at {address} refused the connection: {reason}")]
    Refused {
        /// The address of the broker, without user name and password.
        address: String,
        /// Its words.
        reason: String,
    },
    /// It said what no broker says.
    #[error("{address} does not speak MQTT 5: {reason}")]
    Protocol {
        /// The address of the broker, without user name and password.
        address: String,
        /// What was wrong.
        reason: String,
    },
}

/// The last will: published by the broker when the connection ends without a farewell. Retained, at QoS 1.
#[derive(Clone, Debug)]
pub struct Will {
    /// To which topic.
    pub topic: String,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// Seconds after which the broker forgets it.
    pub expiry: Option<u32>,
}

/// What a session is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub address: Address,
    /// Who it is. Two sessions by one id end each other.
    pub client_id: ClientId,
    /// After how many seconds of silence a ping is sent; 1 to 65,535.
    pub keep_alive: u16,
    /// What the broker says when the session vanishes.
    pub will: Option<Will>,
    /// Seconds the broker keeps the session after a disconnect; 0 is a clean one every time.
    pub session_expiry: u32,
    /// The largest packet taken, in bytes; the broker passes over what is larger.
    pub max_packet: u32,
    /// Whether a broker that cannot be reached at the start is waited for.
    pub patient: bool,
}

impl Options {
    /// A clean session by this id.
    pub fn new(address: Address, client_id: ClientId) -> Self {
        Self {
            address,
            client_id,
            keep_alive: 30,
            will: None,
            session_expiry: 0,
            max_packet: 2 << 20,
            patient: false,
        }
    }
}

/// How a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It tries to connect.
    Offline,
    /// It is connected, for the nth time.
    Online(u64),
    /// It has ended, for this reason.
    Ended(String),
}

/// A connection to a broker, kept up; cheap to clone. When the last clone is dropped it says goodbye.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    options: Options,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Who leaves without a word is lost to the others: the broker says so.
        self.shared.close(Farewell::WithWill);
    }
}

/// Between the handles and the task.
#[derive(Debug)]
struct Shared {
    outbox: parking_lot::Mutex<Outbox>,
    /// The task has something to write, or to end.
    work: Notify,
    /// Whoever waits to publish may look again.
    room: Notify,
    status: watch::Sender<Status>,
}

impl Shared {
    fn close(&self, farewell: Farewell) {
        self.outbox.lock().closing.get_or_insert(farewell);
        self.work.notify_one();
    }

    fn ended(&self, reason: String) {
        self.status.send_replace(Status::Ended(reason));
        self.room.notify_waiters();
    }
}

/// A [`Session`] that does not keep it up: for the [`Receiver`] that publishes by it.
#[derive(Clone, Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
}

impl Session {
    /// Connects. The receiver is made with the way by which it may publish.
    ///
    /// # Errors
    ///
    /// Where the first try fails, unless [`Options::patient`]; later the session tries again by itself, after a
    /// random time of 0 to 2^n s and at most 60 s.
    pub async fn connect<R: Receiver>(
        options: Options,
        receiver: impl FnOnce(Outlet) -> R,
    ) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared {
            outbox: parking_lot::Mutex::new(Outbox::new(options.max_packet as usize)),
            work: Notify::new(),
            room: Notify::new(),
            status: watch::Sender::new(Status::Offline),
        });
        let receiver = receiver(Outlet { shared: shared.clone() });
        connection::start(options.clone(), shared.clone(), receiver).await?;
        Ok(Self { inner: Arc::new(Inner { shared, options }) })
    }

    /// The way to publish that does not keep the session up.
    pub fn outlet(&self) -> Outlet {
        Outlet { shared: self.inner.shared.clone() }
    }

    /// Follows how it is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// As [`Outlet::publish`].
    ///
    /// # Errors
    ///
    /// Those of [`Outlet::publish`].
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        self.outlet().publish(publish).await
    }

    /// Subscribes, and waits until the broker has granted it; also again after every reconnect, until
    /// [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    ///
    /// Where a filter was refused (none of them is kept then), or the connection was lost meanwhile.
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.outlet().subscribe(filters).await
    }

    /// Ends subscriptions, and waits until the broker has said so.
    ///
    /// # Errors
    ///
    /// Where the connection was lost meanwhile; they are not made again either way.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), SubscribeError> {
        self.outlet().unsubscribe(filters).await
    }

    /// The subscriptions a session cannot do without: tried again at every connection until they are granted.
    ///
    /// # Errors
    ///
    /// Where the broker refuses, or has not granted them within 10 s, unless [`Options::patient`].
    pub async fn begin(&self, filters: Vec<Filter>) -> Result<(), ConnectError> {
        let granted = async {
            loop {
                match self.subscribe(filters.clone()).await {
                    Err(SubscribeError::Lost) => {}
                    result => return result,
                }
            }
        };
        let Options { address, patient, .. } = &self.inner.options;
        let granted = if *patient { Ok(granted.await) } else { timeout(PATIENCE, granted).await };
        let address = address.to_string();
        match granted {
            Err(_) => Err(ConnectError::Silent { address, within: PATIENCE }),
            Ok(Err(error)) => Err(ConnectError::Refused { address, reason: error.to_string() }),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Writes what is to be written, says goodbye, and waits for the end, which comes within 10 s also where
    /// the broker takes nothing any more. Other clones end with it.
    pub async fn close(&self) {
        let mut status = self.status();
        self.inner.shared.close(Farewell::Normal);
        let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
    }
}

impl Outlet {
    /// Publishes, and waits until the broker has acknowledged it (at QoS 0: until it is handed to the task).
    /// Waits for a connection too. Cancelling leaves open whether it was published.
    ///
    /// # Errors
    ///
    /// Where it was refused or lost.
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        if publish.qos == QoS::AtMostOnce {
            return self.send(publish, 0).await;
        }
        let (told, result) = oneshot::channel();
        self.room().await?;
        self.append(publish, Waiter::Future(told))?;
        result.await.unwrap_or(Err(Unsent::Ended))
    }

    /// Publishes without waiting for the acknowledgement, of which the [`Receiver`] is told by `token` (0: it
    /// is not). Waits for room, and for a connection.
    ///
    /// # Errors
    ///
    /// What is known to be wrong at once.
    pub async fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.room().await?;
        self.append(publish, if token == 0 { Waiter::Nobody } else { Waiter::Token(token) })
    }

    /// The same without waiting: for what has to be said from the task that reads. It is taken above the limit
    /// as well; who calls this has its own bound.
    ///
    /// # Errors
    ///
    /// What is known to be wrong at once; at QoS 0 also that there is no connection.
    pub fn send_now(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.append(publish, if token == 0 { Waiter::Nobody } else { Waiter::Token(token) })
    }

    /// Follows how the session is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// How many bytes wait to be written or acknowledged.
    pub fn backlog(&self) -> usize {
        self.shared.outbox.lock().backlog()
    }

    /// As [`Session::subscribe`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::subscribe`].
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.room().await.map_err(|_| SubscribeError::Ended)?;
        let granted = {
            let mut outbox = self.shared.outbox.lock();
            let granted = outbox.subscribe(filters);
            self.wake(&mut outbox);
            granted
        };
        granted.await.unwrap_or(Err(SubscribeError::Lost))
    }

    /// As [`Session::unsubscribe`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::unsubscribe`].
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), SubscribeError> {
        let done = {
            let mut outbox = self.shared.outbox.lock();
            let done = outbox.unsubscribe(filters);
            self.wake(&mut outbox);
            done
        };
        match done {
            Some(done) => done.await.unwrap_or(Err(SubscribeError::Lost)),
            // There is no connection, and so no subscription.
            None => Ok(()),
        }
    }

    /// Ends subscriptions without waiting for the broker's word.
    pub fn unsubscribe_now(&self, filters: Vec<String>) {
        let mut outbox = self.shared.outbox.lock();
        drop(outbox.unsubscribe(filters));
        self.wake(&mut outbox);
    }

    /// Takes subscriptions out of those that are made again at a reconnect, without a word to the broker.
    pub fn forget(&self, filters: &[String]) {
        self.shared.outbox.lock().forget(filters);
    }

    fn append(&self, publish: Publish, waiter: Waiter) -> Result<(), Unsent> {
        let mut outbox = self.shared.outbox.lock();
        outbox.publish(publish, waiter)?;
        self.wake(&mut outbox);
        Ok(())
    }

    fn wake(&self, outbox: &mut Outbox) {
        if !outbox.awake {
            outbox.awake = true;
            self.shared.work.notify_one();
        }
    }

    /// Waits until there is a connection with room to publish. Cancelling changes nothing.
    ///
    /// # Errors
    ///
    /// Where the session has ended.
    pub async fn room(&self) -> Result<(), Unsent> {
        loop {
            let look_again = self.shared.room.notified();
            tokio::pin!(look_again);
            {
                let mut outbox = self.shared.outbox.lock();
                if outbox.closing.is_some() {
                    return Err(Unsent::Ended);
                }
                if outbox.has_room() {
                    return Ok(());
                }
                outbox.wanted = true;
                // Before the lock is let go, or the word could be missed.
                look_again.as_mut().enable();
            }
            look_again.await;
        }
    }
}

/// Why a subscription was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The broker refused a filter.
    #[error("the broker refused the subscription to {filter}: {reason}")]
    Refused {
        /// The topic filter.
        filter: String,
        /// Why the broker refused it.
        reason: &'static str,
    },
    /// The connection was lost first.
    #[error("the connection was lost before the broker answered")]
    Lost,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}
