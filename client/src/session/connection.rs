//! The connection task: reads, writes, keeps the connection alive, and reconnects.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rumqttc::v5::mqttbytes::v5 as packets;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::backoff::Backoff;
use super::decode::{ack_reason, outcome};
use super::error::{ConnectError, Unsent};
use super::frame::{self, Incoming};
use super::handshake::{Connection, HANDSHAKE_TIMEOUT, connect};
use super::message::QoS;
use super::options::Options;
use super::outbox::{Farewell, Waiter};
use super::publish::Received;
use super::pulse::{Beat, Pulse};
use super::receiver::Receiver;
use super::shared::{SessionShared, Status};
use super::stalls::{self, Stalls};
use super::standstill::{self, LOOK_EVERY, Standstill};
use super::stream::Stream;
use super::tickets::Tickets;
use crate::error::error_chain;

/// Minimum duration of a connection that resets the backoff.
const MIN_STEADY_DURATION: Duration = Duration::from_secs(1);
/// Number of attempts of a session with [`Options::patient`] whose first connection is closed without an answer: the
/// port may belong to another protocol.
const CLOSED_ATTEMPTS: u32 = 5;
/// Delay between these attempts.
const CLOSED_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Buffer capacity for one read, in bytes.
const READ_CAPACITY: usize = 64 << 10;
/// Maximum number of packets that are handled before the responses to them are written, so that the peer can start
/// working on those before a large batch ends.
const MAX_PACKETS_AT_ONCE: usize = 16;
const PINGREQ: [u8; 2] = [0xC0, 0];

/// Connects once and spawns the connection task, which reconnects from then on.
pub(super) async fn start<R: Receiver>(
    options: Options,
    shared: Arc<SessionShared>,
    receiver: R,
) -> Result<(), ConnectError> {
    let tickets = Tickets::default();
    let mut closed = 0;
    let first = loop {
        match connect(&options, &tickets).await {
            Ok(connection) => break Some(connection),
            Err(error) if options.patient && error.may_pass() => {
                tracing::warn!("{}; trying on", error_chain(&error));
                break None;
            }
            // A broker that is shutting down closes connections this way, and is usually started again.
            Err(error @ ConnectError::Closed { .. }) if options.patient && closed < CLOSED_ATTEMPTS => {
                closed += 1;
                tracing::warn!("{}; trying on", error_chain(&error));
                sleep(CLOSED_RETRY_DELAY).await;
            }
            Err(error) => return Err(error),
        }
    };
    tokio::spawn(ConnectionTask { options, shared, receiver, tickets, online: 0 }.run(first));
    Ok(())
}

struct ConnectionTask<R: Receiver> {
    options: Options,
    shared: Arc<SessionShared>,
    receiver: R,
    tickets: Tickets,
    online: u64,
}

impl<R: Receiver> Drop for ConnectionTask<R> {
    /// Notifies waiting publishers however the task ends, including by a panic of the receiver.
    fn drop(&mut self) {
        if !matches!(*self.shared.status.borrow(), Status::Ended(_)) {
            for (waiter, result) in self.shared.outbox.lock().ended() {
                match waiter {
                    Waiter::Nobody | Waiter::Token(_) => {}
                    Waiter::Future(told) => drop(told.send(result)),
                    Waiter::Answer(told) => drop(told.send(result.map(|()| String::new()))),
                }
            }
            self.shared.ended("its task has ended".to_owned());
        }
    }
}

/// Reason why a connection has ended.
enum ConnectionEnd {
    /// This side closed it.
    Closed,
    /// Another client connected with the same client id.
    TakenOver,
    /// The connection was lost, for this reason.
    Lost(String),
}

