//! Budgets of memory per client: each refusal has a reason and is counted, and freed memory can be used again.

use crate::Own;
use crate::support::{
    Client, Connect, Packet, Property, Publish, Version, Will, encode_properties, frame, keep_to_addresses,
};
use Version::{V3, V5};

fn properties(count: usize) -> impl Iterator<Item = Property> {
    (0..count).map(|_| Property::user("", ""))
}

#[tokio::test]
async fn messages_of_too_many_user_properties_are_refused() {
    let own = Own::start(|c| c.limits.user_properties = 3).await;
    let mut client = own.client(V5).await;
    client.subscribe("x", 2).await;
    for (count, code) in [(3, 0), (4, 0x97)] {
        for qos in 0..3 {
            let publish =
                properties(count).fold(Publish::new("x", &format!("{qos}")).qos(qos), Publish::property);
            let got = client.publish(publish).await;
            assert_eq!(got, if qos == 0 { 0 } else { code }, "{count} at QoS {qos}");
        }
    }
    for qos in 0..3_u8 {
        assert_eq!(client.message().await.text(), qos.to_string());
    }
    assert_eq!(own.broker.counts().refused_properties, 3);
    let mut will = Will::new("x", "will");
    will.properties.extend(properties(4));
    let (_, code) = own.try_connect(Connect::new(V5).will(will)).await;
    assert_eq!(code, 0x97);
}

/// Packets other than PUBLISH have no single refusal: their connection ends.
#[tokio::test]
async fn other_packets_of_too_many_user_properties_end_their_connection() {
    let own = Own::start(|c| c.limits.user_properties = 3).await;
    let packet = |first, start: &[u8], count, end: &[u8]| {
        let properties: Vec<_> = properties(count).collect();
        frame(first, &[start, &encode_properties(&properties), end].concat())
    };
    let subscribe = |count| packet(0x82, b"\0\x01", count, b"\0\x01x\0");
    let unsubscribe = |count| packet(0xA2, b"\0\x02", count, b"\0\x01x");
    let mut client = own.client(V5).await;
    client.send(&subscribe(3)).await;
    assert_eq!(client.suback(1).await, [0]);
    client.send(&unsubscribe(3)).await;
    assert!(matches!(client.next().await, Packet::Unsuback(_)));
    let refused = [
        subscribe(4),
        unsubscribe(4),
        packet(0x40, b"\0\x01\0", 4, b""),
        packet(0x62, b"\0\x01\0", 4, b""),
        packet(0xE0, b"\0", 4, b""),
        // Regardless of their number, and of invalid bytes after them.
        subscribe(390_000),
        packet(0x82, b"\0\x01", 4, b"\xFF"),
    ];
    let count = refused.len() as u64;
    for packet in refused {
        let mut client = own.client(V5).await;
        client.send(&packet).await;
        client.assert_refused(&[0x97]).await;
    }
    let connect = properties(4).fold(Connect::new(V5), Connect::property);
    assert_eq!(own.try_connect(connect).await.1, 0x97);
    assert_eq!(own.broker.counts().refused_properties, count + 1);
    assert_eq!(own.broker.counts().protocol_errors, 0);
}

#[tokio::test]
async fn shared_groups_on_one_filter_are_bounded() {
    let own = Own::start(|c| {
        c.limits.share_groups = 3;
        c.limits.share_groups_session = 2;
    })
    .await;
    let mut first = own.client(V5).await;
    let filters = [("$share/a/x", 0), ("$share/b/x", 0), ("$share/c/x", 0), ("$share/c/y", 0), ("x", 0)];
    assert_eq!(first.subscribe_all(&filters, &[]).await, [0, 0, 0x97, 0, 0]);
    let mut second = own.client(V5).await;
    let filters = [("$share/c/x", 0), ("$share/d/x", 0), ("x", 0)];
    assert_eq!(second.subscribe_all(&filters, &[]).await, [0, 0x97, 0]);
    assert_eq!(own.broker.counts().refused_subscriptions, 2);
    assert_eq!(first.unsubscribe(&["$share/a/x", "$share/c/x"]).await, [0, 0x11]);
    assert_eq!(second.subscribe_all(&[("$share/d/x", 0)], &[]).await, [0], "there is room again");
}

/// Once, 10,000 filters of 127 levels took 2.5 MB to send and 470 MB of memory.
#[tokio::test]
async fn filters_are_limited_by_their_bytes() {
    let own = Own::start(|c| c.limits.subscription_bytes = 60_000).await;
    for version in [V5, V3] {
        let mut client = own.client(version).await;
        let deep = "a/".repeat(126) + "b";
        let refused = if version == V5 { 0x97 } else { 0x80 };
        assert_eq!(client.subscribe_all(&[(&deep, 0)], &[]).await, [0]);
        assert_eq!(client.subscribe_all(&[(&(deep.clone() + "c"), 0)], &[]).await, [refused]);
        assert_eq!(client.subscribe_all(&[(&deep, 1)], &[]).await, [1], "it may change");
        assert_eq!(client.subscribe_all(&[("short", 0)], &[]).await, [0]);
        client.unsubscribe(&[&deep]).await;
        assert_eq!(client.subscribe_all(&[(&(deep + "c"), 0)], &[]).await, [0], "there is room again");
    }
    assert_eq!(own.broker.counts().refused_subscriptions, 2);
}

