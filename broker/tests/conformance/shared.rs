//! Shared subscriptions (MQTT 5, 4.8.2).

use std::collections::BTreeSet;

use crate::support::{
    Client, Connect, Packet, Property, Publish, Target, Version, ack, lapse, subscribe, target, unique,
    unique_topic,
};
use Version::V5;

/// No Local bit of the Subscription Options.
const NO_LOCAL: u8 = 0x04;

fn share(name: &str, filter: &str) -> String {
    format!("$share/{name}/{filter}")
}

/// MQTT 5: [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[tokio::test]
async fn a_share_name_must_not_be_empty_or_have_wildcards() {
    let target = target().await;
    for filter in ["$share/", "$share//a", "$share/+/a", "$share/a#/b", "$share/name", "$share/n/"] {
        let mut client = target.client(V5).await;
        client.send(&subscribe(V5, 1, &[(filter, 0)])).await;
        match client.next_or_end().await {
            None => assert!(crate::support::is_external()),
            Some(Packet::Disconnect { code, .. }) => assert!(code >= 0x80),
            Some(Packet::Suback(suback)) => assert!(suback.codes[0] >= 0x80, "{filter} is granted"),
            Some(other) => panic!("{filter} is answered with {other:?}"),
        }
    }
}

/// MQTT 5: [MQTT-3.8.3-4]
#[tokio::test]
async fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let target = target().await;
    let mut client = target.client(V5).await;
    let filter = share("group", &unique_topic("x"));
    client.send(&subscribe(V5, 1, &[(&filter, 1 | NO_LOCAL)])).await;
    client.assert_refused(&[0x82]).await;
}

async fn member(target: &Target, filter: &str, qos: u8) -> Client {
    let mut client = target.client(V5).await;
    client.subscribe(filter, qos).await;
    client
}

/// Returns all messages that a member receives before a marker sent now.
async fn drain(member: &mut Client, publisher: &mut Client) -> Vec<Publish> {
    let marker = unique_topic("marker");
    member.subscribe(&marker, 0).await;
    publisher.publish(Publish::new(&marker, "")).await;
    let mut got = Vec::new();
    loop {
        let message = member.message().await;
        if message.topic == marker {
            return got;
        }
        got.push(message);
    }
}

/// Every group, identified by its name and filter, gets each message once, on any of its members.
///
/// MQTT 5: [MQTT-4.8.2-1] [MQTT-4.5.0-1]
#[tokio::test]
async fn every_group_gets_each_message_once() {
    let target = target().await;
    let topic = unique_topic("work");
    let wide = topic.replace("/work", "/#");
    let mut publisher = target.client(V5).await;
    let mut plain = member(&target, &topic, 1).await;
    let mut groups = Vec::new();
    for filter in [share("one", &topic), share("two", &topic), share("one", &wide)] {
        groups.push([member(&target, &filter, 1).await, member(&target, &filter, 1).await]);
    }
    for number in 0..20 {
        publisher.publish(Publish::new(&topic, &number.to_string()).qos(1)).await;
    }
    let all: BTreeSet<String> = (0..20).map(|number| number.to_string()).collect();
    for group in &mut groups {
        let mut got = Vec::new();
        for member in group {
            got.extend(drain(member, &mut publisher).await);
        }
        assert_eq!(got.len(), 20);
        assert_eq!(got.iter().map(|m| m.text().to_owned()).collect::<BTreeSet<_>>(), all);
    }
    assert_eq!(drain(&mut plain, &mut publisher).await.len(), 20);
}

/// MQTT 5: [MQTT-4.8.2-3] [MQTT-3.8.4-8]
#[tokio::test]
async fn a_member_gets_messages_at_its_own_qos() {
    let target = target().await;
    for granted in 0..=2 {
        let topic = unique_topic("qos");
        let mut client = member(&target, &share("group", &topic), granted).await;
        let mut publisher = target.client(V5).await;
        for sent in 0..=2 {
            publisher.publish(Publish::new(&topic, "x").qos(sent)).await;
            assert_eq!(client.message().await.qos, sent.min(granted));
        }
    }
}

/// MQTT 5: [MQTT-3.3.4-3]
#[tokio::test]
async fn subscription_identifiers_work_in_groups() {
    let target = target().await;
    let topic = unique_topic("id");
    let mut client = target.client(V5).await;
    client.subscribe_as(&share("group", &topic), 1, 42).await;
    client.publish(Publish::new(&topic, "x").qos(1)).await;
    assert_eq!(client.message().await.subscription_ids(), [42]);
}

