//! Connection of one client: reads its socket in batches, and writes the outboxes at the end of each batch.

mod acknowledging;
mod administering;
mod aliases;
mod bus;
mod commanding;
mod filters;
mod logging;
mod packets;
mod progress;
mod rights;
mod waiting;
mod work;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::time::timeout;

use acknowledging::Unanswered;
use aliases::TopicAliases;
use progress::BatchReceived;
use rights::PublishRights;
use work::BatchBuffers;

use crate::codec::{self, DecodeError, Publish};
use crate::counters::Counters;
use crate::hub::{ConnectionEnd, Hub};
use crate::link::{Dirty, Link, flush_all, flush_some};
use crate::log::ClientText;
use crate::owner::Owner;
use crate::pool::READ_BYTES;
use crate::session::Session;
use crate::transport::Transport;

/// Maximum number of bytes handled for one client before the task yields, and maximum size of one read: a fraction of
/// a millisecond of work.
const TURN_BYTES: usize = 256 << 10;
/// Routing steps charged for reading, checking and acknowledging a packet.
const STEPS_PER_PACKET: usize = 8;
/// Routing steps charged for an acknowledgement, after which the next message of a queue may be sent.
const STEPS_PER_ACKNOWLEDGEMENT: usize = 4;
/// Number of bytes of a read below which a client with an unfinished packet counts as sending it in small pieces. Such
/// clients share a few reads per round of the scheduler, because a read costs the same however few bytes it returns.
const SHORT_READ_BYTES: u32 = 1_024;
/// Time for a client to read its last bytes and to close the connection.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Number of acknowledgements waiting for the disk above which the client's socket is no longer read.
const MAX_GATED_ACKNOWLEDGEMENTS: usize = 4_096;

/// Connection of one client after CONNACK.
pub(crate) struct Connection {
    hub: Arc<Hub>,
    session: Arc<Session>,
    link: Arc<Link>,
    /// Cached publish rights; `None` before the first decision.
    rights: Option<Box<PublishRights>>,
    /// Owner against whose limits the client's retained messages count.
    owner: Option<Arc<Owner>>,
    /// Session Expiry Interval of CONNECT, in seconds; 0 must not be raised by DISCONNECT (MQTT 5, 3.14.2.2.2).
    session_expiry: u32,
    /// Silence after which the client counts as lost, in milliseconds; 0 means never.
    silence: u32,
    agreed: AgreedLimits,
    aliases: TopicAliases,
    /// Bytes that were read but not handled yet.
    partial: BytesMut,
    unanswered: Unanswered,
    /// Whether a whole packet has arrived in this batch.
    heard: bool,
    /// Number of bytes of the last read.
    read: u32,
    /// Links whose outboxes are still to be written, after a batch that appended much to many of them.
    unwritten: Option<Box<Dirty>>,
    /// Milliseconds for which the socket is not read, because the client's retained messages grow too fast.
    pause: u32,
}

/// Limits announced to the client in CONNACK. They hold until the connection ends, even if a reload changes the
/// configuration: a client that respects them must not be disconnected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgreedLimits {
    pub(crate) packet_bytes: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) topic_aliases: u16,
}

/// Next step after a packet or a batch.
enum NextStep {
    /// Handle the next packet; the socket may have more.
    Next,
    /// The socket is empty.
    Idle,
    /// Continue with the received bytes after yielding.
    Yield,
    /// This message has to wait for room in a full queue.
    Wait(Box<(Publish, Arc<Session>)>),
    /// This message is a command to the broker.
    Command(Box<Publish>),
    /// Continue with this SUBSCRIBE or UNSUBSCRIBE after yielding.
    FilterChange(Box<filters::FilterChange>),
    /// The client has sent DISCONNECT or closed the connection.
    End(ConnectionEnd),
}

/// Error for which the broker ends a connection.
type ConnectionError = DecodeError;

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.shared.addresses.leave(self.link.peer.address.ip());
    }
}

impl Connection {
    pub(crate) fn new(
        hub: Arc<Hub>,
        (session, link): (Arc<Session>, Arc<Link>),
        session_expiry: u32,
        (keep_alive, agreed): (u16, AgreedLimits),
        partial: BytesMut,
    ) -> Self {
        // One and a half times the keep-alive [MQTT-3.1.2-22].
        let silence = u32::from(keep_alive) * 1500;
        let owner = session.state.lock().owner().cloned();
        Self {
            hub,
            session,
            link,
            rights: None,
            owner,
            session_expiry,
            silence,
            agreed,
            aliases: TopicAliases::default(),
            partial,
            unanswered: Unanswered::default(),
            heard: false,
            read: 0,
            unwritten: None,
            pause: 0,
        }
    }

