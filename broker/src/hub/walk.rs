//! Iteration over all sessions in parts, as there may be a hundred thousand.

use std::ops::Bound;
use std::sync::Arc;

use super::sessions::Hub;
use crate::session::Session;

/// Number of sessions visited per lock of the session list, which bounds how long the begin or end of a connection
/// waits.
const SESSIONS_PER_LOCK: usize = 256;

impl Hub {
    /// Returns the sessions for which `look` returns a value, with that value, in the order in which they began.
    pub(crate) fn sessions_where<T>(&self, look: impl Fn(&Session) -> Option<T>) -> Vec<(Arc<Session>, T)> {
        let (mut found, mut last) = (Vec::new(), None);
        while self.look_at_some(&mut last, &look, &mut found) {}
        found
    }

    /// Same as [`sessions_where`](Self::sessions_where), but yields after each part.
    pub(crate) async fn sessions_in_turns<T>(
        &self,
        look: impl Fn(&Session) -> Option<T>,
    ) -> Vec<(Arc<Session>, T)> {
        let (mut found, mut last) = (Vec::new(), None);
        while self.look_at_some(&mut last, &look, &mut found) {
            tokio::task::yield_now().await;
        }
        found
    }

    /// Visits the next part of the sessions after the key `last`, and updates `last`. Returns false at the end of the
    /// list.
    pub(crate) fn look_at_some<T>(
        &self,
        last: &mut Option<u64>,
        look: impl Fn(&Session) -> Option<T>,
        found: &mut Vec<(Arc<Session>, T)>,
    ) -> bool {
        let sessions = self.sessions.lock();
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut looked_at = 0;
        for (key, session) in sessions.by_key.range((from, Bound::Unbounded)).take(SESSIONS_PER_LOCK) {
            *last = Some(*key);
            looked_at += 1;
            found.extend(look(session).map(|what| (session.clone(), what)));
        }
        looked_at == SESSIONS_PER_LOCK
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::random::Random;
    use crate::shared::BrokerState;

    pub(crate) fn hub(sessions: usize) -> Arc<Hub> {
        let hub = Hub::new(BrokerState::new(Config::default(), None, Clock::system(), Random::System), 1);
        for _ in 0..sessions {
            let key = hub.new_key();
            hub.sessions.lock().by_key.insert(key, Session::new(key, format!("{key}").into()));
        }
        hub
    }

    /// Once, the list was locked until all sessions were visited, and no client could connect meanwhile.
    #[tokio::test]
    async fn the_session_list_is_unlocked_and_other_tasks_run_between_two_parts() {
        let hub = hub(4 * SESSIONS_PER_LOCK + 1);
        let mut walk = pin!(hub.sessions_in_turns(|session| (session.key % 2 == 0).then_some(session.key)));
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        let found = loop {
            match walk.as_mut().poll(&mut context) {
                Poll::Ready(found) => break found,
                Poll::Pending => {
                    turns += 1;
                    assert!(hub.sessions.try_lock().is_some());
                    // While the task yields, the first sessions end and new ones begin.
                    let key = hub.new_key();
                    let mut sessions = hub.sessions.lock();
                    sessions.by_key.pop_first();
                    sessions.by_key.insert(key, Session::new(key, format!("{key}").into()));
                }
            }
        };
        assert_eq!(turns, 4);
        let keys: Vec<u64> = found.iter().map(|(_, key)| *key).collect();
        let last = 4 * SESSIONS_PER_LOCK as u64 + 1 + turns;
        assert_eq!(keys, (1..=last).filter(|key| key % 2 == 0).collect::<Vec<_>>());
    }
}
