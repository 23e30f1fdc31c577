//! Results that come item by item.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::response::{Content, Response, response};
use super::unheard::cancellation;
use super::{Request, Settings};
use crate::error::CallError;
use crate::pending::{Arrived, Collected, Ticket};
use crate::presence::{EARLY, Fate, SILENCE, Silent};
use crate::registry::lost;
use crate::session::{Message, Publish, QoS, Unsent};
use crate::wire::fault::{Code, Fault};
use crate::wire::json::typed;
use crate::wire::name::{ClientId, MethodName, ObjectName};
use crate::wire::request::properties;
use crate::wire::stream::{ASKED, Credit, MORE_METHOD, has_more, items_before, part_bytes};
use crate::wire::topic::{CallTopic, ReplyTopic, Target};

/// Bytes of payload that may be on their way, or wait here, beside one part.
const WINDOW: u64 = 256 << 10;
/// How long a node is left until it is asked once more whether it has the stream.
const AGAIN: Duration = Duration::from_millis(250);

/// The items of a result, in their order, as they come.
///
/// At most about 256 KiB of them wait here or are on their way: whoever takes them slowly slows the object. Whoever takes none
/// for as long as the [`deadline`](super::Proxy::deadline) loses the stream; while it is waited for the next item the stream goes
/// on for as long as the object does, and [`until`](super::Proxy::until). It survives a lost connection where its node does.
/// Dropping it cancels the call.
pub struct Items<T> {
    state: State,
    part: std::vec::IntoIter<Value>,
    node: Option<ClientId>,
    of: PhantomData<fn() -> T>,
}

/// What came of a request that takes its result item by item.
#[derive(Debug)]
pub enum Opened {
    /// A result as a whole: of a method that has no stream, or on a node that knows none.
    Whole(Response),
    /// Items.
    Items(Items<Value>),
}

enum State {
    Idle(Box<Reader>),
    Reading(Reading),
    Over,
}