/// A shared subscription gets no messages that were retained before it (MQTT 5, 4.8.2).
///
/// MQTT 5: [MQTT-3.10.4-1] [MQTT-3.10.4-2]
#[tokio::test]
async fn groups_get_no_retained_messages_and_may_be_left() {
    let target = target().await;
    let topic = unique_topic("retained");
    let filter = share("group", &topic);
    let mut publisher = target.client(V5).await;
    publisher.publish(Publish::new(&topic, "x").qos(1).retain()).await;
    let mut client = member(&target, &filter, 1).await;
    client.assert_silent_after(&mut publisher).await;
    publisher.publish(Publish::new(&topic, "now").qos(1)).await;
    assert_eq!(client.message().await.text(), "now");
    assert_eq!(client.unsubscribe(&[&topic, &filter]).await, [0x11, 0]);
    publisher.publish(Publish::new(&topic, "later").qos(1)).await;
    client.assert_silent_after(&mut publisher).await;
}

/// Returns another member of a group whose first member has disconnected with an unacknowledged QoS 2 message.
async fn with_a_message_cut_off(target: &Target, connect: &Connect) -> (Client, Client, Publish) {
    let topic = unique_topic("cut-off");
    let filter = share("group", &topic);
    let mut first = target.connect(connect.clone()).await;
    first.subscribe(&filter, 2).await;
    let mut publisher = target.client(V5).await;
    publisher.publish(Publish::new(&topic, "x").qos(2)).await;
    let delivery = first.delivery().await;
    let second = member(target, &filter, 2).await;
    first.cut().await;
    (second, publisher, delivery)
}

/// MQTT 5: [MQTT-4.8.2-4]
#[tokio::test]
async fn a_qos_2_message_in_flight_stays_with_its_member() {
    let target = target().await;
    let connect = Connect::new(V5).persistent();
    let (mut second, mut publisher, delivery) = with_a_message_cut_off(&target, &connect).await;
    second.assert_silent_after(&mut publisher).await;
    let mut first = target.connect(connect).await;
    let again = first.message().await;
    assert_eq!((again.id, again.dup), (delivery.id, true));
    second.assert_silent_after(&mut publisher).await;
}

/// MQTT 5: [MQTT-4.8.2-5]
#[tokio::test]
async fn a_qos_2_message_in_flight_ends_with_the_session_of_its_member() {
    let target = target().await;
    let connect = Connect::new(V5).property(Property::SessionExpiry(1));
    let (mut second, mut publisher, _) = with_a_message_cut_off(&target, &connect).await;
    lapse(std::time::Duration::from_millis(2_500)).await;
    second.assert_silent_after(&mut publisher).await;
}

/// MQTT 5: [MQTT-4.8.2-6]
#[tokio::test]
async fn a_refused_message_goes_to_no_other_member() {
    let target = target().await;
    for qos in 1..=2 {
        let topic = unique_topic("refused");
        let filter = share("group", &topic);
        let mut publisher = target.client(V5).await;
        let mut first = member(&target, &filter, qos).await;
        publisher.publish(Publish::new(&topic, "x").qos(qos)).await;
        let delivery = first.delivery().await;
        let mut second = member(&target, &filter, qos).await;
        first.send(&ack(3 + qos, V5, delivery.id, 0x83)).await;
        first.assert_silent().await;
        second.assert_silent_after(&mut publisher).await;
        first.disconnect().await;
        second.assert_silent_after(&mut publisher).await;
    }
}

/// Messages for a group whose members are all absent are queued for them.
#[tokio::test]
async fn a_session_that_is_away_is_still_a_member() {
    let target = target().await;
    let topic = unique_topic("away");
    let id = unique();
    let connect = Connect::new(V5).id(&id).persistent();
    let mut client = target.connect(connect.clone()).await;
    client.subscribe(&share("group", &topic), 1).await;
    client.disconnect().await;
    let mut publisher = target.client(V5).await;
    assert_eq!(publisher.publish(Publish::new(&topic, "x").qos(1)).await, 0);
    let mut client = target.connect(connect).await;
    assert_eq!(client.message().await.text(), "x");
    publisher.publish(Publish::new(&topic, "live").qos(1)).await;
    assert_eq!(client.message().await.text(), "live");
}
