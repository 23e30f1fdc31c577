//! Streamed results on the caller's side.

mod resumption;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use resumption::Resumption;

use super::patience::{Patience, undelivered, unserved};
use super::response::{Content, Response, response};
use super::unheard::cancellation;
use super::{Request, Settings};
use crate::error::CallError;
use crate::pending::{Arrived, Collected, Ticket};
use crate::presence::{CallLoss, PendingCall, SUBSCRIBE_AFTER, WATCH_AFTER};
use crate::registry::lost;
use crate::session::{Message, Publish, QoS, Unsent};
use crate::wire::fault::{Code, Fault};
use crate::wire::json::typed;
use crate::wire::name::{ClientId, MethodName, ObjectName};
use crate::wire::request::properties;
use crate::wire::stream::{Credit, MORE_METHOD, STREAM_PROPERTY, has_more, part_bytes, part_offset};
use crate::wire::topic::{CallTopic, ReplyTopic, Target};

/// Flow control window: bytes in flight or buffered here, besides one part.
const WINDOW: u64 = 256 << 10;

/// Items of a streamed result, in order.
///
/// Buffers about 256 KiB; reading slowly slows the method down. The stream has no overall deadline while items are read,
/// except [`until`](super::Proxy::until); not reading for the [`deadline`](super::Proxy::deadline) of the call ends it with
/// -32002. After a lost connection the missing items are retransmitted. Dropping it cancels the call.
pub struct Items<T> {
    state: State,
    part: std::vec::IntoIter<Value>,
    node: Option<ClientId>,
    of: PhantomData<fn() -> T>,
}

/// Result of [`Request::open`].
#[derive(Debug)]
pub enum Opened {
    /// A single result: the method does not stream, or its node does not support streams.
    Whole(Response),
    /// A stream.
    Items(Items<Value>),
}

enum State {
    Idle(Box<Reader>),
    Reading(Reading),
    Over,
}

