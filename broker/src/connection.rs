//! One client's socket: read in batches, written at the end of each.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::now_ms;
use crate::codec::{
    self, Acknowledge, DecodeError, Options, Packet, Publish, Reason, RetainHandling, Subscribe, Version,
};
use crate::counters::Counters;
use crate::lifecycle::Ending;
use crate::link::{Link, flush_all};
use crate::message::QoS;
use crate::router::{Origin, Routed};
use crate::session::{Scratch, Session};
use crate::store::{Op, Phase};
use crate::subscriptions::Target;
use crate::topic;

/// Read at once. Larger reads save nothing and let a flood delay everyone else.
const READ: usize = 16 << 10;
/// Read from one client before the others get their turn.
const TURN: usize = 64 << 10;
/// How long a client has to take its last bytes and close.
const LINGER: Duration = Duration::from_secs(1);
/// Acknowledgements that may wait for the disk before the client is not read any more.
const GATED: usize = 4_096;

/// What a thread needs to work through a batch, kept for the next one.
#[derive(Default)]
struct Work {
    input: BytesMut,
    scratch: Scratch,
    targets: Vec<Target>,
}

thread_local! {
    static WORK: Cell<Option<Box<Work>>> = const { Cell::new(None) };
}

impl Work {
    fn take() -> Box<Self> {
        WORK.take().unwrap_or_default()
    }

    fn give_back(mut self: Box<Self>) {
        self.input.clear();
        WORK.set(Some(self));
    }
}

/// One client's connection, from CONNACK on.
pub(crate) struct Connection {
    link: Arc<Link>,
    /// What CONNECT said about its session's end; 0 may not become more (MQTT 5, 3.14.2.2.2).
    session_expiry: u32,
    /// Milliseconds of silence after which the client is taken for lost; 0: never.
    silence: u32,
    /// By alias - 1.
    aliases: Vec<Option<ByteString>>,
    /// Read and not worked through.
    partial: BytesMut,
}

/// What to do after a packet or a batch.
enum Step {
    /// The next one; the socket may hold more.
    Next,
    /// The socket is empty.
    Idle,
    /// This message waits for a full queue.
    Wait(Box<(Publish, Arc<Session>)>),
    /// The client has said goodbye.
    End(Ending),
}

/// Why a connection is ended by the broker.
type Failure = DecodeError;

impl Connection {
    pub(crate) fn new(link: Arc<Link>, session_expiry: u32, keep_alive: u16, partial: BytesMut) -> Self {
        // One and a half times the keep-alive [MQTT-3.1.2-22].
        let silence = u32::from(keep_alive) * 1500;
        Self { link, session_expiry, silence, aliases: Vec::new(), partial }
    }

    /// The client has been heard: its time to be silent begins anew.
    fn heard(&self) {
        if self.silence > 0 {
            self.link.silent_until.store(now_ms() + u64::from(self.silence), Ordering::Relaxed);
        }
    }

    /// The client is not being read: its silence means nothing.
    fn not_listening(&self) {
        self.link.silent_until.store(u64::MAX, Ordering::Relaxed);
    }

    /// Serves the client until one of both ends it.
    pub(crate) async fn serve(mut self: Box<Self>) {
        let ending = self.read_all().await;
        let mut work = Work::take();
        self.link.hub.disconnect(&self.link, ending, &mut work.scratch);
        flush_all(&mut work.scratch.dirty);
        work.give_back();
        if self.link.is_closing() {
            Box::pin(self.linger()).await;
        }
        self.link.cut();
        Counters::sub(&self.link.hub.counters.connected, 1);
    }