impl<R: Receiver> ConnectionTask<R> {
    async fn run(mut self, mut first: Option<Connection>) {
        let mut backoff = Backoff::new(self.options.environment.clone());
        let end = loop {
            let connection = match first.take() {
                Some(connection) => connection,
                None => match reconnect(&self.options, &self.tickets, &self.shared, &mut backoff).await {
                    Some(connection) => connection,
                    None => break "closed".to_owned(),
                },
            };
            let began = Instant::now();
            self.online += 1;
            let (window, max_packet) = (connection.window, connection.max_packet);
            let place = connection.place.clone();
            self.shared.outbox.lock().connected(connection.resumed, window.into(), max_packet as usize);
            self.shared.set_features(connection.features);
            self.receiver.connected();
            self.shared.status.send_replace(Status::Online(self.online));
            self.shared.room.notify_waiters();

            let end = self.serve(connection).await;

            let lost = self.shared.outbox.lock().disconnected();
            self.settle(lost);
            self.receiver.disconnected();
            match end {
                ConnectionEnd::Closed => break "closed".to_owned(),
                ConnectionEnd::TakenOver => {
                    let id = self.options.client_id.as_str();
                    break format!(
                        "another client has connected as {id:?}; give each of them an id of its own"
                    );
                }
                // The session was about to be closed anyway.
                ConnectionEnd::Lost(_) if self.shared.outbox.lock().closing.is_some() => {
                    break "closed".to_owned();
                }
                ConnectionEnd::Lost(reason) => {
                    let text = format!("lost the connection to {place}: {reason}");
                    if self.options.is_secondary {
                        tracing::debug!(client = self.options.client_id.as_str(), "{text}");
                    } else {
                        tracing::warn!("{text}");
                    }
                    self.shared.status.send_replace(Status::Offline);
                }
            }
            if began.elapsed() > MIN_STEADY_DURATION {
                backoff.reset();
            }
        };
        let lost = self.shared.outbox.lock().ended();
        self.settle(lost);
        let reason = self.shared.reason.lock().take();
        self.shared.ended(reason.unwrap_or(end));
    }

    fn settle(&mut self, results: Vec<(Waiter, Result<(), Unsent>)>) {
        for (waiter, result) in results {
            self.tell(waiter, result);
        }
    }

