//! Members of a shared group that acknowledge nothing, such as a node whose process was stopped. Once, half of all
//! requests were sent to it, and lost to their callers.

use std::time::Duration;

use tokio::time::sleep;

use crate::Own;
use crate::support::{Client, Publish, Version};
use Version::V5;

/// Longer than the time after which a client counts as stalled.
const LATE: Duration = Duration::from_millis(1_200);

/// Publishes `count` messages. Returns those that the first member received and did not acknowledge, while the second
/// one acknowledges its own.
async fn received_by_stalled(
    publisher: &mut Client,
    [first, second]: &mut [Client; 2],
    count: usize,
) -> Vec<Publish> {
    let mut left = Vec::new();
    for number in 0..count {
        assert_eq!(publisher.publish(Publish::new("x", &number.to_string()).qos(1)).await, 0);
        tokio::select! {
            delivery = first.delivery() => left.push(delivery),
            delivery = second.delivery() => second.acknowledge(&delivery).await,
        }
    }
    left
}

#[tokio::test]
async fn a_stalled_member_gets_only_messages_that_no_other_member_can_take() {
    for version in Version::BOTH {
        let own = Own::start(|_| {}).await;
        let mut members = [own.client(version).await, own.client(version).await];
        for member in &mut members {
            member.subscribe("$share/g/x", 1).await;
        }
        let mut publisher = own.client(V5).await;
        let unanswered = received_by_stalled(&mut publisher, &mut members, 4).await;
        assert_eq!(unanswered.len(), 2, "nothing is wrong yet");
        sleep(LATE).await;
        assert_eq!(received_by_stalled(&mut publisher, &mut members, 6).await.len(), 0, "it has stopped");
        // The first member continues.
        for delivery in &unanswered {
            members[0].acknowledge(delivery).await;
        }
        members[0].assert_silent().await;
        assert_eq!(received_by_stalled(&mut publisher, &mut members, 6).await.len(), 3);
        // Without another member, the stalled one still gets messages.
        sleep(LATE).await;
        let [mut first, second] = members;
        second.disconnect().await;
        assert_eq!(publisher.publish(Publish::new("x", "alone").qos(1)).await, 0);
        assert_eq!(first.delivery().await.text(), "alone");
    }
}