/// Future of the next part; returns the reader with it.
type Reading = Pin<Box<dyn Future<Output = (Box<Reader>, Result<Vec<Value>, CallError>)> + Send>>;

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("waiting", &self.part.len()).finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    fn new(state: State, node: Option<ClientId>, items: Vec<Value>) -> Self {
        Self { state, part: items.into_iter(), node, of: PhantomData }
    }

    /// Returns the node that sends the items, if known.
    pub fn node(&self) -> Option<&ClientId> {
        self.node.as_ref()
    }

    /// Changes the item type.
    fn of_type<U>(self) -> Items<U> {
        Items { state: self.state, part: self.part, node: self.node, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Items<T> {
    /// Returns the next item, or `None` after the last. After an error there are no more items. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let items = self.get_mut();
        loop {
            if let Some(item) = items.part.next() {
                if let State::Idle(reader) = &mut items.state {
                    reader.keep();
                }
                let read = typed(item).map_err(|error| CallError::Result(error.to_string()));
                if read.is_err() {
                    items.part = Vec::new().into_iter();
                    items.state = State::Over;
                }
                return Poll::Ready(Some(read));
            }
            match &mut items.state {
                State::Over => return Poll::Ready(None),
                State::Reading(reading) => {
                    let (reader, read) = ready!(reading.as_mut().poll(context));
                    match read {
                        Ok(part) => {
                            items.part = part.into_iter();
                            items.state = if reader.is_over { State::Over } else { State::Idle(reader) };
                        }
                        Err(error) => {
                            items.state = State::Over;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                State::Idle(_) => {
                    let State::Idle(mut reader) = std::mem::replace(&mut items.state, State::Over) else {
                        unreachable!("looked at just before")
                    };
                    items.state = State::Reading(Box::pin(async move {
                        let part = reader.next_part().await;
                        (reader, part)
                    }));
                }
            }
        }
    }
}

impl Request {
    /// Sends the request and asks for a stream.
    ///
    /// # Errors
    ///
    /// No reply was received. Errors of the object are in the response.
    pub async fn open(mut self) -> Result<Opened, CallError> {
        self.user.push((STREAM_PROPERTY.to_owned(), WINDOW.to_string()));
        let key = self.key();
        let deadline = self.deadline();
        let mut patience = Patience::new(deadline);
        loop {
            let (request, error) = match self.open_once(key, deadline).await {
                Ok(opened) => return Ok(opened),
                Err((request, error)) => (*request, error),
            };
            let waited = match error.fault() {
                Some(fault) => patience.allows(&request, fault).await,
                None => false,
            };
            if !waited && !request.goes_again(&error) {
                return Err(error);
            }
            self = request;
        }
    }

    /// Sends the request and returns its result as a stream. A list result is returned as a stream of its elements.
    ///
    /// # Errors
    ///
    /// No reply was received, the object returned an error before the first item, or the result is not a list.
    pub async fn stream<T: DeserializeOwned>(self) -> Result<Items<T>, CallError> {
        match self.open().await? {
            Opened::Items(items) => Ok(items.of_type()),
            Opened::Whole(response) => {
                let node = response.node.as_deref().and_then(|node| ClientId::new(node).ok());
                match response.outcome.map_err(CallError::Fault)? {
                    Content::Value(Value::Array(items)) => Ok(Items::new(State::Over, node, items)),
                    _ => Err(CallError::Result("it is no list".to_owned())),
                }
            }
        }
    }

    async fn open_once(self, key: u128, deadline: Instant) -> Result<Opened, (Box<Self>, CallError)> {
        let (object, publish) = match self.ready(key, deadline, false).await {
            Ok(ready) => ready,
            Err(error) => return Err((Box::new(self), error)),
        };
        let client = &self.proxy.client;
        let (ticket, arrived) = client.pending().many(key, object.clone());
        if let Err(error) = client.outlet().send_now(publish, key) {
            return Err((Box::new(self), error.into()));
        }
        let now = Instant::now();
        let mut reader = Box::new(Reader {
            request: self,
            object,
            key,
            _ticket: ticket,
            arrived,
            sent: now,
            deadline,
            node: None,
            expected: 0,
            part_bytes: 0,
            taken_bytes: 0,
            granted: WINDOW,
            told: now,
            gap: None,
            resumption: Resumption::new(now),
            is_over: false,
        });
        match reader.first().await {
            Ok(First::Whole(response)) => match undelivered(&response, reader.target()).cloned() {
                Some(fault) => Err((Box::new(reader.request.clone()), fault.into())),
                None => Ok(Opened::Whole(response)),
            },
            Ok(First::Items(items)) => {
                let node = reader.node.clone();
                let state = if reader.is_over { State::Over } else { State::Idle(reader) };
                Ok(Opened::Items(Items::new(state, node, items)))
            }
            Err(error) => {
                reader.is_over = true;
                Err((Box::new(reader.request.clone()), error))
            }
        }
    }
}

enum First {
    Whole(Response),
    Items(Vec<Value>),
}

/// Content of a received message.
enum Read {
    Whole(Response),
    Items(Vec<Value>),
    /// A duplicate, or a part behind missing items.
    Again,
}

/// Receives the parts of one stream.
struct Reader {
    request: Request,
    object: ObjectName,
    key: u128,
    _ticket: Ticket,
    arrived: Collected,
    sent: Instant,
    /// Deadline of the first part.
    deadline: Instant,
    /// Node that sends the stream.
    node: Option<ClientId>,
    /// Items received in order: the expected offset of the next part.
    expected: u64,
    /// Bytes of the part being read.
    part_bytes: u64,
    /// Bytes of all parts before it.
    taken_bytes: u64,
    /// Credit granted so far, in bytes.
    granted: u64,
    /// Time of the last `rpc.more`.
    told: Instant,
    /// Time at which a retransmission was requested, while items are missing.
    gap: Option<Instant>,
    resumption: Resumption,
    is_over: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.is_over && self.request.identity.is_none() {
            self.cancel();
        }
    }
}

impl Reader {
    fn settings(&self) -> &Settings {
        &self.request.proxy.settings
    }

    fn target(&self) -> &Target {
        &self.settings().target
    }

    /// Receives the first message.
    async fn first(&mut self) -> Result<First, CallError> {
        loop {
            let deadline = self.deadline;
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(self.request.timed_out(&self.object)),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Read::Again)) => {}
                Ok(Ok(Read::Whole(response))) => {
                    self.is_over = true;
                    return Ok(First::Whole(response));
                }
                Ok(Ok(Read::Items(items))) => return Ok(First::Items(items)),
            }
        }
    }

    /// Returns the next part; the previous one has been read.
    async fn next_part(&mut self) -> Result<Vec<Value>, CallError> {
        self.taken_bytes += std::mem::take(&mut self.part_bytes);
        if self.taken_bytes + WINDOW >= self.granted + WINDOW / 2 {
            self.grant();
        }
        let read = self.wait_for_part().await;
        if read.is_err() && !self.is_over {
            self.cancel();
            self.is_over = true;
        }
        read
    }

    async fn wait_for_part(&mut self) -> Result<Vec<Value>, CallError> {
        let until = self.settings().until;
        loop {
            let renew = self.told + self.settings().deadline / 3;
            let over = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                read = self.receive() => match read? {
                    Read::Items(items) => return Ok(items),
                    Read::Again => {}
                    Read::Whole(response) => {
                        let fault = response.outcome.err().unwrap_or_else(|| {
                            Box::new(Fault::new(Code::BROKEN_OBJECT, "a reply that is no part of the stream"))
                        });
                        return Err(CallError::Fault(fault));
                    }
                },
                () = over => return Err(self.request.timed_out(&self.object)),
                // A part may have been lost with a connection of the node.
                () = sleep_until(renew) => self.send_more(true, 0),
            }
        }
    }

    /// Receives a message, or an error once no message can arrive. Cancel safe.
    async fn receive(&mut self) -> Result<Read, CallError> {
        let client = self.request.proxy.client.clone();
        let arrived = {
            let Self { request, object, key, sent, arrived, node, resumption, .. } = &mut *self;
            let Settings { qos, target, deadline, .. } = &request.proxy.settings;
            let sender = node.as_ref();
            let call = PendingCall { key: *key, object, target, sender, qos: *qos, sent: *sent };
            let gone = async {
                sleep(SUBSCRIBE_AFTER).await;
                client.subscribe_to_accepted();
                sleep(WATCH_AFTER.saturating_sub(SUBSCRIBE_AFTER)).await;
                client.presence().wait_for_loss(&client, &call).await
            };
            tokio::select! {
                biased;
                arrived = arrived.recv() => Ok(arrived),
                resumed = resumption.is_due(&client, *deadline) => {
                    resumed?;
                    self.resume();
                    return Ok(Read::Again);
                }
                loss = gone => Err(loss),
            }
        };
        match arrived {
            Ok(Some(Arrived::Reply(message))) => self.read(&message),
            Ok(Some(Arrived::Failed(Unsent::NobodyThere))) => match self.node.clone() {
                Some(node) => self.unreached(&node),
                None => Err(self.request.missing(&self.object, self.deadline).await),
            },
            Ok(Some(Arrived::Failed(Unsent::Lost))) if self.node.is_some() => {
                self.resumption.disconnected();
                Ok(Read::Again)
            }
            Ok(Some(Arrived::Failed(error))) => Err(error.into()),
            Ok(None) => Err(CallError::Unsent(Unsent::Ended)),
            Err(CallLoss::Absent) => Err(self.request.missing(&self.object, self.deadline).await),
            Err(CallLoss::Lost(node)) => Err(lost(&self.object, &node).into()),
        }
    }

    fn read(&mut self, message: &Message) -> Result<Read, CallError> {
        let response = response(&message.payload, &message.properties);
        let Some(from) = part_offset(&message.properties) else {
            return match self.node.clone() {
                Some(node) if unserved(&response).is_some() => self.unreached(&node),
                _ => Ok(Read::Whole(response)),
            };
        };
        let has_more = has_more(&message.properties);
        let broken = |text: &str| CallError::from(Fault::new(Code::BROKEN_OBJECT, text));
        let items = match response.outcome {
            Ok(Content::Value(Value::Array(items))) => items,
            Ok(_) => return Err(broken("a part of a stream that is no list")),
            Err(fault) => {
                self.is_over = true;
                return Err(CallError::Fault(fault));
            }
        };
        if has_more && from < self.expected {
            // Retransmitted.
            return Ok(Read::Again);
        }
        self.node = response.node.as_deref().and_then(|node| ClientId::new(node).ok()).or(self.node.take());
        if from != self.expected {
            // Items were lost with a connection, or dropped at QoS 0; this part is retransmitted after them.
            self.fill_gap()?;
            return Ok(Read::Again);
        }
        self.gap = None;
        self.expected += items.len() as u64;
        self.part_bytes += part_bytes(&message.payload);
        self.is_over = !has_more;
        Ok(Read::Items(items))
    }

    /// Sends `rpc.more` if the last one is too old, to keep the stream alive.
    fn keep(&mut self) {
        if self.told.elapsed() > self.settings().deadline / 3 {
            self.grant();
        }
    }

    /// Sends `rpc.more` with a full window.
    fn grant(&mut self) {
        self.send_more(false, 0);
    }

    fn send_more(&mut self, again: bool, token: u128) {
        self.granted = self.taken_bytes + WINDOW;
        self.told = Instant::now();
        if let Some(more) = self.more(again) {
            // Without a connection it is sent on the next one.
            let _ = self.request.proxy.client.outlet().send_now(more, token);
        }
    }

    /// Builds `rpc.more`; `None` if the node is not known yet.
    fn more(&self, again: bool) -> Option<Publish> {
        let client = &self.request.proxy.client;
        let root = client.root();
        let target = Target::Node(self.node.clone()?);
        let method = MethodName::new(MORE_METHOD).ok();
        let topic = CallTopic { target, object: self.object.clone(), method };
        let credit = Credit { taken: self.expected, bytes: self.granted, again };
        let ttl_ms = u64::try_from(self.settings().deadline.as_millis()).unwrap_or(u64::MAX);
        let reply_to = ReplyTopic::text(root, &self.object, client.id());
        let mut properties = properties(reply_to, &self.key.to_be_bytes(), ttl_ms);
        if let Some(caller) = &self.settings().caller {
            properties.user.push(("caller".to_owned(), caller.clone()));
            properties.user.push(("acting".to_owned(), "1".to_owned()));
        }
        Some(Publish {
            topic: topic.format(root).into(),
            payload: credit.params().to_string().into(),
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: false,
        })
    }

    /// Sends `rpc.cancel`.
    fn cancel(&self) {
        let target = self.node.clone().map_or_else(|| self.target().clone(), Target::Node);
        let deadline = Instant::now() + self.settings().deadline;
        let proxy = &self.request.proxy;
        if let Some(cancellation) = cancellation(proxy, &target, &self.object, self.key, deadline) {
            let _ = proxy.client.outlet().send_now(cancellation, 0);
        }
    }
}