    fn tell(&mut self, waiter: Waiter, result: Result<(), Unsent>) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Token(token) => self.receiver.settled(token, result),
            Waiter::Future(told) => {
                let _ = told.send(result);
            }
            Waiter::Answer(told) => {
                let _ = told.send(result.map(|()| String::new()));
            }
        }
    }

    /// Reads and writes until the connection ends.
    async fn serve(&mut self, connection: Connection) -> ConnectionEnd {
        let Connection { mut stream, mut reading, keep_alive, .. } = connection;
        let shared = self.shared.clone();
        let mut writing = BytesMut::new();
        let mut pulse = Pulse::new(keep_alive);
        let mut standstill = self.options.notices_standstill.then(|| Standstill::new(standstill::clock()));
        let interval = if standstill.is_some() { LOOK_EVERY.min(pulse.interval) } else { pulse.interval };
        let mut tick = pin!(sleep(interval));
        let mut acknowledgements = BytesMut::new();
        let mut settled = Vec::new();
        let mut leaving = false;
        let (mut was_read, mut stalls) = (false, Stalls::default());
        let mut work = pin!(shared.work.notified());
        loop {
            let more = match self.read(&mut reading, &mut acknowledgements, &mut pulse, &mut standstill) {
                Ok(more) => more,
                Err(end) => return end,
            };
            // Yields to the tasks that received something: before more is read, and before the acknowledgements are
            // written, which can then share a packet with the next request.
            if more || !acknowledgements.is_empty() {
                tokio::task::yield_now().await;
            }
            let closing = {
                let mut outbox = shared.outbox.lock();
                outbox.append(&acknowledgements);
                acknowledgements.clear();
                if writing.is_empty() {
                    outbox.take(&mut writing);
                }
                // While the task has something to write it runs again by itself, and need not be woken.
                outbox.awake = !writing.is_empty();
                if outbox.wanted && outbox.has_room() {
                    outbox.wanted = false;
                    shared.room.notify_waiters();
                }
                settled.append(&mut outbox.settled);
                if outbox.closing.is_some() && !leaving {
                    leaving = true;
                    tick.as_mut().reset(Instant::now() + HANDSHAKE_TIMEOUT);
                }
                outbox.closing.filter(|_| writing.is_empty() && outbox.is_empty())
            };
            for (waiter, result) in settled.drain(..) {
                self.tell(waiter, result);
            }
            if let Some(farewell) = closing {
                let farewell: &[u8] = match farewell {
                    Farewell::Normal => &[0xE0, 0],
                    Farewell::WithWill => &[0xE0, 1, 4],
                };
                let _ = timeout(HANDSHAKE_TIMEOUT, async {
                    stream.write_all(farewell).await?;
                    stream.shutdown().await
                })
                .await;
                return ConnectionEnd::Closed;
            }
            if !more && std::mem::take(&mut was_read) && writing.is_empty() && stalls.quiet(pulse.received) {
                stream.tcp().inspect(|tcp| stalls::acknowledge(tcp));
            }
            if reading.capacity() - reading.len() < READ_CAPACITY / 16 {
                reading.reserve(READ_CAPACITY);
            }
            let event =
                wait(&mut stream, &mut reading, &mut writing, more, work.as_mut(), tick.as_mut()).await;
            look(&mut standstill, &mut acknowledgements);
            match event {
                Event::Read(Ok(0)) => return ConnectionEnd::Lost("the broker closed it".to_owned()),
                Event::Read(Err(error)) | Event::Failed(error) => {
                    return ConnectionEnd::Lost(error.to_string());
                }
                Event::Read(Ok(_)) => {
                    pulse.received();
                    stalls.read(pulse.received);
                    was_read = true;
                }
                Event::More => {}
                Event::Written => {
                    pulse.sent();
                    stalls.written();
                }
                Event::Work => work.set(shared.work.notified()),
                Event::Tick if leaving => return ConnectionEnd::Closed,
                Event::Tick => {
                    match pulse.beat() {
                        Beat::Quiet => {}
                        Beat::Ping => {
                            standstill.iter_mut().for_each(Standstill::pinged);
                            shared.outbox.lock().append(&PINGREQ);
                        }
                        Beat::Dead => return ConnectionEnd::Lost("no answer to a ping".to_owned()),
                    }
                    tick.as_mut().reset(Instant::now() + interval);
                }
            }
        }
    }

    /// Handles up to [`MAX_PACKETS_AT_ONCE`] received packets; returns true if there may be more.
    fn read(
        &mut self,
        reading: &mut BytesMut,
        acks: &mut BytesMut,
        pulse: &mut Pulse,
        standstill: &mut Option<Standstill>,
    ) -> Result<bool, ConnectionEnd> {
        use packets::Packet;
        for _ in 0..MAX_PACKETS_AT_ONCE {
            let packet = match frame::next(reading, self.options.max_packet as usize) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                Err(error) => return Err(ConnectionEnd::Lost(error.to_string())),
            };
            let packet = match packet {
                Incoming::Publish(Received { mut message, id, .. }) => {
                    // Checked for each packet: the handling of a message may block the thread.
                    look(standstill, acks);
                    if message.qos == QoS::AtLeastOnce {
                        acks.put_slice(&[0x40, 2]);
                        acks.put_u16(id);
                    }
                    message.unread = standstill.as_ref().map_or(Duration::ZERO, Standstill::unread);
                    self.receiver.message(message);
                    continue;
                }
                Incoming::Other(packet) => packet,
            };
            match packet {
                Packet::PubAck(ack) => {
                    let told = self.shared.outbox.lock().acknowledged(ack.pkid, outcome(&ack));
                    match told {
                        Some((Waiter::Answer(told), Ok(()))) => drop(told.send(Ok(ack_reason(&ack)))),
                        Some((waiter, result)) => self.tell(waiter, result),
                        None => {}
                    }
                }
                Packet::SubAck(ack) => {
                    let refused = self.shared.outbox.lock().granted(&ack);
                    if let Some(error) = refused {
                        tracing::warn!("after the reconnect: {error}");
                    }
                }
                Packet::UnsubAck(ack) => self.shared.outbox.lock().ungranted(ack.pkid),
                Packet::PingResp(_) => {
                    pulse.answered();
                    standstill.iter_mut().for_each(Standstill::answered);
                }
                Packet::Disconnect(farewell) => {
                    use packets::DisconnectReasonCode::SessionTakenOver;
                    if farewell.reason_code == SessionTakenOver {
                        return Err(ConnectionEnd::TakenOver);
                    }
                    return Err(ConnectionEnd::Lost(format!("the broker says {:?}", farewell.reason_code)));
                }
                _ => return Err(ConnectionEnd::Lost("a packet that no broker sends".to_owned())),
            }
        }
        Ok(true)
    }
}

