//! Budgets shared by all sessions, with a share for each user, so that one user leaves room for the others.

use std::path::Path;

use rantai_broker::Config;

use crate::Own;
use crate::support::{self, Client, Connect, Property, Publish, Version};
use Version::V5;

fn users(config: &mut Config) {
    config.users = ["ada", "bob"].map(|name| support::user(name, "secret")).to_vec();
}

fn user(name: &str, id: &str) -> Connect {
    Connect::new(V5).id(id).user(name).password("secret")
}

/// Returns the broker, or with `restarts` another one that is started with its folder.
async fn restarted(own: Own, restarts: bool, change: impl FnOnce(&mut Config)) -> Own {
    if !restarts {
        return own;
    }
    own.broker.shutdown().await;
    Own::start(change).await
}

/// Subscribes to one filter after another that begins with `prefix`, until one is refused. Returns the number of
/// granted filters.
async fn fill(client: &mut Client, prefix: &str) -> usize {
    for number in 0..100 {
        let codes = client.subscribe_all(&[(&format!("{prefix}/{number:02}"), 0)], &[]).await;
        if codes != [0] {
            assert_eq!(codes, [0x97]);
            return number;
        }
    }
    panic!("no filter was refused");
}

/// Number of bytes that a filter such as `a/00` counts for.
const FILTER: usize = 256 + 2 * 4 + 2 * 400;

/// Once, a user had 32 MiB of filters for each of many sessions.
#[tokio::test]
async fn the_filters_of_one_user_leave_room_for_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path())] {
        let limits = |c: &mut Config| {
            users(c);
            c.limits.total_subscription_bytes = 30 * FILTER;
            c.data_dir = dir.map(Path::to_owned);
        };
        let own = Own::start(limits).await;
        let mut first = own.connect(user("ada", "first").persistent()).await;
        let mut second = own.connect(user("ada", "second").persistent()).await;
        let mut other = own.connect(user("bob", "other")).await;
        for number in 0..10 {
            first.subscribe(&format!("a/{number:02}"), 0).await;
        }
        assert_eq!(fill(&mut second, "b").await, 10);
        assert_eq!(first.subscribe_all(&[("a/00", 1)], &[]).await, [1], "it may change");
        assert_eq!(fill(&mut other, "c").await, 6);
        let counts = own.broker.counts();
        assert_eq!((counts.refused_subscriptions, counts.refused_shares), (2, 2));
        other.disconnect().await;
        while own.broker.counts().connected > 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(first.unsubscribe(&["a/01", "a/02"]).await, [0, 0]);
        assert_eq!(fill(&mut second, "d").await, 2, "they are given back");
        first.cut().await;
        second.cut().await;
        let own = restarted(own, dir.is_some(), limits).await;
        // Filters of absent sessions count, also after a restart.
        let mut third = own.connect(user("ada", "third")).await;
        assert_eq!(fill(&mut third, "e").await, 0);
        // A new session of the client ends `first`, with the rest of its filters.
        own.connect(user("ada", "first")).await.disconnect().await;
        let mut got = 0;
        while got < 8 {
            got += fill(&mut third, "f").await;
        }
        assert_eq!(got, 8);
        own.broker.shutdown().await;
    }
}

#[tokio::test]
async fn a_refused_group_is_not_counted() {
    let own = Own::start(|c| {
        c.limits.share_groups = 1;
        c.limits.total_subscription_bytes = 30 * FILTER;
    })
    .await;
    let mut client = own.client(V5).await;
    client.subscribe("$share/a/x", 0).await;
    for number in 0..100 {
        let filter = format!("$share/b{number}/x");
        assert_eq!(client.subscribe_all(&[(&filter, 0)], &[]).await, [0x97]);
    }
    client.subscribe("y", 0).await;
}

/// Once, a user with many sessions took the whole budget of absent sessions, and the queues of others were cut to the
/// size of one of his.
#[tokio::test]
async fn the_queues_of_one_users_absent_sessions_leave_room_for_those_of_others() {
    const BODY: usize = 1_000;
    let own = Own::start(|c| {
        users(c);
        c.limits.absent_bytes = 60 * (BODY + 450);
    })
    .await;
    for number in 0..20 {
        let mut client = own.connect(user("ada", &format!("ada-{number}")).persistent()).await;
        client.subscribe("ada", 1).await;
        client.disconnect().await;
    }
    let mut honest = own.connect(user("bob", "bob").persistent()).await;
    honest.subscribe("bob", 1).await;
    honest.disconnect().await;
    let mut publisher = own.connect(user("bob", "publisher")).await;
    let body = "x".repeat(BODY);
    for _ in 0..10 {
        assert_eq!(publisher.publish(Publish::new("ada", &body).qos(1)).await, 0);
    }
    assert!(own.broker.counts().dropped_queue_full >= 140, "of 200 messages forty fit");
    let dropped = own.broker.counts().dropped_queue_full;
    for number in 0..10 {
        assert_eq!(publisher.publish(Publish::new("bob", &format!("{number}{body}")).qos(1)).await, 0);
        assert_eq!(publisher.publish(Publish::new("ada", &body).qos(1)).await, 0);
    }
    let mut honest = own.connect(user("bob", "bob").persistent().resume()).await;
    for number in 0..10 {
        assert!(honest.message().await.text().starts_with(&number.to_string()));
    }
    assert!(own.broker.counts().dropped_queue_full > dropped);
}

