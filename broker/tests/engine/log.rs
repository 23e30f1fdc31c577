//! Log lines that clients can cause: one short line per event, and a limited number of them.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use crate::Own;
use crate::support::{Connect, Property, Publish, Version, frame};
use Version::{V3, V5};

thread_local! {
    static LOG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Log of this thread, which also runs the test's broker. All threads share one subscriber: with a subscriber per
/// thread, lines would be lost that another thread reaches first.
struct Log;

impl Log {
    fn start() {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::DEBUG)
                .with_writer(|| Self)
                .init();
        });
        LOG.set(Some(String::new()));
    }

    fn text() -> String {
        LOG.with_borrow(|log| log.clone().unwrap_or_default())
    }

    fn count(what: &str) -> usize {
        Self::text().lines().filter(|line| line.contains(what)).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                log.push_str(std::str::from_utf8(bytes).expect("whole lines of UTF-8"));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Causes every kind of line that contains a client's text, for each of these ids and users.
#[tokio::test]
async fn client_texts_are_escaped_and_truncated() {
    Log::start();
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.answer_bytes = 1;
        c.limits.log_lines_per_s = 1_000;
        c.limits.packet_grace = std::time::Duration::from_millis(10);
    })
    .await;
    let closed = Own::start(|c| {
        c.anonymous = false;
        c.users = vec![crate::support::user("ada", "right")];
    })
    .await;
    let forged = "x\n2026-01-01T00:00:00Z INFO rantai_broker: forged";
    let mut lines = 0;
    for nasty in [forged, "\u{1b}[2J\u{9b}31m", &"long".repeat(16_000), "x user=root", "\u{202e}\u{2028}\r\t"]
    {
        // A connection, and a full queue that has room again later.
        let absent = Connect::new(V5).id(nasty).user(nasty).persistent();
        let mut client = own.connect(absent.clone()).await;
        client.subscribe("t", 1).await;
        client.disconnect().await;
        let mut publisher = own.client(V5).await;
        for _ in 0..2 {
            publisher.publish(Publish::new("t", "x").qos(1)).await;
        }
        let mut client = own.connect(absent.resume()).await;
        client.message().await;
        // Ended because of an invalid packet, and because of a missing one.
        client.send(&[0xFF, 0xFF]).await;
        client.assert_refused(&[0x81]).await;
        let mut slow = own.connect(Connect::new(V5).id(nasty).user(nasty)).await;
        slow.send(&[0x30, 0x7F, 0]).await;
        slow.assert_refused(&[0x8D]).await;
        // Refused because of wrong passwords until they are delayed, because of its will, and because of its version.
        for attempt in 0..6 {
            let password = format!("{attempt}{nasty}");
            let connect = Connect::new(V3).id(nasty).user(nasty).password(&password);
            assert_eq!(closed.try_connect(connect).await.1, 4);
        }
        assert_eq!(closed.try_connect(Connect::new(V5).id(nasty)).await.1, 0x87);
        let mut unknown = own.open(V3).await;
        unknown.send(&frame(0x10, &[&b"\0\x04MQTT\x02\x02\0\0"[..], &[0xFF; 9]].concat())).await;
        unknown.next().await;
        lines += 1;
    }
    let text = Log::text();
    for (what, count) in [
        ("connected client=", 4 * lines),
        ("queue full", lines),
        ("queue has room again", lines),
        ("ended: packet type", 0),
        ("ended: reserved flags", lines),
        ("ended: a packet was not whole in time", lines),
        ("refused: bad user name or password", 6 * lines),
        ("wrong passwords", lines),
        ("refused: only users are let in", lines),
        ("refused: neither MQTT", lines),
    ] {
        assert_eq!(Log::count(what), count, "{what} in\n{text}");
    }
    for line in text.lines() {
        assert!(!line.starts_with("2026-01-01T00:00:00Z INFO"), "{line}");
        assert!(line.contains(" rantai_broker::"), "not a line of the broker's: {line}");
        assert!(line.len() < 1_200, "{} bytes", line.len());
        assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}')), "{line:?}");
        assert!(!line.contains("=x user=root"), "not in quotes: {line}");
    }
}

