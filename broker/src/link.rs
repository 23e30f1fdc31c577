//! Writing side of a connection: an outbox to which any task may append. The task that filled it writes it at the end
//! of its read batch.

mod aliases;
mod flushing;
mod granting;
mod holding;
mod outbox;

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytestring::ByteString;
use parking_lot::Mutex;

pub(crate) use flushing::{flush_all, flush_some};
use outbox::{Batch, Outbox};

use crate::access::Principal;
use crate::codec::{self, Outgoing, Reason};
use crate::counters::Counters;
use crate::frames::Frames;
use crate::message::Message;
use crate::peer::Peer;
use crate::pool::{SHARED_PAYLOAD_BYTES, return_buffer};
use crate::shared::BrokerState;
use crate::transport::Transport;

/// Source of further messages for an outbox that has room again; implemented by the client's session.
pub(crate) trait Refill: std::fmt::Debug + Send + Sync {
    /// Appends messages that wait for `link` at the time `now`, as long as the outbox has room.
    fn refill(self: Arc<Self>, link: &Arc<Link>, now: u64);

    fn client_id(&self) -> &ByteString;
}

/// Connection of one client.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) principal: Arc<Principal>,
    pub(crate) shared: Arc<BrokerState>,
    /// Session that is asked for further messages after everything was written.
    source: Weak<dyn Refill>,
    /// Waker of the reading task, used when the broker ends the connection.
    reader: Mutex<Option<Waker>>,
    /// Time at which a silent client counts as lost, in milliseconds on the broker's [`Clock`](crate::clock::Clock).
    /// Checked periodically for all connections together: a timer per connection would cost more than the rest of an
    /// idle connection.
    pub(crate) silent_until: AtomicU64,
    /// Whether anything was written since the last read. Written segments carry TCP's acknowledgement.
    answered: AtomicBool,
    closing: AtomicBool,
    /// Whether the client has more than `limits.answer_bytes` of answers to read, so that its socket is not read until
    /// it has read them. Changed while the outbox is locked.
    answers_due: AtomicBool,
    /// Whether the socket has accepted bytes, after it would have blocked, since the last call of
    /// [`has_taken`](Self::has_taken).
    taking: AtomicBool,
    /// Whether it was logged that the client does not read its answers.
    pub(crate) logged_answers: AtomicBool,
    /// Whether the last bytes read are the beginning of a packet: [`silent_until`](Self::silent_until) is then the
    /// deadline of that packet, not of the keep-alive.
    pub(crate) within_packet: AtomicBool,
    /// Whether a later connection of the client waits until this one has handled the bytes in its socket.
    read_out: AtomicBool,
    outbox: Mutex<Outbox>,
}

/// Links to flush at the end of a read batch.
pub(crate) type Dirty = Vec<Arc<Link>>;

/// Result of appending a message to an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Yes,
    /// The message exceeds the client's Maximum Packet Size and counts as delivered \[MQTT-3.1.2-25].
    TooLarge,
    /// The connection is ending.
    Closed,
}

impl Link {
    /// Creates a link whose first packet is `greeting`, the CONNACK.
    pub(crate) fn new(
        transport: Transport,
        source: Weak<dyn Refill>,
        (peer, principal): (Peer, Arc<Principal>),
        shared: Arc<BrokerState>,
        greeting: Vec<u8>,
    ) -> Arc<Self> {
        let outbox = Outbox { buffered: greeting.len(), tail: greeting, ..Outbox::default() };
        Arc::new(Self {
            transport,
            peer,
            principal,
            shared,
            source,
            reader: Mutex::default(),
            silent_until: AtomicU64::new(u64::MAX),
            answered: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            answers_due: AtomicBool::new(false),
            taking: AtomicBool::new(false),
            logged_answers: AtomicBool::new(false),
            within_packet: AtomicBool::new(false),
            read_out: AtomicBool::new(false),
            outbox: Mutex::new(outbox),
        })
    }

    /// Checks whether the outbox has room for another message.
    pub(crate) fn room(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.buffered + outbox.writing < self.shared.limits().outbox_bytes && !outbox.closing
    }