    async fn read_all(&mut self) -> Ending {
        let lost = Ending::Lost { expiry: None };
        self.heard();
        let mut turn = 0;
        // What came together with CONNECT is worked through before anything is read.
        let mut step = self.batch(false);
        loop {
            match step {
                Ok(Step::Idle) => {
                    turn = 0;
                    tokio::select! {
                        biased;
                        () = self.link.ended.notified() => return lost,
                        ready = self.link.stream.readable() => if ready.is_err() {
                            return lost;
                        },
                    }
                    self.heard();
                }
                Ok(Step::Next) => {
                    turn += READ;
                    if turn >= TURN {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Step::Wait(waiting)) => {
                    self.not_listening();
                    if let Err(failure) = Box::pin(self.wait(*waiting)).await {
                        self.fail(failure);
                        return lost;
                    }
                    self.heard();
                    step = self.batch(false);
                    continue;
                }
                Ok(Step::End(ending)) => return ending,
                Err(failure) => {
                    self.fail(failure);
                    return lost;
                }
            }
            if self.link.is_closing() {
                return lost;
            }
            // What is rarely waited for is boxed: an idle connection carries the largest of its futures along.
            if self.link.hub.store.as_ref().is_some_and(|s| s.backlog() > crate::store::ROOM)
                || self.link.hub.store.is_some() && self.link.session.gated() > GATED
            {
                self.not_listening();
                Box::pin(self.wait_for_disk()).await;
                self.heard();
            }
            step = self.batch(true);
        }
    }

    /// Not to take more from a client than the disk can follow.
    async fn wait_for_disk(&self) {
        if let Some(store) = &self.link.hub.store
            && store.backlog() > crate::store::ROOM
        {
            store.room().await;
        }
        while self.link.session.gated() > GATED && !self.link.is_closing() {
            let mut space = pin!(self.link.session.space.notified());
            space.as_mut().enable();
            if self.link.session.gated() > GATED {
                let _ = timeout(LINGER, space).await;
            }
        }
    }

    fn fail(&self, failure: Failure) {
        Counters::add(&self.link.hub.counters.protocol_errors, 1);
        tracing::info!(client = %self.link.session.client_id, peer = %self.link.peer.address, "ended: {}", failure.text);
        self.link.close(Some(failure.reason));
    }

    /// Lets the client take what was said last: a socket closed with bytes unread would be reset, and the
    /// DISCONNECT lost with it.
    async fn linger(&self) {
        linger(&self.link.stream).await;
    }

    /// Reads once (with `read`), works through every whole packet, and writes what came of it.
    fn batch(&mut self, read: bool) -> Result<Step, Failure> {
        let mut work = Work::take();
        let result = self.read_and_work(&mut work, read);
        self.link.hub.settle(&mut work.scratch);
        flush_all(&mut work.scratch.dirty);
        work.give_back();
        result
    }

    fn read_and_work(&mut self, work: &mut Work, read: bool) -> Result<Step, Failure> {
        if !read {
            if self.partial.is_empty() {
                return Ok(Step::Idle);
            }
            let mut buffer = std::mem::take(&mut self.partial);
            let step = self.work_through(&mut buffer, work);
            self.partial = buffer;
            return step.map(|step| step.unwrap_or(Step::Next));
        }
        // A packet larger than one read gets a buffer that it fills exactly, so that its payload needs no copy.
        let limit = self.link.hub.config.limits.packet_bytes;
        let large = codec::frame(&self.partial, limit)?.filter(|f| f.length > READ).map(|f| f.length);
        let mut buffer = std::mem::take(&mut self.partial);
        let want = if let Some(length) = large {
            let missing = length - buffer.len();
            // Not all at once: a length is only a claim.
            let want = missing.min(buffer.len().max(4 * READ));
            buffer.reserve(want);
            want
        } else {
            let partial = std::mem::replace(&mut buffer, std::mem::take(&mut work.input));
            buffer.reserve(READ + partial.len());
            buffer.extend_from_slice(&partial);
            READ
        };
        let count = match self.link.stream.try_read_buf(&mut (&mut buffer).limit(want)) {
            Ok(0) => return Ok(Step::End(Ending::Lost { expiry: None })),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.keep(&mut buffer, large.is_some(), work);
                return Ok(Step::Idle);
            }
            Err(_) => return Ok(Step::End(Ending::Lost { expiry: None })),
        };
        Counters::add(&self.link.hub.counters.bytes_received, count as u64);
        let step = self.work_through(&mut buffer, work)?;
        self.keep(&mut buffer, large.is_some(), work);
        Ok(step.unwrap_or(if count < want { Step::Idle } else { Step::Next }))
    }

    /// Keeps what is left of a buffer, and the buffer itself where it is the thread's.
    fn keep(&mut self, buffer: &mut BytesMut, own: bool, work: &mut Work) {
        if own {
            if !buffer.is_empty() {
                self.partial = std::mem::take(buffer);
            }
            return;
        }
        if !buffer.is_empty() {
            self.partial = BytesMut::from(&buffer[..]);
            buffer.clear();
        }
        work.input = std::mem::take(buffer);
    }

