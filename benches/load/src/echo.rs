//! A client that publishes to itself, one message at a time: what one publish takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::latencies::Latencies;
use crate::packet::{PUBLISH, Publish};

const TOPIC: &str = "bench/echo";

/// One such client, at QoS 0 with 100 B.
pub struct Echo {
    connection: Connection,
    packet: Vec<u8>,
}

impl Echo {
    /// Connects and subscribes.
    pub fn open(address: SocketAddr, deadline: Instant) -> Result<Self, Failure> {
        Self::over(Connection::mqtt(address, "bench-echo", deadline)?)
    }

    /// Takes a connection that is past its CONNACK, and subscribes.
    pub fn over(mut connection: Connection) -> Result<Self, Failure> {
        connection.subscribe(TOPIC, 0)?;
        let mut packet = Vec::new();
        let publish = Publish { topic: TOPIC.as_bytes(), payload: &[b'x'; 100], ..Publish::default() };
        publish.write(&mut packet);
        Ok(Self { connection, packet })
    }

    /// From before the publish until it is back.
    pub fn once(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        self.connection.send(&self.packet)?;
        self.connection.wait_for(PUBLISH)?;
        Ok(started.elapsed())
    }

    /// Publishes one after the other for `length`.
    pub fn repeat_for(&mut self, length: Duration, latency: &mut Latencies) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < length {
            latency.record(self.once()?);
        }
        Ok(())
    }
}
