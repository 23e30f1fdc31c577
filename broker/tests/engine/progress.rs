//! Time limits of an unfinished packet: it may be slow, but must not stop.

use std::time::Duration;

use crate::Own;
use crate::support::{Connect, Publish, Version};
use Version::V5;

/// Once, one byte of an unfinished PUBLISH per second kept a client connected forever.
#[tokio::test]
async fn bytes_of_an_unfinished_packet_do_not_keep_a_client_alive() {
    for keep_alive in [0, 1] {
        let own = Own::start(|c| c.limits.packet_grace = Duration::from_secs(2)).await;
        let mut client = own.connect(Connect::new(V5).keep_alive(keep_alive)).await;
        let publish = Publish::new("t", &"x".repeat(1_000)).qos(1).id(1).encode(V5);
        client.send(&publish[..2]).await;
        // Bytes after the end of the connection are discarded.
        for byte in &publish[2..] {
            client.send(&[*byte]).await;
            if own.broker.counts().connected == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.assert_refused(&[0x8D]).await;
        let counts = own.broker.counts();
        assert_eq!((counts.slow_packets, counts.keep_alive_timeouts), (1, 0), "keep-alive {keep_alive}");
    }
}

/// The extension by its bytes, ten seconds at most, is longer than its keep-alive.
#[tokio::test]
async fn a_slow_upload_may_take_longer_than_the_keep_alive() {
    let own = Own::start(|_| {}).await;
    let mut silent = own.connect(Connect::new(V5).keep_alive(2)).await;
    let mut client = own.connect(Connect::new(V5).keep_alive(1)).await;
    let publish = Publish::new("t", &"x".repeat(100_000)).qos(1).id(1).encode(V5);
    client.send(&publish[..50_000]).await;
    silent.assert_refused(&[0x8D]).await;
    client.send(&publish[50_000..]).await;
    assert_eq!(client.puback(1).await, 0x10);
    assert_eq!(own.broker.counts().slow_packets, 0);
}