    /// Handles every whole packet; `None` when there is no other reason to stop.
    fn work_through(&mut self, buffer: &mut BytesMut, work: &mut Work) -> Result<Option<Step>, Failure> {
        let limit = self.link.hub.config.limits.packet_bytes;
        while let Some(frame) = codec::frame(buffer, limit)?
            && frame.length <= buffer.len()
        {
            let packet = codec::decode(frame, buffer, Some(self.link.peer.version))?;
            match self.handle(packet, work)? {
                Step::Next => {}
                step => return Ok(Some(step)),
            }
        }
        Ok(None)
    }

    fn handle(&mut self, packet: Packet, work: &mut Work) -> Result<Step, Failure> {
        let version = self.link.peer.version;
        let session = &self.link.session;
        let scratch = &mut work.scratch;
        match packet {
            Packet::Publish(publish) => return self.publish(publish, work),
            Packet::PubAck { id } => {
                session.finished(&self.link, id, Phase::Queued, scratch);
            }
            Packet::PubRec { id, refused: true } => {
                session.finished(&self.link, id, Phase::Sent, scratch);
            }
            Packet::PubRec { id, refused: false } => {
                if !session.received(&self.link, id, scratch) {
                    self.acknowledge(Acknowledge::PubRel, id, Reason::PACKET_ID_NOT_FOUND, 0, scratch);
                }
            }
            Packet::PubComp { id } => {
                session.finished(&self.link, id, Phase::Released, scratch);
            }
            Packet::PubRel { id } => {
                let (known, durable) = {
                    let mut state = session.state.lock();
                    (state.received.remove(&id), state.durable)
                };
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                let mut ticket = 0;
                if durable {
                    // Until it is on disk that the id is free, a new message under it would look like the old.
                    ticket = self
                        .link
                        .hub
                        .put([Op::Released { key: session.key, packet_id: id }], Some(session.key));
                }
                self.acknowledge(Acknowledge::PubComp, id, reason, ticket, scratch);
            }
            Packet::Subscribe(subscribe) => self.subscribe(subscribe, scratch)?,
            Packet::Unsubscribe { id, filters } => {
                let reasons: Vec<Reason> = filters
                    .iter()
                    .map(|filter| {
                        if self.link.hub.unsubscribe(session, filter, scratch) {
                            Reason::SUCCESS
                        } else {
                            Reason::NO_SUBSCRIPTION_EXISTED
                        }
                    })
                    .collect();
                let ticket = self.link.hub.settle_for(scratch, Some(session.key));
                session.acknowledge(&self.link.hub, &self.link, ticket, scratch, |out| {
                    codec::unsuback(version, id, &reasons, out);
                });
            }
            Packet::PingReq => self.link.append_with(&mut scratch.dirty, codec::ping_response),
            Packet::Disconnect { with_will, expiry } => {
                if self.session_expiry == 0 && expiry.is_some_and(|e| e > 0) {
                    return Err(DecodeError::protocol(
                        "a session expiry in DISCONNECT where CONNECT had none",
                    ));
                }
                let ending = if with_will { Ending::Lost { expiry } } else { Ending::Normal { expiry } };
                return Ok(Step::End(ending));
            }
            Packet::Auth => return Err(DecodeError::protocol("AUTH without an authentication method")),
            Packet::Connect(_) => return Err(DecodeError::protocol("a second CONNECT")),
        }
        Ok(Step::Next)
    }

    fn acknowledge(&self, kind: Acknowledge, id: u16, reason: Reason, ticket: u64, scratch: &mut Scratch) {
        let peer = self.link.peer;
        let text = Some(reason.text()).filter(|text| {
            // Nine bytes stand around it.
            reason.is_error() && peer.problem_information && text.len() + 9 <= peer.packet_maximum as usize
        });
        self.link.session.acknowledge(&self.link.hub, &self.link, ticket, scratch, |out| {
            codec::acknowledge(peer.version, kind, id, reason, text, out);
        });
    }

