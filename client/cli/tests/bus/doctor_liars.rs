//! Brokers that change, repeat, delay or lose what they deliver: what they do to one item is not said of another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{ConnectAck, Packet, PublishProperties};

use super::doctor::{Examined, broker_of, examine, retained};
use super::doctor_faults::{Fault, from_broker, from_client, properties, proxy, publishes, worse};

/// The examination of a broker without users behind a proxy with a fault, and of the same without one.
fn examined(fault: Fault, arguments: &[&str]) -> (Examined, Examined) {
    let (_broker, url) = broker_of("");
    (examine(&proxy(&url, fault), arguments), examine(&url, &[]))
}

#[test]
fn payloads_that_change_on_the_way_are_no_message() {
    let fault =
        from_broker(|packets| publishes(packets, |message| message.payload = "\u{1b}[2Jother".into()));
    let (examined, _) = examined(fault, &[]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let (state, text) = &examined.items["reachable"];
    assert!(state == "fails" && text.contains("with another payload than it was sent with"), "{text}");
}

#[test]
fn messages_to_other_topics_are_no_answer() {
    let fault = from_broker(|packets| {
        publishes(packets, |message| message.topic = format!("elsewhere/{}", message.topic).into())
    });
    let (examined, _) = examined(fault, &["--timeout", "3"]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let (state, text) = &examined.items["reachable"];
    assert!(state == "fails" && text.contains("to another topic than it was sent to"), "{text}");
}

#[test]
fn copies_are_told_where_there_should_be_none() {
    let fault = from_broker(|packets| {
        let copy = |packet: &Packet| match packet {
            Packet::Publish(message) => Some(Packet::Publish(Box::new(Publish {
                qos: QoS::AtMostOnce,
                packet_id: None,
                ..(**message).clone()
            }))),
            _ => None,
        };
        packets.into_iter().flat_map(|packet| [copy(&packet), Some(packet)].into_iter().flatten()).collect()
    });
    let (examined, sound) = examined(fault, &[]);
    let worse: Vec<&str> = worse(&examined, &sound).into_iter().map(|(id, ..)| id).collect();
    // A copy at QoS 0 also comes before the message at QoS 2, and beside the four that wait for acknowledgements.
    assert_eq!(worse, ["order", "qos-2", "receive-maximum", "shared-subscriptions"], "{examined:#?}");
    assert_eq!((examined.code, examined.state("will")), (1, "ok"));
}

#[test]
fn a_broker_that_is_slow_is_not_one_that_fails() {
    let slowly = |packets: Vec<Packet>| {
        thread::sleep(Duration::from_millis(100));
        packets
    };
    let (examined, sound) = examined(from_broker(slowly), &["--timeout", "20"]);
    assert!(worse(&examined, &sound).is_empty(), "{examined:#?}");
    // With less time than it takes, nothing is said of it.
    let (examined, sound) = examined_within(slowly, "1");
    let worse = worse(&examined, &sound);
    assert!(worse.iter().all(|(id, ..)| *id == "reachable"), "{worse:#?}");
    for (id, state) in examined.states("stranger-") {
        assert!(state != "ok" || id == "stranger-caller", "{id}: {examined:#?}");
    }
}

fn examined_within(change: fn(Vec<Packet>) -> Vec<Packet>, timeout: &str) -> (Examined, Examined) {
    examined(from_broker(change), &["--timeout", timeout])
}

#[test]
fn messages_that_nobody_asked_for_change_no_verdict() {
    let fault = from_broker(|packets| {
        let unasked = || {
            Packet::Publish(Box::new(Publish {
                dup: false,
                retain: false,
                qos: QoS::AtMostOnce,
                topic: "rantai/call/calculator/add".into(),
                packet_id: None,
                payload: "unasked".into(),
                properties: Some(PublishProperties::default()),
            }))
        };
        // None before a CONNACK.
        let begins = packets.iter().any(|packet| matches!(packet, Packet::ConnectAck(_)));
        let count = if begins || packets.is_empty() { 0 } else { 20 };
        (0..count).map(|_| unasked()).chain(packets).collect()
    });
    let (examined, sound) = examined(fault, &[]);
    assert!(worse(&examined, &sound).is_empty(), "{examined:#?}");
}

#[test]
fn limits_of_a_connection_are_kept_to() {
    let fault = from_broker(|mut packets| {
        for packet in &mut packets {
            if let Packet::ConnectAck(answer) = packet {
                **answer = ConnectAck {
                    receive_max: std::num::NonZeroU16::MIN,
                    server_keepalive_sec: Some(1),
                    topic_alias_max: 10,
                    ..(**answer).clone()
                };
            }
        }
        packets
    });
    let (examined, sound) = examined(fault, &[]);
    assert!(worse(&examined, &sound).is_empty(), "{examined:#?}");
}

#[test]
fn what_a_broker_announces_not_to_have_is_not_asked_for() {
    let fault = from_broker(|mut packets| {
        for packet in &mut packets {
            if let Packet::ConnectAck(answer) = packet {
                answer.retain_available = false;
                answer.shared_subscription_available = false;
                answer.max_qos = QoS::AtLeastOnce;
            }
        }
        packets
    });
    let (examined, sound) = examined(fault, &[]);
    let worse: Vec<&str> = worse(&examined, &sound).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(worse, ["qos-2", "retained", "shared-subscriptions"], "{examined:#?}");
    for id in ["will", "message-expiry", "stranger-registry", "stranger-group"] {
        assert_eq!(examined.state(id), "unknown", "{examined:#?}");
    }
}

#[test]
fn connections_that_end_at_random_make_nobody_safe() {
    let fault = from_broker(|packets| {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let seen = SEEN.fetch_add(1, Ordering::Relaxed);
        // Instead of every seventh answer the connection ends: the thread of the proxy does.
        assert!(seen % 7 != 6, "the connection ends");
        packets
    });
    let began = Instant::now();
    let (examined, _) = examined(fault, &["--timeout", "3"]);
    assert!(began.elapsed() < Duration::from_mins(2), "{:?}", began.elapsed());
    assert_ne!(examined.code, 0, "{examined:#?}");
    for (id, state) in examined.states("stranger-") {
        assert!(state != "ok" || id == "stranger-caller", "{id}: {examined:#?}");
    }
}

#[test]
fn nothing_is_left_on_a_broker_without_expiry() {
    let fault = from_client(|packets| properties(packets, |p| p.message_expiry_interval = None));
    let (_broker, url) = broker_of("");
    let examined = examine(&proxy(&url, fault), &["--load=500"]);
    assert_eq!(examined.state("message-expiry"), "warning", "{examined:#?}");
    assert_eq!(retained(&url, None), []);
}
