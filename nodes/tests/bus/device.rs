//! A device that speaks MQTT 3.1.1 and JSON-RPC and nothing else, packet by packet.

use std::collections::VecDeque;

use rantai_testing::{
    Connect, Packet, Publish, Stream, Version, Will, ack, length_of_first, read_packet, subscribe,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::support::{Bus, PATIENCE};
use super::users::{DEVICE, log_in_raw};

/// A device whose object a node serves.
pub(crate) struct Device {
    stream: Stream,
    read: Vec<u8>,
    topic: String,
    last_id: u16,
    /// Requests that came while an acknowledgement was awaited.
    requests: VecDeque<Publish>,
}

impl Device {
    /// Connects, with `offline` as its will.
    pub(crate) async fn connect(bus: &Bus, object: &str) -> Self {
        let topic = format!("{}/device/{object}", bus.root);
        let will = Will::new(&format!("{topic}/state"), "offline").qos(1).retain();
        let connect = log_in_raw(Connect::new(Version::V3).will(will), DEVICE);
        let mut device =
            Self { stream: bus.open().await, read: Vec::new(), topic, last_id: 0, requests: VecDeque::new() };
        device.send(&connect.encode()).await;
        match device.packet().await {
            Packet::Connack(connack) => assert_eq!(connack.code, 0),
            other => panic!("no CONNACK but {other:?}"),
        }
        device
    }

    /// Connects, subscribes to its calls, and says that it is online.
    pub(crate) async fn online(bus: &Bus, object: &str) -> Self {
        let mut device = Self::connect(bus, object).await;
        device.subscribe().await;
        device.state("online").await;
        device
    }

    /// Subscribes to its calls.
    pub(crate) async fn subscribe(&mut self) {
        let filter = format!("{}/call", self.topic);
        self.send(&subscribe(Version::V3, 1, &[(&filter, 1)])).await;
        match self.packet().await {
            Packet::Suback(suback) => assert_eq!(suback.codes, [1]),
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    /// Says how it is.
    pub(crate) async fn state(&mut self, state: &str) {
        self.publish("state", state, true).await;
    }

    /// Publishes below its topic at QoS 1, and waits for the PUBACK.
    pub(crate) async fn publish(&mut self, below: &str, payload: &str, retain: bool) {
        self.last_id = self.last_id % 60_000 + 1;
        let publish = Publish::new(&format!("{}/{below}", self.topic), payload).qos(1).id(self.last_id);
        let publish = if retain { publish.retain() } else { publish };
        self.send(&publish.encode(Version::V3)).await;
        loop {
            match self.packet().await {
                Packet::Puback(puback) => return assert_eq!(puback.id, self.last_id),
                Packet::Publish(request) => self.requests.push_back(request),
                other => panic!("no PUBACK but {other:?}"),
            }
        }
    }

    /// Publishes below its topic at QoS 0.
    pub(crate) async fn throw(&mut self, below: &str, payload: &str) {
        let publish = Publish::new(&format!("{}/{below}", self.topic), payload);
        self.send(&publish.encode(Version::V3)).await;
    }

    /// The next request.
    pub(crate) async fn asked(&mut self) -> Value {
        let request = match self.requests.pop_front() {
            Some(request) => request,
            None => match self.packet().await {
                Packet::Publish(request) => request,
                other => panic!("no request but {other:?}"),
            },
        };
        assert_eq!(request.topic, format!("{}/call", self.topic));
        assert!(!request.retain);
        serde_json::from_slice(&request.payload).expect("a request is JSON")
    }

    /// Answers a request with `result` or `error`.
    pub(crate) async fn answer(&mut self, request: &Value, mut answer: Value) {
        answer["id"] = request["id"].clone();
        self.publish("reply", &answer.to_string(), false).await;
    }

    /// Answers all requests with what its methods give, until the connection ends.
    pub(crate) async fn serve(mut self) {
        loop {
            let request = self.asked().await;
            let (method, params) = (request["method"].as_str(), &request["params"]);
            let answer = match (method, params.as_array().map(Vec::as_slice)) {
                (Some("add"), Some([a, b])) => {
                    json!({"result": a.as_f64().expect("a number") + b.as_f64().expect("a number")})
                }
                (Some("say"), Some([text])) => json!({"result": text}),
                (Some("fail"), Some([kind])) => {
                    json!({"error": {"code": -32000, "message": "as asked", "data": {"kind": kind}}})
                }
                _ => panic!("its node lets {request} through"),
            };
            self.answer(&request, answer).await;
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("the broker reads").expect("it is connected");
    }

    /// The next packet; requests are acknowledged.
    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(length) = length_of_first(&self.read).expect("well-formed")
                && self.read.len() >= length
            {
                let bytes: Vec<u8> = self.read.drain(..length).collect();
                let packet = read_packet(Version::V3, &bytes).expect("well-formed");
                if let Packet::Publish(publish) = &packet
                    && publish.qos == 1
                {
                    self.send(&ack(4, Version::V3, publish.id, 0)).await;
                }
                return packet;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            assert_ne!(read.expect("a packet comes").expect("it is connected"), 0, "the broker closed it");
        }
    }
}
