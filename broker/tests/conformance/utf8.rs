//! Strings: which are well-formed, and that they are not modified.

use crate::support::{
    Connect, Property, Publish, Version, Will, subscribe, target, unique_topic, unsubscribe,
};
use Version::V5;

/// Placeholder of a string under test, five letters that [`replace_placeholder`] replaces.
const PLACEHOLDER: &str = "@@@@@";

/// Sequences of five bytes that are not a UTF-8 Encoded String (1.5.4).
const ILL_FORMED: [(&str, &[u8; 5]); 8] = [
    ("a surrogate, U+D800", b"a\xED\xA0\x80b"),
    ("a surrogate, U+DFFF", b"a\xED\xBF\xBFb"),
    ("an overlong form of /", b"aa\xC0\xAFb"),
    ("a lone continuation", b"aa\x80bb"),
    ("a sequence cut short", b"aaa\xE2\x82"),
    ("past U+10FFFF", b"a\xF4\x90\x80\x80"),
    ("0xFF", b"aa\xFFbb"),
    ("U+0000", b"aa\0bb"),
];

/// Returns the packet with other bytes in place of the placeholder.
fn replace_placeholder(packet: &[u8], bytes: [u8; 5]) -> Vec<u8> {
    let at = packet
        .windows(PLACEHOLDER.len())
        .position(|window| window == PLACEHOLDER.as_bytes())
        .expect("the packet has the mark");
    let mut spoiled = packet.to_vec();
    spoiled[at..at + PLACEHOLDER.len()].copy_from_slice(&bytes);
    spoiled
}

/// MQTT 5: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
/// [MQTT-1.5.7-1] [MQTT-3.1.4-1]
/// MQTT 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
/// [MQTT-3.1.4-1]
#[tokio::test]
async fn ill_formed_strings_in_connect_are_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let connect = Connect::new(version);
        let mut packets = vec![
            connect.clone().id(PLACEHOLDER),
            connect.clone().user(PLACEHOLDER),
            connect.clone().will(Will::new(PLACEHOLDER, "x")),
        ];
        if version == V5 {
            packets.push(connect.clone().property(Property::user(PLACEHOLDER, "x")));
            packets.push(connect.clone().property(Property::user("x", PLACEHOLDER)));
            let will = Will::new(&unique_topic("x"), "x");
            let content_type = Property::ContentType(PLACEHOLDER.into());
            packets.push(connect.will(will.property(content_type)));
        }
        for packet in packets {
            for (what, bytes) in ILL_FORMED {
                eprintln!("{version:?}: {what} in {packet:?}");
                let mut client = target.open(version).await;
                let spoiled = replace_placeholder(&packet.encode(), *bytes);
                client.assert_connect_refused(&spoiled, &[0x81, 0x82, 0x85, 0x90]).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1]
/// [MQTT-4.7.3-2] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-1.5.7-1]
/// MQTT 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1]
/// [MQTT-4.7.3-2]
#[tokio::test]
async fn ill_formed_strings_in_other_packets_end_the_connection() {
    let target = target().await;
    for version in Version::BOTH {
        let mut packets = vec![
            Publish::new(PLACEHOLDER, "x").encode(version),
            subscribe(version, 1, &[(PLACEHOLDER, 0)]),
            unsubscribe(version, 1, &[PLACEHOLDER]),
        ];
        if version == V5 {
            for property in [
                Property::ContentType(PLACEHOLDER.into()),
                Property::ResponseTopic(PLACEHOLDER.into()),
                Property::user(PLACEHOLDER, "x"),
                Property::user("x", PLACEHOLDER),
            ] {
                let publish = Publish::new(&unique_topic("x"), "x");
                packets.push(publish.property(property).encode(version));
            }
        }
        for packet in packets {
            for (what, bytes) in ILL_FORMED {
                eprintln!("{version:?}: {what} in packet type {}", packet[0] >> 4);
                let mut client = target.client(version).await;
                client.send(&replace_placeholder(&packet, *bytes)).await;
                client.assert_refused(&[0x81, 0x82, 0x8F, 0x90]).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-1.5.4-3] [MQTT-4.7.3-4]
/// MQTT 3.1.1: [MQTT-1.5.3-3] [MQTT-4.7.3-4]
#[tokio::test]
async fn strings_are_not_normalized_or_trimmed() {
    let target = target().await;
    // Similar but different topics.
    let levels = [
        "caf\u{e9}",
        "cafe\u{301}",
        "CAF\u{c9}",
        "\u{feff}caf\u{e9}",
        "caf\u{e9}\u{feff}",
        " caf\u{e9}",
        "caf\u{e9} ",
        "caf\u{e9}/",
        "/caf\u{e9}",
        "",
        "/",
        "//",
        ".",
        "..",
        "a/../b",
        "\u{1f980}",
        "\u{10fffd}",
        "%2F",
        "\\",
    ];
    for version in Version::BOTH {
        let base = unique_topic("names");
        let mut publisher = target.client(version).await;
        let mut subscribers = Vec::new();
        for level in levels {
            let mut subscriber = target.client(version).await;
            subscriber.subscribe(&format!("{base}/{level}"), 1).await;
            subscribers.push(subscriber);
        }
        for level in levels {
            publisher.publish(Publish::new(&format!("{base}/{level}"), level).qos(1)).await;
        }
        for (subscriber, level) in subscribers.iter_mut().zip(levels) {
            let message = subscriber.message().await;
            assert_eq!(message.topic, format!("{base}/{level}"));
            assert_eq!(message.text(), level);
            subscriber.assert_silent().await;
        }
    }
}

/// A topic may begin with any character except `$`, and filters may contain its first level.
#[tokio::test]
async fn topics_that_begin_with_any_character_are_routed() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        for first in ["\u{e9}", "\u{1f980}", "/", " ", "\u{feff}", "-"] {
            let topic = format!("{first}/{}", unique_topic("x"));
            client.subscribe(&topic, 1).await;
            client.publish(Publish::new(&topic, "x").qos(1)).await;
            assert_eq!(client.message().await.topic, topic);
        }
    }
}

/// MQTT 5: [MQTT-4.7.3-3]
/// MQTT 3.1.1: [MQTT-4.7.3-3]
#[tokio::test]
async fn a_topic_may_be_65_535_bytes_long() {
    let target = target().await;
    for version in Version::BOTH {
        let mut topic = unique_topic("long/");
        topic.push_str(&"x".repeat(65_535 - topic.len()));
        let mut client = target.client(version).await;
        client.subscribe(&topic, 1).await;
        client.publish(Publish::new(&topic, "x").qos(1)).await;
        assert_eq!(client.message().await.topic, topic);
    }
}
