//! The writing half of a connection: an outbox that anyone may append to and that is written at the end of a
//! read batch, by whoever filled it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::codec::{self, Outgoing, Reason};
use crate::counters::Counters;
use crate::frames::Frames;
use crate::message::Message;
use crate::peer::Peer;
use crate::pool::{SHARED_PAYLOAD_BYTES, return_buffer, take_buffer};
use crate::shared::Shared;
use crate::transport::Transport;

/// Where more to send comes from once an outbox has room again: the client's session.
pub(crate) trait Refill: std::fmt::Debug + Send + Sync {
    /// Appends what waits for `link` at the time `now`, as far as it has room.
    fn refill(self: Arc<Self>, link: &Arc<Link>, now: u64);
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) shared: Arc<Shared>,
    /// Asked for more when everything is written.
    source: Weak<dyn Refill>,
    /// The reading task, to be woken when the broker ends the connection.
    reader: Mutex<Option<Waker>>,
    /// When the client's silence is taken for its loss, in milliseconds on the broker's
    /// [`Clock`](crate::clock::Clock). Looked at now and then for all connections together: a timer each would cost
    /// more than the rest of an idle one.
    pub(crate) silent_until: AtomicU64,
    /// Whether anything was written since the last read; what is written carries TCP's acknowledgement.
    answered: AtomicBool,
    closing: AtomicBool,
    outbox: Mutex<Outbox>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; all combinations occur")]
struct Outbox {
    chunks: VecDeque<Bytes>,
    /// Behind `chunks`.
    tail: Vec<u8>,
    /// Bytes in `chunks` and `tail`.
    buffered: usize,
    /// Bytes taken out and not written yet.
    writing: usize,
    /// Somebody is writing, or waits until he can.
    busy: bool,
    /// Stands in somebody's list of links to flush.
    listed: bool,
    /// The session holds more that did not fit.
    more: bool,
    /// Nothing may be appended any more; shut down once all is written.
    closing: bool,
    /// Topics the client knows by alias.
    aliases: Option<Box<HashMap<ByteString, u16>>>,
}

impl Outbox {
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = take_buffer();
        }
        &mut self.tail
    }

    fn append_payload(&mut self, payload: &Bytes) {
        self.buffered += payload.len();
        if payload.len() < SHARED_PAYLOAD_BYTES {
            self.tail().extend_from_slice(payload);
        } else {
            if !self.tail.is_empty() {
                self.chunks.push_back(Bytes::from(std::mem::take(&mut self.tail)));
            }
            self.chunks.push_back(payload.clone());
        }
    }

    fn take(&mut self) -> Batch {
        self.writing = std::mem::take(&mut self.buffered);
        Batch { chunks: std::mem::take(&mut self.chunks), tail: std::mem::take(&mut self.tail), written: 0 }
    }
}

/// What is on its way to the socket.
#[derive(Debug)]
struct Batch {
    chunks: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// Bytes of the first chunk, or of the tail, that are written already.
    written: usize,
}

