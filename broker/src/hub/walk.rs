//! Looks at all sessions, of which there may be a hundred thousand, a part of them at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::sessions::Hub;
use crate::session::Session;

/// Sessions looked at while the list of them is locked: a bound on how long a connection waits that begins or ends.
const AT_ONCE: usize = 256;

impl Hub {
    /// The sessions of which `look` finds something, in the order in which they began.
    pub(crate) fn sessions_where<T>(&self, look: impl Fn(&Session) -> Option<T>) -> Vec<(Arc<Session>, T)> {
        let (mut found, mut last) = (Vec::new(), None);
        while self.look_at_some(&mut last, &look, &mut found) {}
        found
    }

    /// [`sessions_where`](Self::sessions_where), with a turn for the others after each part.
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

    /// Looks at the next sessions behind that with the key `last`, which is set anew; false at their end.
    fn look_at_some<T>(
        &self,
        last: &mut Option<u64>,
        look: impl Fn(&Session) -> Option<T>,
        found: &mut Vec<(Arc<Session>, T)>,
    ) -> bool {
        let sessions = self.sessions.lock();
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut looked_at = 0;
        for (key, session) in sessions.by_key.range((from, Bound::Unbounded)).take(AT_ONCE) {
            *last = Some(*key);
            looked_at += 1;
            found.extend(look(session).map(|what| (session.clone(), what)));
        }
        looked_at == AT_ONCE
    }
}
