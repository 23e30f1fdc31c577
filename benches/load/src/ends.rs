//! The two ends of one-way traffic: a publisher and a subscriber, both with counters.

use std::net::SocketAddr;
use std::time::Instant;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::packet::{PUBACK, PUBLISH, Publish};

/// Publisher of a single message, repeatedly.
pub struct Publisher {
    connection: Connection,
    topic: String,
    qos: u8,
    payload: Vec<u8>,
    packet_id: u16,
    sent: u64,
    acknowledged: u64,
    out: Vec<u8>,
}

impl Publisher {
    /// Connects and waits for the CONNACK.
    pub fn open(
        address: SocketAddr,
        client_id: &str,
        topic: &str,
        qos: u8,
        payload: usize,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        Ok(Self {
            connection: Connection::mqtt(address, client_id, deadline)?,
            topic: topic.to_owned(),
            qos,
            payload: vec![b'x'; payload],
            packet_id: 0,
            sent: 0,
            acknowledged: 0,
            out: Vec::new(),
        })
    }

    /// Sends `count` messages in a single write.
    pub fn send(&mut self, count: u64) -> Result<(), Failure> {
        for _ in 0..count {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            let publish = Publish {
                topic: self.topic.as_bytes(),
                qos: self.qos,
                packet_id: self.packet_id,
                payload: &self.payload,
                ..Publish::default()
            };
            publish.write(&mut self.out);
        }
        self.sent += count;
        self.connection.flush(&mut self.out)
    }

    /// Waits until at most `open` messages are unacknowledged. Returns at once at QoS 0.
    pub fn acknowledged_but(&mut self, open: u64) -> Result<(), Failure> {
        if self.qos == 0 {
            return Ok(());
        }
        loop {
            while let Some(frame) = self.connection.next_frame()? {
                if frame.kind() == PUBACK {
                    if frame.reason() >= 0x80 {
                        return Err(Failure::new(format!(
                            "PUBLISH was refused with {:#04x}",
                            frame.reason()
                        )));
                    }
                    self.acknowledged += 1;
                }
            }
            if self.sent - self.acknowledged <= open {
                return Ok(());
            }
            self.connection.fill()?;
        }
    }
}

/// Subscriber that counts messages and acknowledges them.
pub struct Subscriber {
    connection: Connection,
    received: u64,
    out: Vec<u8>,
}

impl Subscriber {
    /// Connects and subscribes.
    pub fn open(
        address: SocketAddr,
        client_id: &str,
        filter: &str,
        qos: u8,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let mut connection = Connection::mqtt(address, client_id, deadline)?;
        connection.subscribe(filter, qos)?;
        Ok(Self { connection, received: 0, out: Vec::new() })
    }

    /// Reads until `total` messages have arrived since the start. Fails on more than `sent` messages, and if messages are
    /// missing.
    pub fn receive_until(&mut self, total: u64, sent: u64) -> Result<(), Failure> {
        loop {
            while let Some(frame) = self.connection.next_frame()? {
                if frame.kind() == PUBLISH {
                    self.received += 1;
                    frame.acknowledge(&mut self.out);
                }
            }
            self.connection.flush(&mut self.out)?;
            if self.received > sent {
                return Err(Failure::new(format!("{} messages came of {sent} sent", self.received)));
            }
            if self.received >= total {
                return Ok(());
            }
            let received = self.received;
            self.connection.fill().map_err(|failure| {
                Failure::new(format!("{} of {sent} messages did not come ({failure})", sent - received))
            })?;
        }
    }
}
