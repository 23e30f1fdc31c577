//! Brokers with one fault each: a proxy in front of ours removes a feature, and the doctor reports that fault and no
//! other.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::BytesMut;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{Codec, Connect, ConnectAckReason, Packet, PublishAckReason, PublishProperties};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::doctor::{Examined, broker_of, examine};

/// Function that replaces packets that were read together.
pub(crate) type Change = fn(Vec<Packet>) -> Vec<Packet>;

/// Modification of MQTT 5 connections by a proxy.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) from_client: Change,
    pub(crate) from_broker: Change,
    /// Whether connections of earlier MQTT versions are forwarded.
    earlier: bool,
}

pub(crate) const NONE: Fault =
    Fault { from_client: |packets| packets, from_broker: |packets| packets, earlier: true };

pub(crate) fn from_client(from_client: Change) -> Fault {
    Fault { from_client, ..NONE }
}

pub(crate) fn from_broker(from_broker: Change) -> Fault {
    Fault { from_broker, ..NONE }
}

/// Modifies every PUBLISH.
pub(crate) fn publishes(mut packets: Vec<Packet>, change: impl Fn(&mut Publish)) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::Publish(message) = packet {
            change(message);
        }
    }
    packets
}

/// Modifies the properties of every PUBLISH.
pub(crate) fn properties(packets: Vec<Packet>, change: impl Fn(&mut PublishProperties)) -> Vec<Packet> {
    publishes(packets, |message| message.properties.iter_mut().for_each(&change))
}

/// Starts a proxy with a fault in front of a broker; returns its address. It runs until the process ends.
pub(crate) fn proxy(broker: &str, fault: Fault) -> String {
    let broker: SocketAddr = broker.trim_start_matches("mqtt://").parse().expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // Either side may end the connection at any time.
                let _ = pass(client, broker, fault);
            });
        }
    });
    format!("mqtt://{address}")
}

/// Forwards one connection until either side ends it.
fn pass(mut client: TcpStream, broker: SocketAddr, fault: Fault) -> std::io::Result<()> {
    let mut first = vec![0; 64 << 10];
    let size = client.read(&mut first)?;
    first.truncate(size);
    // The level follows the protocol name; MQTT 3.1 has another name.
    let is_5 = first.windows(5).any(|bytes| bytes == b"MQTT\x05");
    if !is_5 && !fault.earlier {
        return Ok(());
    }
    let mut server = TcpStream::connect(broker)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (to_client, from_server) = (client.try_clone()?, server.try_clone()?);
    let plain: Change = |packets| packets;
    let (there, back) = if is_5 { (fault.from_client, fault.from_broker) } else { (plain, plain) };
    let returning = thread::spawn(move || relay(from_server, to_client, back, is_5, &[]));
    let done = if is_5 {
        relay(client, server, there, is_5, &first)
    } else {
        server.write_all(&first)?;
        relay(client, server, there, is_5, &[])
    };
    // The other direction ends with the connection.
    let _ = returning.join();
    done
}

/// Copies one direction, modified if it is MQTT 5; `read` was read before.
fn relay(
    mut from: TcpStream,
    mut to: TcpStream,
    change: Change,
    is_5: bool,
    read: &[u8],
) -> std::io::Result<()> {
    let mut codec = Codec::default();
    let mut reading = BytesMut::from(read);
    let mut chunk = vec![0; 256 << 10];
    loop {
        let mut writing = BytesMut::new();
        if is_5 {
            let mut packets = Vec::new();
            while let Some((packet, _)) =
                codec.decode(&mut reading).expect("packets of the doctor and our broker")
            {
                packets.push(packet);
            }
            for packet in change(packets) {
                codec.encode(packet, &mut writing).expect("a packet");
            }
        } else {
            writing.extend_from_slice(&reading.split());
        }
        to.write_all(&writing)?;
        let Ok(size @ 1..) = from.read(&mut chunk) else {
            // Forwards the end of the connection at once, without an additional DISCONNECT.
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return Ok(());
        };
        reading.extend_from_slice(&chunk[..size]);
    }
}

/// Returns the items that are worse than on a broker without a fault, with their states and texts.
pub(crate) fn worse<'a>(examined: &'a Examined, sound: &Examined) -> Vec<(&'a str, &'a str, &'a str)> {
    let bad = |state: &str| match state {
        "fails" => 2,
        "warning" => 1,
        _ => 0,
    };
    let items = examined.items.iter();
    items
        .filter(|(id, (state, _))| bad(state) > sound.items.get(*id).map_or(0, |(state, _)| bad(state)))
        .map(|(id, (state, text))| (&**id, &**state, &**text))
        .collect()
}