    /// Sets the time by which the next bytes of the client are due, after a batch at `now` that began with
    /// `unfinished` bytes of a packet.
    fn set_deadline(&self, now: u64, unfinished: usize) {
        let link = &self.link;
        let left = self.partial.len();
        let continued = !self.heard && unfinished > 0 && left > 0;
        let bytes = if continued { left.saturating_sub(unfinished) } else { left };
        let heard = BatchReceived { packet: self.heard, bytes, continued };
        let until = link.silent_until.load(Ordering::Relaxed);
        let deadline = progress::deadline(until, now, self.silence, heard, self.hub.shared.limits());
        if deadline != until {
            link.silent_until.store(deadline, Ordering::Relaxed);
        }
        if link.within_packet.load(Ordering::Relaxed) != (left > 0) {
            link.within_packet.store(left > 0, Ordering::Relaxed);
        }
    }

    /// Suspends the client's deadline: while its socket is not read, its silence does not mean that it is lost.
    fn not_listening(&self) {
        self.link.silent_until.store(u64::MAX, Ordering::Relaxed);
    }

    /// Serves the client until the connection ends.
    pub(crate) async fn serve(mut self: Box<Self>) {
        let ending = self.read_all().await;
        // Boxed, so that the future of an idle connection does not include this one.
        Box::pin(self.end(ending)).await;
    }

    async fn end(self: Box<Self>, ending: ConnectionEnd) {
        self.hub.shared.endings.take().await;
        self.log_close(ending);
        let mut work = BatchBuffers::take(self.hub.shared.clock.now_ms());
        self.hub.disconnect(&self.session, &self.link, ending, &mut work.scratch);
        flush_all(&mut work.scratch.dirty);
        work.give_back();
        if self.link.is_to_read_out() {
            self.hub.has_read_out(&self.session, &self.link);
        }
        if self.link.is_closing() {
            self.linger().await;
        }
        self.link.cut();
        Counters::sub(&self.hub.shared.counters.connected, 1);
    }

    async fn read_all(&mut self) -> ConnectionEnd {
        let lost = ConnectionEnd::Lost { expiry: None };
        let (mut turn, mut reads_out) = (0, false);
        if let Some(ticket) = self.link.held() {
            Box::pin(self.wait_for_connack(ticket)).await;
            // No packet of a refused client is handled [MQTT-3.1.4-6].
            if self.link.held().is_some() || self.link.is_closing() {
                return lost;
            }
        }
        // Packets received together with CONNECT are handled before anything is read.
        let mut step = self.batch(false);
        loop {
            if self.unwritten.is_some() {
                Box::pin(self.write_rest()).await;
            }
            if self.pause > 0 {
                self.not_listening();
                let pause = Duration::from_millis(u64::from(std::mem::take(&mut self.pause)));
                Box::pin(self.wait_for_pace(pause)).await;
            }
            match step {
                Ok(NextStep::Yield) => {
                    turn = 0;
                    self.next_turn().await;
                    if self.link.is_closing() {
                        return lost;
                    }
                    step = self.batch(false);
                    continue;
                }
                Ok(NextStep::Idle) => {
                    turn = 0;
                    if reads_out {
                        self.hub.has_read_out(&self.session, &self.link);
                    }
                    if !poll_fn(|cx| self.link.poll_readable(cx)).await {
                        return lost;
                    }
                    if !self.partial.is_empty() && self.read < SHORT_READ_BYTES {
                        Box::pin(self.hub.shared.short_reads.take()).await;
                    }
                    reads_out = self.link.is_to_read_out();
                }
                Ok(NextStep::Next) => {
                    turn += (self.read as usize).max(READ_BYTES);
                    if turn >= TURN_BYTES {
                        turn = 0;
                        self.next_turn().await;
                    }
                }
                Ok(NextStep::Wait(waiting)) => {
                    self.not_listening();
                    if let Err(failure) = Box::pin(self.wait(*waiting)).await {
                        self.fail(failure);
                        return lost;
                    }
                    if self.link.is_closing() {
                        return lost;
                    }
                    step = self.batch(false);
                    continue;
                }
                Ok(NextStep::Command(publish)) => {
                    self.not_listening();
                    Box::pin(self.command(*publish)).await;
                    if self.link.is_closing() {
                        return lost;
                    }
                    step = self.batch(false);
                    continue;
                }
                Ok(NextStep::FilterChange(change)) => {
                    self.not_listening();
                    if let Err(failure) = Box::pin(self.change_in_turns(change)).await {
                        self.fail(failure);
                        return lost;
                    }
                    if self.link.is_closing() {
                        return lost;
                    }
                    step = self.batch(false);
                    continue;
                }
                Ok(NextStep::End(ending)) => return ending,
                Err(failure) => {
                    self.fail(failure);
                    return lost;
                }
            }
            if self.link.is_closing() {
                return lost;
            }
            // Rare waits are boxed: otherwise the future of an idle connection would be as large as the largest of
            // them.
            if self.is_ahead_of_disk() {
                self.not_listening();
                Box::pin(self.wait_for_disk()).await;
            }
            if self.link.answers_due() {
                self.not_listening();
                Box::pin(self.wait_for_answers()).await;
            }
            // The session was taken over meanwhile: unread packets are discarded, because the client may have sent
            // them again on its new connection.
            if self.link.is_closing() {
                return lost;
            }
            step = self.batch(true);
        }
    }

