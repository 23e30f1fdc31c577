//! Invalid packets. Each ends its own connection and no other.

use crate::support::{
    Client, Connect, Packet, Property, Publish, Version, auth, disconnect, encode_properties, frame, pingreq,
    string, subscribe, target, unique_topic,
};
use Version::{V3, V5};

/// MQTT 5: [MQTT-1.5.5-1]
/// MQTT 3.1.1: [MQTT-4.8.0-1]
#[tokio::test]
async fn a_remaining_length_of_more_than_four_bytes_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        for first in [0x30, 0x82, 0xC0] {
            let mut client = target.client(version).await;
            client.assert_invalid(&[first, 0x80, 0x80, 0x80, 0x80, 0x01]).await;
        }
        let mut client = target.open(version).await;
        client.send(&[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]).await;
        assert!(matches!(client.next_or_end().await, None | Some(Packet::Connack(_))));
    }
}

/// MQTT 5: [MQTT-1.5.5-1]
#[tokio::test]
async fn a_remaining_length_in_more_bytes_than_needed_is_malformed() {
    let target = target().await;
    let mut client = target.client(V5).await;
    client.assert_invalid(&[0xC0, 0x80, 0x00]).await;
    let mut client = target.client(V5).await;
    client.assert_invalid(&[0x30, 0x84, 0x80, 0x00, 0, 1, b'a', 0]).await;
}

/// MQTT 5: [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-4.8.0-1]
#[tokio::test]
async fn packets_of_a_server_are_refused_from_a_client() {
    let target = target().await;
    for version in Version::BOTH {
        let packets = [
            vec![0x00, 0],
            vec![0x20, 2, 0, 0],
            vec![0x20, 3, 0, 0, 0],
            vec![0x90, 3, 0, 1, 0],
            vec![0x90, 4, 0, 1, 0, 0],
            vec![0xB0, 2, 0, 1],
            vec![0xB0, 4, 0, 1, 0, 0],
            vec![0xD0, 0],
        ];
        for packet in packets {
            let mut client = target.client(version).await;
            client.assert_invalid(&packet).await;
        }
    }
}

/// MQTT 5: [MQTT-2.1.3-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1] [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.14.1-1]
#[tokio::test]
async fn reserved_flags_of_the_fixed_header_are_checked() {
    let target = target().await;
    for version in Version::BOTH {
        for first in [0xC1, 0xC2, 0xC8, 0xE1, 0xE2, 0xE8] {
            let mut client = target.client(version).await;
            client.assert_invalid(&[first, 0]).await;
        }
        let connect = Connect::new(version).encode();
        for flags in [1, 2, 4, 8] {
            let mut packet = connect.clone();
            packet[0] |= flags;
            let mut client = target.open(version).await;
            client.send(&packet).await;
            match client.next_or_end().await {
                None => {}
                Some(Packet::Connack(connack)) => assert_eq!(connack.code, 0x81),
                Some(other) => panic!("unexpected: {other:?}"),
            }
        }
    }
    let mut packet = auth(0x18, &[Property::AuthenticationMethod("x".into())]);
    packet[0] |= 1;
    let mut client = target.client(V5).await;
    client.assert_invalid(&packet).await;
}

/// MQTT 5: [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-4.8.0-1]
#[tokio::test]
async fn packets_without_a_body_have_none() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        client.assert_invalid(&[0xC0, 1, 0]).await;
    }
    let mut client = target.client(V3).await;
    client.assert_invalid(&[0xE0, 1, 0]).await;
}

/// MQTT 5: [MQTT-3.1.4-1]
/// MQTT 3.1.1: [MQTT-3.1.4-1]
#[tokio::test]
async fn bytes_behind_the_last_field_are_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let longer = |packet: Vec<u8>| frame(packet[0], &[&packet[2..], b"x"].concat());
        let mut client = target.open(version).await;
        let connect = longer(Connect::new(version).encode());
        client.assert_connect_refused(&connect, &[0x81]).await;
        let mut client = target.client(version).await;
        client.assert_invalid(&longer(subscribe(version, 1, &[("a", 0)]))).await;
        if version == V5 {
            let properties = longer(disconnect(V5, 0, &[Property::ReasonString("x".into())]));
            let mut client = target.client(V5).await;
            client.assert_invalid(&properties).await;
            let acknowledgement = frame(0x40, &[0, 1, 0, 0, 0]);
            let mut client = target.client(V5).await;
            client.assert_invalid(&acknowledgement).await;
        } else {
            for first in [0x40, 0x50, 0x62, 0x70] {
                let mut client = target.client(V3).await;
                client.assert_invalid(&frame(first, &[0, 1, 0])).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-3.1.4-1]
/// MQTT 3.1.1: [MQTT-3.1.4-1]
#[tokio::test]
async fn a_connect_that_ends_in_the_middle_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let whole = Connect::new(version).user("user").password("password").encode();
        for length in 0..whole.len() - 2 {
            // If its version is unknown, a client is treated as one of 3.1.1, which gets no answer.
            let known = if length < 7 { V3 } else { version };
            let mut client = target.open(known).await;
            let cut = frame(0x10, &whole[2..2 + length]);
            client.assert_connect_refused(&cut, &[0x81, 0x82]).await;
        }
    }
}

