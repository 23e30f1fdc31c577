//! Mutual supervision of an object's replicas. A replica that vanished together with its broker, which would have
//! published its will, would stay registered as served until its entry expires.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use rantai_client::wire::entry::{Entry, Mode};
use rantai_client::wire::name::ObjectName;
use tokio::time::{Instant, sleep};

use crate::announcer::Announcer;

/// Interval at which a replica pings the next one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time without an answer after which a replica is declared lost. Not shorter, because a node may be busy for a while,
/// and callers abandon the calls of a lost node.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay between two pings of a replica that has not answered.
const PING_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Supervises the next replica of an object, while this node serves it with the entry `mine`. Does nothing for a name
/// that is served exclusively. Never completes.
pub(crate) async fn look_after(announcer: &Announcer, object: &ObjectName, mine: &Entry) -> Infallible {
    if mine.mode != Mode::Replica {
        return std::future::pending().await;
    }
    // Nodes that were declared lost once, by id and epoch. If one is registered again, it is alive but does not answer
    // pings.
    let mut declared = BTreeSet::new();
    loop {
        sleep(PING_INTERVAL).await;
        while let Some(next) = next(announcer, object, mine, &declared) {
            if !is_silent(announcer, object, &next).await {
                break;
            }
            declared.insert((next.node.clone(), next.epoch.clone()));
            if let Err(error) = announcer.declare_lost(&next).await {
                let (root, node) = (&announcer.root, &next.node);
                tracing::warn!(
                    "{object}: its replica on node {node} does not answer, and its state cannot be set to lost: {error}; if the \
                     node is gone, clear its entry as an admin, by `rantai pub --retain {root}/name/{object}/{node}`"
                );
            }
        }
    }
}

/// Returns the replica whose node id follows that of `mine`, in a ring of all served replicas, so that each is
/// supervised by one other.
fn next(
    announcer: &Announcer,
    object: &ObjectName,
    mine: &Entry,
    declared: &BTreeSet<(String, String)>,
) -> Option<Entry> {
    let others = announcer.replicas(object).into_iter().filter(|other| {
        other.node != mine.node && !declared.contains(&(other.node.clone(), other.epoch.clone()))
    });
    others.min_by_key(|other| (other.node < mine.node, other.node.clone()))
}

/// Returns whether a replica answers no ping for [`SILENCE_TIMEOUT`], while the registry says that it is served.
async fn is_silent(announcer: &Announcer, object: &ObjectName, replica: &Entry) -> bool {
    let began = Instant::now();
    loop {
        if announcer.bus.answers_at_node(replica).await || !announcer.replicas(object).contains(replica) {
            return false;
        }
        if began.elapsed() >= SILENCE_TIMEOUT {
            return true;
        }
        sleep(PING_RETRY_DELAY).await;
    }
}
