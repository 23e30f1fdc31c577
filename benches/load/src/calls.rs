//! Request and reply: a responder that echoes requests, and callers that keep several requests in flight.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::connection::{Closer, Connection};
use crate::failure::Failure;
use crate::latencies::Latencies;
use crate::packet::{self, CORRELATION, Framing, PUBACK, PUBLISH, Publish};

/// Request topic of the responder.
pub const CALL_TOPIC: &str = "bench/calls/echo";

/// Responder that echoes requests, on its own thread.
pub struct Responder {
    closer: Option<Closer>,
    thread: Option<JoinHandle<Failure>>,
}

impl Responder {
    /// Starts a responder that subscribes and replies at `qos`.
    pub fn start(address: SocketAddr, qos: u8, deadline: Instant) -> Result<Self, Failure> {
        let mut connection = Connection::mqtt(address, "bench-responder", deadline)?;
        connection.subscribe(CALL_TOPIC, qos)?;
        Self::over(connection, Framing::Mqtt, qos)
    }

    fn over(connection: Connection, framing: Framing, qos: u8) -> Result<Self, Failure> {
        let closer = connection.closer()?;
        let thread = thread::spawn(move || respond(connection, framing, qos));
        Ok(Self { closer: Some(closer), thread: Some(thread) })
    }

    /// Stops the responder. If it had stopped by itself, returns the cause in place of the caller's `failure`.
    pub fn blame(mut self, failure: Failure) -> Failure {
        match self.thread.take() {
            Some(thread) if thread.is_finished() => {
                thread.join().map_or(failure, |cause| cause.during("the responder"))
            }
            _ => failure,
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.closer.take());
        if let Some(thread) = self.thread.take() {
            // The thread always returns a failure, because its connection was closed.
            let _ = thread.join();
        }
    }
}

fn respond(mut connection: Connection, framing: Framing, qos: u8) -> Failure {
    let mut out = Vec::new();
    let mut packet_id = 0_u16;
    loop {
        loop {
            let frame = match connection.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(failure) => return failure,
            };
            if frame.kind() != PUBLISH {
                continue;
            }
            let Some(request) = frame.request() else {
                return Failure::new("a request came with properties that cannot be read");
            };
            frame.acknowledge(&mut out);
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            match framing {
                Framing::Mqtt => Publish {
                    topic: request.response_topic,
                    qos,
                    packet_id,
                    correlation: request.correlation,
                    payload: request.payload,
                    ..Publish::default()
                }
                .write(&mut out),
                Framing::Length => {
                    packet::relay_frame(&mut out, request.correlation, request.payload);
                }
            }
        }
        // All acknowledgements and replies of one read are sent by one write.
        if let Err(failure) = connection.flush(&mut out).and_then(|()| connection.fill()) {
            return failure;
        }
    }
}

/// Caller that sends requests and counts replies.
pub struct Caller {
    connection: Connection,
    framing: Framing,
    qos: u8,
    reply_topic: String,
    payload: Vec<u8>,
    asked: u64,
    answered: u64,
    out: Vec<u8>,
}

impl Caller {
    /// Creates a caller on a connection that has received its CONNACK and has no subscriptions yet.
    pub fn over(connection: Connection, reply_topic: String, qos: u8, payload: usize) -> Self {
        let (framing, payload) = (Framing::Mqtt, vec![b'x'; payload]);
        Self { connection, framing, qos, reply_topic, payload, asked: 0, answered: 0, out: Vec::new() }
    }

    /// Adds a request to the next write. Its correlation data is its number.
    fn ask(&mut self) {
        self.asked += 1;
        let mut correlation = [0; CORRELATION];
        correlation[..8].copy_from_slice(&self.asked.to_be_bytes());
        match self.framing {
            Framing::Mqtt => Publish {
                topic: CALL_TOPIC.as_bytes(),
                qos: self.qos,
                packet_id: (self.asked % 0xFFFF) as u16 + 1,
                response_topic: self.reply_topic.as_bytes(),
                correlation: &correlation,
                payload: &self.payload,
                ..Publish::default()
            }
            .write(&mut self.out),
            Framing::Length => packet::relay_frame(&mut self.out, &correlation, &self.payload),
        }
    }

    /// Subscribes to the reply topic and sends `count` requests, in a single write.
    pub fn subscribe_and_ask(&mut self, count: u64) -> Result<(), Failure> {
        self.out.extend_from_slice(&packet::subscribe(1, &[&self.reply_topic], self.qos));
        for _ in 0..count {
            self.ask();
        }
        self.connection.flush(&mut self.out)
    }

