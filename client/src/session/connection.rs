//! The task: it connects, reads and writes, keeps alive, and tries again.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use rumqttc::v5::mqttbytes::{self, v5 as packets};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::backoff::Backoff;
use super::outbox::{Farewell, Waiter};
use super::stalls::{self, Stalls};
use super::{ConnectError, Message, Options, QoS, Receiver, Shared, Status, Unsent, frame};
use crate::wire::Properties;

/// Time for the network and the broker to answer a CONNECT, and to take the last of what is written.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that lasted less does not end the growing of the waits between tries.
const STEADY: Duration = Duration::from_secs(1);
/// Room for one read.
const READ: usize = 64 << 10;
/// Packets taken apart before what they led to is written: the other side works on that meanwhile, on a core of
/// its own, instead of waiting for the last of a large batch.
const AT_ONCE: usize = 16;
/// The window of a broker that names none (MQTT 5, 3.2.2.3.3).
const WINDOW: u16 = u16::MAX;
/// The largest packet there is (MQTT 5, 2.1.4).
const LARGEST: u32 = 268_435_460;

/// Connects once, and leaves a task behind that keeps it up.
pub(super) async fn start<R: Receiver>(
    options: Options,
    shared: Arc<Shared>,
    receiver: R,
) -> Result<(), ConnectError> {
    let first = match connect(&options).await {
        Ok(connection) => Some(connection),
        Err(error @ (ConnectError::Unreachable { .. } | ConnectError::Silent { .. })) if options.patient => {
            tracing::warn!("{error}; trying on");
            None
        }
        Err(error) => return Err(error),
    };
    tokio::spawn(Task { options, shared, receiver, online: 0 }.run(first));
    Ok(())
}

struct Task<R: Receiver> {
    options: Options,
    shared: Arc<Shared>,
    receiver: R,
    online: u64,
}

impl<R: Receiver> Drop for Task<R> {
    /// However the task ends, and be it by a receiver's panic: nobody waits for it any longer.
    fn drop(&mut self) {
        if !matches!(*self.shared.status.borrow(), Status::Ended(_)) {
            for (waiter, error) in self.shared.outbox.lock().ended() {
                if let Waiter::Future(told) = waiter {
                    let _ = told.send(Err(error));
                }
            }
            self.shared.ended("its task has ended".to_owned());
        }
    }
}

/// A connection whose CONNACK has come.
struct Connection {
    stream: TcpStream,
    /// What came behind the CONNACK.
    reading: BytesMut,
    resumed: bool,
    window: u16,
    max_packet: u32,
    keep_alive: Duration,
}

/// Why a connection has ended.
enum End {
    /// It was closed from this side.
    Closed,
    /// Another client has come with the same id.
    TakenOver,
    /// Anything else.
    Lost(String),
}

impl<R: Receiver> Task<R> {
    async fn run(mut self, mut first: Option<Connection>) {
        let mut backoff = Backoff::new();
        let end = loop {
            let connection = match first.take() {
                Some(connection) => connection,
                None => match again(&self.options, &self.shared, &mut backoff).await {
                    Some(connection) => connection,
                    None => break "closed".to_owned(),
                },
            };
            let began = Instant::now();
            self.online += 1;
            let (window, max_packet) = (connection.window, connection.max_packet);
            self.shared.outbox.lock().connected(connection.resumed, window.into(), max_packet as usize);
            self.receiver.connected();
            self.shared.status.send_replace(Status::Online(self.online));
            self.shared.room.notify_waiters();

            let end = self.serve(connection).await;

            let lost = self.shared.outbox.lock().disconnected();
            self.settle(lost);
            self.receiver.disconnected();
            match end {
                End::Closed => break "closed".to_owned(),
                End::TakenOver => {
                    break format!("another client has connected as {:?}", self.options.client_id.as_str());
                }
                // It was about to end.
                End::Lost(_) if self.shared.outbox.lock().closing.is_some() => break "closed".to_owned(),
                End::Lost(reason) => {
                    tracing::warn!("lost the connection to {}: {reason}", self.options.address);
                    self.shared.status.send_replace(Status::Offline);
                }
            }
            if began.elapsed() > STEADY {
                backoff = Backoff::new();
            }
        };
        let lost = self.shared.outbox.lock().ended();
        self.settle(lost);
        self.shared.ended(end);
    }

    fn settle(&mut self, waiters: Vec<(Waiter, Unsent)>) {
        for (waiter, error) in waiters {
            self.tell(waiter, Err(error));
        }
    }