/// Returns each fault, with the item that reports it, its state, and a part of its text.
fn faults() -> Vec<(Fault, &'static str, &'static str, &'static str)> {
    vec![
        (
            from_broker(|packets| properties(packets, |p| p.user_properties.clear())),
            "user-properties",
            "fails",
            "0 of 3",
        ),
        (
            from_broker(|packets| properties(packets, |p| p.response_topic = None)),
            "response-topic",
            "fails",
            "nobody can answer",
        ),
        (
            from_broker(|packets| properties(packets, |p| p.correlation_data = None)),
            "correlation-data",
            "fails",
            "which request",
        ),
        (
            from_broker(|packets| {
                acknowledgements(packets, PublishAckReason::NoMatchingSubscribers, PublishAckReason::Success)
            }),
            "no-subscribers",
            "warning",
            "no PUBACK 0x10",
        ),
        (
            from_broker(|packets| {
                acknowledgements(packets, PublishAckReason::Success, PublishAckReason::NoMatchingSubscribers)
            }),
            "no-subscribers",
            "fails",
            "also where a group is subscribed",
        ),
        (
            from_client(|packets| connects(packets, |connect| connect.last_will = None)),
            "will",
            "fails",
            "did not come in time",
        ),
        (
            from_client(|packets| publishes(packets, |message| message.retain = false)),
            "retained",
            "fails",
            "does not come to who subscribes later",
        ),
        (
            from_client(|packets| properties(packets, |p| p.message_expiry_interval = None)),
            "message-expiry",
            "warning",
            "has expired is delivered",
        ),
        (from_broker(swapped), "order", "fails", "came where"),
        (
            from_client(|packets| connects(packets, |connect| connect.receive_max = None)),
            "receive-maximum",
            "warning",
            "takes 4 messages at a time",
        ),
        (
            from_client(|packets| {
                connects(packets, |connect| {
                    connect.clean_start = true;
                    connect.session_expiry_interval_secs = 0;
                })
            }),
            "session",
            "warning",
            "ends with its connection",
        ),
        (
            from_client(|packets| {
                packets.into_iter().filter(|p| !matches!(p, Packet::PublishRelease(_))).collect()
            }),
            "qos-2",
            "warning",
            "a PUBCOMP did not come in time",
        ),
        (from_client(unshared), "shared-subscriptions", "fails", "carried out twice"),
        (from_broker(|packets| limited(packets, 20_000)), "packet-size", "fails", "more than 20000 bytes"),
        (
            from_broker(|packets| limited(packets, 100_000)),
            "packet-size",
            "warning",
            "100000 bytes are announced",
        ),
        (
            from_broker(|packets| {
                properties(packets, |p| p.user_properties.push(("caller".into(), "doctor-forged".into())))
            }),
            "stranger-caller",
            "fails",
            "passes for another user",
        ),
        (Fault { earlier: false, ..NONE }, "versions", "warning", "MQTT 3.1.1 cannot connect"),
    ]
}

fn acknowledgements(mut packets: Vec<Packet>, was: PublishAckReason, is: PublishAckReason) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::PublishAck(answer) = packet
            && answer.reason_code == was
        {
            answer.reason_code = is;
        }
    }
    packets
}

fn connects(mut packets: Vec<Packet>, change: impl Fn(&mut Connect)) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::Connect(connect) = packet {
            change(connect);
        }
    }
    packets
}

/// Announces a Maximum Packet Size.
fn limited(mut packets: Vec<Packet>, bytes: u32) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::ConnectAck(answer) = packet {
            answer.max_packet_size = Some(bytes);
        }
    }
    packets
}

/// Swaps the first two messages at QoS 1 of each read.
fn swapped(mut packets: Vec<Packet>) -> Vec<Packet> {
    let is_message =
        |packet: &Packet| matches!(packet, Packet::Publish(message) if message.qos == QoS::AtLeastOnce);
    let mut places = (0..packets.len()).filter(|at| is_message(&packets[*at]));
    if let (Some(one), Some(other)) = (places.next(), places.next()) {
        drop(places);
        packets.swap(one, other);
    }
    packets
}

/// Replaces shared subscriptions by others.
fn unshared(mut packets: Vec<Packet>) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::Subscribe(subscribe) = packet {
            for (filter, _) in &mut subscribe.topic_filters {
                let plain = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
                if let Some(plain) = plain.map(|(_, plain)| plain.to_owned()) {
                    *filter = plain.into();
                }
            }
        }
    }
    packets
}

#[test]
fn each_fault_is_found_by_its_item_and_by_no_other() {
    let (_broker, url) = broker_of("");
    let sound = &examine(&proxy(&url, NONE), &[]);
    assert_eq!(sound.code, 2, "{sound:#?}");
    thread::scope(|scope| {
        for (fault, id, state, text) in faults() {
            let url = &url;
            scope.spawn(move || {
                let examined = examine(&proxy(url, fault), &[]);
                let worse = worse(&examined, sound);
                let [(found, how, why)] = worse[..] else { panic!("{id}: {worse:#?}") };
                assert!(
                    found == id && how == state && why.contains(text),
                    "{id} {state} {text:?}: {worse:#?}"
                );
                let expected = if state == "fails" && !id.starts_with("stranger-") { 1 } else { 2 };
                assert_eq!(examined.code, expected, "{id}");
            });
        }
    });
}

#[test]
fn broker_without_mqtt_5_is_distinguished_from_no_broker() {
    let (_broker, url) = broker_of("");
    let fault = from_broker(|mut packets| {
        for packet in &mut packets {
            if let Packet::ConnectAck(answer) = packet {
                answer.reason_code = ConnectAckReason::UnsupportedProtocolVersion;
            }
        }
        packets
    });
    let examined = examine(&proxy(&url, fault), &[]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let (state, text) = &examined.items["versions"];
    assert!(
        state == "fails" && text.starts_with("MQTT 5 is not spoken; spoken is: 3.1, 3.1.1"),
        "{examined:#?}"
    );
}
