//! Reader of a streamed result: puts its parts in order, grants credit, and resumes the stream after lost connections.

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::patience::unserved;
use super::response::{Content, Response, response};
use super::resumption::Resumption;
use super::unheard::cancellation;
use super::{ProxySettings, Request};
use crate::error::CallError;
use crate::pending::{Arrived, Collected, Ticket};
use crate::presence::{CallLoss, PendingCall, SUBSCRIBE_AFTER, WATCH_AFTER};
use crate::registry::lost;
use crate::session::{Message, Publish, QoS, Unsent};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, MethodName, ObjectName};
use crate::wire::request::head;
use crate::wire::stream::{Credit, MORE_METHOD, has_more, part_bytes, part_offset};
use crate::wire::topic::{CallTopic, Target};

/// Flow control window: bytes in flight or buffered here, besides one part.
pub(super) const WINDOW: u64 = 256 << 10;

pub(super) enum First {
    Whole(Response),
    Items(Vec<Value>),
}

/// Content of a received message.
pub(super) enum ReceivedPart {
    Whole(Response),
    Items(Vec<Value>),
    /// A duplicate, or a part that arrived before missing items.
    Again,
}

/// Receives the parts of one stream.
pub(super) struct Reader {
    pub(super) request: Request,
    pub(super) object: ObjectName,
    pub(super) key: u128,
    _ticket: Ticket,
    arrived: Collected,
    sent: Instant,
    /// Deadline of the first part.
    deadline: Instant,
    /// Node that sends the stream.
    pub(super) node: Option<ClientId>,
    /// Number of items received in order, which is the expected offset of the next part.
    expected: u64,
    /// Bytes of the part being read.
    part_bytes: u64,
    /// Bytes of all parts before it.
    taken_bytes: u64,
    /// Credit granted so far, in bytes.
    granted: u64,
    /// Time of the last `rpc.more`.
    pub(super) told: Instant,
    /// Time at which a retransmission was requested, while items are missing.
    pub(super) gap: Option<Instant>,
    pub(super) resumption: Resumption,
    pub(super) is_over: bool,
    /// Whether the request went out in plain form.
    pub(super) is_plain: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.is_over && self.request.identity.is_none() {
            self.cancel();
        }
    }
}

impl Reader {
    /// Creates the reader of a stream whose request is sent now.
    pub(super) fn new(
        request: Request,
        object: ObjectName,
        (key, ticket, arrived): (u128, Ticket, Collected),
        deadline: Instant,
    ) -> Self {
        let now = Instant::now();
        Self {
            request,
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
            is_plain: true,
        }
    }

    pub(super) fn settings(&self) -> &ProxySettings {
        &self.request.proxy.settings
    }

    pub(super) fn target(&self) -> &Target {
        &self.settings().target
    }

