//! Members of a shared group that acknowledge nothing, as a node whose process was stopped: half of all requests went to
//! it, and were lost to their callers.

use std::time::Duration;

use tokio::time::sleep;

use crate::Own;
use crate::support::{Client, Publish, Version};
use Version::V5;

/// Longer than a client may take for an acknowledgement.
const LATE: Duration = Duration::from_millis(1_200);

/// Publishes so many messages, and returns what the first member has got of them, unacknowledged, while the second one
/// takes its own.
async fn left(publisher: &mut Client, [first, second]: &mut [Client; 2], count: usize) -> Vec<Publish> {
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
async fn a_member_that_acknowledges_nothing_for_a_second_gets_only_what_no_other_can_take() {
    for version in Version::BOTH {
        let own = Own::start(|_| {}).await;
        let mut members = [own.client(version).await, own.client(version).await];
        for member in &mut members {
            member.subscribe("$share/g/x", 1).await;
        }
        let mut publisher = own.client(V5).await;
        let unanswered = left(&mut publisher, &mut members, 4).await;
        assert_eq!(unanswered.len(), 2, "nothing is wrong yet");
        sleep(LATE).await;
        assert_eq!(left(&mut publisher, &mut members, 6).await.len(), 0, "it has stopped");
        // It goes on.
        for delivery in &unanswered {
            members[0].acknowledge(delivery).await;
        }
        members[0].assert_silent().await;
        assert_eq!(left(&mut publisher, &mut members, 6).await.len(), 3);
        // Nobody else is there: better late than not at all.
        sleep(LATE).await;
        let [mut first, second] = members;
        second.disconnect().await;
        assert_eq!(publisher.publish(Publish::new("x", "alone").qos(1)).await, 0);
        assert_eq!(first.delivery().await.text(), "alone");
    }
}