#[tokio::test]
async fn retained_messages_are_limited_by_their_bytes() {
    let own = Own::start(|c| c.limits.retained_bytes = 6_000).await;
    let mut client = own.client(V5).await;
    let (large, larger) = ("x".repeat(1_400), "x".repeat(1_500));
    let mut codes = Vec::new();
    // The last third is not available to a single client.
    for (topic, payload) in
        [("r/1", &*large), ("r/2", &*large), ("r/3", &*large), ("r/1", &*larger), ("r/1", "y"), ("r/3", "x")]
    {
        codes.push(client.publish(Publish::new(topic, payload).qos(1).retain()).await);
    }
    assert_eq!(codes, [0x10, 0x10, 0x97, 0x10, 0x10, 0x10]);
    assert_eq!(client.publish(Publish::new("r/2", "").qos(1).retain()).await, 0x10);
    assert_eq!(
        client.publish(Publish::new("r/4", &large).qos(1).retain()).await,
        0x10,
        "there is room again"
    );
    let counts = own.broker.counts();
    assert_eq!((counts.refused_retained, counts.refused_shares), (1, 1));
}

/// Once, one client filled the whole budget, and nobody else could retain anything.
#[tokio::test]
async fn one_user_leaves_room_for_the_retained_messages_of_others() {
    let own = Own::start(|c| {
        c.users = ["ada", "bob"].map(|name| crate::support::user(name, "secret")).to_vec();
        c.limits.retained = 30;
    })
    .await;
    let user = |name: &str| Connect::new(V5).user(name).password("secret");
    let will = Will::new("will", "x").retain();
    let (mut greedy, mut second) =
        (own.connect(user("ada")).await, own.connect(user("ada").will(will)).await);
    let mut honest = own.connect(user("bob")).await;
    let retain = |topic: String| Publish::new(&topic, "x").qos(1).retain();
    let mut kept = 0;
    for number in 0..30 {
        // Several connections of a user share one count.
        let client = if number % 2 == 0 { &mut greedy } else { &mut second };
        kept += usize::from(client.publish(retain(format!("ada/{number}"))).await == 0x10);
    }
    assert_eq!(kept, 20);
    // A will counts for the same share.
    let refused = own.broker.counts().refused_shares;
    second.cut().await;
    while own.broker.counts().refused_shares == refused {
        tokio::task::yield_now().await;
    }
    for number in 0..5 {
        assert_eq!(honest.publish(retain(format!("bob/{number}"))).await, 0x10);
    }
    assert_eq!(honest.publish(retain("ada/0".to_owned())).await, 0x10, "what is there may change");
    assert_eq!(greedy.publish(retain("ada/0".to_owned())).await, 0x10);
}

#[tokio::test]
async fn wills_are_bounded_and_small_ones_always_have_room() {
    let own = Own::start(|c| c.limits.will_bytes = 40_000).await;
    let large = || Connect::new(V5).will(Will::new("will", &"x".repeat(15_000)));
    let (first, _second) = (own.connect(large()).await, own.connect(large()).await);
    let (_, code) = own.try_connect(large()).await;
    assert_eq!(code, 0x97);
    let _small = own.connect(Connect::new(V5).will(Will::new("will", "x"))).await;
    own.client(V5).await;
    assert_eq!(own.broker.counts().refused_wills, 1);
    first.disconnect().await;
    while own.broker.counts().connected > 2 {
        tokio::task::yield_now().await;
    }
    own.connect(large()).await;
}

/// Once, a client that reconnected was refused because of its own earlier will.
#[tokio::test]
async fn the_will_of_a_reconnecting_client_replaces_its_earlier_one() {
    let own = Own::start(|c| c.limits.will_bytes = 40_000).await;
    let large = |id: &str| Connect::new(V5).id(id).persistent().will(Will::new("will", &"x".repeat(15_000)));
    let (_first, _second) = (own.connect(large("first")).await, own.connect(large("second")).await);
    let _again = own.connect(large("second").resume()).await;
    let (_, code) = own.try_connect(large("third")).await;
    assert_eq!(code, 0x97);
    let _new = own.connect(large("first")).await;
    assert_eq!(own.broker.counts().refused_wills, 1);
}