    /// Ends a turn whose budget is used up, and waits for the next one. All connections with this much work share a
    /// few turns per round of the scheduler, so that other connections wait for those few only.
    async fn next_turn(&self) {
        tokio::task::yield_now().await;
        self.hub.shared.long_turns.take().await;
    }

    fn fail(&self, failure: ConnectionError) {
        let shared = &self.hub.shared;
        let counters = &shared.counters;
        let too_many = failure == codec::TOO_MANY_USER_PROPERTIES;
        Counters::add(if too_many { &counters.refused_properties } else { &counters.protocol_errors }, 1);
        if shared.may_log(&shared.log_lines.ended) {
            let client = ClientText(&self.session.client_id);
            tracing::info!(%client, peer = %self.link.peer.address, "ended: {}", failure.text);
        }
        self.link.close(Some(failure.reason));
    }

    /// Waits until the client has read the last packets: closing a socket with unread bytes would reset the
    /// connection, and the DISCONNECT would be lost.
    async fn linger(&self) {
        linger(&self.link.transport).await;
    }

    /// Reads once if `read` is set, handles every complete packet, and writes the results. The clock is read once per
    /// batch.
    fn batch(&mut self, read: bool) -> Result<NextStep, ConnectionError> {
        let now = self.hub.shared.clock.now_ms();
        let unfinished = self.partial.len();
        self.heard = false;
        let mut work = BatchBuffers::take(now);
        let result = self.read_and_work(&mut work, read);
        self.set_deadline(now, unfinished);
        work.scratch.settle(&self.hub.shared);
        flush_some(&mut work.scratch.dirty);
        if !work.scratch.dirty.is_empty() {
            self.unwritten = Some(Box::new(std::mem::take(&mut work.scratch.dirty)));
        }
        self.pause =
            work.scratch.take_pause().map_or(0, |pause| pause.as_millis().try_into().unwrap_or(u32::MAX));
        work.give_back();
        if self.unanswered.end_batch() && matches!(result, Ok(NextStep::Idle)) {
            self.link.acknowledge_read();
        }
        result
    }

    /// Writes the outboxes that a batch left unwritten, yielding in between. Meanwhile the client's socket is not
    /// read, because its own messages cause this work.
    async fn write_rest(&mut self) {
        while let Some(mut rest) = self.unwritten.take() {
            self.next_turn().await;
            flush_some(&mut rest);
            if !rest.is_empty() {
                self.unwritten = Some(rest);
            }
        }
    }