    fn subscribe(&self, subscribe: Subscribe, scratch: &mut Scratch) -> Result<(), Failure> {
        let (session, limits) = (&self.link.session, &self.link.hub.config.limits);
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut reads: Vec<(ByteString, Options)> = Vec::new();
        for (filter, options) in subscribe.filters {
            let shared = topic::shared(&filter);
            let plain = match shared {
                None => Some(&*filter),
                Some(shared) => shared.map(|s| s.filter),
            };
            if !plain.is_some_and(|f| topic::valid_filter(f, limits.topic_levels)) {
                reasons.push(Reason::TOPIC_FILTER_INVALID);
                continue;
            }
            if shared.is_some() && options.no_local {
                return Err(DecodeError::protocol("No Local on a shared subscription"));
            }
            match self.link.hub.subscribe(session, &filter, options, subscribe.identifier, scratch) {
                Ok(new) => {
                    reasons.push(Reason(options.qos as u8));
                    let wanted = match options.retain_handling {
                        RetainHandling::AtSubscribe => true,
                        RetainHandling::IfNew => new,
                        RetainHandling::Never => false,
                    };
                    if wanted && shared.is_none() {
                        reads.push((filter, options));
                    }
                }
                Err(reason) => reasons.push(reason),
            }
        }
        let ticket = self.link.hub.settle_for(scratch, Some(session.key));
        session.acknowledge(&self.link.hub, &self.link, ticket, scratch, |out| {
            codec::suback(self.link.peer.version, subscribe.id, &reasons, out);
        });
        for (filter, options) in reads {
            session.begin_read(&self.link, filter, options.qos, subscribe.identifier, scratch);
        }
        Ok(())
    }

    fn publish(&mut self, mut publish: Publish, work: &mut Work) -> Result<Step, Failure> {
        Counters::add(&self.link.hub.counters.messages_received, 1);
        if let Some(alias) = publish.alias {
            self.resolve(alias, &mut publish)?;
        }
        let message = &mut publish.message;
        if message.qos != QoS::AtMostOnce {
            let state = self.link.session.state.lock();
            if publish.message.qos == QoS::ExactlyOnce && state.received.contains(&publish.id) {
                drop(state);
                return Ok(self.repeated(publish.id, &mut work.scratch));
            }
            // 3.1.1 knows no such limit; packet ids are one.
            let limit = usize::from(self.link.hub.config.limits.receive_maximum);
            if self.link.peer.version == Version::V5 && state.received.len() >= limit {
                let reason = Reason::RECEIVE_MAXIMUM_EXCEEDED;
                return Err(DecodeError {
                    reason,
                    text: "more unacknowledged messages than the receive maximum",
                });
            }
        }
        let message = &mut publish.message;
        let refusal = if message.topic.starts_with('$') {
            Some(Reason::NOT_AUTHORIZED)
        } else if !topic::valid_name(&message.topic, self.link.hub.config.limits.topic_levels) {
            Some(Reason::TOPIC_NAME_INVALID)
        } else {
            None
        };
        if let Some(reason) = refusal {
            Counters::add(&self.link.hub.counters.refused_access, 1);
            self.answer(&publish, reason, 0, &mut work.scratch);
            return Ok(Step::Next);
        }
        if self.link.hub.caller_topics.matches(&message.topic) {
            let session = &self.link.session;
            let caller = session.state.lock().user_name.clone().unwrap_or_else(|| session.client_id.clone());
            message.properties.user.retain(|(key, _)| key != "caller");
            message.properties.user.push((ByteString::from_static("caller"), caller));
        }
        self.route(publish, work)
    }

    /// A QoS 2 message that has been taken already: only its PUBREC is due again.
    fn repeated(&self, id: u16, scratch: &mut Scratch) -> Step {
        let session = &self.link.session;
        let durable = session.state.lock().durable;
        let mut ticket = 0;
        if durable {
            ticket = self.link.hub.put([Op::Received { key: session.key, packet_id: id }], Some(session.key));
        }
        self.acknowledge(Acknowledge::PubRec, id, Reason::SUCCESS, ticket, scratch);
        Step::Next
    }

    fn resolve(&mut self, alias: u16, publish: &mut Publish) -> Result<(), Failure> {
        if alias == 0 || alias > self.link.hub.config.limits.topic_aliases {
            let reason = Reason::TOPIC_ALIAS_INVALID;
            return Err(DecodeError { reason, text: "a topic alias of 0 or above the maximum" });
        }
        let index = usize::from(alias) - 1;
        let topic = &mut publish.message.topic;
        if topic.is_empty() {
            let known = self.aliases.get(index).and_then(Option::as_ref);
            *topic = known.cloned().ok_or(DecodeError::protocol("a topic alias that was never set"))?;
        } else {
            if self.aliases.len() <= index {
                self.aliases.resize(index + 1, None);
            }
            self.aliases[index] = Some(ByteString::from(&**topic));
        }
        Ok(())
    }

