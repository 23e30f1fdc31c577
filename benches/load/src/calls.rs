//! Request and reply: a responder that echoes, and callers that keep some requests in flight.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::connection::{Closer, Connection};
use crate::failure::Failure;
use crate::latencies::Latencies;
use crate::packet::{self, CORRELATION, Framing, PUBACK, PUBLISH, Publish};

/// Where the responder listens.
pub const CALL_TOPIC: &str = "bench/calls/echo";

/// The echoing side, on a thread of its own.
pub struct Responder {
    closer: Option<Closer>,
    thread: Option<JoinHandle<Failure>>,
}

impl Responder {
    /// Answers requests at `qos`, with replies at the same.
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

    /// Ends it. If it had ended by itself, that is why the callers failed.
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
            // It ends with a failure always: its connection was closed.
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
        // All acknowledgements and replies of one read go out with one write.
        if let Err(failure) = connection.flush(&mut out).and_then(|()| connection.fill()) {
            return failure;
        }
    }
}

/// The asking side.
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
    /// Takes a connection that is past its CONNACK and subscribes to nothing yet.
    pub fn over(connection: Connection, reply_topic: String, qos: u8, payload: usize) -> Self {
        let (framing, payload) = (Framing::Mqtt, vec![b'x'; payload]);
        Self { connection, framing, qos, reply_topic, payload, asked: 0, answered: 0, out: Vec::new() }
    }

    /// Adds a request to what is written next. Its correlation data is its number.
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

    /// Subscribes to its replies and asks `count` times with one write.
    pub fn subscribe_and_ask(&mut self, count: u64) -> Result<(), Failure> {
        self.out.extend_from_slice(&packet::subscribe(1, &[&self.reply_topic], self.qos));
        for _ in 0..count {
            self.ask();
        }
        self.connection.flush(&mut self.out)
    }

    /// Counts the replies that were read, which must come in order, and notes their acknowledgements.
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

    /// Waits for every reply, then leaves.
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

    /// Keeps `in_flight` requests open. Gives the replies per second after the warm-up; `latency` takes
    /// the time of each reply, which means something with one request in flight only.
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

/// How a case asks.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// QoS of requests and replies, or of messages.
    pub qos: u8,
    /// Bytes of each payload.
    pub payload: usize,
    /// Requests under way at the same time.
    pub in_flight: usize,
    /// How long it runs before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub length: Duration,
}

/// One caller and one responder over a broker, by connections that are past their CONNACK. Gives replies per second.
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

/// One caller and one responder over a broker, or over the relay. Gives replies per second.
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
