//! A client with Nagle's algorithm on sends a small packet only after TCP has acknowledged the previous one. If MQTT
//! has no answer to that packet, the kernel delayed the acknowledgement by 40 ms, in every call of paho, mqtt.js and
//! libmosquitto.

use std::time::{Duration, Instant};

use crate::Own;
use crate::support::Version::V5;
use crate::support::{Client, Publish};

const ROUNDS: usize = 40;
/// Number of first rounds in which the kernel acknowledges at once because the connection is new.
const WARM_UP_ROUNDS: usize = 20;
/// Half of the delay; a round without it takes less than a millisecond.
const HALF_DELAY: Duration = Duration::from_millis(20);

/// Returns a client with the defaults of most libraries, subscribed to `calls` and `events`.
async fn stock_client(own: &Own, qos: u8) -> Client {
    let mut client = own.client(V5).await;
    client.leave_nagle_on();
    client.subscribe("calls", qos).await;
    client.subscribe("events", qos).await;
    client
}

async fn call(client: &mut Client, qos: u8) {
    assert_eq!(client.publish(Publish::new("calls", "x").qos(qos)).await, 0);
    assert_eq!(client.message().await.topic, "calls");
}

/// Asserts that most rounds are fast: the delay affects nearly every round, a busy machine only some.
fn assert_not_delayed(taken: &[Duration]) {
    let mut counted = taken[WARM_UP_ROUNDS..].to_vec();
    counted.sort_unstable();
    assert!(counted[counted.len() / 4] < HALF_DELAY, "{taken:?}");
}

#[tokio::test]
async fn a_request_after_the_last_acknowledgement_is_not_delayed() {
    let own = Own::start(|_| {}).await;
    for qos in [1, 2] {
        let mut client = stock_client(&own, qos).await;
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            call(&mut client, qos).await;
            taken.push(began.elapsed());
        }
        assert_not_delayed(&taken);
    }
}

#[tokio::test]
async fn a_request_after_a_burst_of_messages_is_not_delayed() {
    let own = Own::start(|_| {}).await;
    let mut client = stock_client(&own, 1).await;
    let mut publisher = own.client(V5).await;
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..50 {
            publisher.publish(Publish::new("events", "x").qos(1)).await;
        }
        for _ in 0..50 {
            assert_eq!(client.message().await.topic, "events");
        }
        let began = Instant::now();
        call(&mut client, 1).await;
        taken.push(began.elapsed());
    }
    assert_not_delayed(&taken);
}

#[tokio::test]
async fn a_request_in_two_writes_is_not_delayed() {
    let own = Own::start(|_| {}).await;
    let mut client = stock_client(&own, 0).await;
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let bytes = Publish::new("calls", "x").encode(V5);
        let began = Instant::now();
        client.send(&bytes[..2]).await;
        client.send(&bytes[2..]).await;
        assert_eq!(client.message().await.topic, "calls");
        taken.push(began.elapsed());
    }
    assert_not_delayed(&taken);
}
