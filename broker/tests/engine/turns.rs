//! Expensive publishes yield to other tasks.

use crate::Own;
use crate::support::{Packet, Publish, Version, pingreq, subscribe};
use Version::V5;

/// Number of levels. One client has all filters with `a` or `+` at each level, which all match.
const LEVELS: u32 = 12;
const COUNT: usize = 50;

/// Not even the syntax of all filters of a packet is checked in one turn.
#[tokio::test]
async fn other_clients_are_served_while_many_filters_are_read() {
    let own = Own::start(|c| c.limits.subscriptions = 8).await;
    let (mut greedy, mut honest) = (own.client(V5).await, own.client(V5).await);
    let filters = vec![("x", 0); 200_000];
    greedy.send(&subscribe(V5, 1, &filters)).await;
    let suback = tokio::spawn(async move { greedy.suback(1).await });
    let mut turns = 0;
    while !suback.is_finished() {
        honest.send(&pingreq()).await;
        assert_eq!(honest.next().await, Packet::Pingresp);
        turns += 1;
    }
    assert!(suback.await.unwrap().iter().all(|&code| code == 0));
    assert!(turns > 100, "{turns}");
}

#[tokio::test]
async fn other_publishers_are_served_between_publishes_with_many_filters() {
    let own = Own::start(|_| {}).await;
    let mut reader = own.client(V5).await;
    let filters: Vec<String> = (0..1_u32 << LEVELS)
        .map(|bits| {
            (0..LEVELS).map(|level| if bits >> level & 1 == 0 { "a" } else { "+" }).collect::<Vec<_>>()
        })
        .map(|levels| levels.join("/"))
        .collect();
    for some in filters.chunks(512) {
        let some: Vec<(&str, u8)> = some.iter().map(|filter| (&**filter, 0)).collect();
        assert!(reader.subscribe_all(&some, &[]).await.iter().all(|&code| code == 0));
    }
    let mut watcher = own.client(V5).await;
    watcher.subscribe("#", 0).await;
    let (mut greedy, mut honest) = (own.client(V5).await, own.client(V5).await);
    let topic = vec!["a"; LEVELS as usize].join("/");
    // All packets are read at once.
    greedy.send(&Publish::new(&topic, "greedy").encode(V5).repeat(COUNT)).await;
    honest.send(&Publish::new("b", "honest").encode(V5)).await;
    let mut before = 0;
    while watcher.message().await.text() == "greedy" {
        before += 1;
    }
    assert!(before < COUNT / 2, "{before} came before it");
}

/// More messages than one turn handles.
#[tokio::test]
async fn all_messages_of_a_leaving_member_are_passed_on_in_order() {
    let own = Own::start(|_| {}).await;
    let (mut leaves, mut publisher) = (own.client(V5).await, own.client(V5).await);
    leaves.subscribe("$share/group/x", 1).await;
    for number in 0..1_000 {
        assert_eq!(publisher.publish(Publish::new("x", &number.to_string()).qos(1)).await, 0);
    }
    let mut stays = own.client(V5).await;
    stays.subscribe("$share/group/x", 1).await;
    leaves.cut().await;
    for number in 0..1_000 {
        assert_eq!(stays.message().await.text(), number.to_string());
    }
}
