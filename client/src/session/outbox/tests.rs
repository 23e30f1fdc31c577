use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{self, v5 as packets};

use super::{Outbox, Waiter};
use crate::session::error::{SubscribeError, Unsent};
use crate::session::frame::{self, Incoming};
use crate::session::message::{Filter, Publish, QoS};
use packets::Packet;

fn incoming(outbox: &mut Outbox) -> Vec<Incoming> {
    let mut bytes = BytesMut::new();
    outbox.take(&mut bytes);
    let mut found = Vec::new();
    while let Some(packet) = frame::next(&mut bytes, 1 << 20).expect("what we wrote") {
        found.push(packet);
    }
    found
}

/// Returns the encoded packets other than PUBLISH.
fn written(outbox: &mut Outbox) -> Vec<Packet> {
    let other = |incoming| match incoming {
        Incoming::Other(packet) => packet,
        Incoming::Publish(publish) => panic!("{publish:?}"),
    };
    incoming(outbox).into_iter().map(other).collect()
}

fn texts(outbox: &mut Outbox) -> Vec<String> {
    incoming(outbox)
        .into_iter()
        .map(|packet| match packet {
            Incoming::Publish(p) => {
                let text = String::from_utf8_lossy(&p.message.payload);
                format!("{text}{}{}", p.id, if p.is_duplicate { "!" } else { "" })
            }
            Incoming::Other(other) => format!("{other:?}").chars().take(9).collect(),
        })
        .collect()
}

fn put(outbox: &mut Outbox, text: &'static str) {
    outbox.publish(Publish::new("t", text), Waiter::Nobody).expect("taken");
}

#[test]
fn publishes_above_the_window_wait_and_go_out_in_order() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 2, 1 << 20);
    for text in ["a", "b", "c", "d"] {
        put(&mut outbox, text);
    }
    assert_eq!(texts(&mut outbox), ["a1", "b2"]);
    outbox.acknowledged(2, Ok(()));
    assert_eq!(texts(&mut outbox), ["c3"]);
    assert!(outbox.acknowledged(9, Ok(())).is_none(), "nobody sent it");
    assert_eq!(texts(&mut outbox), [""; 0]);
    outbox.publish(Publish::new("t", "q").qos(QoS::AtMostOnce), Waiter::Nobody).expect("no window at QoS 0");
    assert_eq!(texts(&mut outbox), ["q0"]);
}

#[test]
fn unacknowledged_publishes_go_first_after_a_reconnect() {
    for (resumed, expected) in [(false, ["a4", "b5", "d6"]), (true, ["a1!", "b2!", "d4"])] {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 3, 1 << 20);
        put(&mut outbox, "a");
        put(&mut outbox, "b");
        outbox.publish(Publish::new("t", "c").once(), Waiter::Token(7)).expect("taken");
        put(&mut outbox, "d");
        outbox.publish(Publish::new("t", "e").once(), Waiter::Token(8)).expect("taken");
        texts(&mut outbox);
        let lost = outbox.disconnected();
        let told = [(Waiter::Token(8), Err::<(), _>(Unsent::Offline)), (Waiter::Token(7), Err(Unsent::Lost))];
        assert_eq!(format!("{lost:?}"), format!("{told:?}"));
        assert_eq!(outbox.publish(Publish::new("t", "f").once(), Waiter::Nobody), Err(Unsent::Offline));
        outbox.connected(resumed, 3, 1 << 20);
        assert_eq!(texts(&mut outbox), expected);
    }
}

#[test]
fn dup_is_cleared_with_the_session() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 3, 1 << 20);
    put(&mut outbox, "a");
    for (resumed, expected) in [(true, "a1!"), (false, "a2"), (true, "a2!")] {
        outbox.disconnected();
        outbox.connected(resumed, 3, 1 << 20);
        assert_eq!(texts(&mut outbox), [expected]);
    }
}

#[test]
fn retained_publish_succeeds_without_subscribers() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 10, 1 << 20);
    outbox.publish(Publish::new("t", "a"), Waiter::Token(1)).expect("taken");
    outbox.publish(Publish::new("t", "b").retain(), Waiter::Token(2)).expect("taken");
    let nobody = || Err(Unsent::NobodyThere);
    assert!(matches!(outbox.acknowledged(1, nobody()), Some((Waiter::Token(1), Err(_)))));
    assert!(matches!(outbox.acknowledged(2, nobody()), Some((Waiter::Token(2), Ok(())))));
}