    /// Routes a message that has passed every check, and acknowledges it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it may not be used again: it may be the read buffer's"
    )]
    fn route(&self, publish: Publish, work: &mut Work) -> Result<Step, Failure> {
        let (session, qos) = (&self.link.session, publish.message.qos);
        let exactly_once = qos == QoS::ExactlyOnce;
        let mut origin = Origin { session: Some(session), ..Origin::default() };
        if exactly_once {
            let mut state = session.state.lock();
            state.received.insert(publish.id);
            origin.received = Some(publish.id);
            origin.durable = state.durable;
        }
        let routed = if self.link.hub.store.as_ref().is_some_and(crate::store::Store::failed)
            && qos != QoS::AtMostOnce
        {
            Counters::add(&self.link.hub.counters.refused_store, 1);
            Routed::Refused(Reason::QUOTA_EXCEEDED, "what must be kept cannot be written")
        } else {
            self.link.hub.route(&publish.message, origin, &mut work.scratch, &mut work.targets)
        };
        match routed {
            Routed::Done { matched, ticket } => {
                let reason = if matched { Reason::SUCCESS } else { Reason::NO_MATCHING_SUBSCRIBERS };
                self.answer(&publish, reason, ticket, &mut work.scratch);
                Ok(Step::Next)
            }
            Routed::Full(full) => {
                session.state.lock().received.remove(&publish.id);
                // What it shares with the read buffer would be overwritten never, but held for long.
                let publish = Publish { message: publish.message.compact(), ..publish };
                Ok(Step::Wait(Box::new((publish, full))))
            }
            Routed::Refused(reason, text) => {
                if exactly_once {
                    session.state.lock().received.remove(&publish.id);
                }
                self.refuse(&publish, reason, text, &mut work.scratch)?;
                Ok(Step::Next)
            }
        }
    }

    /// Says that a message was not taken: a reason code in MQTT 5; 3.1.1 has none, so the connection ends
    /// without an acknowledgement and the client keeps the message.
    fn refuse(
        &self,
        publish: &Publish,
        reason: Reason,
        text: &'static str,
        scratch: &mut Scratch,
    ) -> Result<(), Failure> {
        if self.link.peer.version == Version::V3 && publish.message.qos != QoS::AtMostOnce {
            return Err(DecodeError { reason, text });
        }
        self.answer(publish, reason, 0, scratch);
        Ok(())
    }

    fn answer(&self, publish: &Publish, reason: Reason, ticket: u64, scratch: &mut Scratch) {
        match publish.message.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.acknowledge(Acknowledge::PubAck, publish.id, reason, ticket, scratch),
            QoS::ExactlyOnce => {
                self.acknowledge(Acknowledge::PubRec, publish.id, reason, ticket, scratch);
            }
        }
    }

    /// Waits for room in the queues that a message goes to, for a bounded time; then it is refused. Nothing
    /// is read from the client meanwhile.
    async fn wait(&self, (mut publish, mut full): (Publish, Arc<Session>)) -> Result<(), Failure> {
        let limits = &self.link.hub.config.limits;
        let deadline = Instant::now() + limits.publish_wait;
        Counters::add(&self.link.hub.counters.publisher_waits, 1);
        loop {
            if !self.wait_for_space(&full, deadline).await {
                Counters::add(&self.link.hub.counters.refused_queue_full, 1);
                let mut work = Work::take();
                let refused = self.refuse(
                    &publish,
                    Reason::QUOTA_EXCEEDED,
                    "a subscriber's queue is full",
                    &mut work.scratch,
                );
                flush_all(&mut work.scratch.dirty);
                work.give_back();
                return refused;
            }
            if self.link.is_closing() {
                return Ok(());
            }
            let mut work = Work::take();
            let step = self.route(publish, &mut work);
            self.link.hub.settle(&mut work.scratch);
            flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                Step::Wait(waiting) => (publish, full) = *waiting,
                _ => return Ok(()),
            }
        }
    }

    async fn wait_for_space(&self, full: &Arc<Session>, deadline: Instant) -> bool {
        let limits = &self.link.hub.config.limits;
        if full.is_stalled() {
            return !full.must_wait(limits);
        }
        loop {
            let mut space = pin!(full.space.notified());
            space.as_mut().enable();
            if !full.must_wait(limits) {
                return true;
            }
            if self.link.is_closing() {
                return false;
            }
            if timeout_at(deadline, space).await.is_err() {
                full.set_stalled();
                return false;
            }
        }
    }
}

/// Reads and forgets what a client still sends, until it closes or its time is up.
pub(crate) async fn linger(stream: &tokio::net::TcpStream) {
    let discard = async {
        let mut left: usize = 4 << 20;
        let mut buffer = vec![0; 4 << 10];
        while left > 0 {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGER, discard).await;
}
