//! The engine on several threads: all guarantees hold as on one thread.

use std::collections::HashMap;

use crate::Own;
use crate::support::{Connect, Publish, Version};
use Version::V5;

const PUBLISHERS: usize = 6;
const MESSAGES: usize = 150;

async fn publish(own: &Own, name: usize) {
    let mut client = own.client(V5).await;
    for number in 0..MESSAGES {
        let qos = 1 + (number % 2) as u8;
        let topic = format!("load/{name}/{qos}");
        let code = client.publish(Publish::new(&topic, &number.to_string()).qos(qos)).await;
        assert_eq!(code, 0, "taken");
    }
}

/// Reads all messages, while its connection is cut repeatedly.
async fn read(own: &Own, id: String) -> HashMap<String, Vec<usize>> {
    let connect = Connect::new(V5).id(&id).persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe("load/#", 2).await;
    let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
    let mut count = 0;
    while count < PUBLISHERS * MESSAGES {
        if count % 97 == 96 {
            // Cut with messages in transit: unacknowledged ones are retransmitted.
            client.cut().await;
            client = own.connect(connect.clone().resume()).await;
        }
        let got = client.message().await;
        seen.entry(got.topic.clone()).or_default().push(got.text().parse().unwrap());
        count += 1;
    }
    seen
}

async fn run(own: Own) {
    let own = std::sync::Arc::new(own);
    let mut readers = Vec::new();
    for number in 0..4 {
        let own = own.clone();
        // Subscribed before anything is published.
        let ready = Connect::new(V5).id(&format!("reader-{number}")).persistent();
        let mut client = own.connect(ready).await;
        client.subscribe("load/#", 2).await;
        client.disconnect().await;
        readers.push(tokio::spawn(async move { read(&own, format!("reader-{number}")).await }));
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|name| {
            let own = own.clone();
            tokio::spawn(async move { publish(&own, name).await })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("published all");
    }
    for reader in readers {
        let seen = reader.await.expect("read all");
        assert_eq!(seen.len(), 2 * PUBLISHERS);
        for (topic, numbers) in seen {
            let first = usize::from(topic.ends_with('2'));
            let expected: Vec<usize> = (first..MESSAGES).step_by(2).collect();
            assert_eq!(numbers, expected, "{topic}: each once and in order");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_once_and_in_order_in_memory() {
    run(Own::start(|_| {}).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_once_and_in_order_with_a_store() {
    let dir = tempfile::tempdir().unwrap();
    run(Own::start(|c| c.data_dir = Some(dir.path().to_owned())).await).await;
}

#[tokio::test]
async fn every_message_once_and_in_order_on_threads_of_the_broker() {
    run(Own::start(|c| c.threads = 3).await).await;
}

#[tokio::test]
async fn every_message_once_and_in_order_on_threads_of_the_broker_with_a_store() {
    let dir = tempfile::tempdir().unwrap();
    run(Own::start(|c| (c.threads, c.data_dir) = (3, Some(dir.path().to_owned()))).await).await;
}