    fn tell(&mut self, waiter: Waiter, result: Result<(), Unsent>) {
        match waiter {
            Waiter::Nobody => {}
            Waiter::Token(token) => self.receiver.settled(token, result),
            Waiter::Future(told) => {
                let _ = told.send(result);
            }
        }
    }

    /// Reads and writes until the connection ends.
    async fn serve(&mut self, connection: Connection) -> End {
        let Connection { mut stream, mut reading, keep_alive, .. } = connection;
        let shared = self.shared.clone();
        let mut writing = BytesMut::new();
        let mut pulse = Pulse::new(keep_alive);
        let mut tick = pin!(sleep(pulse.interval));
        let mut acknowledgements = BytesMut::new();
        let mut failed = Vec::new();
        let mut leaving = false;
        let (mut was_read, mut stalls) = (false, Stalls::default());
        let mut work = pin!(shared.work.notified());
        loop {
            let more = match self.read(&mut reading, &mut acknowledgements, &mut pulse) {
                Ok(more) => more,
                Err(end) => return end,
            };
            // Who was waiting for what came is to have its turn: before more is read, and before the
            // acknowledgements go out, which can then share a packet with the next request.
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
                // Nobody needs to wake the task while it has something to write: it comes back by itself.
                outbox.awake = !writing.is_empty();
                if outbox.wanted && outbox.has_room() {
                    outbox.wanted = false;
                    shared.room.notify_waiters();
                }
                failed.append(&mut outbox.failed);
                if outbox.closing.is_some() && !leaving {
                    leaving = true;
                    tick.as_mut().reset(Instant::now() + PATIENCE);
                }
                outbox.closing.filter(|_| writing.is_empty() && outbox.is_empty())
            };
            for (waiter, error) in failed.drain(..) {
                self.tell(waiter, Err(error));
            }
            if let Some(farewell) = closing {
                let farewell: &[u8] = match farewell {
                    Farewell::Normal => &[0xE0, 0],
                    Farewell::WithWill => &[0xE0, 1, 4],
                };
                let _ = timeout(PATIENCE, async {
                    stream.write_all(farewell).await?;
                    stream.shutdown().await
                })
                .await;
                return End::Closed;
            }
            if !more && std::mem::take(&mut was_read) && writing.is_empty() && stalls.quiet(pulse.received) {
                stalls::acknowledge(&stream);
            }
            if reading.capacity() - reading.len() < READ / 16 {
                reading.reserve(READ);
            }
            let event =
                wait(&mut stream, &mut reading, &mut writing, more, work.as_mut(), tick.as_mut()).await;
            match event {
                Event::Read(Ok(0)) => return End::Lost("the broker closed it".to_owned()),
                Event::Read(Err(error)) | Event::Failed(error) => return End::Lost(error.to_string()),
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
                Event::Tick if leaving => return End::Closed,
                Event::Tick => {
                    match pulse.beat() {
                        Beat::Quiet => {}
                        Beat::Ping => {
                            let mut outbox = shared.outbox.lock();
                            outbox.append(&[0xC0, 0]);
                        }
                        Beat::Dead => return End::Lost("no answer to a ping".to_owned()),
                    }
                    tick.as_mut().reset(Instant::now() + pulse.interval);
                }
            }
        }
    }

    /// Takes what has been read apart; true where some of it is left.
    fn read(&mut self, reading: &mut BytesMut, acks: &mut BytesMut, pulse: &mut Pulse) -> Result<bool, End> {
        use packets::Packet;
        for _ in 0..AT_ONCE {
            let packet = match frame::next(reading, self.options.max_packet as usize) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                Err(error) => return Err(End::Lost(error.to_string())),
            };
            match packet {
                Packet::Publish(publish) => {
                    match publish.qos {
                        mqttbytes::QoS::AtMostOnce => {}
                        mqttbytes::QoS::AtLeastOnce => {
                            acks.put_slice(&[0x40, 2]);
                            acks.put_u16(publish.pkid);
                        }
                        mqttbytes::QoS::ExactlyOnce => {
                            return Err(End::Lost("a message at QoS 2, which nobody asked for".to_owned()));
                        }
                    }
                    match message(publish) {
                        Some(message) => self.receiver.message(message),
                        None => return Err(End::Lost("a topic that is not UTF-8".to_owned())),
                    }
                }
                Packet::PubAck(ack) => {
                    let told = self.shared.outbox.lock().acknowledged(ack.pkid, outcome(ack.reason));
                    if let Some((waiter, result)) = told {
                        self.tell(waiter, result);
                    }
                }
                Packet::SubAck(ack) => {
                    let refused = self.shared.outbox.lock().granted(ack.pkid, &ack.return_codes);
                    if let Some(error) = refused {
                        tracing::warn!("after the reconnect: {error}");
                    }
                }
                Packet::UnsubAck(ack) => self.shared.outbox.lock().ungranted(ack.pkid),
                Packet::PingResp(_) => pulse.answered(),
                Packet::Disconnect(farewell) => {
                    use packets::DisconnectReasonCode::SessionTakenOver;
                    if farewell.reason_code == SessionTakenOver {
                        return Err(End::TakenOver);
                    }
                    return Err(End::Lost(format!("the broker says {:?}", farewell.reason_code)));
                }
                _ => return Err(End::Lost("a packet that no broker sends".to_owned())),
            }
        }
        Ok(true)
    }
}