    fn read_and_work(&mut self, work: &mut BatchBuffers, read: bool) -> Result<NextStep, ConnectionError> {
        if !read {
            if self.partial.is_empty() {
                return Ok(NextStep::Idle);
            }
            let mut buffer = std::mem::take(&mut self.partial);
            let step = self.work_through(&mut buffer, work);
            self.partial = buffer;
            return step.map(|step| step.unwrap_or(NextStep::Next));
        }
        // A packet larger than one read gets a buffer of exactly its size, so that its payload is not copied.
        let limit = self.agreed.packet_bytes;
        let large = codec::frame(&self.partial, limit)?.filter(|f| f.length > READ_BYTES).map(|f| f.length);
        let mut buffer = std::mem::take(&mut self.partial);
        let want = if let Some(length) = large {
            let missing = length - buffer.len();
            // Memory is reserved gradually, because the length in the header is not verified yet.
            let want = missing.min(buffer.len().max(4 * READ_BYTES)).min(TURN_BYTES);
            buffer.reserve(want);
            want
        } else {
            let partial = std::mem::replace(&mut buffer, std::mem::take(&mut work.input));
            buffer.reserve(READ_BYTES + partial.len());
            buffer.extend_from_slice(&partial);
            READ_BYTES
        };
        let read = self.link.transport.try_read(&mut (&mut buffer).limit(want));
        self.link.flush_unsent();
        self.read = read.as_ref().map_or(0, |&count| count as u32);
        let count = match read {
            Ok(0) => return Ok(NextStep::End(ConnectionEnd::Lost { expiry: None })),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.keep(&mut buffer, large.is_some(), work);
                return Ok(self.after_read(false));
            }
            Err(_) => {
                let Some(text) = self.link.transport.violation() else {
                    return Ok(NextStep::End(ConnectionEnd::Lost { expiry: None }));
                };
                return Err(ConnectionError::protocol(text));
            }
        };
        Counters::add(&self.hub.shared.counters.bytes_received, count as u64);
        self.link.was_read();
        if large.is_none() {
            self.unanswered.read(count);
        }
        let step = self.work_through(&mut buffer, work)?;
        self.keep(&mut buffer, large.is_some(), work);
        Ok(step.unwrap_or_else(|| self.after_read(count == want)))
    }

    /// Returns the step after a read that has `filled` its buffer or not.
    fn after_read(&self, filled: bool) -> NextStep {
        if filled || self.link.transport.may_have_more() { NextStep::Next } else { NextStep::Idle }
    }

    /// Keeps the rest of a buffer. Returns the buffer itself to the thread, unless it belongs to a large packet.
    fn keep(&mut self, buffer: &mut BytesMut, own: bool, work: &mut BatchBuffers) {
        if own {
            if buffer.len() >= 2 * READ_BYTES {
                self.partial = std::mem::take(buffer);
            } else if !buffer.is_empty() {
                // Copied, to free the capacity that was reserved for bytes that may never arrive.
                self.partial = BytesMut::from(&buffer[..]);
            }
            return;
        }
        if !buffer.is_empty() {
            self.partial = BytesMut::from(&buffer[..]);
            buffer.clear();
        }
        work.input = std::mem::take(buffer);
    }

    /// Handles every complete packet. Returns `None` if all were handled and the batch may continue.
    fn work_through(
        &mut self,
        buffer: &mut BytesMut,
        work: &mut BatchBuffers,
    ) -> Result<Option<NextStep>, ConnectionError> {
        let limit = self.agreed.packet_bytes;
        while let Some(frame) = codec::frame(buffer, limit)?
            && frame.length <= buffer.len()
        {
            // Acknowledgements and PUBLISH, which are most of the traffic, bypass `Packet`, which is large and
            // expensive to move.
            let step = if let Some(acknowledgement) = codec::short_acknowledgement(frame, buffer) {
                let acknowledgement = acknowledgement?;
                self.heard = true;
                work.scratch.route_steps += STEPS_PER_ACKNOWLEDGEMENT;
                self.acknowledged(acknowledgement, &mut work.scratch);
                NextStep::Next
            } else if codec::is_publish(frame) {
                let limit = self.hub.shared.limits().user_properties;
                let publish =
                    codec::read_publish(frame, buffer, self.link.peer.version, work.scratch.now, limit)?;
                self.heard = true;
                self.unanswered.asked();
                work.scratch.route_steps += STEPS_PER_PACKET;
                self.publish(publish, work)?
            } else {
                let limit = self.hub.shared.limits().user_properties;
                let version = Some(self.link.peer.version);
                let packet = codec::decode(frame, buffer, version, work.scratch.now, limit)?;
                self.heard = true;
                work.scratch.route_steps += STEPS_PER_PACKET;
                self.handle(packet, work)?
            };
            match step {
                NextStep::Next if work.scratch.has_routed_much() => return Ok(Some(NextStep::Yield)),
                NextStep::Next => {}
                step => return Ok(Some(step)),
            }
        }
        Ok(None)
    }
}

/// Reads and discards what a client still sends, until it closes the connection, a maximum number of bytes was read,
/// or the time limit is over.
pub(crate) async fn linger(transport: &Transport) {
    /// Maximum number of bytes read from the socket; encrypted bytes with TLS.
    const MAX_LINGER_BYTES: usize = 1 << 20;
    let discard = async {
        let mut left = MAX_LINGER_BYTES;
        while left > 0 {
            match transport.forget().await {
                Ok(count @ 1..) => left = left.saturating_sub(count),
                Ok(0) | Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGER_TIME, discard).await;
}
