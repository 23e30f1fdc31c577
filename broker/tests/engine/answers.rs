//! A client that does not read its answers is not read either, and is disconnected after a time limit.

use std::time::Duration;

use rantai_testing::Transport;

use crate::Own;
use crate::support::{Client, Connect, Packet, Publish, Version, ack, keep_to_tcp, lapse};
use Version::V5;

/// Number of PUBRELs. Each is answered with 36 bytes, including a reason string: 14 MB in total, of which TCP buffers
/// less than five.
const RELEASES: usize = 400_000;

/// Once, 40 MB of such PUBRELs made the broker grow by 340 MB.
#[tokio::test]
async fn a_client_is_not_read_until_it_reads_its_answers_and_others_are() {
    // The client sends everything before it reads anything.
    let is_small = Transport::chosen() == Transport::Unix;
    let _tcp = is_small.then(|| keep_to_tcp("a unix socket holds less than it sends"));
    let own = Own::start(|_| {}).await;
    let releases = ack(6, V5, 7, 0).repeat(RELEASES);
    // The keep-alive of the first client passes while it is not read; the other client reads every answer, slowly.
    let (mut silent, mut greedy) = (greedy(&own, 1, &releases).await, greedy(&own, 0, &releases).await);
    while own.broker.counts().unread_answers < 2 {
        tokio::task::yield_now().await;
    }
    let read = own.broker.counts().bytes_received;
    assert!(read < releases.len() as u64, "{read} bytes were read");
    let mut honest = own.client(V5).await;
    honest.subscribe("t", 1).await;
    honest.publish(Publish::new("t", "x").qos(1)).await;
    assert_eq!(honest.message().await.text(), "x");
    lapse(Duration::from_secs(3)).await;
    assert_eq!(
        own.broker.counts().keep_alive_timeouts,
        0,
        "silence does not count while a client is not read"
    );
    assert!(matches!(silent.next().await, Packet::Pubcomp(_)));
    for _ in 0..RELEASES {
        match greedy.next().await {
            Packet::Pubcomp(pubcomp) => assert_eq!((pubcomp.id, pubcomp.code), (7, 0x92)),
            other => panic!("{other:?}"),
        }
    }
}

/// Returns a client that has sent `bytes` and reads nothing.
async fn greedy(own: &Own, keep_alive: u16, bytes: &[u8]) -> Client {
    let mut client = Client::open_narrow(own.place.clone(), V5).await;
    client.present(Connect::new(V5).keep_alive(keep_alive)).await;
    client.send(bytes).await;
    client
}

/// Once, such a client was kept forever, because its silence does not count while it is not read.
#[tokio::test]
async fn a_client_that_does_not_read_its_answers_for_too_long_is_disconnected() {
    let own = Own::start(|c| c.limits.slow_reader = Duration::from_millis(100)).await;
    let mut greedy = Client::open_narrow(own.place.clone(), V5).await;
    greedy.present(Connect::new(V5).keep_alive(0)).await;
    greedy.send(&ack(6, V5, 7, 0).repeat(RELEASES)).await;
    while own.broker.counts().disconnected_slow == 0 {
        tokio::task::yield_now().await;
    }
    let mut answers = 0;
    while let Some(packet) = greedy.next_or_end_cut().await {
        match packet {
            Packet::Pubcomp(_) => answers += 1,
            Packet::Disconnect { code, .. } => assert_eq!(code, 0x97),
            other => panic!("{other:?}"),
        }
    }
    assert!(answers < RELEASES, "it was read to its end");
    while own.broker.counts().connected > 0 {
        tokio::task::yield_now().await;
    }
}