    /// Records that the session has messages that did not fit: it is asked for them after the outbox was written.
    pub(crate) fn more(self: &Arc<Self>, dirty: &mut Dirty) {
        let mut outbox = self.outbox.lock();
        outbox.more = !outbox.closing;
        self.list(&mut outbox, dirty);
    }

    /// Appends an encoded answer.
    pub(crate) fn append(self: &Arc<Self>, bytes: &[u8], dirty: &mut Dirty) {
        self.append_with(dirty, |out| out.extend_from_slice(bytes));
    }

    /// Appends an answer written by `encode`.
    pub(crate) fn append_with(self: &Arc<Self>, dirty: &mut Dirty, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut outbox = self.outbox.lock();
        if outbox.closing {
            return;
        }
        let before = outbox.tail().len();
        encode(&mut outbox.tail);
        let length = outbox.tail.len() - before;
        outbox.buffered += length;
        outbox.answers = outbox.answers.saturating_add(length as u32);
        if outbox.answers as usize > self.shared.limits().answer_bytes {
            self.answers_due.store(true, Ordering::Release);
        }
        self.list(&mut outbox, dirty);
    }

    fn list(self: &Arc<Self>, outbox: &mut Outbox, dirty: &mut Dirty) {
        if !outbox.listed {
            outbox.listed = true;
            dirty.push(self.clone());
        }
    }

    /// Appends a message even if there is no [`room`](Self::room). `frames` must contain only encodings of this
    /// message.
    pub(crate) fn append_publish(
        self: &Arc<Self>,
        message: &Message,
        mut outgoing: Outgoing<'_>,
        now: u64,
        frames: Option<&mut Frames>,
        dirty: &mut Dirty,
    ) -> Appended {
        let mut outbox = self.outbox.lock();
        if outbox.closing {
            return Appended::Closed;
        }
        let outbox = &mut *outbox;
        let version = self.peer.version;
        let plain = outgoing.identifiers.is_empty() && self.peer.alias_maximum == 0 && !outgoing.dup;
        if let Some(frames) = frames.filter(|_| plain) {
            let (bytes, encoded) = frames.get(message, version, outgoing, now);
            if encoded.head + message.payload.len() > self.peer.packet_maximum as usize {
                return Appended::TooLarge;
            }
            let tail = outbox.tail();
            let start = tail.len();
            tail.extend_from_slice(bytes);
            codec::patch_packet_id(&mut tail[start..], encoded, outgoing.id);
            outbox.buffered += bytes.len();
            if message.payload.len() >= SHARED_PAYLOAD_BYTES {
                outbox.append_payload(&message.payload);
            }
        } else {
            let before = outbox.tail().len();
            let new_alias = self.alias(outbox, &message.topic, &mut outgoing);
            let encoded = codec::encode_publish(message, outgoing, version, now, &mut outbox.tail);
            if encoded.head + message.payload.len() > self.peer.packet_maximum as usize {
                outbox.tail.truncate(before);
                if new_alias && let Some(aliases) = &mut outbox.aliases {
                    aliases.forget(&message.topic);
                }
                return Appended::TooLarge;
            }
            outbox.buffered += encoded.head;
            outbox.append_payload(&message.payload);
        }
        self.list(outbox, dirty);
        Appended::Yes
    }

    /// Sets an alias for the topic, as long as the client has unused ones. Returns true if the alias is new.
    fn alias(&self, outbox: &mut Outbox, topic: &ByteString, outgoing: &mut Outgoing<'_>) -> bool {
        if self.peer.alias_maximum == 0 {
            return false;
        }
        let limits = (self.peer.alias_maximum, self.shared.limits().topic_alias_bytes);
        outbox.aliases.get_or_insert_default().name(topic, limits, outgoing)
    }

