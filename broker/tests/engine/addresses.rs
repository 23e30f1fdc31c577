//! Limits per address: one address cannot use up the places of all others.

use rantai_testing::Transport;

use crate::Own;
use crate::support::{Client, Connect, Packet, Version, keep_to_addresses};
use Version::V5;

const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

async fn connect_from(own: &Own, from: [u8; 4]) -> Client {
    let mut client = Client::open_from(from.into(), own.place.clone(), V5).await;
    assert_eq!(client.present(Connect::new(V5)).await.code, 0);
    client
}

#[tokio::test]
async fn connections_are_limited_per_address() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.connections_per_address = 2).await;
    let first = own.client(V5).await;
    let _second = own.client(V5).await;
    if own.place.transport() == Transport::Tcp {
        own.open(V5).await.assert_ended().await;
    } else {
        own.place.open().await.expect_err("it ends before any handshake");
    }
    assert_eq!(own.broker.counts().refused_per_address, 1);
    let _other = connect_from(&own, ELSEWHERE).await;
    first.disconnect().await;
    while own.broker.counts().connected > 2 {
        tokio::task::yield_now().await;
    }
    own.client(V5).await;
}

/// A client that proceeds with its CONNECT is admitted, regardless of the number of unfinished handshakes from its
/// address.
#[tokio::test]
async fn the_oldest_handshake_is_evicted() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.handshakes_per_address = 2).await;
    let _connected = [own.client(V5).await, own.client(V5).await, own.client(V5).await];
    let [mut first, mut second] = [own.open(V5).await, own.open(V5).await];
    // An incomplete packet is not a CONNECT either.
    first.send(&[0x10, 40, 0, 4, b'M']).await;
    let _third = own.open(V5).await;
    first.assert_ended().await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    let _elsewhere = connect_from(&own, ELSEWHERE).await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    assert_eq!(second.present(Connect::new(V5)).await.code, 0);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(own.open(V5).await);
        own.client(V5).await;
    }
}

/// Many addresses with a single socket each: the oldest handshakes are evicted, and new clients are admitted.
#[tokio::test]
async fn handshakes_from_many_addresses_do_not_block_new_clients() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.handshakes = 20).await;
    let mut silent = Vec::new();
    let mut honest = Vec::new();
    for number in 1..=100 {
        let from = [127, 0, 1, number].into();
        silent.push(Client::open_from(from, own.place.clone(), V5).await);
        if number % 10 == 0 {
            honest.push(connect_from(&own, ELSEWHERE).await);
        }
    }
    while own.broker.counts().refused_handshakes < 80 {
        tokio::task::yield_now().await;
    }
    assert_eq!(own.broker.counts().refused_per_address, 0);
    for mut oldest in silent.drain(..70) {
        oldest.assert_ended().await;
    }
    for client in &mut honest {
        client.assert_silent().await;
    }
}

/// An address with many handshakes loses one before an address with few does.
#[tokio::test]
async fn an_address_with_many_handshakes_loses_one_first() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.handshakes = 20).await;
    let address = own.place.clone();
    let mut slow = Client::open_from(ELSEWHERE.into(), address, V5).await;
    slow.send(&[0x10]).await;
    let mut storm = Vec::new();
    for _ in 0..60 {
        storm.push(own.open(V5).await);
    }
    while own.broker.counts().refused_handshakes < 41 {
        tokio::task::yield_now().await;
    }
    storm.remove(0).assert_ended().await;
    let rest = &Connect::new(V5).encode()[1..];
    slow.send(rest).await;
    assert!(matches!(slow.next().await, Packet::Connack(connack) if connack.code == 0));
}

/// Once, each could hold 320 kB of an unfinished CONNECT.
#[tokio::test]
async fn long_unfinished_connects_count_by_their_bytes() {
    let _tcp = keep_to_addresses();
    let own = Own::start(|c| c.limits.handshakes = 100).await;
    let address = own.place.clone();
    let mut unfinished = vec![0x10, 0x80, 0x80, 0x10];
    unfinished.extend([0, 4]);
    unfinished.extend(b"MQTT\x05\x06\0\0\0\0\x01x\0");
    unfinished.resize(100_000, 0);
    let mut large = Vec::new();
    for number in 1..=10 {
        let mut client = Client::open_from([127, 0, 2, number].into(), address.clone(), V5).await;
        client.send(&unfinished).await;
        large.push(client);
    }
    while own.broker.counts().refused_handshakes < 6 {
        tokio::task::yield_now().await;
    }
    own.client(V5).await;
}