/// A part that is waited for, and who waits for it.
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

    /// The node that they come from, as far as it says so.
    pub fn node(&self) -> Option<&ClientId> {
        self.node.as_ref()
    }

    /// The same items, read as another type.
    fn of_type<U>(self) -> Items<U> {
        Items { state: self.state, part: self.part, node: self.node, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Items<T> {
    /// The next item; `None` behind the last. An error is the last of all. Cancelling loses nothing.
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
    /// Sends it, and takes its result item by item where the method has a stream.
    ///
    /// # Errors
    ///
    /// What keeps it from an answer. What the object itself says instead of items is in the response.
    pub async fn open(mut self) -> Result<Opened, CallError> {
        self.user.push((ASKED.to_owned(), WINDOW.to_string()));
        let key = self.key();
        let deadline = self.deadline();
        loop {
            match self.open_once(key, deadline).await {
                Err((request, error)) if request.goes_again(&error) => self = *request,
                Err((_, error)) => return Err(error),
                Ok(opened) => return Ok(opened),
            }
        }
    }

    /// Sends it, and takes its result item by item. A list, as a method without a stream returns it, is taken for its items.
    ///
    /// # Errors
    ///
    /// What keeps it from an answer, what the object says before the first item, and a result that is no list.
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
            is_over: false,
        });
        match reader.first().await {
            Ok(First::Whole(response)) => Ok(Opened::Whole(response)),
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

/// What a message brings.
enum Read {
    Whole(Response),
    Items(Vec<Value>),
    /// Nothing new.
    Again,
}

/// Reads the parts of one stream.
struct Reader {
    request: Request,
    object: ObjectName,
    key: u128,
    _ticket: Ticket,
    arrived: Collected,
    sent: Instant,
    /// Until when the first part is waited for.
    deadline: Instant,
    /// Who sends it.
    node: Option<ClientId>,
    /// Items that have arrived.
    expected: u64,
    /// Bytes of the part that is being taken.
    part_bytes: u64,
    /// Bytes of the parts before it.
    taken_bytes: u64,
    /// Bytes that the node may send.
    granted: u64,
    /// When the node was told last how much it may send.
    told: Instant,
    /// When the node was first asked to send again what has not arrived.
    gap: Option<Instant>,
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

    /// Waits for whatever comes first.
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

    /// The next items; those before have been taken.
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
                () = sleep_until(renew) => self.grant(),
            }
        }
    }

    /// Waits for a message, or until it is known that none will come. Cancelling loses nothing.
    async fn receive(&mut self) -> Result<Read, CallError> {
        let client = self.request.proxy.client.clone();
        let arrived = {
            let Self { request, object, key, sent, arrived, .. } = &mut *self;
            let Settings { qos, target, .. } = &request.proxy.settings;
            let call = Silent { key: *key, object, target, qos: *qos, sent: *sent };
            let gone = async {
                sleep(EARLY).await;
                client.hear_acceptance();
                sleep(SILENCE.saturating_sub(EARLY)).await;
                client.presence().fate(&client, &call).await
            };
            tokio::select! {
                biased;
                arrived = arrived.recv() => Ok(arrived),
                fate = gone => Err(fate),
            }
        };
        match arrived {
            Ok(Some(Arrived::Reply(message))) => self.read(&message),
            Ok(Some(Arrived::Failed(Unsent::NobodyThere))) if self.node.is_none() => {
                Err(self.request.missing(&self.object, self.deadline).await)
            }
            Ok(Some(Arrived::Failed(Unsent::Lost))) if self.node.is_some() => {
                self.resume().await?;
                Ok(Read::Again)
            }
            Ok(Some(Arrived::Failed(error))) => Err(error.into()),
            Ok(None) => Err(CallError::Unsent(Unsent::Ended)),
            Err(Fate::Absent) => Err(self.request.missing(&self.object, self.deadline).await),
            Err(Fate::Lost(node)) => Err(lost(&self.object, &node).into()),
        }
    }

    fn read(&mut self, message: &Message) -> Result<Read, CallError> {
        let response = response(&message.payload, &message.properties);
        let Some(from) = items_before(&message.properties) else {
            return Ok(Read::Whole(response));
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
            // Sent again, after a connection was lost.
            return Ok(Read::Again);
        }
        self.node = response.node.as_deref().and_then(|node| ClientId::new(node).ok()).or(self.node.take());
        if from != self.expected {
            // What was between was lost with a connection, or dropped at QoS 0: it comes again, and so does this behind it.
            self.fill_gap()?;
            return Ok(Read::Again);
        }
        self.gap = None;
        self.expected += items.len() as u64;
        self.part_bytes += part_bytes(&message.payload);
        self.is_over = !has_more;
        Ok(Read::Items(items))
    }

    /// Tells the node that it is still waited for, where that was not said for long.
    fn keep(&mut self) {
        if self.told.elapsed() > self.settings().deadline / 3 {
            self.grant();
        }
    }

    /// Tells the node how much it may send.
    fn grant(&mut self) {
        self.granted = self.taken_bytes + WINDOW;
        self.told = Instant::now();
        if let Some(more) = self.more(false) {
            // Where there is no connection, the stream is asked for again at the next one.
            let _ = self.request.proxy.client.outlet().send_now(more, 0);
        }
    }

    /// `rpc.more`.
    fn more(&self, again: bool) -> Option<Publish> {
        let client = &self.request.proxy.client;
        let root = client.root();
        let target = Target::Node(self.node.clone()?);
        let method = MethodName::new(MORE_METHOD).ok();
        let topic = CallTopic { target, object: self.object.clone(), method };
        let credit = Credit { taken: self.expected, bytes: self.granted, again };
        let ttl_ms = u64::try_from(self.settings().deadline.as_millis()).unwrap_or(u64::MAX);
        let reply_to = ReplyTopic::to(root, &self.object, client.id());
        let mut properties = properties(&reply_to, &self.key.to_be_bytes(), ttl_ms);
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

    /// Asks for the items that have not arrived once more, unless that was done.
    ///
    /// # Errors
    ///
    /// Where they do not come within the deadline.
    fn fill_gap(&mut self) -> Result<(), CallError> {
        match self.gap {
            None => {
                self.gap = Some(Instant::now());
                if let Some(more) = self.more(true) {
                    let _ = self.request.proxy.client.outlet().send_now(more, 0);
                }
                Ok(())
            }
            Some(since) if since.elapsed() < self.settings().deadline => Ok(()),
            Some(_) => Err(Fault::new(Code::BROKEN_OBJECT, "items of a stream are missing").into()),
        }
    }

    /// The connection was lost, and with it whatever was on its way: asks for that once more, on the next connection.
    async fn resume(&mut self) -> Result<(), CallError> {
        let deadline = Instant::now() + self.settings().deadline;
        let deadline = self.settings().until.map_or(deadline, |until| until.min(deadline));
        loop {
            let client = self.request.proxy.client.clone();
            let more = self.more(true).ok_or(CallError::Lost)?;
            let asked = timeout_at(deadline, async {
                client.outlet().room().await?;
                client.publish(more).await
            });
            match asked.await {
                Ok(Ok(())) => {
                    let now = Instant::now();
                    (self.told, self.gap) = (now, Some(now));
                    return Ok(());
                }
                // Its node has not come back yet.
                Ok(Err(Unsent::NobodyThere | Unsent::Lost | Unsent::Offline)) => sleep(AGAIN).await,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(CallError::Lost),
            }
        }
    }

    /// Cancels the call at its node.
    fn cancel(&self) {
        let target = self.node.clone().map_or_else(|| self.target().clone(), Target::Node);
        let deadline = Instant::now() + self.settings().deadline;
        let proxy = &self.request.proxy;
        if let Some(cancellation) = cancellation(proxy, &target, &self.object, self.key, deadline) {
            let _ = proxy.client.outlet().send_now(cancellation, 0);
        }
    }
}