    /// Ends the connection: sends DISCONNECT in MQTT 5 after what is buffered, then closes the socket.
    pub(crate) fn close(self: &Arc<Self>, reason: Option<Reason>) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut outbox = self.outbox.lock();
            if outbox.held > 0 {
                self.refuse_held(&mut outbox, reason);
            } else if let Some(reason) = reason {
                let before = outbox.tail().len();
                codec::disconnect(self.peer.version, reason, Some(reason.text()), &mut outbox.tail);
                if outbox.tail.len() - before > self.peer.packet_maximum as usize {
                    outbox.tail.truncate(before);
                    codec::disconnect(self.peer.version, reason, None, &mut outbox.tail);
                }
                outbox.buffered += outbox.tail.len() - before;
            }
            outbox.closing = true;
            outbox.more = false;
        }
        self.flush();
        self.wake_reader();
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.reader.lock().take() {
            reader.wake();
        }
    }

    /// Wakes the reading task to read once more, even if nothing has arrived.
    pub(crate) fn ask_to_read_out(&self) {
        self.read_out.store(true, Ordering::Release);
        self.wake_reader();
    }

    pub(crate) fn is_to_read_out(&self) -> bool {
        self.read_out.load(Ordering::Acquire)
    }

    pub(crate) fn not_asked_to_read_out(&self) {
        self.read_out.store(false, Ordering::Release);
    }

    /// Polls for the client's socket to become readable. Resolves to `true` when it is, and to `false` when the
    /// connection has ended. Wakes the last task that polled.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.listen(cx);
        // Checked after the waker was stored, as the connection may end in between.
        if self.is_closing() {
            return Poll::Ready(false);
        }
        if self.is_to_read_out() {
            return Poll::Ready(true);
        }
        self.transport.poll_readable(cx).map(|ready| ready.is_ok())
    }

    /// Returns whether the client has to read answers before its socket is read again.
    pub(crate) fn answers_due(&self) -> bool {
        self.answers_due.load(Ordering::Acquire)
    }

    /// Polls for the client to have read its answers, so that its socket may be read again. Resolves to `true` when it
    /// has, and to `false` when the connection has ended. Wakes the last task that polled this or
    /// [`poll_readable`](Self::poll_readable).
    pub(crate) fn poll_answers_taken(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.listen(cx);
        if self.is_closing() {
            Poll::Ready(false)
        } else if self.answers_due() {
            Poll::Pending
        } else {
            Poll::Ready(true)
        }
    }

    /// Returns whether the socket has accepted bytes, after it would have blocked, since the last call.
    pub(crate) fn has_taken(&self) -> bool {
        self.taking.swap(false, Ordering::Relaxed)
    }

    /// Registers the reading task for the next [`wake_reader`](Self::wake_reader).
    fn listen(&self, cx: &mut Context<'_>) {
        let mut reader = self.reader.lock();
        if !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }

    /// Checks whether the broker has ended the connection.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Checks whether everything has been written to the socket.
    pub(crate) fn is_drained(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.buffered == 0 && !outbox.busy
    }

    /// Ends the connection at once and discards buffered bytes.
    pub(crate) fn cut(&self) {
        self.closing.store(true, Ordering::Release);
        {
            let mut outbox = self.outbox.lock();
            outbox.closing = true;
            outbox.more = false;
        }
        self.transport.shutdown(Shutdown::Both);
        self.wake_reader();
    }

    /// Writes the buffered bytes, and returns their number. If the socket would block, a separate task writes the
    /// rest.
    pub(crate) fn flush(self: &Arc<Self>) -> usize {
        let mut bytes = 0;
        let mut batch = {
            let mut outbox = self.outbox.lock();
            outbox.listed = false;
            let idle = outbox.buffered == 0 && !outbox.more && !outbox.closing;
            if outbox.busy || outbox.held > 0 || idle && !self.transport.has_unsent() {
                return bytes;
            }
            outbox.busy = true;
            bytes += outbox.buffered;
            self.take(&mut outbox)
        };
        loop {
            match batch.write(&self.transport) {
                Ok(true) => {}
                Ok(false) => {
                    tokio::spawn(self.clone().drain(Some(batch)));
                    return bytes;
                }
                Err(_) => {
                    self.broken();
                    return bytes;
                }
            }
            return_buffer(std::mem::take(&mut batch.tail));
            let mut outbox = self.outbox.lock();
            self.batch_written(&mut outbox, &batch);
            if outbox.more {
                drop(outbox);
                tokio::spawn(self.clone().drain(None));
                return bytes;
            }
            if outbox.buffered == 0 {
                if !self.written(&mut outbox) {
                    drop(outbox);
                    tokio::spawn(self.clone().drain(None));
                }
                return bytes;
            }
            bytes += outbox.buffered;
            batch = self.take(&mut outbox);
        }
    }

    /// Flushes bytes that the layers below MQTT (TLS or WebSocket) have to write after a read.
    pub(crate) fn flush_unsent(self: &Arc<Self>) {
        if self.transport.has_unsent() {
            self.flush();
        }
    }

    fn take(&self, outbox: &mut Outbox) -> Batch {
        if outbox.buffered > 0 {
            self.answered.store(true, Ordering::Relaxed);
        }
        Counters::add(&self.shared.counters.bytes_sent, outbox.buffered as u64);
        outbox.take()
    }

    /// Handles the end of a batch: if the client has now read enough of its answers, its socket is read again.
    fn batch_written(&self, outbox: &mut Outbox, batch: &Batch) {
        outbox.written(batch);
        if self.answers_due() && outbox.answers as usize <= self.shared.limits().answer_bytes {
            self.answers_due.store(false, Ordering::Release);
            self.wake_reader();
        }
    }

    /// Handles the end of all writes. Returns false if a layer below MQTT still has unwritten bytes.
    fn written(&self, outbox: &mut Outbox) -> bool {
        if outbox.closing {
            self.transport.shutdown(Shutdown::Write);
        }
        outbox.busy = self.transport.has_unsent();
        !outbox.busy
    }

    fn broken(&self) {
        {
            let mut outbox = self.outbox.lock();
            outbox.take();
            outbox.writing = 0;
            outbox.busy = false;
        }
        self.cut();
    }

    /// Writes until nothing is left, waiting for the socket and asking the session for more messages.
    async fn drain(self: Arc<Self>, mut batch: Option<Batch>) {
        loop {
            loop {
                let written = match &mut batch {
                    Some(batch) => batch.write(&self.transport),
                    None => Ok(true),
                };
                match written.and_then(|all| Ok(all && self.transport.try_flush()?)) {
                    Ok(true) => break,
                    Ok(false) => {
                        if self.transport.writable().await.is_err() {
                            return self.broken();
                        }
                        self.taking.store(true, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    Err(_) => return self.broken(),
                }
            }
            if let Some(batch) = &mut batch {
                return_buffer(std::mem::take(&mut batch.tail));
            }
            let more = {
                let mut outbox = self.outbox.lock();
                if let Some(batch) = &batch {
                    self.batch_written(&mut outbox, batch);
                }
                std::mem::take(&mut outbox.more)
            };
            if more && let Some(source) = self.source.upgrade() {
                source.refill(&self, self.shared.clock.now_ms());
            }
            batch = {
                let mut outbox = self.outbox.lock();
                if outbox.buffered > 0 || outbox.more {
                    Some(self.take(&mut outbox))
                } else if self.written(&mut outbox) {
                    return;
                } else {
                    None
                }
            };
            tokio::task::yield_now().await;
        }
    }

    /// Records that the client's socket was read: the next bytes written carry the TCP acknowledgement.
    pub(crate) fn was_read(&self) {
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Sends a TCP acknowledgement of the bytes read at once, unless something was written since. A client with
    /// Nagle's algorithm on sends its next small packet only after the acknowledgement, which the kernel would delay
    /// by 40 ms.
    pub(crate) fn acknowledge_read(&self) {
        if !self.answered.load(Ordering::Relaxed)
            && let Err(error) = self.transport.acknowledge()
        {
            tracing::debug!(peer = %self.peer.address, "no TCP_QUICKACK: {error}");
        }
    }

    /// Returns the in-flight window for QoS 1 and 2, in messages.
    pub(crate) fn window(&self) -> usize {
        usize::from(self.peer.receive_maximum.min(self.shared.limits().in_flight))
    }

    /// Appends PUBREL for a delivery.
    pub(crate) fn append_release(self: &Arc<Self>, id: u16, dirty: &mut Dirty) {
        self.append_with(dirty, |out| {
            codec::acknowledge(self.peer.version, codec::Acknowledge::PubRel, id, Reason::SUCCESS, None, out);
        });
    }
}

#[cfg(test)]
mod tests;