    /// Counts the replies that have been read, which must be in order, and queues their acknowledgements.
    fn take_replies(&mut self) -> Result<u64, Failure> {
        let before = self.answered;
        while let Some(frame) = self.connection.next_frame()? {
            match frame.kind() {
                PUBLISH => {
                    let reply = frame.request().ok_or_else(|| Failure::new("a reply cannot be read"))?;
                    self.answered += 1;
                    if reply.correlation.get(..8) != Some(&self.answered.to_be_bytes())
                        || reply.payload.len() != self.payload.len()
                    {
                        return Err(Failure::new(format!("reply {} is not the one due", self.answered)));
                    }
                    frame.acknowledge(&mut self.out);
                }
                PUBACK if frame.reason() != 0 => {
                    return Err(Failure::new(format!("a request got PUBACK {:#04x}", frame.reason())));
                }
                _ => {}
            }
        }
        Ok(self.answered - before)
    }

    /// Waits for all replies, then disconnects.
    pub fn finish(mut self) -> Result<(), Failure> {
        loop {
            self.take_replies()?;
            if self.answered == self.asked {
                self.out.extend_from_slice(&packet::DISCONNECT);
                return self.connection.flush(&mut self.out);
            }
            self.connection.fill()?;
        }
    }

    /// Keeps `in_flight` requests open. Returns the replies per second after the warm-up, and records the time of each
    /// reply in `latency`, which is meaningful only with a single request in flight.
    fn keep_asking(&mut self, load: &Load, latency: &mut Latencies) -> Result<f64, Failure> {
        for _ in 0..load.in_flight {
            self.ask();
        }
        let started = Instant::now();
        let mut sent = started;
        self.connection.flush(&mut self.out)?;
        let mut counting: Option<(Instant, u64)> = None;
        loop {
            self.connection.fill()?;
            let replies = self.take_replies()?;
            let now = Instant::now();
            if replies > 0 {
                match counting {
                    None if now - started >= load.warm_up => counting = Some((now, self.answered)),
                    None => {}
                    Some((since, before)) => {
                        latency.record(now - sent);
                        if now - since >= load.length {
                            return Ok((self.answered - before) as f64 / (now - since).as_secs_f64());
                        }
                    }
                }
                for _ in 0..replies {
                    self.ask();
                }
                sent = Instant::now();
            }
            self.connection.flush(&mut self.out)?;
        }
    }
}

/// Parameters of a load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// QoS of requests and replies, or of messages.
    pub qos: u8,
    /// Size of each payload, in bytes.
    pub payload: usize,
    /// Number of requests in flight.
    pub in_flight: usize,
    /// Duration of the warm-up, which does not count.
    pub warm_up: Duration,
    /// Duration of the measurement.
    pub length: Duration,
}

/// Measures one caller and one responder over a broker, on connections that have received their CONNACK. Returns replies
/// per second.
pub fn measure_between(
    mut caller: Connection,
    mut responder: Connection,
    load: &Load,
    latency: &mut Latencies,
) -> Result<f64, Failure> {
    let reply_topic = "bench/replies/caller".to_owned();
    responder.subscribe(CALL_TOPIC, load.qos)?;
    let responder = Responder::over(responder, Framing::Mqtt, load.qos)?;
    caller.subscribe(&reply_topic, load.qos)?;
    let mut caller = Caller::over(caller, reply_topic, load.qos, load.payload);
    caller.keep_asking(load, latency).map_err(|failure| responder.blame(failure))
}

/// Measures one caller and one responder over a broker, or over the relay. Returns replies per second.
pub fn measure(
    address: SocketAddr,
    framing: Framing,
    load: &Load,
    latency: &mut Latencies,
    deadline: Instant,
) -> Result<f64, Failure> {
    let reply_topic = "bench/replies/caller".to_owned();
    let (mut caller, responder) = match framing {
        Framing::Mqtt => {
            let responder = Responder::start(address, load.qos, deadline)?;
            let mut connection = Connection::mqtt(address, "bench-caller", deadline)?;
            connection.subscribe(&reply_topic, load.qos)?;
            (Caller::over(connection, reply_topic, load.qos, load.payload), responder)
        }
        Framing::Length => {
            let connection = Connection::open(address, framing, deadline)?;
            let responder = Responder::over(Connection::open(address, framing, deadline)?, framing, 0)?;
            let caller = Caller::over(connection, reply_topic, 0, load.payload);
            (Caller { framing, ..caller }, responder)
        }
    };
    match caller.keep_asking(load, latency) {
        Ok(rate) => Ok(rate),
        Err(failure) => Err(responder.blame(failure)),
    }
}
