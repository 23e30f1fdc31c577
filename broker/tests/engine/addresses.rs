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

#[tokio::test]
async fn sockets_without_a_connect_take_their_address_no_more_than_so_many_places() {
    let own = Own::start(|c| c.limits.handshakes_per_address = 2).await;
    let connected = [own.client(V5).await, own.client(V5).await, own.client(V5).await];
    let mut half = [own.open(V5).await, own.open(V5).await];
    own.open(V5).await.assert_ended().await;
    assert_eq!(own.broker.counts().refused_per_address, 1);
    let _other = let_in_from(&own, ELSEWHERE).await;
    // One that goes on makes room, and so does one that goes.
    assert_eq!(half[0].present(Connect::new(V5)).await.code, 0);
    own.client(V5).await;
    let [_, gone] = half;
    gone.cut().await;
    own.client(V5).await;
    drop(connected);
}
