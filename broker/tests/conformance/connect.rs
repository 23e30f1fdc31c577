//! CONNECT and CONNACK: what is accepted, what is refused, and how.

use crate::support::{
    Connack, Connect, Packet, Property, Publish, Version, Will, auth, frame, pingreq, string, subscribe,
    target, target_with, unique, unique_topic,
};
use Version::{V3, V5};

/// MQTT 5: [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-1] [MQTT-3.2.2-8] [MQTT-4.2.0-1] [MQTT-7.0.0-2]
/// MQTT 3.1.1: [MQTT-3.1.4-4] [MQTT-3.2.0-1] [MQTT-7.0.0-2] [MQTT-7.1.1-1]
#[tokio::test]
async fn a_plain_connect_is_accepted() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut client, connack) = target.try_connect(Connect::new(version)).await;
        assert_eq!(connack.code, 0);
        client.assert_silent().await;
        client.disconnect().await;
    }
}

/// MQTT 5: [MQTT-3.1.0-1] [MQTT-3.2.0-1] [MQTT-3.14.0-1] [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-3.1.0-1] [MQTT-3.2.0-1] [MQTT-4.8.0-1]
#[tokio::test]
async fn anything_before_connect_ends_the_connection() {
    let target = target().await;
    for version in Version::BOTH {
        let publish = Publish::new(&unique_topic("early"), "x").encode(version);
        let subscribe = subscribe(version, 1, &[("#", 0)]);
        for first in [publish, subscribe, pingreq(), auth(0x18, &[])] {
            let mut client = target.open(version).await;
            client.send(&first).await;
            client.assert_ended().await;
        }
    }
}