/// Tries until there is a connection; `None` where the session is to end.
async fn again(options: &Options, shared: &Shared, backoff: &mut Backoff) -> Option<Connection> {
    let tries = async {
        loop {
            sleep(backoff.next()).await;
            match connect(options).await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!("{error}; trying on"),
            }
        }
    };
    let closed = async {
        while shared.outbox.lock().closing.is_none() {
            shared.work.notified().await;
        }
    };
    tokio::select! {
        connection = tries => Some(connection),
        () = closed => None,
    }
}

enum Event {
    Read(io::Result<usize>),
    /// There are packets left of what was read.
    More,
    Written,
    Failed(io::Error),
    Work,
    Tick,
}

/// Waits for whatever comes first, and does it.
async fn wait(
    stream: &mut TcpStream,
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
        if written && writing.is_empty() {
            return Poll::Ready(Event::Written);
        }
        if more {
            return Poll::Ready(Event::More);
        }
        if let Poll::Ready(read) = pin!(stream.read_buf(reading)).poll(context) {
            return Poll::Ready(Event::Read(read));
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

/// When to ping, and when to give up.
struct Pulse {
    keep_alive: Duration,
    interval: Duration,
    sent: Instant,
    received: Instant,
    pinged: Option<Instant>,
}

enum Beat {
    Quiet,
    Ping,
    Dead,
}

impl Pulse {
    fn new(keep_alive: Duration) -> Self {
        let now = Instant::now();
        let interval = (keep_alive / 4).max(Duration::from_millis(100));
        Self { keep_alive, interval, sent: now, received: now, pinged: None }
    }

    fn sent(&mut self) {
        self.sent = Instant::now();
    }

    /// Whatever comes shows that the other side lives.
    fn received(&mut self) {
        self.received = Instant::now();
    }

    fn answered(&mut self) {
        self.pinged = None;
    }

    /// A ping after three quarters of the keep-alive without a word in one of the directions; dead where it is
    /// not answered within another keep-alive and nothing else came.
    fn beat(&mut self) -> Beat {
        let now = Instant::now();
        if let Some(pinged) = self.pinged {
            let silent = now.duration_since(pinged.max(self.received));
            return if silent >= self.keep_alive { Beat::Dead } else { Beat::Quiet };
        }
        let quiet = now.duration_since(self.sent.min(self.received));
        if quiet * 4 < self.keep_alive * 3 {
            return Beat::Quiet;
        }
        self.pinged = Some(now);
        Beat::Ping
    }
}

fn message(publish: packets::Publish) -> Option<Message> {
    let topic = ByteString::try_from(publish.topic).ok()?;
    let properties = publish.properties.map_or_else(Properties::default, |p| Properties {
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation: p.correlation_data.map(|c| c.to_vec()),
        expiry: p.message_expiry_interval,
        user: p.user_properties,
    });
    let qos = match publish.qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    Some(Message { topic, payload: publish.payload, properties, qos, retain: publish.retain })
}

fn outcome(reason: packets::PubAckReason) -> Result<(), Unsent> {
    use packets::PubAckReason as Reason;
    Err(match reason {
        Reason::Success => return Ok(()),
        Reason::NoMatchingSubscribers => Unsent::NobodyThere,
        Reason::NotAuthorized => Unsent::Denied,
        Reason::QuotaExceeded => Unsent::Busy,
        Reason::TopicNameInvalid => Unsent::Refused("topic name invalid"),
        Reason::PayloadFormatInvalid => Unsent::Refused("payload format invalid"),
        Reason::PacketIdentifierInUse => Unsent::Refused("packet identifier in use"),
        Reason::UnspecifiedError | Reason::ImplementationSpecificError => Unsent::Refused("no reason given"),
    })
}

/// One try, from the name of the host to the CONNACK.
async fn connect(options: &Options) -> Result<Connection, ConnectError> {
    let address = options.address.to_string();
    match timeout(PATIENCE, handshake(options)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Silent { address, within: PATIENCE }),
    }
}

async fn handshake(options: &Options) -> Result<Connection, ConnectError> {
    let address = options.address.to_string();
    let unreachable = |source| ConnectError::Unreachable { address: address.clone(), source };
    let protocol = |reason: String| ConnectError::Protocol { address: address.clone(), reason };
    let mut stream = TcpStream::connect(options.address.socket()).await.map_err(unreachable)?;
    // A request is one small packet; it must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut greeting = BytesMut::new();
    greet(options).write(&mut greeting, None).map_err(|error| protocol(error.to_string()))?;
    stream.write_all(&greeting).await.map_err(unreachable)?;
    let mut reading = BytesMut::with_capacity(READ / 16);
    let answer = loop {
        match frame::next(&mut reading, options.max_packet as usize) {
            Ok(Some(packets::Packet::ConnAck(answer))) => break answer,
            Ok(Some(packets::Packet::Disconnect(farewell))) => {
                let reason = format!("{:?}", farewell.reason_code);
                return Err(ConnectError::Refused { address, reason });
            }
            Ok(Some(_)) => return Err(protocol("its first packet is no CONNACK".to_owned())),
            Ok(None) => {}
            Err(error) => return Err(protocol(error.to_string())),
        }
        if stream.read_buf(&mut reading).await.map_err(unreachable)? == 0 {
            return Err(protocol("it closed the connection without a CONNACK".to_owned()));
        }
    };
    if answer.code != packets::ConnectReturnCode::Success {
        return Err(ConnectError::Refused { address, reason: refusal(answer.code) });
    }
    let properties = answer.properties.as_ref();
    if properties.and_then(|p| p.max_qos) == Some(0) {
        return Err(protocol("it takes nothing at QoS 1".to_owned()));
    }
    let keep_alive = properties.and_then(|p| p.server_keep_alive).unwrap_or(options.keep_alive);
    Ok(Connection {
        stream,
        reading,
        resumed: answer.session_present,
        window: properties.and_then(|p| p.receive_max).unwrap_or(WINDOW).max(1),
        max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(LARGEST),
        // 0 switches it off; a broker that is gone is to be noticed all the same.
        keep_alive: Duration::from_secs(if keep_alive == 0 { 60 } else { keep_alive.into() }),
    })
}

fn greet(options: &Options) -> packets::Packet {
    let connect = packets::Connect {
        keep_alive: options.keep_alive.max(1),
        client_id: options.client_id.to_string(),
        clean_start: options.session_expiry == 0,
        properties: Some(packets::ConnectProperties {
            session_expiry_interval: (options.session_expiry > 0).then_some(options.session_expiry),
            receive_maximum: None,
            max_packet_size: Some(options.max_packet),
            topic_alias_max: None,
            request_response_info: None,
            request_problem_info: None,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        }),
    };
    let will = options.will.as_ref().map(|will| packets::LastWill {
        topic: will.topic.clone().into_bytes().into(),
        message: will.payload.clone(),
        qos: mqttbytes::QoS::AtLeastOnce,
        retain: true,
        properties: will.expiry.map(|expiry| packets::LastWillProperties {
            delay_interval: None,
            payload_format_indicator: None,
            message_expiry_interval: Some(expiry),
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        }),
    });
    let user = options.address.user.clone();
    let login = user.map(|(username, password)| packets::Login { username, password });
    packets::Packet::Connect(connect, will, login)
}

fn refusal(code: packets::ConnectReturnCode) -> String {
    use packets::ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => "user name or password is wrong".to_owned(),
        Code::NotAuthorized => "not authorized; it may want mqtt://user:password@host".to_owned(),
        Code::BadClientId | Code::ClientIdentifierNotValid => "it does not take the client id".to_owned(),
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            "it does not speak MQTT 5".to_owned()
        }
        other => format!("{other:?}"),
    }
}
