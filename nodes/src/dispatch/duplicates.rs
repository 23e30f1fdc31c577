//! Detection of duplicate requests, by their identity.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use hashbrown::HashMap;
use rantai_client::wire::name::MethodName;
use rantai_client::wire::reply::Reply;
use rantai_client::wire::request::Identity;
use tokio::time::Instant;

/// Maximum number of remembered requests.
const MAX_REMEMBERED: usize = 16_384;
/// Maximum size of the kept replies together, in bytes.
const MAX_KEPT_BYTES: usize = 8 << 20;
/// Maximum size of a kept reply, in bytes.
const MAX_REPLY_BYTES: usize = 4 << 10;
/// Minimum length of payloads that are hashed by a digest first, in bytes.
const DIGEST_FROM_BYTES: usize = 1 << 10;
/// Minimum time for which requests are remembered, if there is room.
const MIN_REMEMBERED_TIME: Duration = Duration::from_mins(1);

/// Table of one object's recent requests.
///
/// Keys are 128 bits of a keyed hash, so that a request costs no copy of its topic, and nobody can create a collision
/// on purpose.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    hashers: [RandomState; 2],
    calls: HashMap<u128, Remembered>,
    /// Keys of finished requests, oldest first, with their insertion numbers.
    finished: VecDeque<(u128, u64)>,
    entered: u64,
    kept: usize,
}

#[derive(Debug)]
struct Remembered {
    print: u64,
    until: Instant,
    number: u64,
    state: RequestState,
}

#[derive(Debug)]
enum RequestState {
    Running,
    /// Finished, with its reply if that was small enough.
    Finished(Option<Reply>),
}

/// Result of looking a request up.
#[derive(Debug, PartialEq)]
pub(super) enum Met {
    New,
    Running,
    Finished(Reply),
    /// A duplicate of a finished request whose reply is not kept.
    Forgotten,
    /// A request with the same identity, but another method or other parameters.
    Other,
}

