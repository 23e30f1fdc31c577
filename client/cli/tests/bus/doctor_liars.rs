//! Brokers that modify, repeat, delay or lose messages: the effect on one item is not reported for another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{ConnectAck, Packet, PublishProperties};

use super::doctor::{Examined, broker_of, examine, retained};
use super::doctor_faults::{Fault, from_broker, from_client, properties, proxy, publishes, worse};

/// Examines a broker without users, once behind a proxy with a fault and once without.
fn examined(fault: Fault, arguments: &[&str]) -> (Examined, Examined) {
    let (_broker, url) = broker_of("");
    (examine(&proxy(&url, fault), arguments), examine(&url, &[]))
}

#[test]
fn changed_payloads_do_not_count_as_delivered() {
    let fault =
        from_broker(|packets| publishes(packets, |message| message.payload = "\u{1b}[2Jother".into()));
    let (examined, _) = examined(fault, &[]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let (state, text) = &examined.items["reachable"];
    assert!(state == "fails" && text.contains("with another payload than it was sent with"), "{text}");
}

#[test]
fn messages_on_other_topics_do_not_count_as_delivered() {
    let fault = from_broker(|packets| {
        publishes(packets, |message| message.topic = format!("elsewhere/{}", message.topic).into())
    });
    let (examined, _) = examined(fault, &["--timeout", "3"]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let (state, text) = &examined.items["reachable"];
    assert!(state == "fails" && text.contains("to another topic than it was sent to"), "{text}");
}

#[test]
fn duplicate_messages_are_reported_by_the_items_that_forbid_them() {
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
    // A copy at QoS 0 also precedes the message at QoS 2, and is received besides the four unacknowledged messages.
    assert_eq!(worse, ["order", "qos-2", "receive-maximum", "shared-subscriptions"], "{examined:#?}");
    assert_eq!((examined.code, examined.state("will")), (1, "ok"));
}

#[test]
fn slow_broker_is_not_reported_as_failing() {
    let slowly = |packets: Vec<Packet>| {
        thread::sleep(Duration::from_millis(100));
        packets
    };
    let (examined, sound) = examined(from_broker(slowly), &["--timeout", "20"]);
    assert!(worse(&examined, &sound).is_empty(), "{examined:#?}");
    // With less time than needed, the result is unknown.
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
fn unsolicited_messages_do_not_change_findings() {
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
        // Nothing is sent before a CONNACK.
        let begins = packets.iter().any(|packet| matches!(packet, Packet::ConnectAck(_)));
        let count = if begins || packets.is_empty() { 0 } else { 20 };
        (0..count).map(|_| unasked()).chain(packets).collect()
    });
    let (examined, sound) = examined(fault, &[]);
    assert!(worse(&examined, &sound).is_empty(), "{examined:#?}");
}

#[test]
fn doctor_respects_the_limits_in_connack() {
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
fn doctor_does_not_use_features_announced_as_missing() {
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
fn randomly_closed_connections_are_not_reported_as_safe() {
    let fault = from_broker(|packets| {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let seen = SEEN.fetch_add(1, Ordering::Relaxed);
        // Instead of every seventh answer the connection ends, because the thread of the proxy panics.
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
