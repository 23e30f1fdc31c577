//! Detects a second node with the same client id. A broker closes the connection of each when the other connects, and not
//! every broker sends the reason.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Number of closed connections that shows that another node has the same id, to the node with the higher epoch: it ends.
const CLOSED_TO_DETECT: usize = 3;
/// Time after which the node with the lower epoch ends, too, if connections are still closed: the other one follows another
/// rule.
const PATIENCE: Duration = Duration::from_mins(3);
/// Time within which these connections must have been closed.
const WITHIN: Duration = Duration::from_mins(1);

/// Closed connections that were followed by a state that another start published.
#[derive(Debug, Default)]
pub(crate) struct Doubles {
    seen: Mutex<SeenConnections>,
    found: Notify,
}

#[derive(Debug, Default)]
struct SeenConnections {
    /// Time at which the last connection was closed; `None` once another start's state has followed.
    closed: Option<Instant>,
    /// Latest closed connections that were followed by another start's state, and whether its epoch was higher.
    followed: Vec<(Instant, bool)>,
    /// Since when these show that another node has the same id.
    since: Option<Instant>,
}

impl Doubles {
    /// Records that a connection has ended.
    pub(crate) fn closed(&self) {
        self.seen.lock().closed = Some(Instant::now());
    }

    /// Records that the node's own topic holds the state of another start, whose epoch is higher or lower. Ignored unless a
    /// connection was closed before: an earlier start leaves such a state behind, and any client may publish one.
    pub(crate) fn other_start(&self, is_higher: bool) {
        let mut seen = self.seen.lock();
        let Some(closed) = seen.closed.take() else { return };
        seen.followed.retain(|(earlier, _)| closed.duration_since(*earlier) < WITHIN);
        seen.followed.push((closed, is_higher));
        if seen.followed.len() < CLOSED_TO_DETECT {
            seen.since = None;
            return;
        }
        // By one rule for both nodes, both would end.
        let since = *seen.since.get_or_insert(closed);
        let by_lower = seen.followed.iter().filter(|(_, is_higher)| !is_higher).count();
        if by_lower >= CLOSED_TO_DETECT || closed.duration_since(since) >= PATIENCE {
            self.found.notify_one();
        }
    }

    /// Waits until another node with the same id is detected.
    pub(crate) async fn found(&self) {
        self.found.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    async fn is_found(doubles: &Doubles) -> bool {
        timeout(Duration::ZERO, doubles.found()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn three_closed_connections_in_a_minute_reveal_another_node() {
        let doubles = Doubles::default();
        for time in [0, 29, 30] {
            assert!(!is_found(&doubles).await);
            advance(Duration::from_secs(time)).await;
            doubles.closed();
            doubles.other_start(false);
        }
        assert!(is_found(&doubles).await);
    }

    /// Both nodes ended: each had seen that the other one has its id.
    #[tokio::test(start_paused = true)]
    async fn node_with_the_lower_epoch_stays_unless_the_other_one_does_not_end() {
        let (lower, higher) = (Doubles::default(), Doubles::default());
        for round in 1..=CLOSED_TO_DETECT {
            lower.closed();
            lower.other_start(true);
            higher.closed();
            higher.other_start(false);
            assert!(!is_found(&lower).await);
            assert_eq!(is_found(&higher).await, round == CLOSED_TO_DETECT);
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            assert!(!is_found(&lower).await);
            advance(Duration::from_secs(10)).await;
            lower.closed();
            lower.other_start(true);
        }
        assert!(is_found(&lower).await);
    }

    #[tokio::test(start_paused = true)]
    async fn states_of_other_starts_alone_reveal_no_other_node() {
        let doubles = Doubles::default();
        doubles.closed();
        (0..10).for_each(|_| doubles.other_start(false));
        (0..10).for_each(|_| doubles.closed());
        assert!(!is_found(&doubles).await);
    }

    #[tokio::test(start_paused = true)]
    async fn closed_connections_over_more_than_a_minute_reveal_no_other_node() {
        let doubles = Doubles::default();
        for _ in 0..10 {
            doubles.closed();
            doubles.other_start(false);
            advance(Duration::from_secs(31)).await;
        }
        assert!(!is_found(&doubles).await);
    }
}