    /// Receives the first message.
    pub(super) async fn first(&mut self) -> Result<First, CallError> {
        loop {
            let deadline = self.deadline;
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(self.request.timed_out(&self.object)),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(ReceivedPart::Again)) => {}
                Ok(Ok(ReceivedPart::Whole(response))) => {
                    self.is_over = true;
                    return Ok(First::Whole(response));
                }
                Ok(Ok(ReceivedPart::Items(items))) => return Ok(First::Items(items)),
            }
        }
    }

    /// Receives the next part, after the previous one has been read.
    pub(super) async fn next_part(&mut self) -> Result<Vec<Value>, CallError> {
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
                    ReceivedPart::Items(items) => return Ok(items),
                    ReceivedPart::Again => {}
                    ReceivedPart::Whole(response) => return Err(self.ended(response)),
                },
                () = over => return Err(self.request.timed_out(&self.object)),
                // The last part may have been lost with a connection of the node.
                () = sleep_until(renew) => self.send_more(true, 0),
            }
        }
    }

    /// Returns the error of a stream that ends with a reply that is not part of it.
    fn ended(&self, response: Response) -> CallError {
        match (response.outcome.err(), &self.node) {
            // The node was restarted, or has dropped the stream: the parts that were sent in the meantime are lost.
            (Some(fault), Some(node)) if matches!(fault.code, Code::MISMATCH | Code::UNKNOWN_OBJECT) => {
                lost(&self.object, node).into()
            }
            (Some(fault), _) => CallError::Fault(fault),
            (None, _) => Fault::new(Code::BROKEN_OBJECT, "a reply that is no part of the stream").into(),
        }
    }

    /// Receives a message, or an error once no message can arrive. Cancel safe.
    async fn receive(&mut self) -> Result<ReceivedPart, CallError> {
        let client = self.request.proxy.client.clone();
        let arrived = {
            let Self { request, object, key, sent, arrived, node, resumption, is_plain, .. } = &mut *self;
            let ProxySettings { qos, target, deadline, .. } = &request.proxy.settings;
            let sender = node.as_ref();
            let call = PendingCall {
                key: *key,
                object,
                target,
                sender,
                qos: *qos,
                sent: *sent,
                is_plain: *is_plain,
            };
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
                    return Ok(ReceivedPart::Again);
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
                Ok(ReceivedPart::Again)
            }
            Ok(Some(Arrived::Failed(error))) => Err(error.into()),
            Ok(None) => Err(CallError::Unsent(Unsent::Ended)),
            Err(CallLoss::Absent) => Err(self.request.missing(&self.object, self.deadline).await),
            Err(CallLoss::Lost(node)) => Err(lost(&self.object, &node).into()),
        }
    }

    fn read(&mut self, message: &Message) -> Result<ReceivedPart, CallError> {
        let response = response(&message.payload, &message.properties);
        let Some(from) = part_offset(&message.properties) else {
            return match self.node.clone() {
                Some(node) if unserved(&response).is_some() => self.unreached(&node),
                _ => Ok(ReceivedPart::Whole(response)),
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
            // A retransmitted part that was received before.
            return Ok(ReceivedPart::Again);
        }
        self.node = response.node.as_deref().and_then(|node| ClientId::new(node).ok()).or(self.node.take());
        if from != self.expected {
            // Items were lost with a connection, or dropped at QoS 0; this part is retransmitted after them.
            self.fill_gap()?;
            return Ok(ReceivedPart::Again);
        }
        self.gap = None;
        self.resumption.settled();
        self.expected += items.len() as u64;
        self.part_bytes += part_bytes(&message.payload);
        self.is_over = !has_more;
        Ok(ReceivedPart::Items(items))
    }

    /// Sends `rpc.more` if the last one is too old, to keep the stream alive.
    pub(super) fn keep(&mut self) {
        if self.told.elapsed() > self.settings().deadline / 3 {
            self.grant();
        }
    }

    /// Sends `rpc.more` with a full window.
    fn grant(&mut self) {
        self.send_more(false, 0);
    }

    pub(super) fn send_more(&mut self, again: bool, token: u128) {
        self.granted = self.taken_bytes + WINDOW;
        self.told = Instant::now();
        if let Some(more) = self.more(again) {
            // Without a connection it is sent on the next one.
            let _ = self.request.proxy.client.outlet().send_now(more, token);
        }
    }

    /// Builds `rpc.more`; `None` if the node is not known yet.
    pub(super) fn more(&self, again: bool) -> Option<Publish> {
        let client = &self.request.proxy.client;
        let root = client.root();
        let target = Target::Node(self.node.clone()?);
        let method = MethodName::new(MORE_METHOD).ok();
        let topic = CallTopic { target, object: self.object.clone(), method };
        let credit = Credit { taken: self.expected, bytes: self.granted, again };
        let ttl_ms = u64::try_from(self.settings().deadline.as_millis()).unwrap_or(u64::MAX);
        let reply_to = self.request.proxy.reply_topic.clone();
        let (topic, mut properties) = head(root, &topic, reply_to, &self.key.to_be_bytes(), ttl_ms);
        if let Some(caller) = &self.settings().caller {
            properties.user.push(("caller", &**caller));
            properties.user.push(("acting", "1"));
        }
        Some(Publish {
            topic,
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
