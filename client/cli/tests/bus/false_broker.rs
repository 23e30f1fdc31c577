//! Servers that speak MQTT 5 but are not brokers, each with one kind of misbehavior.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use bytes::BytesMut;
use rmqtt_codec::v5::{
    Codec, ConnectAck, ConnectAckReason, Packet, PublishAck, PublishAck2, PublishAck2Reason,
    PublishAckReason, SubscribeAck, SubscribeAckReason,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

/// Behavior of a server on one connection.
pub(crate) type Behaviour = fn(&mut Peer) -> io::Result<()>;

/// Connection of a server.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    codec: Codec,
    reading: BytesMut,
}

/// Starts a server; returns its address. It runs until the process ends.
pub(crate) fn serve(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut peer = Peer { stream, codec: Codec::default(), reading: BytesMut::new() };
                // The client may end the connection at any time.
                let _ = behaviour(&mut peer);
            });
        }
    });
    format!("mqtt://{address}")
}

/// Creates a CONNACK that refuses.
pub(crate) fn refusal(reason_code: ConnectAckReason) -> ConnectAck {
    ConnectAck { reason_code, ..ConnectAck::default() }
}

impl Peer {
    /// Returns the next packet; an error at the end of the connection, and for other versions of MQTT.
    pub(crate) fn next(&mut self) -> io::Result<Packet> {
        let mut chunk = [0; 4096];
        loop {
            match self.codec.decode(&mut self.reading) {
                Ok(Some((packet, _))) => return Ok(packet),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                size => self.reading.extend_from_slice(&chunk[..size]),
            }
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) -> io::Result<()> {
        let mut writing = BytesMut::new();
        self.codec.encode(packet, &mut writing).map_err(io::Error::other)?;
        self.stream.write_all(&writing)
    }

    /// Reads the CONNECT, and answers it.
    pub(crate) fn greet(&mut self, greeting: ConnectAck) -> io::Result<()> {
        self.next()?;
        self.send(Packet::ConnectAck(Box::new(greeting)))
    }

    /// Acknowledges a packet, and delivers nothing.
    pub(crate) fn acknowledge(&mut self, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::Subscribe(asked) => {
                let status = asked.topic_filters.iter().map(|_| SubscribeAckReason::GrantedQos1).collect();
                self.send(Packet::SubscribeAck(SubscribeAck {
                    packet_id: asked.packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    status,
                }))
            }
            Packet::Publish(message) => match message.packet_id {
                Some(packet_id) => self.send(Packet::PublishAck(PublishAck {
                    packet_id,
                    reason_code: PublishAckReason::Success,
                    properties: Vec::new(),
                    reason_string: None,
                })),
                None => Ok(()),
            },
            Packet::PublishRelease(release) => self.send(Packet::PublishComplete(PublishAck2 {
                packet_id: release.packet_id,
                reason_code: PublishAck2Reason::Success,
                properties: Vec::new(),
                reason_string: None,
            })),
            Packet::PingRequest => self.send(Packet::PingResponse),
            _ => Ok(()),
        }
    }
}
