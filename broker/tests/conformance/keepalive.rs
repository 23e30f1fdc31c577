//! Keep alive, PINGREQ, and the end of the broker itself.

use std::time::Duration;

use crate::support::{
    Connect, Packet, Property, Publish, Version, Will, lapse, pingreq, target, target_with, unique_topic,
};
use Version::{V3, V5};

/// MQTT 5: [MQTT-3.12.4-1]
/// MQTT 3.1.1: [MQTT-3.12.4-1]
#[tokio::test]
async fn pingreq_is_answered() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        client.send(&pingreq().repeat(50)).await;
        for _ in 0..50 {
            assert_eq!(client.next().await, Packet::Pingresp);
        }
        client.disconnect().await;
    }
}

/// MQTT 5: [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-8]
/// MQTT 3.1.1: [MQTT-3.1.2-24] [MQTT-3.1.2-8]
#[tokio::test]
async fn a_silent_client_is_disconnected_after_its_keep_alive() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("silent");
        let mut watcher = target.client(version).await;
        watcher.subscribe(&topic, 1).await;
        let will = Will::new(&topic, "gone").qos(1);
        let mut client = target.connect(Connect::new(version).keep_alive(1).will(will)).await;
        client.assert_refused(&[0x8D]).await;
        assert_eq!(watcher.message().await.text(), "gone");
    }
}

/// Bytes of a packet that is never completed do not renew the keep alive.
///
/// MQTT 5: [MQTT-3.1.2-22]
/// MQTT 3.1.1: [MQTT-3.1.2-24]
#[tokio::test]
async fn a_client_without_complete_packets_is_disconnected_after_its_keep_alive() {
    let target = target().await;
    let trickle = async |version| {
        let mut client = target.connect(Connect::new(version).keep_alive(1)).await;
        let publish = Publish::new(&unique_topic("slow"), &"x".repeat(100)).qos(1).id(1).encode(version);
        // Long enough even for a broker that looks for such clients every five seconds.
        for byte in &publish[..35] {
            client.send(&[*byte]).await;
            lapse(Duration::from_millis(200)).await;
        }
        // If the connection were still open, this would be acknowledged.
        client.send(&publish[35..]).await;
        client.assert_refused(&[0x8D]).await;
    };
    tokio::join!(trickle(V3), trickle(V5));
}

/// A keep alive of 0 disables the mechanism, and a client that sends packets is not disconnected: both stay
/// connected longer than a client that has been silent from the start.
///
/// MQTT 5: [MQTT-3.1.2-22]
/// MQTT 3.1.1: [MQTT-3.1.2-24]
#[tokio::test]
async fn a_client_that_sends_packets_or_has_no_keep_alive_stays_connected() {
    let target = target().await;
    for version in Version::BOTH {
        let mut without = target.connect(Connect::new(version).keep_alive(0)).await;
        let mut speaking = target.connect(Connect::new(version).keep_alive(1)).await;
        let mut silent = target.connect(Connect::new(version).keep_alive(1)).await;
        let silence = silent.assert_refused(&[0x8D]);
        let talk = async {
            let mut pause = tokio::time::interval(std::time::Duration::from_millis(300));
            loop {
                pause.tick().await;
                speaking.assert_silent().await;
            }
        };
        tokio::select! {
            () = silence => {}
            () = talk => unreachable!("talk has no end"),
        }
        speaking.assert_silent().await;
        without.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.1.2-22]
#[tokio::test]
async fn a_keep_alive_over_the_limit_is_replaced() {
    let Some(target) = target_with(|config| config.limits.keep_alive = 1).await else {
        return;
    };
    for asked in [0, 600] {
        let (mut client, connack) = target.try_connect(Connect::new(V5).keep_alive(asked)).await;
        assert!(connack.properties.contains(&Property::ServerKeepAlive(1)));
        client.assert_refused(&[0x8D]).await;
    }
}

/// MQTT 5: [MQTT-3.2.2-22]
#[tokio::test]
async fn a_keep_alive_within_the_limit_is_left_alone() {
    let Some(target) = target_with(|config| config.limits.keep_alive = 60).await else {
        return;
    };
    let (_client, connack) = target.try_connect(Connect::new(V5).keep_alive(30)).await;
    let replaced = |property: &Property| matches!(property, Property::ServerKeepAlive(_));
    assert!(!connack.properties.iter().any(replaced));
}

/// MQTT 5: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[tokio::test]
async fn a_broker_that_shuts_down_sends_disconnect() {
    let Some(target) = target_with(|_| {}).await else {
        return;
    };
    let mut five = target.client(V5).await;
    let mut three = target.client(V3).await;
    target.shutdown().await;
    five.assert_refused(&[0x8B]).await;
    three.assert_refused(&[]).await;
}