#[tokio::test]
async fn sessions_are_bounded_for_all_and_for_each_user() {
    let own = Own::start(|c| {
        c.users = ["ada", "bob"].map(|name| crate::support::user(name, "secret")).to_vec();
        c.limits.sessions_per_user = 2;
        c.limits.sessions = 3;
    })
    .await;
    let connect = |user: &str, id: &str| Connect::new(V5).id(id).user(user).password("secret").persistent();
    let mut codes = Vec::new();
    for (user, id) in
        [("ada", "a1"), ("ada", "a2"), ("ada", "a3"), ("ada", "a1"), ("bob", "b1"), ("bob", "b2")]
    {
        let (client, code) = own.try_connect(connect(user, id)).await;
        codes.push(code);
        client.cut().await;
    }
    assert_eq!(codes, [0, 0, 0x97, 0, 0, 0x97], "two of ada, three in all, and one may come back");
    assert_eq!(own.broker.counts().refused_sessions, 2);
    // This session ends with its connection.
    let ending = Connect::new(V5).id("a1").user("ada").password("secret");
    own.connect(ending).await.disconnect().await;
    while own.broker.counts().connected > 0 {
        tokio::task::yield_now().await;
    }
    own.connect(connect("bob", "b2")).await;
}

/// Once, two addresses within `sessions_per_user` filled the total, and nobody else was admitted.
#[tokio::test]
async fn a_new_owner_has_room_for_a_session_regardless_of_others() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.sessions = 30).await;
    let mut held = Vec::new();
    let mut counts = Vec::new();
    for host in 1..=4 {
        let before = held.len();
        loop {
            let mut client = Client::open_from([127, 0, 0, host].into(), own.place.clone(), V5).await;
            if client.present(Connect::new(V5)).await.code != 0 {
                break;
            }
            held.push(client);
        }
        counts.push(held.len() - before);
    }
    assert_eq!(counts, [20, 7, 2, 1]);
    assert!(own.broker.counts().refused_shares >= 3);
}

#[tokio::test]
async fn without_users_sessions_count_against_their_address() {
    let own = Own::start(|c| c.limits.sessions_per_user = 1).await;
    let _first = own.connect(Connect::new(V5).user("one")).await;
    let (_, code) = own.try_connect(Connect::new(V5).user("two")).await;
    assert_eq!(code, 0x97);
    let (_, code) = own.try_connect(Connect::new(V3)).await;
    assert_eq!(code, 3);
}

/// Any process uses more memory than this.
#[tokio::test]
async fn above_the_memory_ceiling_only_the_broker_process_is_admitted() {
    let own = Own::start(|c| c.limits.memory_bytes = 1 << 20).await;
    for (version, refused) in [(V5, 0x89), (V3, 3)] {
        let (_, code) = own.try_connect(Connect::new(version)).await;
        assert_eq!(code, refused);
    }
    assert_eq!(own.broker.counts().refused_memory, 2);
    let local = own.broker.local_credentials().expect("our own engine");
    let connect = Connect::new(V5).user(&local.user).password(&local.password);
    let mut client = own.connect(connect).await;
    assert_eq!(client.publish(Publish::new("r", "x").qos(1).retain()).await, 0x10);
    assert_eq!(client.subscribe_all(&[("r", 0)], &[]).await, [0]);
    assert!(client.message().await.retain);
    assert_eq!(client.subscribe_all(&[("$SYS/broker/memory/stage", 0)], &[]).await, [0]);
    assert_eq!(client.message().await.text(), "5");
}

/// Far more filters than are handled in one turn.
#[tokio::test]
async fn a_packet_of_many_filters_is_handled_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path())] {
        let own = Own::start(|c| c.data_dir = dir.map(ToOwned::to_owned)).await;
        let connect = Connect::new(V5).id("many").persistent();
        let mut client = own.connect(connect.clone()).await;
        let filters: Vec<String> = (0..1_000).map(|number| format!("f/{number}")).collect();
        let all: Vec<(&str, u8)> = filters.iter().map(|filter| (&**filter, 1)).collect();
        assert_eq!(client.subscribe_all(&all, &[]).await, [1; 1_000]);
        let mut publisher = own.client(V5).await;
        assert_eq!(publisher.publish(Publish::new("f/999", "x").qos(1)).await, 0);
        assert_eq!(client.message().await.topic, "f/999");
        let half: Vec<&str> = filters[..500].iter().map(|filter| &**filter).collect();
        assert_eq!(client.unsubscribe(&half).await, [0; 500]);
        assert_eq!(publisher.publish(Publish::new("f/499", "x").qos(1)).await, 0x10);
        assert_eq!(publisher.publish(Publish::new("f/500", "x").qos(1)).await, 0);
        client.cut().await;
        // A new session of the same client ends the old one, with the rest of its filters.
        let mut client = own.connect(Connect::new(V5).id("many")).await;
        while publisher.publish(Publish::new("f/998", "x").qos(1)).await != 0x10 {
            tokio::task::yield_now().await;
        }
        client.subscribe("f/1", 1).await;
    }
}