/// MQTT 5: [MQTT-3.1.0-2] [MQTT-3.2.0-2]
/// MQTT 3.1.1: [MQTT-3.1.0-2]
#[tokio::test]
async fn a_second_connect_is_a_protocol_error() {
    let target = target().await;
    for version in Version::BOTH {
        let connect = Connect::new(version);
        let mut client = target.connect(connect.clone()).await;
        client.send(&connect.encode()).await;
        client.assert_refused(&[0x82]).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-1]
/// MQTT 3.1.1: [MQTT-3.1.2-1]
#[tokio::test]
async fn a_wrong_protocol_name_is_not_served() {
    let target = target().await;
    for version in Version::BOTH {
        for name in ["MQTX", "mqtt", "MQT", "MQTTT", ""] {
            let connect = Connect::new(version);
            let bytes = connect.encode_with(name, version.level(), connect.flags());
            let mut client = target.open(version).await;
            client.send(&bytes).await;
            match client.next_or_end().await {
                None => {}
                Some(Packet::Connack(connack)) => {
                    assert_ne!(connack.code, 0, "{name:?} is served");
                    client.assert_ended().await;
                }
                Some(other) => panic!("{name:?} is answered with {other:?}"),
            }
        }
    }
}

/// Only 3.1 (under its own name), 3.1.1 and 5 are served; all below 5 are refused in the form of 3.1.1.
///
/// MQTT 3.1.1: [MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[tokio::test]
async fn other_levels_below_5_are_refused_with_return_code_1() {
    let target = target().await;
    for (name, level) in [
        ("MQIsdp", 2),
        ("MQIsdp", 4),
        ("MQIsdp", 5),
        ("MQTT", 3),
        ("MQTT", 0),
        ("MQTT", 0x83),
        ("MQTT", 0x85),
    ] {
        let connect = Connect::new(V3);
        let mut client = target.open(V3).await;
        client.send(&connect.encode_with(name, level, connect.flags())).await;
        assert_eq!(client.next().await, refusal(1), "{name} {level}");
        client.assert_ended().await;
    }
}

fn refusal(code: u8) -> Packet {
    Packet::Connack(Connack { session_present: false, code, properties: Vec::new() })
}

/// MQTT 5: [MQTT-3.1.2-2] [MQTT-3.2.2-7]
#[tokio::test]
async fn levels_above_5_are_refused_as_unsupported() {
    let target = target().await;
    for level in [6, 0x7F] {
        let connect = Connect::new(V5);
        let bytes = connect.encode_with("MQTT", level, connect.flags());
        let mut client = target.open(V5).await;
        client.assert_connect_refused(&bytes, &[0x84]).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-3] [MQTT-3.1.4-1]
/// MQTT 3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.4-1]
#[tokio::test]
async fn the_reserved_connect_flag_is_checked() {
    let target = target().await;
    for version in Version::BOTH {
        let connect = Connect::new(version);
        let bytes = connect.encode_with_flags(connect.flags() | 1);
        let mut client = target.open(version).await;
        client.assert_connect_refused(&bytes, &[0x81]).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13]
/// MQTT 3.1.1: [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
#[tokio::test]
async fn contradictory_will_flags_are_malformed() {
    const WILL: u8 = 0x04;
    const QOS_1: u8 = 0x08;
    const QOS_2: u8 = 0x10;
    const RETAIN: u8 = 0x20;
    const CLEAN: u8 = 0x02;
    let target = target().await;
    for version in Version::BOTH {
        for flags in [QOS_1, QOS_2, QOS_1 | QOS_2, RETAIN] {
            let bytes = Connect::new(version).encode_with_flags(CLEAN | flags);
            let mut client = target.open(version).await;
            client.assert_connect_refused(&bytes, &[0x81, 0x82]).await;
        }
        let connect = Connect::new(version).will(Will::new(&unique_topic("will"), "x"));
        let bytes = connect.encode_with_flags(CLEAN | WILL | QOS_1 | QOS_2);
        let mut client = target.open(version).await;
        client.assert_connect_refused(&bytes, &[0x81, 0x82]).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
/// MQTT 3.1.1: [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20]
/// [MQTT-3.1.2-21]
#[tokio::test]
async fn the_payload_has_the_fields_that_the_flags_name_and_no_others() {
    const CLEAN: u8 = 0x02;
    const WILL: u8 = 0x04;
    const PASSWORD: u8 = 0x40;
    const USER: u8 = 0x80;
    let target = target().await;
    for version in Version::BOTH {
        let bare = Connect::new(version);
        let will = bare.clone().will(Will::new(&unique_topic("will"), "x"));
        let user = bare.clone().user("someone");
        let both = user.clone().password("secret");
        let wrong = [
            ("a will is missing", bare.encode_with_flags(CLEAN | WILL)),
            ("a will too many", will.encode_with_flags(CLEAN)),
            ("a user is missing", bare.encode_with_flags(CLEAN | USER)),
            ("a user too many", user.encode_with_flags(CLEAN)),
            ("a password is missing", user.encode_with_flags(CLEAN | USER | PASSWORD)),
            ("a password too many", both.encode_with_flags(CLEAN | USER)),
        ];
        for (what, bytes) in wrong {
            eprintln!("{version:?}: {what}");
            let mut client = target.open(version).await;
            client.assert_connect_refused(&bytes, &[0x81, 0x82]).await;
        }
    }
}

/// MQTT 5 allows a password without a user name (3.1.2.9), and 3.1.1 forbids it.
///
/// MQTT 3.1.1: [MQTT-3.1.2-22] [MQTT-3.1.4-1]
#[tokio::test]
async fn a_password_without_a_user_name_is_for_version_5_alone() {
    let target = target().await;
    target.connect(Connect::new(V5).password("token")).await;
    let mut client = target.open(V3).await;
    client.assert_connect_refused(&Connect::new(V3).password("token").encode(), &[]).await;
}

/// MQTT 5: [MQTT-3.1.3-3]
/// MQTT 3.1.1: [MQTT-3.1.3-3]
#[tokio::test]
async fn a_connect_without_a_client_id_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let mut body = string("MQTT");
        body.extend([version.level(), 2, 0, 0]);
        if version == V5 {
            body.push(0);
        }
        let mut client = target.open(version).await;
        client.assert_connect_refused(&frame(0x10, &body), &[0x81]).await;
    }
}

/// MQTT 5: [MQTT-3.1.3-1]
/// MQTT 3.1.1: [MQTT-3.1.3-1]
#[tokio::test]
async fn the_fields_of_the_payload_are_read_in_their_order() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("will");
        let mut watcher = target.client(version).await;
        watcher.subscribe(&topic, 0).await;
        let will = Will::new(&topic, "the will's payload");
        let connect = Connect::new(version).will(will).user("user").password("password");
        target.connect(connect).await.cut().await;
        assert_eq!(watcher.message().await.text(), "the will's payload");
    }
}

/// MQTT 5: [MQTT-3.1.3-5]
/// MQTT 3.1.1: [MQTT-3.1.3-5]
#[tokio::test]
async fn client_ids_of_1_to_23_letters_and_digits_are_taken() {
    let target = target().await;
    let ids = ["0", "z", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"];
    for version in Version::BOTH {
        for id in ids {
            target.connect(Connect::new(version).id(id)).await.disconnect().await;
        }
    }
}

/// The standard lets the server accept or refuse these client ids; this broker accepts them.
#[tokio::test]
async fn client_ids_of_any_characters_and_length_are_taken() {
    let target = target().await;
    for version in Version::BOTH {
        for odd in ["/", "+", "#", "$SYS/é", "with space", &"long".repeat(500)] {
            let id = format!("{odd}{}", unique());
            for _ in 0..2 {
                target.connect(Connect::new(version).id(&id)).await.disconnect().await;
            }
        }
    }
}

/// MQTT 5: [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
#[tokio::test]
async fn an_empty_client_id_is_replaced_by_an_assigned_one() {
    let target = target().await;
    let empty = Connect::new(V5).id("").property(Property::SessionExpiry(600));
    let first = target.connect(empty.clone()).await;
    let second = target.connect(empty).await;
    assert!(!first.id.is_empty(), "no id was assigned");
    assert_ne!(first.id, second.id);
    let assigned = first.id.clone();
    first.disconnect().await;
    let again = Connect::new(V5).id(&assigned).persistent();
    let (_client, connack) = target.try_connect(again).await;
    assert!(connack.session_present, "the assigned id names the session");
}

/// MQTT 5: [MQTT-3.2.2-16]
#[tokio::test]
async fn a_client_with_an_id_is_assigned_none() {
    let target = target().await;
    let client = target.client(V5).await;
    let connack = client.connack.expect("the client is connected");
    let assigned = |property: &Property| matches!(property, Property::AssignedClientId(_));
    assert!(!connack.properties.iter().any(assigned));
}

/// MQTT 3.1.1: [MQTT-3.1.3-6]
#[tokio::test]
async fn empty_client_ids_of_311_are_clients_of_their_own() {
    let target = target().await;
    let mut first = target.connect(Connect::new(V3).id("")).await;
    let mut second = target.connect(Connect::new(V3).id("")).await;
    first.assert_silent().await;
    second.assert_silent().await;
}

/// MQTT 3.1.1: [MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.1.3-9] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[tokio::test]
async fn an_empty_client_id_of_311_needs_a_clean_session() {
    let target = target().await;
    let (mut client, connack) = target.try_connect(Connect::new(V3).id("").resume()).await;
    assert_eq!(connack.code, 2);
    client.assert_ended().await;
}

/// MQTT 5: [MQTT-3.1.4-3] [MQTT-3.1.3-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
/// MQTT 3.1.1: [MQTT-3.1.4-2] [MQTT-3.1.3-2]
#[tokio::test]
async fn a_client_id_that_connects_again_takes_over() {
    let target = target().await;
    for (old, new) in [(V3, V3), (V5, V5), (V3, V5), (V5, V3)] {
        let id = unique();
        let mut first = target.connect(Connect::new(old).id(&id)).await;
        let mut second = target.connect(Connect::new(new).id(&id)).await;
        first.assert_refused(&[0x8E]).await;
        second.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.2.0-1] [MQTT-3.1.4-5]
/// MQTT 3.1.1: [MQTT-3.2.0-1] [MQTT-3.1.4-4]
#[tokio::test]
async fn packets_right_behind_connect_are_answered_after_connack() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.open(version).await;
        let packets =
            [Connect::new(version).encode(), subscribe(version, 7, &[(&unique_topic("x"), 1)]), pingreq()];
        client.send(&packets.concat()).await;
        assert!(matches!(client.next().await, Packet::Connack(connack) if connack.code == 0));
        assert_eq!(client.suback(7).await, [1]);
        assert_eq!(client.next().await, Packet::Pingresp);
    }
}

/// MQTT 5: [MQTT-3.1.2-28] [MQTT-3.2.2-9] [MQTT-4.12.0-6]
#[tokio::test]
async fn connack_restricts_no_feature_and_has_no_unrequested_properties() {
    let target = target().await;
    let asked = Connect::new(V5).property(Property::RequestResponse(0));
    for connect in [Connect::new(V5), asked] {
        let (_client, connack) = target.try_connect(connect).await;
        for property in connack.properties {
            match property {
                Property::MaximumQos(_)
                | Property::RetainAvailable(0)
                | Property::WildcardAvailable(0)
                | Property::SubscriptionIdsAvailable(0)
                | Property::SharedAvailable(0) => panic!("a feature is withheld: {property:?}"),
                Property::ResponseInformation(_)
                | Property::AuthenticationMethod(_)
                | Property::AuthenticationData(_) => panic!("nobody asked for {property:?}"),
                _ => {}
            }
        }
    }
}

/// CONNACK announces the limits that a client must respect.
#[tokio::test]
async fn connack_carries_the_limits() {
    let limits = |config: &mut rantai_broker::Config| {
        config.limits.receive_maximum = 7;
        config.limits.packet_bytes = 5_000;
        config.limits.topic_aliases = 3;
        config.limits.session_expiry = std::time::Duration::from_secs(100);
    };
    let Some(target) = target_with(limits).await else {
        return;
    };
    let connect = Connect::new(V5).property(Property::SessionExpiry(1_000));
    let (_client, connack) = target.try_connect(connect).await;
    for limit in [
        Property::ReceiveMaximum(7),
        Property::MaximumPacketSize(5_000),
        Property::TopicAliasMaximum(3),
        Property::SessionExpiry(100),
    ] {
        assert!(connack.properties.contains(&limit), "{limit:?} is not told");
    }
}

/// MQTT 5: [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.1.2-24]
#[tokio::test]
async fn a_refusal_keeps_to_the_maximum_packet_size() {
    let target = target().await;
    let connect = Connect::new(V5)
        .property(Property::MaximumPacketSize(5))
        .property(Property::AuthenticationMethod("none-such".into()));
    let (mut client, connack) = target.try_connect(connect).await;
    assert!(connack.code >= 0x80);
    client.assert_ended().await;
}

/// MQTT 5: [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-4.13.2-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
#[tokio::test]
async fn an_unknown_authentication_method_is_refused() {
    let target = target().await;
    let connect = Connect::new(V5)
        .property(Property::AuthenticationMethod("SCRAM-SHA-1".into()))
        .property(Property::AuthenticationData(b"hello".to_vec()));
    let (mut client, connack) = target.try_connect(connect).await;
    assert_eq!(connack.code, 0x8C);
    client.assert_ended().await;
}

/// MQTT 5: [MQTT-4.12.0-6] [MQTT-4.12.0-7]
#[tokio::test]
async fn an_auth_packet_without_a_method_in_connect_is_a_protocol_error() {
    let target = target().await;
    let method = Property::AuthenticationMethod("SCRAM-SHA-1".into());
    for packet in [auth(0x19, &[method]), auth(0x18, &[]), vec![0xF0, 0]] {
        let mut client = target.client(V5).await;
        client.send(&packet).await;
        client.assert_refused(&[0x82]).await;
    }
}

/// MQTT 3.1.1 has no packet of type 15.
///
/// MQTT 3.1.1: [MQTT-4.8.0-1]
#[tokio::test]
async fn an_auth_packet_of_311_ends_the_connection() {
    let target = target().await;
    let mut client = target.client(V3).await;
    client.assert_invalid(&[0xF0, 0]).await;
}