#[test]
fn packet_ids_in_use_are_skipped() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 65_535, 1 << 20);
    put(&mut outbox, "a");
    outbox.last_id = u16::MAX;
    put(&mut outbox, "b");
    drop(outbox.subscribe(vec![Filter::new("x")]));
    outbox.last_id = u16::MAX;
    put(&mut outbox, "c");
    assert_eq!(texts(&mut outbox), ["a1", "b2", "Subscribe", "c4"]);
}

fn suback(pkid: u16, codes: &[packets::SubscribeReasonCode], reason: Option<&str>) -> packets::SubAck {
    let properties = reason.map(|reason| packets::SubAckProperties {
        reason_string: Some(reason.to_owned()),
        user_properties: Vec::new(),
    });
    packets::SubAck { pkid, return_codes: codes.to_vec(), properties }
}

#[test]
fn subscriptions_are_renewed_and_refused_ones_dropped() {
    use packets::SubscribeReasonCode::{NotAuthorized, Success};
    let ok = Success(mqttbytes::QoS::AtLeastOnce);
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 10, 1 << 20);
    let mut granted = outbox.subscribe(vec![Filter::new("a"), Filter::new("b")]);
    let mut refused = outbox.subscribe(vec![Filter::new("c")]);
    assert!(granted.try_recv().is_err(), "not yet");
    outbox.granted(&suback(1, &[ok, ok], None));
    outbox.granted(&suback(2, &[NotAuthorized], Some("no rule\nof ada")));
    assert_eq!(granted.try_recv().expect("told"), Ok(()));
    let error =
        SubscribeError::Refused { filter: "c".into(), reason: r"not allowed: no rule\nof ada".into() };
    assert_eq!(refused.try_recv().expect("told"), Err(error));
    let mut lost = outbox.subscribe(vec![Filter::new("d")]);
    outbox.disconnected();
    assert!(lost.try_recv().is_err());
    outbox.forget(&["a".to_owned()]);
    outbox.connected(false, 10, 1 << 20);
    let packets = written(&mut outbox);
    let [Packet::Subscribe(again)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(again.filters.iter().map(|f| &*f.path).collect::<Vec<_>>(), ["b"]);
    assert!(outbox.granted(&suback(again.pkid, &[NotAuthorized], None)).is_some(), "nobody else hears of it");
    assert!(outbox.subscriptions.is_empty());
}

/// Regression: the two bytes of the packet id were counted at QoS 0, and the length field was ignored in the size of
/// its own length.
#[test]
fn packets_up_to_maximum_packet_size_are_sent() {
    for (qos, expected) in [(QoS::AtMostOnce, 129), (QoS::AtLeastOnce, 129), (QoS::AtLeastOnce, 131)] {
        // Size of topic, length fields, id and properties, without the payload.
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let header = if expected > 129 { 3 } else { 2 };
        let publish = || Publish::new("t", vec![0; expected - header - 4 - id]).qos(qos);
        for limit in [expected - 1, expected] {
            let mut outbox = Outbox::new(1 << 20);
            outbox.connected(false, 10, limit);
            let taken = outbox.publish(publish(), Waiter::Nobody);
            if limit == expected {
                assert_eq!(taken, Ok(()));
                let mut bytes = BytesMut::new();
                outbox.take(&mut bytes);
                assert_eq!(bytes.len(), expected);
            } else {
                assert_eq!(taken, Err(Unsent::TooLarge { size: expected, limit }));
            }
        }
    }
}

#[test]
fn unsubscribe_before_suback_ends_the_subscription() {
    use packets::SubscribeReasonCode::Success;
    let ok = Success(mqttbytes::QoS::AtLeastOnce);
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 10, 1 << 20);
    drop(outbox.subscribe(vec![Filter::new("a"), Filter::new("b")]));
    drop(outbox.unsubscribe(vec!["a".to_owned()]));
    outbox.granted(&suback(1, &[ok, ok], None));
    outbox.disconnected();
    outbox.connected(false, 10, 1 << 20);
    let packets = written(&mut outbox);
    let [Packet::Subscribe(again)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(again.filters.iter().map(|f| &*f.path).collect::<Vec<_>>(), ["b"]);
    outbox.forget(&["b".to_owned()]);
    outbox.granted(&suback(again.pkid, &[ok], None));
    assert!(outbox.subscriptions.is_empty(), "subscribed again, and forgotten meanwhile");
}