/// MQTT 5: [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[tokio::test]
async fn reason_codes_that_do_not_exist_are_refused() {
    let target = target().await;
    for (first, code) in [(0x40, 0x01), (0x40, 0x92), (0x50, 0x7F), (0x62, 0x10), (0x70, 0x80)] {
        let mut client = target.client(V5).await;
        client.assert_invalid(&frame(first, &[0, 1, code])).await;
    }
    for code in [0x01, 0x03, 0x10, 0x7F, 0xFF] {
        let mut client = target.client(V5).await;
        client.send(&disconnect(V5, code, &[])).await;
        // An invalid DISCONNECT may be answered, or only end the connection.
        match client.next_or_end().await {
            None => {}
            Some(Packet::Disconnect { code, .. }) => assert!(matches!(code, 0x81 | 0x82)),
            Some(other) => panic!("unexpected: {other:?}"),
        }
    }
    let mut client = target.client(V5).await;
    client.assert_invalid(&auth(0x01, &[])).await;
}

/// A packet may contain only the properties that the standard allows in it, each once (2.2.2.2).
///
/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn properties_out_of_place_are_refused() {
    let target = target().await;
    let reason = Property::ReasonString("x".into());
    let with = |first: u8, head: &[u8], properties: &[Property], tail: &[u8]| {
        frame(first, &[head, &encode_properties(properties), tail].concat())
    };
    let filter = [string("a"), vec![0]].concat();
    let two = [reason.clone(), reason];
    let alias = [Property::TopicAlias(1)];
    for packet in [
        with(0x82, &[0, 1], &two[..1], &filter),
        with(0xA2, &[0, 1], &[Property::SubscriptionId(1)], &string("a")),
        with(0x40, &[0, 1, 0], &alias, &[]),
        with(0x40, &[0, 1, 0], &two, &[]),
        with(0x62, &[0, 1, 0], &alias, &[]),
        with(0xE0, &[0], &alias, &[]),
        with(0xE0, &[0], &two, &[]),
    ] {
        let mut client = target.client(V5).await;
        client.assert_invalid(&packet).await;
    }
}

async fn assert_serves(witness: &mut Client) {
    let topic = unique_topic("witness");
    witness.subscribe(&topic, 2).await;
    witness.publish(Publish::new(&topic, "x").qos(2)).await;
    assert_eq!(witness.message().await.text(), "x");
    witness.unsubscribe(&[&topic]).await;
}

/// Pseudo-random generator (xorshift), so that a failure can be reproduced from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// MQTT 5: [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-4.8.0-1] [MQTT-4.8.0-2]
#[tokio::test]
async fn random_bytes_do_not_affect_other_clients() {
    let target = target().await;
    let mut witness = target.client(V5).await;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..200 {
        let version = if round % 2 == 0 { V3 } else { V5 };
        let length = (random.next() % 64) as usize;
        let body = random.bytes(length);
        let first = random.next() as u8;
        let mut client =
            if round % 3 == 0 { target.open(version).await } else { target.client(version).await };
        client.send(&frame(first, &body)).await;
        // The client may or may not get an answer.
        drop(client);
        if round % 20 == 0 {
            assert_serves(&mut witness).await;
        }
    }
    assert_serves(&mut witness).await;
}

/// TCP does not preserve the boundaries of packets: they arrive in pieces, or several at a time.
///
/// MQTT 5: [MQTT-4.2.0-1]
/// MQTT 3.1.1: [MQTT-7.1.1-1]
#[tokio::test]
async fn packets_may_come_in_pieces_or_together() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("pieces");
        let mut client = target.open(version).await;
        let mut bytes = Connect::new(version).encode();
        bytes.extend(subscribe(version, 1, &[(&topic, 0)]));
        bytes.extend(Publish::new(&topic, &"x".repeat(200)).encode(version));
        for byte in bytes {
            client.send(&[byte]).await;
        }
        assert!(matches!(client.next().await, Packet::Connack(connack) if connack.code == 0));
        assert_eq!(client.suback(1).await, [0]);
        assert_eq!(client.message().await.payload.len(), 200);
        let many: Vec<u8> = (0..200)
            .flat_map(|number: u32| Publish::new(&topic, &number.to_string()).encode(version))
            .collect();
        client.send(&[many, pingreq()].concat()).await;
        for number in 0..200 {
            assert_eq!(client.delivery().await.text(), number.to_string());
        }
        assert_eq!(client.next().await, Packet::Pingresp);
    }
}
