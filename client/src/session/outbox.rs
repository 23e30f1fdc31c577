//! Send queue, in-flight table and subscriptions of a session, without I/O or time: handles append, the connection
//! task takes bytes out and reports acknowledgements.

mod encode;
mod subscriptions;

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use hashbrown::HashMap;
use rumqttc::v5::mqttbytes::v5 as packets;
use tokio::sync::oneshot;

use super::error::{SubscribeError, Unsent};
use super::message::{Filter, Publish, QoS};
use super::publish::{encode, size};
use encode::check;

/// Size of the send queue in bytes from which publishers wait.
const FULL_QUEUE_BYTES: usize = 256 << 10;
/// Number of messages waiting for the broker's Receive Maximum from which publishers wait.
const FULL_QUEUE_MESSAGES: usize = 4_096;
/// Maximum capacity of an empty buffer that is reused, in bytes.
const MAX_REUSED_CAPACITY: usize = 128 << 10;

type ResultSender<E> = oneshot::Sender<Result<(), E>>;

/// Receiver of the result of a publish.
#[derive(Debug)]
pub(super) enum Waiter {
    Nobody,
    Token(u128),
    Future(ResultSender<Unsent>),
    /// Also gets the Reason String of a success.
    Answer(oneshot::Sender<Result<String, Unsent>>),
}

/// DISCONNECT that ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// DISCONNECT 0x00: the broker discards the will.
    Normal,
    /// DISCONNECT 0x04: the broker publishes the will.
    WithWill,
}

#[derive(Debug)]
struct InFlight {
    publish: Publish,
    waiter: Waiter,
    order: u64,
}

#[derive(Debug)]
struct Waiting {
    publish: Publish,
    waiter: Waiter,
    /// Packet id of a message that was in flight before a reconnect.
    id: Option<u16>,
    is_duplicate: bool,
}

#[derive(Debug)]
struct PendingSubscribe {
    filters: Vec<Filter>,
    told: Option<ResultSender<SubscribeError>>,
}

#[derive(Debug)]
struct PendingUnsubscribe {
    filters: Vec<String>,
    told: ResultSender<SubscribeError>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    buffer: BytesMut,
    in_flight: HashMap<u16, InFlight>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    subscriptions: Vec<Filter>,
    /// Filters that the broker has granted for this connection only.
    ephemeral: Vec<String>,
    /// By packet id, like `unsubscribing`: ordered, so that waiters are woken in a fixed order.
    subscribing: BTreeMap<u16, PendingSubscribe>,
    unsubscribing: BTreeMap<u16, PendingUnsubscribe>,
    /// Filters whose UNSUBSCRIBE may not have reached the broker, so that its session may still have them.
    unsubscribed: Vec<String>,
    online: bool,
    window: usize,
    max_packet: usize,
    pub(super) last_id: u16,
    order: u64,
    /// Publishers that wait for messages at QoS 0 in the buffer to be written.
    buffered: Vec<Waiter>,
    /// Results that the task has not reported yet: of messages at QoS 0 that it has taken to write, and of queued
    /// messages that became too large for the broker.
    pub(super) settled: Vec<(Waiter, Result<(), Unsent>)>,
    /// Whether the task has been woken and will look at the queue.
    pub(super) awake: bool,
    /// Whether a publisher waits for room.
    pub(super) wanted: bool,
    pub(super) closing: Option<Farewell>,
}

