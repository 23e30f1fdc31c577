//! Recently forwarded requests. The node that received one publishes `accepted` only after a while, and may be lost
//! before.

use std::collections::VecDeque;
use std::time::Duration;

use rantai_client::wire::name::ObjectName;
use tokio::time::Instant;

use super::replies::Follower;

/// Time after which the next link has published `accepted` itself.
const RECENT: Duration = Duration::from_secs(1);
/// Maximum number of requests that are remembered; older ones are forgotten.
const MAX_RECENT: usize = 4_096;

/// Forwarded request.
#[derive(Clone, Debug)]
pub(super) struct RecentForward {
    pub(super) at: Instant,
    /// Object that has forwarded it.
    pub(super) object: ObjectName,
    pub(super) to: ObjectName,
    pub(super) caller: Follower,
    /// Number of links before that object.
    pub(super) trail: usize,
}

/// Requests forwarded within [`RECENT`], oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentForwards(VecDeque<RecentForward>);

impl RecentForwards {
    pub(super) fn note(&mut self, forward: RecentForward) {
        let now = forward.at;
        while self.0.front().is_some_and(|oldest| oldest.at + RECENT < now) || self.0.len() >= MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back(forward);
    }

    /// Returns the requests forwarded to an object, oldest first.
    pub(super) fn to(&mut self, object: &ObjectName) -> Vec<RecentForward> {
        let now = Instant::now();
        self.0.retain(|forward| forward.at + RECENT >= now);
        self.0.iter().filter(|forward| forward.to == *object).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rantai_client::wire::name::ClientId;

    use super::*;

    fn forward(to: &str) -> RecentForward {
        let caller = Follower { client: ClientId::new("me").expect("an id"), correlation: Bytes::new() };
        let name = |name| ObjectName::new(name).expect("a name");
        RecentForward { at: Instant::now(), object: name("here"), to: name(to), caller, trail: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn forwards_are_remembered_for_a_second_and_bounded() {
        let mut recent = RecentForwards::default();
        recent.note(forward("next"));
        tokio::time::advance(Duration::from_millis(600)).await;
        recent.note(forward("next"));
        recent.note(forward("other"));
        let next = ObjectName::new("next").expect("a name");
        assert_eq!(recent.to(&next).len(), 2);
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(recent.to(&next).len(), 1);
        for _ in 0..2 * MAX_RECENT {
            recent.note(forward("next"));
        }
        assert_eq!(recent.to(&next).len(), MAX_RECENT);
    }
}
