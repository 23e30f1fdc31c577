//! MQTT over WebSocket, with the blocking client of tungstenite; the broker runs on other threads.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rantai_broker::{Broker, Config, Listener, WebSettings};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use crate::support::{
    Connect, Packet, Publish, Version, Will, disconnect, pingreq, subscribe, unique_topic, user,
};
use Version::{V3, V5};

/// Maximum time to wait for the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

async fn broker(change: impl FnOnce(&mut Config)) -> Broker {
    rantai_testing::note_kept("its clients of WebSocket are those of another library");
    let tcp = Listener::tcp("127.0.0.1:0".parse().expect("an address"));
    let web = Listener { web: Some(WebSettings::default()), ..tcp };
    let mut config = Config { listen: Vec::new(), listeners: vec![web], ..Config::default() };
    change(&mut config);
    Broker::start(config).await.expect("a broker starts on a free port")
}

fn stream(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("accepted");
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a time limit");
    stream.set_nodelay(true).expect("TCP has no-delay");
    stream
}

/// Client of MQTT over WebSocket.
struct Page {
    socket: WebSocket<TcpStream>,
    read: Vec<u8>,
    version: Version,
}

impl Page {
    fn open(address: SocketAddr, version: Version) -> Self {
        let mut request = format!("ws://{address}/mqtt").into_client_request().expect("a URL");
        let name = if version == V3 { "mqttv3.1, mqtt" } else { "mqtt" };
        request.headers_mut().insert("Sec-WebSocket-Protocol", name.parse().expect("a header"));
        let (socket, answer) = tungstenite::client(request, stream(address)).expect("a WebSocket");
        let chosen = if version == V3 { "mqttv3.1" } else { "mqtt" };
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], chosen);
        Self { socket, read: Vec::new(), version }
    }

    fn connected(address: SocketAddr, connect: &Connect) -> Self {
        let mut page = Self::open(address, connect.version);
        page.send(&connect.encode());
        assert!(matches!(page.next(), Packet::Connack(connack) if connack.code == 0));
        page
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).expect("it is there");
    }

    /// Returns the next packet, regardless of frame boundaries; fails with the status code of a close frame.
    fn next_or_close(&mut self) -> Result<Packet, CloseCode> {
        loop {
            if let Some(length) = rantai_testing::length_of_first(&self.read).expect("a length")
                && self.read.len() >= length
            {
                let bytes: Vec<u8> = self.read.drain(..length).collect();
                return Ok(rantai_testing::read_packet(self.version, &bytes).expect("a packet"));
            }
            match self.socket.read().expect("a frame") {
                Message::Binary(bytes) => self.read.extend_from_slice(&bytes),
                Message::Close(Some(frame)) => return Err(frame.code),
                Message::Pong(payload) => assert_eq!(&payload[..], b"still there?"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the status code of the close frame, ignoring packets before it.
    fn refused(mut self) -> CloseCode {
        loop {
            if let Err(code) = self.next_or_close() {
                return code;
            }
        }
    }

    fn next(&mut self) -> Packet {
        self.next_or_close().expect("a packet")
    }

    fn subscribed(mut self, filter: &str, qos: u8) -> Self {
        self.send(&subscribe(self.version, 1, &[(filter, qos)]));
        assert!(matches!(self.next(), Packet::Suback(_)));
        self
    }
}

/// Sends bytes on a new connection, and returns everything received until its end.
fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = stream(address);
    // Fails if the broker closes the connection during the write.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_read_regardless_of_frame_boundaries() {
    let broker = broker(|_| {}).await;
    let address = broker.addresses()[0];
    for version in [V3, V5] {
        let topic = unique_topic("frames");
        let mut page = Page::open(address, version);
        for byte in Connect::new(version).encode() {
            page.send(&[byte]);
        }
        assert!(matches!(page.next(), Packet::Connack(connack) if connack.code == 0));
        let mut page = page.subscribed(&topic, 1);
        let mut several = Vec::new();
        for number in 0..3 {
            several.extend(Publish::new(&topic, &[number; 3]).encode(version));
        }
        several.extend(pingreq());
        page.socket.send(Message::Ping("still there?".into())).expect("it is there");
        page.send(&several);
        for number in 0..3 {
            let Packet::Publish(publish) = page.next() else { panic!("no message") };
            assert_eq!(publish.payload, [number; 3]);
        }
        assert!(matches!(page.next(), Packet::Pingresp));
        let large = vec![7; 1 << 20];
        page.send(&Publish::new(&topic, &large).encode(version));
        let Packet::Publish(publish) = page.next() else { panic!("no message") };
        assert_eq!(publish.payload, large);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_gets_all_messages_in_order() {
    const MESSAGES: usize = 60;
    let broker = broker(|config| config.limits.publish_wait = Duration::ZERO).await;
    let address = broker.addresses()[0];
    let topic = unique_topic("slow");
    let mut reader = Page::connected(address, &Connect::new(V5)).subscribed(&topic, 1);
    let mut writer = Page::connected(address, &Connect::new(V5));
    for number in 0..MESSAGES {
        let payload = vec![number as u8; 100_000];
        writer.send(&Publish::new(&topic, &payload).qos(1).id(number as u16 + 1).encode(V5));
        assert!(matches!(writer.next(), Packet::Puback(_)), "nobody waits for a reader that takes nothing");
        // The ping is answered between two frames.
        reader.socket.send(Message::Ping("still there?".into())).expect("it is there");
    }
    for number in 0..MESSAGES {
        let Packet::Publish(publish) = reader.next() else { panic!("no message") };
        assert_eq!((publish.payload.len(), publish.payload[0]), (100_000, number as u8));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_frame_ends_the_connection_with_a_reason() {
    let broker = broker(|_| {}).await;
    let address = broker.addresses()[0];
    let topic = unique_topic("will");
    let mut watcher = Page::connected(address, &Connect::new(V5)).subscribed(&topic, 0);
    let mut page = Page::connected(address, &Connect::new(V5).will(Will::new(&topic, "gone")));
    page.socket.send(Message::text("{}")).expect("it is there");
    let Packet::Disconnect { code, .. } = page.next() else { panic!("no DISCONNECT") };
    assert_eq!(code, 0x82);
    assert_eq!(page.next_or_close().expect_err("a close frame"), CloseCode::Unsupported);
    assert!(matches!(page.socket.read(), Err(Error::ConnectionClosed)), "the socket, too");
    assert!(matches!(watcher.next(), Packet::Publish(_)), "a connection that was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_frames_are_answered_and_disconnect_discards_the_will() {
    let broker = broker(|_| {}).await;
    let address = broker.addresses()[0];
    let topic = unique_topic("will");
    let mut watcher = Page::connected(address, &Connect::new(V5)).subscribed(&topic, 0);
    for says_disconnect in [true, false] {
        let mut page = Page::connected(address, &Connect::new(V5).will(Will::new(&topic, "gone")));
        if says_disconnect {
            page.send(&disconnect(V5, 0, &[]));
        }
        // Fails if the broker has closed the connection first.
        let _ = page.socket.close(None);
        while page.socket.read().is_ok() {}
        assert!(!page.socket.can_read());
    }
    assert!(matches!(watcher.next(), Packet::Publish(_)));
    watcher.send(&pingreq());
    assert!(matches!(watcher.next(), Packet::Pingresp), "one will alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_broker_sends_disconnect_and_closes_the_websocket() {
    let broker = broker(|_| {}).await;
    let mut page = Page::connected(broker.addresses()[0], &Connect::new(V5));
    let reads = std::thread::spawn(move || {
        let Packet::Disconnect { code, .. } = page.next() else { panic!("no DISCONNECT") };
        (code, page.next_or_close().expect_err("a close frame"))
    });
    broker.shutdown().await;
    assert_eq!(reads.join().expect("it read"), (0x8B, CloseCode::Normal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_requests_are_answered_with_a_hint() {
    let broker = broker(|config| config.limits.connect_timeout = Duration::from_millis(300)).await;
    let address = broker.addresses()[0];
    let told = answer(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(told.starts_with("HTTP/1.1 426 "), "{told}");
    assert!(told.contains("connect an MQTT client to ws://HOST:PORT/mqtt"), "{told}");
    let long = format!("GET /mqtt HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(9_000));
    let told = answer(address, long.as_bytes());
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    for nonsense in [&b"\x10\x0D\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"[..], b"\x16\x03\x01", b"\0"] {
        assert_eq!(answer(address, nonsense), "");
    }
    assert_eq!(broker.counts().refused_web, 5);
    // Silence, an endless head, and a WebSocket without a CONNECT all end with the timeout of CONNECT.
    assert_eq!(answer(address, b""), "");
    assert_eq!(answer(address, b"GET /mqtt HTTP/1.1\r\n"), "");
    assert_eq!(Page::open(address, V5).refused(), CloseCode::Policy);
    assert_eq!((broker.counts().refused_web, broker.counts().refused_connections), (5, 3));
}

/// A page cannot see a missing CONNACK, and cannot distinguish a closed socket from a network error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_the_session_have_a_status_code() {
    let broker = broker(|config| {
        config.limits.connections = 1;
        config.limits.packet_bytes = 1_000;
        config.users = vec![user("ada", "right")];
    })
    .await;
    let address = broker.addresses()[0];
    let _only = Page::connected(address, &Connect::new(V5));
    let mut malformed = Connect::new(V5).encode();
    malformed[9] |= 1;
    for (bytes, code) in [
        (pingreq(), CloseCode::Protocol),
        (vec![0x10, 0xFF, 0x7F], CloseCode::Size),
        (malformed, CloseCode::Invalid),
        (Connect::new(V5).user("ada").password("wrong").encode(), CloseCode::Policy),
        (Connect::new(V3).user("ada").password("wrong").encode(), CloseCode::Policy),
        (Connect::new(V5).encode(), CloseCode::Again),
        (Connect::new(V3).encode(), CloseCode::Again),
    ] {
        let mut page = Page::open(address, V5);
        page.version = if bytes.get(8) == Some(&4) { V3 } else { V5 };
        page.send(&bytes);
        assert_eq!(page.refused(), code, "{bytes:?}");
    }
    let refused = broker.counts().refused_web;
    let mut page = Page::open(address, V5);
    page.socket.write(Message::text("{}")).expect("room");
    // More bytes than the broker reads at once are in transit when it closes.
    page.socket.send(Message::binary(vec![0; 100_000])).expect("room");
    assert_eq!(page.refused(), CloseCode::Unsupported);
    assert_eq!(broker.counts().refused_web, refused + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_and_shutdown_have_a_status_code() {
    let broker = broker(|config| config.limits.handshakes_per_address = 1).await;
    let address = broker.addresses()[0];
    let first = Page::open(address, V5);
    let second = Page::open(address, V5);
    assert_eq!(first.refused(), CloseCode::Again);
    assert_eq!(broker.counts().refused_per_address, 1);
    let waits = std::thread::spawn(move || second.refused());
    broker.shutdown().await;
    assert_eq!(waits.join().expect("it read"), CloseCode::Away);
}
