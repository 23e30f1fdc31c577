//! Client that publishes to itself, one message at a time: the latency of a single publish.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::latencies::Latencies;
use crate::packet::{PUBLISH, Publish};

const TOPIC: &str = "bench/echo";

/// Echo client at QoS 0 with a payload of 100 B.
pub struct Echo {
    connection: Connection,
    packet: Vec<u8>,
}

impl Echo {
    /// Connects and subscribes.
    pub fn open(address: SocketAddr, deadline: Instant) -> Result<Self, Failure> {
        Self::over(Connection::mqtt(address, "bench-echo", deadline)?)
    }

    /// Subscribes on a connection that has received its CONNACK.
    pub fn over(mut connection: Connection) -> Result<Self, Failure> {
        connection.subscribe(TOPIC, 0)?;
        let mut packet = Vec::new();
        let publish = Publish { topic: TOPIC.as_bytes(), payload: &[b'x'; 100], ..Publish::default() };
        publish.write(&mut packet);
        Ok(Self { connection, packet })
    }

    /// Publishes once and waits for the message; returns the time between.
    pub fn once(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        self.connection.send(&self.packet)?;
        self.connection.wait_for(PUBLISH)?;
        Ok(started.elapsed())
    }

    /// Publishes one message after another for `length`, and records the latency of each.
    pub fn repeat_for(&mut self, length: Duration, latency: &mut Latencies) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < length {
            latency.record(self.once()?);
        }
        Ok(())
    }
}