impl Batch {
    /// Writes what the socket takes; true when that was all.
    fn write(&mut self, transport: &Transport) -> io::Result<bool> {
        loop {
            let result = if self.chunks.is_empty() {
                if self.written == self.tail.len() {
                    return Ok(true);
                }
                transport.try_write(&self.tail[self.written..])
            } else {
                let mut slices = [IoSlice::new(&[]); 16];
                let mut used = 0;
                let whole = self.chunks.iter().map(|c| &c[..]).chain([&self.tail[..]]);
                for (slice, bytes) in slices.iter_mut().zip(whole) {
                    *slice = IoSlice::new(if used == 0 { &bytes[self.written..] } else { bytes });
                    used += 1;
                }
                transport.try_write_vectored(&slices[..used])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.chunks.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// Links to flush at the end of a read batch.
pub(crate) type Dirty = Vec<Arc<Link>>;

/// What became of a message at an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Yes,
    /// Above the client's Maximum Packet Size: to be taken as delivered \[MQTT-3.1.2-25].
    TooLarge,
    /// The connection is about to end.
    Closed,
}

impl Link {
    /// `greeting` (the CONNACK) is what will be written first.
    pub(crate) fn new(
        transport: Transport,
        source: Weak<dyn Refill>,
        peer: Peer,
        shared: Arc<Shared>,
        greeting: Vec<u8>,
    ) -> Arc<Self> {
        let outbox = Outbox { buffered: greeting.len(), tail: greeting, ..Outbox::default() };
        Arc::new(Self {
            transport,
            peer,
            shared,
            source,
            reader: Mutex::default(),
            silent_until: AtomicU64::new(u64::MAX),
            answered: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            outbox: Mutex::new(outbox),
        })
    }

    /// Whether the outbox has room for another message.
    pub(crate) fn room(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.buffered + outbox.writing < self.shared.config.limits.outbox_bytes && !outbox.closing
    }

    /// Notes that the session holds more for this client than fitted: it is asked for it when the outbox is
    /// written.
    pub(crate) fn more(self: &Arc<Self>, dirty: &mut Dirty) {
        let mut outbox = self.outbox.lock();
        outbox.more = !outbox.closing;
        self.list(&mut outbox, dirty);
    }

    /// Appends bytes that are a packet already.
    pub(crate) fn append(self: &Arc<Self>, bytes: &[u8], dirty: &mut Dirty) {
        self.append_with(dirty, |out| out.extend_from_slice(bytes));
    }

    /// Appends what `encode` writes.
    pub(crate) fn append_with(self: &Arc<Self>, dirty: &mut Dirty, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut outbox = self.outbox.lock();
        if outbox.closing {
            return;
        }
        let before = outbox.tail().len();
        encode(&mut outbox.tail);
        outbox.buffered += outbox.tail.len() - before;
        self.list(&mut outbox, dirty);
    }

    fn list(self: &Arc<Self>, outbox: &mut Outbox, dirty: &mut Dirty) {
        if !outbox.listed {
            outbox.listed = true;
            dirty.push(self.clone());
        }
    }

    /// Appends a message, whether there is [`room`](Self::room) or not. `frames` holds encodings of this
    /// message and no other.
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
                    aliases.remove(&message.topic);
                }
                return Appended::TooLarge;
            }
            outbox.buffered += encoded.head;
            outbox.append_payload(&message.payload);
        }
        self.list(outbox, dirty);
        Appended::Yes
    }

    /// Gives the topic an alias while the client has some left; true where it is a new one.
    fn alias(&self, outbox: &mut Outbox, topic: &ByteString, outgoing: &mut Outgoing<'_>) -> bool {
        if self.peer.alias_maximum == 0 {
            return false;
        }
        let aliases = outbox.aliases.get_or_insert_default();
        if let Some(&alias) = aliases.get(topic) {
            outgoing.alias = Some(alias);
            outgoing.alias_known = true;
            return false;
        }
        if aliases.len() >= usize::from(self.peer.alias_maximum) {
            return false;
        }
        let alias = aliases.len() as u16 + 1;
        // Copied: the topic may be a piece of a read buffer.
        aliases.insert(ByteString::from(&**topic), alias);
        outgoing.alias = Some(alias);
        true
    }

    /// Ends the connection: DISCONNECT in MQTT 5, then what is buffered, then the socket.
    pub(crate) fn close(self: &Arc<Self>, reason: Option<Reason>) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut outbox = self.outbox.lock();
            if let Some(reason) = reason {
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

    /// Ready when the client can be read: `true`, or when the connection has ended: `false`. Wakes the last task that
    /// asked.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<bool> {
        {
            let mut reader = self.reader.lock();
            if !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *reader = Some(cx.waker().clone());
            }
        }
        // After the waker is in its place, for the end may come in between.
        if self.is_closing() {
            return Poll::Ready(false);
        }
        self.transport.poll_readable(cx).map(|ready| ready.is_ok())
    }

    /// Whether the broker has ended the connection.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether everything has been handed to the socket.
    pub(crate) fn is_drained(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.buffered == 0 && !outbox.busy
    }

    /// Ends the connection at once, whatever is still buffered.
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

    /// Writes what is buffered. Where the socket would block, a task of its own writes the rest.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut batch = {
            let mut outbox = self.outbox.lock();
            outbox.listed = false;
            if outbox.busy || outbox.buffered == 0 && !outbox.more && !outbox.closing {
                return;
            }
            outbox.busy = true;
            self.take(&mut outbox)
        };
        loop {
            match batch.write(&self.transport) {
                Ok(true) => {}
                Ok(false) => {
                    tokio::spawn(self.clone().drain(Some(batch)));
                    return;
                }
                Err(_) => return self.broken(),
            }
            return_buffer(std::mem::take(&mut batch.tail));
            let mut outbox = self.outbox.lock();
            outbox.writing = 0;
            if outbox.more {
                drop(outbox);
                tokio::spawn(self.clone().drain(None));
                return;
            }
            if outbox.buffered == 0 {
                self.written(&mut outbox);
                return;
            }
            batch = self.take(&mut outbox);
        }
    }

    fn take(&self, outbox: &mut Outbox) -> Batch {
        if outbox.buffered > 0 {
            self.answered.store(true, Ordering::Relaxed);
        }
        Counters::add(&self.shared.counters.bytes_sent, outbox.buffered as u64);
        outbox.take()
    }

    /// Everything is written.
    fn written(&self, outbox: &mut Outbox) {
        outbox.busy = false;
        if outbox.closing {
            self.transport.shutdown(Shutdown::Write);
        }
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

    /// Writes until nothing is left, waiting for the socket and asking the session for more.
    async fn drain(self: Arc<Self>, mut batch: Option<Batch>) {
        loop {
            if let Some(batch) = &mut batch {
                loop {
                    match batch.write(&self.transport) {
                        Ok(true) => break,
                        Ok(false) => {
                            if self.transport.writable().await.is_err() {
                                return self.broken();
                            }
                        }
                        Err(_) => return self.broken(),
                    }
                }
                return_buffer(std::mem::take(&mut batch.tail));
            }
            let more = {
                let mut outbox = self.outbox.lock();
                outbox.writing = 0;
                std::mem::take(&mut outbox.more)
            };
            if more && let Some(source) = self.source.upgrade() {
                source.refill(&self, self.shared.clock.now_ms());
            }
            batch = {
                let mut outbox = self.outbox.lock();
                if outbox.buffered == 0 && !outbox.more {
                    self.written(&mut outbox);
                    return;
                }
                Some(self.take(&mut outbox))
            };
            tokio::task::yield_now().await;
        }
    }

    /// Notes that the client was read: what is written from now on acknowledges it.
    pub(crate) fn was_read(&self) {
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Acknowledges at once what was read, by TCP alone, unless something was written since. A client that leaves
    /// Nagle's algorithm on sends its next small packet only after that, and the kernel would delay it by 40 ms.
    pub(crate) fn acknowledge_read(&self) {
        if !self.answered.load(Ordering::Relaxed)
            && let Err(error) = self.transport.acknowledge()
        {
            tracing::debug!(peer = %self.peer.address, "no TCP_QUICKACK: {error}");
        }
    }

    /// The window for QoS 1 and 2.
    pub(crate) fn window(&self) -> usize {
        usize::from(self.peer.receive_maximum.min(self.shared.config.limits.in_flight))
    }

    /// Appends PUBREL for a delivery.
    pub(crate) fn append_release(self: &Arc<Self>, id: u16, dirty: &mut Dirty) {
        self.append_with(dirty, |out| {
            codec::acknowledge(self.peer.version, codec::Acknowledge::PubRel, id, Reason::SUCCESS, None, out);
        });
    }
}

/// Writes every listed link once.
pub(crate) fn flush_all(dirty: &mut Dirty) {
    for link in dirty.drain(..) {
        link.flush();
    }
}

#[cfg(test)]
mod tests;