/// Records that the task runs; after a standstill, requests a PINGRESP from the broker.
fn look(standstill: &mut Option<Standstill>, answers: &mut BytesMut) {
    if let Some(standstill) = standstill
        && standstill.look(standstill::clock())
    {
        answers.put_slice(&PINGREQ);
        standstill.pinged();
    }
}

/// Retries until there is a connection; returns `None` if the session is closed in the meantime.
async fn reconnect(
    options: &Options,
    tickets: &Tickets,
    shared: &SessionShared,
    backoff: &mut Backoff,
) -> Option<Connection> {
    let tries = async {
        let mut told = String::new();
        loop {
            sleep(backoff.next()).await;
            match connect(options, tickets).await {
                Ok(connection) => return connection,
                Err(error) => {
                    // An absent broker is expected to come back. Every other error may be permanent, and is logged
                    // once.
                    let text = error_chain(&error);
                    if error.is_absence() || text == told || options.is_secondary {
                        tracing::debug!("{text}; trying on");
                    } else {
                        tracing::warn!("{text}; trying on");
                        told = text;
                    }
                }
            }
        }
    };
    let closed = async {
        while shared.outbox.lock().closing.is_none() {
            shared.work.notified().await;
        }
    };
    tokio::select! {
        biased;
        connection = tries => Some(connection),
        () = closed => None,
    }
}

enum Event {
    Read(io::Result<usize>),
    /// More received packets are waiting to be handled.
    More,
    Written,
    Failed(io::Error),
    Work,
    Tick,
}

/// Writes and reads; returns the first event.
async fn wait(
    stream: &mut Stream,
    reading: &mut BytesMut,
    writing: &mut BytesMut,
    more: bool,
    mut work: Pin<&mut tokio::sync::futures::Notified<'_>>,
    mut tick: Pin<&mut Sleep>,
) -> Event {
    poll_fn(|context| {
        let mut written = false;
        while !writing.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, writing) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::Failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(size)) => {
                    bytes::Buf::advance(writing, size);
                    written = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => break,
            }
        }
        if stream.has_unsent()
            && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(context)
        {
            return Poll::Ready(Event::Failed(error));
        }
        if written && writing.is_empty() {
            return Poll::Ready(Event::Written);
        }
        if more {
            return Poll::Ready(Event::More);
        }
        if let Poll::Ready(read) = pin!(stream.read_buf(reading)).poll(context) {
            return Poll::Ready(Event::Read(read));
        }
        // A layer above the socket may have to answer what it read, for instance a WebSocket ping.
        if stream.has_unsent()
            && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(context)
        {
            return Poll::Ready(Event::Failed(error));
        }
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Work);
        }
        if tick.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Tick);
        }
        Poll::Pending
    })
    .await
}