impl Duplicates {
    /// Computes the key of an identity, and a hash of the request's method and parameters.
    pub(super) fn fingerprint(
        &self,
        Identity { reply_to, id, hops }: &Identity<'_>,
        method: &MethodName,
        payload: &[u8],
    ) -> (u128, u64) {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(reply_to.as_str().as_bytes());
            hasher.write_u8(0xFF);
            hasher.write(id);
            hasher.write_usize(*hops);
            hasher.finish()
        };
        let key = u128::from(half(&self.hashers[0])) << 64 | u128::from(half(&self.hashers[1]));
        let mut hasher = self.hashers[0].build_hasher();
        hasher.write(method.as_str().as_bytes());
        hasher.write_u8(0xFF);
        if payload.len() > DIGEST_FROM_BYTES {
            // BLAKE3 is many times faster for long payloads.
            hasher.write(blake3::hash(payload).as_bytes());
        } else {
            hasher.write(payload);
        }
        (key, hasher.finish())
    }

    /// Looks a request up, and adds it if it is new: it must then be finished by [`finish`](Self::finish).
    pub(super) fn meet(&mut self, key: u128, print: u64, deadline: Instant, now: Instant) -> Met {
        self.make_room(now);
        if let Some(known) = self.calls.get(&key) {
            return match &known.state {
                _ if known.print != print => Met::Other,
                RequestState::Running => Met::Running,
                RequestState::Finished(Some(reply)) => Met::Finished(reply.clone()),
                RequestState::Finished(None) => Met::Forgotten,
            };
        }
        self.entered += 1;
        let until = deadline.max(now + MIN_REMEMBERED_TIME);
        self.calls
            .insert(key, Remembered { print, until, number: self.entered, state: RequestState::Running });
        Met::New
    }

    /// Removes a new request that was not started after all.
    pub(super) fn withdraw(&mut self, key: u128) {
        self.calls.remove(&key);
    }

    /// Marks a request as finished; `reply` is `None` if none was sent.
    pub(super) fn finish(&mut self, key: u128, reply: Option<&Reply>) {
        let Some(known) = self.calls.get_mut(&key) else { return };
        let small = reply.filter(|r| r.payload.len() <= MAX_REPLY_BYTES);
        self.kept += small.map_or(0, |r| r.payload.len());
        known.state = RequestState::Finished(small.cloned());
        self.finished.push_back((key, known.number));
    }

    #[cfg(test)]
    pub(super) fn has_running(&self) -> bool {
        self.calls.values().any(|known| matches!(known.state, RequestState::Running))
    }

    /// Removes old requests, and the oldest finished ones if there are too many.
    fn make_room(&mut self, now: Instant) {
        while let Some((key, number)) = self.finished.front().copied() {
            let gone = match self.calls.get(&key) {
                Some(known) if known.number == number => {
                    let crowded = self.calls.len() >= MAX_REMEMBERED || self.kept > MAX_KEPT_BYTES;
                    if !crowded && known.until > now {
                        return;
                    }
                    self.calls.remove(&key)
                }
                _ => None,
            };
            if let Some(Remembered { state: RequestState::Finished(Some(reply)), .. }) = gone {
                self.kept -= reply.payload.len();
            }
            self.finished.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::wire::name::{ObjectName, Root};
    use rantai_client::wire::reply::Outcome;
    use rantai_client::wire::request::Form;
    use rantai_client::wire::topic::ReplyTopic;
    use serde_json::json;

    fn reply(size: usize) -> Reply {
        let node = "node".into();
        let reply = Reply::write(Outcome::Value(json!(null)), &Form::Plain, None, &node, 4);
        Reply { payload: vec![7; size].into(), ..reply }
    }

    fn add() -> MethodName {
        MethodName::new("add").expect("a name")
    }

    #[test]
    fn duplicate_of_a_running_or_finished_request_is_recognized() {
        let (mut table, now) = (Duplicates::default(), Instant::now());
        let object = ObjectName::new("x").expect("a name");
        let reply_to = ReplyTopic::to(&Root::default(), &object, &"y".parse().expect("an id"));
        let identity = Identity { reply_to: &reply_to, id: &[1; 16], hops: 0 };
        let (key, print) = table.fingerprint(&identity, &add(), b"[1]");
        assert_eq!(table.meet(key, print, now, now), Met::New);
        assert_eq!(table.meet(key, print, now, now), Met::Running);
        table.finish(key, Some(&reply(5)));
        assert_eq!(table.meet(key, print, now, now), Met::Finished(reply(5)));
        let (same, other) = table.fingerprint(&identity, &add(), b"[2]");
        assert_eq!(same, key);
        assert_eq!(table.meet(key, other, now, now), Met::Other);
        let further = Identity { hops: 1, ..identity };
        assert_ne!(table.fingerprint(&further, &add(), b"[1]").0, key, "another hop is another request");
    }

    #[test]
    fn old_requests_are_forgotten_and_large_replies_not_kept() {
        let (mut table, now) = (Duplicates::default(), Instant::now());
        assert_eq!(table.meet(1, 1, now + Duration::from_secs(90), now), Met::New);
        table.finish(1, Some(&reply(MAX_REPLY_BYTES + 1)));
        assert_eq!(table.meet(1, 1, now, now + Duration::from_secs(89)), Met::Forgotten);
        assert_eq!(table.meet(1, 1, now, now + Duration::from_secs(91)), Met::New);
        assert_eq!(table.meet(2, 1, now, now), Met::New);
        table.finish(2, Some(&reply(1)));
        assert_eq!(table.meet(2, 1, now, now + Duration::from_secs(59)), Met::Finished(reply(1)));
        assert_eq!(table.meet(2, 1, now, now + Duration::from_secs(61)), Met::New);
    }

    #[test]
    fn duplicates_table_is_bounded_and_keeps_running_requests() {
        let (mut table, now) = (Duplicates::default(), Instant::now());
        assert_eq!(table.meet(0, 0, now, now), Met::New);
        for key in 1..=u128::from(3 * MAX_REMEMBERED as u64) {
            assert_eq!(table.meet(key, 0, now, now), Met::New);
            table.finish(key, Some(&reply(MAX_REPLY_BYTES)));
        }
        assert!(table.calls.len() <= MAX_REMEMBERED && table.finished.len() <= MAX_REMEMBERED);
        assert!(table.kept <= MAX_KEPT_BYTES + MAX_REPLY_BYTES, "{}", table.kept);
        assert_eq!(table.meet(0, 0, now, now), Met::Running);
    }
}