/// Regression: such filters stayed in a persistent session forever.
#[test]
fn ephemeral_filters_are_unsubscribed_in_a_resumed_session() {
    use packets::SubscribeReasonCode::{NotAuthorized, Success};
    let ok = Success(mqttbytes::QoS::AtLeastOnce);
    for resumed in [false, true] {
        let mut outbox = Outbox::new(1 << 20);
        outbox.connected(false, 10, 1 << 20);
        drop(outbox.subscribe(vec![Filter::new("kept"), Filter::new("passing").passing()]));
        drop(outbox.subscribe(vec![Filter::new("ended").passing()]));
        drop(outbox.subscribe(vec![Filter::new("half"), Filter::new("refused")]));
        drop(outbox.subscribe(vec![Filter::new("forgotten"), Filter::new("passing, forgotten").passing()]));
        for (id, codes) in [(1, [ok, ok]), (2, [ok; 2]), (3, [ok, NotAuthorized])] {
            outbox.granted(&suback(id, &codes[..if id == 2 { 1 } else { 2 }], None));
        }
        outbox.granted(&suback(4, &[ok; 2], None));
        outbox.forget(&["forgotten".to_owned(), "passing, forgotten".to_owned()]);
        drop(outbox.unsubscribe(vec!["ended".to_owned()]));
        outbox.ungranted(5);
        // No caller waits for the result, whether granted or not.
        drop(outbox.subscribe(vec![Filter::new("unanswered"), Filter::new("kept")]));
        outbox.disconnected();
        written(&mut outbox);
        outbox.connected(resumed, 10, 1 << 20);
        let mut packets = written(&mut outbox);
        let Some(Packet::Subscribe(again)) = packets.pop() else { panic!("{packets:?}") };
        assert_eq!(again.filters.iter().map(|f| &*f.path).collect::<Vec<_>>(), ["kept"]);
        match &packets[..] {
            [] => assert!(!resumed),
            [Packet::Unsubscribe(ended)] => {
                assert!(resumed);
                assert_eq!(
                    ended.filters,
                    ["passing", "half", "passing, forgotten", "forgotten", "unanswered"]
                );
                outbox.ungranted(ended.pkid);
            }
            other => panic!("{other:?}"),
        }
        outbox.disconnected();
        outbox.connected(true, 10, 1 << 20);
        assert_eq!(written(&mut outbox).len(), 1, "unsubscribed once");
    }
}

#[test]
fn queued_publish_that_became_too_large_fails_at_the_end_of_the_connection() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.publish(Publish::new("t", vec![0; 100]), Waiter::Token(1)).expect("waits for a connection");
    outbox.connected(false, 10, 50);
    let lost = outbox.ended();
    assert!(matches!(lost[..], [(Waiter::Token(1), Err(Unsent::TooLarge { limit: 50, .. }))]), "{lost:?}");
}

/// Regression: the callers of such publishes were never notified.
#[test]
fn publish_at_qos_0_is_settled_when_written_or_lost() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 10, 1 << 20);
    let publish = || Publish::new("t", "x").qos(QoS::AtMostOnce);
    outbox.publish(publish(), Waiter::Token(1)).expect("taken");
    outbox.publish(publish(), Waiter::Nobody).expect("taken");
    assert!(outbox.settled.is_empty(), "not written yet");
    assert_eq!(texts(&mut outbox), ["x0", "x0"]);
    outbox.publish(publish(), Waiter::Token(2)).expect("taken");
    let told = [(Waiter::Token(1), Ok(())), (Waiter::Token(2), Err(Unsent::Offline))];
    assert_eq!(format!("{:?}", outbox.disconnected()), format!("{told:?}"));
    outbox.connected(true, 10, 1 << 20);
    assert!(texts(&mut outbox).is_empty() && outbox.settled.is_empty());
}

#[test]
fn publishes_that_mqtt_cannot_express_fail_at_once() {
    let mut outbox = Outbox::new(1 << 20);
    outbox.connected(false, 10, 100);
    let mut refused = |publish| outbox.publish(publish, Waiter::Nobody).expect_err("no broker takes it");
    for topic in ["", "a/+", "#", "a\0"] {
        assert!(matches!(refused(Publish::new(topic, "x")), Unsent::BadTopic(_)));
    }
    assert!(matches!(refused(Publish::new("t", vec![0; 100])), Unsent::TooLarge { limit: 100, .. }));
    let mut long = Publish::new("t", "x");
    long.properties.user.push(("x", "y".repeat(70_000)));
    assert!(matches!(refused(long), Unsent::Refused(_)));
    outbox.disconnected();
    let offline = outbox.publish(Publish::new("t", "x").qos(QoS::AtMostOnce), Waiter::Nobody);
    assert_eq!(offline, Err(Unsent::Offline));
    assert!(!outbox.has_room());
}
