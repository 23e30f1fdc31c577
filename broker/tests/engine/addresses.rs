//! Connections by address: one address cannot take the places of all others.

use crate::Own;
use crate::support::{Client, Connect, Version};
use Version::V5;

const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

async fn let_in_from(own: &Own, from: [u8; 4]) -> Client {
    let mut client = Client::open_from(from.into(), own.broker.addresses()[0], V5).await;
    assert_eq!(client.present(Connect::new(V5)).await.code, 0);
    client
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_have_theirs() {
    let own = Own::start(|c| c.limits.connections_per_address = 2).await;
    let first = own.client(V5).await;
    let _second = own.client(V5).await;
    own.open(V5).await.assert_ended().await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    let _other = let_in_from(&own, ELSEWHERE).await;
    first.disconnect().await;
    while own.broker.counts().connected > 2 {
        tokio::task::yield_now().await;
    }
    own.client(V5).await;
}

/// Whoever goes on with its CONNECT gets in, however many sockets of the same address do not.
#[tokio::test]
async fn the_oldest_socket_without_a_connect_makes_room() {
    let own = Own::start(|c| c.limits.handshakes_per_address = 2).await;
    let _connected = [own.client(V5).await, own.client(V5).await, own.client(V5).await];
    let [mut first, mut second] = [own.open(V5).await, own.open(V5).await];
    // It has a packet begun, which is no CONNECT either.
    first.send(&[0x10, 40, 0, 4, b'M']).await;
    let _third = own.open(V5).await;
    first.assert_ended().await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    let _elsewhere = let_in_from(&own, ELSEWHERE).await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    assert_eq!(second.present(Connect::new(V5)).await.code, 0);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(own.open(V5).await);
        own.client(V5).await;
    }
}