async fn in_flight(watcher: &mut Client) -> usize {
    let publish = watcher.message().await;
    publish.text().parse().expect("a number")
}

/// Once, each session had 64 MiB in flight, regardless of the others, and messages in flight are never dropped.
#[tokio::test]
async fn bytes_in_flight_are_shared_and_other_messages_wait_in_the_queue() {
    const BODY: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path())] {
        let start = |c: &mut Config| {
            users(c);
            c.limits.total_in_flight_bytes = 30 * BODY;
            c.sys_interval = std::time::Duration::from_millis(50);
            c.data_dir = dir.map(Path::to_owned);
        };
        let own = Own::start(start).await;
        let mut watcher = own.connect(user("bob", "watcher")).await;
        watcher.subscribe("$SYS/broker/in_flight/bytes", 0).await;
        let mut readers = Vec::new();
        for number in 0..4 {
            let mut reader = own.connect(user("ada", &format!("ada-{number}")).persistent()).await;
            reader.subscribe("ada", 1).await;
            readers.push(reader);
        }
        let mut honest = own.connect(user("bob", "honest")).await;
        honest.subscribe("bob", 1).await;
        let mut publisher = own.connect(user("bob", "publisher")).await;
        let body = "x".repeat(BODY - 4);
        for number in 0..10 {
            let publish = Publish::new("ada", &format!("{number:04}{body}")).qos(1);
            assert_eq!(publisher.publish(publish).await, 0);
        }
        // Forty messages, of which about twenty fit.
        while in_flight(&mut watcher).await < 18 * BODY {}
        assert!(own.broker.counts().in_flight_capped > 0);
        assert!(in_flight(&mut watcher).await < 23 * BODY);
        let mut held = Vec::new();
        for reader in &mut readers {
            held.push(reader.delivery().await);
        }
        // Other clients send and receive in the meantime.
        for _ in 0..20 {
            assert_eq!(publisher.publish(Publish::new("bob", &body).qos(1)).await, 0);
            honest.message().await;
        }
        // Absent sessions count as before, also after a restart.
        for reader in readers {
            reader.cut().await;
        }
        let own = restarted(own, dir.is_some(), start).await;
        let mut watcher = own.connect(user("bob", "watcher")).await;
        watcher.subscribe("$SYS/broker/in_flight/bytes", 0).await;
        while own.broker.counts().connected > if dir.is_some() { 1 } else { 3 } {
            tokio::task::yield_now().await;
        }
        assert!((18 * BODY..23 * BODY).contains(&in_flight(&mut watcher).await));
        // Another session of the same user receives small messages at once, and large ones when there is room.
        let mut newcomer = own.connect(user("ada", "newcomer")).await;
        newcomer.subscribe("new", 1).await;
        let mut publisher = own.connect(user("bob", "publisher")).await;
        for text in ["small", &body] {
            assert_eq!(publisher.publish(Publish::new("new", text).qos(1)).await, 0);
        }
        assert_eq!(newcomer.message().await.text(), "small");
        newcomer.assert_silent().await;
        // Messages acknowledged to the publisher arrive, and all budgets are free again.
        for number in 0..4 {
            let connect = user("ada", &format!("ada-{number}")).persistent().resume();
            let mut reader = own.connect(connect).await;
            for number in 0..10 {
                assert!(reader.message().await.text().starts_with(&format!("{number:04}")));
            }
            reader.disconnect().await;
        }
        assert_eq!(newcomer.message().await.text().len(), body.len());
        while in_flight(&mut watcher).await > 0 {}
        own.broker.shutdown().await;
    }
}

/// The broker's own process is not limited by others.
#[tokio::test]
async fn the_broker_process_is_exempt_from_shared_budgets() {
    let own = Own::start(|c| c.limits.total_subscription_bytes = 1).await;
    let mut client = own.client(V5).await;
    assert_eq!(client.subscribe_all(&[("x", 0)], &[]).await, [0x97]);
    let local = own.broker.local_credentials().expect("our own engine");
    let connect = Connect::new(V5).user(&local.user).password(&local.password);
    let mut client = own.connect(connect.property(Property::ReceiveMaximum(10))).await;
    assert_eq!(client.subscribe_all(&[("x", 0)], &[]).await, [0]);
}

/// Once, a request that was executed but not acknowledged was executed again by another member.
#[tokio::test]
async fn a_sent_request_is_not_passed_on_to_another_member_and_other_messages_are() {
    let own = Own::start(|_| {}).await;
    for (topic, group, goes_on) in [
        ("rantai/call/echo/echo", "echo", false),
        ("rantai/event/echo/x", "listeners", true),
        ("x/call/y", "g", true),
    ] {
        let filter = format!("$share/{group}/{topic}");
        let mut first = own.connect(Connect::new(V5).property(Property::ReceiveMaximum(1))).await;
        first.subscribe(&filter, 1).await;
        let mut publisher = own.client(V5).await;
        // The second message stays in the queue, and is never sent.
        for text in ["sent", "queued"] {
            publisher.publish(Publish::new(topic, text).qos(1)).await;
        }
        assert_eq!(first.delivery().await.text(), "sent");
        let mut second = own.client(V5).await;
        second.subscribe(&filter, 1).await;
        first.cut().await;
        if goes_on {
            assert_eq!(second.message().await.text(), "sent", "{topic}");
        }
        assert_eq!(second.message().await.text(), "queued", "{topic}");
        second.assert_silent().await;
    }
}