#[tokio::test]
async fn lines_above_the_rate_limit_are_counted() {
    Log::start();
    let own = Own::start(|c| c.limits.log_lines_per_s = 2).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(own.client(V5).await);
    }
    let left_out = own.broker.counts().log_lines_left_out;
    assert_eq!(Log::count("connected client=") + usize::try_from(left_out).expect("few"), 20);
    assert!(left_out > 0);
    // In the next second, without another event.
    while Log::count("log lines left out kind=\"connected\"") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Cause: an orderly end and subscriptions were logged at no level.
#[tokio::test]
async fn ends_and_subscriptions_are_logged_at_the_level_debug() {
    Log::start();
    let own = Own::start(|_| {}).await;
    let mut client = own.connect(Connect::new(V5).id("client")).await;
    client.subscribe("a/\nb", 1).await;
    client.unsubscribe(&["a/\nb"]).await;
    client.disconnect().await;
    let lost = own.connect(Connect::new(V3).id("lost")).await;
    drop(lost);
    let by_client = |client: &str, by: bool| {
        Log::text().lines().any(|line| {
            line.contains("connection closed")
                && line.contains(&format!("client={client} "))
                && line.ends_with(&format!("by_client={by}"))
        })
    };
    while !(by_client("client", true) && by_client("lost", false)) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for what in ["subscribed client=client filter=\"a/\\nb\"", "unsubscribed client=client filter=\"a/\\nb\""]
    {
        assert!(Log::count(what) > 0, "{what} in\n{}", Log::text());
    }
}

/// Once, one line per session was written.
#[tokio::test]
async fn lines_about_full_queues_are_rate_limited() {
    Log::start();
    let own = Own::start(|c| {
        c.limits.log_lines_per_s = 3;
        c.limits.queue_messages = 1;
    })
    .await;
    let absent = |number: usize| Connect::new(V5).id(&format!("absent-{number}")).persistent();
    for number in 0..20 {
        let mut client = own.connect(absent(number)).await;
        client.subscribe("t", 1).await;
        client.disconnect().await;
    }
    let mut publisher = own.client(V5).await;
    for _ in 0..2 {
        publisher.publish(Publish::new("t", "x").qos(1)).await;
    }
    assert_eq!(own.broker.counts().dropped_queue_full, 20);
    // All in one turn, which may contain the end of a second.
    let full = Log::count("queue full");
    assert!((1..=6).contains(&full), "{full} lines");
    while Log::count("log lines left out kind=\"queues\"") == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Lines about subscriptions above a limit, and about refusals of a full disk: escaped, and once per client.
#[tokio::test]
async fn limits_are_logged_once_with_the_client() {
    Log::start();
    let dir = tempfile::tempdir().expect("a folder");
    let own = Own::start(|c| {
        c.data_dir = Some(dir.path().to_owned());
        c.limits.free_space_bytes = Some(u64::MAX);
        c.limits.subscriptions = 1;
        c.limits.user_properties = 0;
        c.limits.retained = 1;
        c.limits.share_groups_session = 1;
    })
    .await;
    let nasty = "x\n2026-01-01T00:00:00Z INFO rantai_broker: forged";
    let mut client = own.connect(Connect::new(V5).id(nasty)).await;
    for _ in 0..2 {
        client.subscribe_all(&[("a", 0), ("b", 0)], &[]).await;
        client.publish(Publish::new("t", "x").qos(1).property(Property::user("a", "b"))).await;
        assert_eq!(client.publish(Publish::new("t", "x").qos(1).retain()).await, 0x97);
    }
    let text = Log::text();
    for what in ["more subscriptions than allowed", "more than limits.user_properties", "kept on disk"] {
        assert_eq!(Log::count(what), 1, "{what} in\n{text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z INFO")), "{text}");
    assert!(own.broker.counts().refused_store > 0);
}