impl Outbox {
    pub(super) fn new(max_packet: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            in_flight: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            subscriptions: Vec::new(),
            ephemeral: Vec::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            unsubscribed: Vec::new(),
            online: false,
            window: 0,
            max_packet,
            last_id: 0,
            order: 0,
            buffered: Vec::new(),
            settled: Vec::new(),
            awake: false,
            wanted: false,
            closing: None,
        }
    }

    pub(super) fn backlog(&self) -> usize {
        self.buffer.len() + self.waiting_bytes
    }

    pub(super) fn has_room(&self) -> bool {
        self.online && self.backlog() < FULL_QUEUE_BYTES && self.waiting.len() < FULL_QUEUE_MESSAGES
    }

    /// Writes a message to the buffer; at QoS 1 it is queued while the in-flight window is full or there is no
    /// connection.
    pub(super) fn publish(&mut self, publish: Publish, waiter: Waiter) -> Result<(), Unsent> {
        if self.closing.is_some() {
            return Err(Unsent::Ended);
        }
        check(&publish)?;
        if self.online {
            let size = size(&publish);
            if size > self.max_packet {
                return Err(Unsent::TooLarge { size, limit: self.max_packet });
            }
        }
        if !self.online && (publish.qos == QoS::AtMostOnce || !publish.resend) {
            return Err(Unsent::Offline);
        }
        if publish.qos == QoS::AtMostOnce {
            encode(&publish, 0, false, &mut self.buffer);
            if !matches!(waiter, Waiter::Nobody) {
                self.buffered.push(waiter);
            }
            return Ok(());
        }
        if self.online && self.waiting.is_empty() && self.in_flight.len() < self.window {
            let id = self.next_id();
            self.launch(publish, waiter, id, false);
        } else {
            self.waiting_bytes += publish.payload.len();
            self.waiting.push_back(Waiting { publish, waiter, id: None, is_duplicate: false });
        }
        Ok(())
    }

    /// Appends encoded packets to the buffer.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Swaps the buffer of encoded packets with `into`, which must be empty.
    pub(super) fn take(&mut self, into: &mut BytesMut) {
        if into.capacity() > MAX_REUSED_CAPACITY {
            *into = BytesMut::new();
        }
        std::mem::swap(&mut self.buffer, into);
        self.settled.extend(self.buffered.drain(..).map(|waiter| (waiter, Ok(()))));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Handles a PUBACK: sends messages that waited for the in-flight window, and returns the results to report.
    pub(super) fn acknowledged(
        &mut self,
        id: u16,
        outcome: Result<(), Unsent>,
    ) -> Option<(Waiter, Result<(), Unsent>)> {
        let acknowledged = self.in_flight.remove(&id);
        self.release();
        let InFlight { publish, waiter, .. } = acknowledged?;
        // The broker keeps a retained message even if nobody subscribes to its topic.
        let kept = publish.retain && outcome == Err(Unsent::NobodyThere);
        Some((waiter, if kept { Ok(()) } else { outcome }))
    }

    fn release(&mut self) {
        while self.in_flight.len() < self.window
            && let Some(Waiting { publish, waiter, id, is_duplicate }) = self.waiting.pop_front()
        {
            self.waiting_bytes -= publish.payload.len();
            let size = size(&publish);
            if size > self.max_packet {
                // The broker's Maximum Packet Size is smaller than when this was published.
                self.settled.push((waiter, Err(Unsent::TooLarge { size, limit: self.max_packet })));
                continue;
            }
            let id = id.unwrap_or_else(|| self.next_id());
            self.launch(publish, waiter, id, is_duplicate);
        }
    }

    fn launch(&mut self, publish: Publish, waiter: Waiter, id: u16, is_duplicate: bool) {
        encode(&publish, id, is_duplicate, &mut self.buffer);
        self.order += 1;
        self.in_flight.insert(id, InFlight { publish, waiter, order: self.order });
    }

    fn write(&mut self, packet: &packets::Packet) {
        packet.write(&mut self.buffer, None).expect("lengths and ids were checked");
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            // Messages of a resumed session are at the front until they are retransmitted.
            let reserved = self.waiting.iter().map_while(|waiting| waiting.id).any(|reserved| reserved == id);
            if !reserved
                && !self.in_flight.contains_key(&id)
                && !self.subscribing.contains_key(&id)
                && !self.unsubscribing.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Begins a connection: unsubscribes and subscribes again, retransmits, then sends queued messages.
    pub(super) fn connected(&mut self, resumed: bool, window: usize, max_packet: usize) {
        self.online = true;
        self.window = window;
        self.max_packet = max_packet;
        self.buffer.clear();
        let unsubscribed = std::mem::take(&mut self.unsubscribed);
        if resumed {
            drop(self.send_unsubscribe(unsubscribed));
        }
        self.subscribe_again();
        for Waiting { id, is_duplicate, .. } in self.waiting.iter_mut().take_while(|w| w.id.is_some()) {
            // Without the session, it is a new message for the broker.
            *is_duplicate = resumed;
            if !resumed {
                *id = None;
            }
        }
        self.release();
    }

    /// Ends a connection. Returns the results of publishes that have ended; the others wait for the next connection.
    pub(super) fn disconnected(&mut self) -> Vec<(Waiter, Result<(), Unsent>)> {
        self.online = false;
        self.buffer = BytesMut::new();
        self.keep_ephemeral();
        for PendingUnsubscribe { filters, .. } in std::mem::take(&mut self.unsubscribing).into_values() {
            self.keep_unsubscribed(filters);
        }
        let mut in_flight: Vec<_> = self.in_flight.drain().collect();
        in_flight.sort_unstable_by_key(|(_, in_flight)| in_flight.order);
        // Includes the results that the task has not reported yet, because it may not get another connection to do so.
        let mut ended = std::mem::take(&mut self.settled);
        ended.extend(self.buffered.drain(..).map(|waiter| (waiter, Err(Unsent::Offline))));
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.publish.resend {
                self.waiting.push_back(waiting);
            } else {
                self.waiting_bytes -= waiting.publish.payload.len();
                ended.push((waiting.waiter, Err(Unsent::Offline)));
            }
        }
        for (id, InFlight { publish, waiter, .. }) in in_flight.into_iter().rev() {
            if publish.resend {
                self.waiting_bytes += publish.payload.len();
                self.waiting.push_front(Waiting { publish, waiter, id: Some(id), is_duplicate: true });
            } else {
                ended.push((waiter, Err(Unsent::Lost)));
            }
        }
        ended
    }

    /// Ends the session. Returns the results of all publishes that were not reported yet.
    pub(super) fn ended(&mut self) -> Vec<(Waiter, Result<(), Unsent>)> {
        self.closing.get_or_insert(Farewell::Normal);
        let mut ended = self.disconnected();
        self.waiting_bytes = 0;
        ended.extend(std::mem::take(&mut self.waiting).into_iter().map(|w| (w.waiter, Err(Unsent::Ended))));
        ended
    }
}

#[cfg(test)]
mod tests;
