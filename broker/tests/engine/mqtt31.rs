//! MQTT 3.1, which many small devices still use: protocol name `MQIsdp`, level 3.

use crate::Own;
use crate::support::{Client, Connack, Connect, Packet, Publish, Version, Will, frame, unique};
use Version::V3;

/// Sends the CONNECT of a 3.1 client. Returns the return code.
async fn connect31(own: &Own, connect: Connect) -> (Client, u8) {
    present(own, &connect.encode_with("MQIsdp", 3, connect.flags())).await
}

async fn present(own: &Own, bytes: &[u8]) -> (Client, u8) {
    let mut client = own.open(V3).await;
    client.send(bytes).await;
    match client.next().await {
        Packet::Connack(Connack { code, .. }) => (client, code),
        other => panic!("CONNACK is awaited and {other:?} comes"),
    }
}

#[tokio::test]
async fn clients_of_31_are_served_like_those_of_311() {
    let own = Own::start(|_| {}).await;
    let topic = "old/device";
    let mut watcher = own.client(Version::V5).await;
    watcher.subscribe("old/#", 1).await;
    let will = Will::new("old/will", "gone").qos(1);
    let (mut client, code) = connect31(&own, Connect::new(V3).will(will).user("u").password("p")).await;
    assert_eq!(code, 0);
    client.subscribe(topic, 2).await;
    assert_eq!(client.publish(Publish::new(topic, "x").qos(2)).await, 0);
    assert_eq!(client.message().await.text(), "x");
    assert_eq!(watcher.message().await.text(), "x");
    client.cut().await;
    assert_eq!(watcher.message().await.text(), "gone");
}

/// 3.1 has ids of 1 to 23 characters. Longer ones are accepted; an empty one is refused.
#[tokio::test]
async fn ids_of_31_are_not_empty_but_may_be_long() {
    let own = Own::start(|_| {}).await;
    for id in [unique(), "x".repeat(200)] {
        assert_eq!(connect31(&own, Connect::new(V3).id(&id)).await.1, 0);
    }
    for connect in [Connect::new(V3).id(""), Connect::new(V3).id("").resume()] {
        let (mut client, code) = connect31(&own, connect).await;
        assert_eq!(code, 2);
        client.assert_ended().await;
    }
}

#[tokio::test]
async fn sessions_of_31_are_kept_without_a_clean_session() {
    let own = Own::start(|_| {}).await;
    let connect = Connect::new(V3).resume();
    let (mut client, _) = connect31(&own, connect.clone()).await;
    client.subscribe("kept", 1).await;
    client.disconnect().await;
    own.client(V3).await.publish(Publish::new("kept", "x").qos(1)).await;
    let (mut client, code) = connect31(&own, connect).await;
    assert_eq!(code, 0);
    assert_eq!(client.message().await.text(), "x");
}

/// "The Remaining Length takes precedence over the User Name flag" (MQTT 3.1, 3.1).
#[tokio::test]
async fn flags_of_missing_login_fields_are_ignored_in_31() {
    let own = Own::start(|_| {}).await;
    for (login, flags) in [(&[][..], 0xC2), (&[], 0x82), (&b"\0\x01u"[..], 0xC2)] {
        let mut body = b"\0\x06MQIsdp\x03".to_vec();
        body.extend([flags, 0, 0, 0, 2, b'i', b'd']);
        body.extend(login);
        assert_eq!(present(&own, &frame(0x10, &body)).await.1, 0, "{login:?}");
        let body311 = [b"\0\x04MQTT\x04".as_slice(), &body[9..]].concat();
        let mut client = own.open(V3).await;
        client.send(&frame(0x10, &body311)).await;
        client.assert_ended().await;
    }
}
