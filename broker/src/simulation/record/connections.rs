//! Connections: whether a session existed, and what must have happened to each will.

use std::collections::BTreeMap;

use super::super::seeds::States;
use super::super::wire::{Property, Will};

/// Time in milliseconds after which the broker has certainly noticed that a connection was closed.
const NOTICED_MS: u64 = 4_000;

/// End of a connection, as known to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Ended {
    /// Closed by the client without DISCONNECT.
    Cut,
    /// Left open, but no longer used by the client.
    Open,
    /// Closed by the broker.
    Closed,
    /// Closed by the client after DISCONNECT, which the broker may not have read.
    Said,
    /// Closed after DISCONNECT, which the broker has handled.
    Confirmed,
}

/// Returns the publisher name of a client's wills in the record of messages.
pub(in crate::simulation) fn will_publisher(client: &str) -> String {
    format!("will-{client}")
}

#[derive(Debug, Default)]
pub(super) struct ConnectionRecord {
    by_client: BTreeMap<&'static str, ClientAttempts>,
    /// Times at which the broker was killed: ticks, and milliseconds since 1970.
    crashes: Vec<(u64, u64)>,
    /// Ticks at which everything was on disk.
    commits: Vec<u64>,
    /// Time at which the last open connection was closed, in milliseconds since 1970.
    closed_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct ClientAttempts {
    attempts: Vec<Attempt>,
    session: Option<KnownSession>,
}

/// CONNECT, its answer and the end of its connection. Times are ticks, or milliseconds since 1970 (`_ms`).
#[derive(Debug)]
struct Attempt {
    sent: u64,
    sent_ms: u64,
    clean: bool,
    /// Session Expiry Interval in seconds.
    session_expiry: u32,
    will: Option<Promise>,
    accepted: Option<Accepted>,
    /// Latest time at which the connection was certainly open: received packets were sent after it.
    heard_ms: u64,
    ended: Option<Ended>,
    ended_tick: u64,
    ended_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Accepted {
    tick: u64,
    ms: u64,
    resumed: bool,
}

/// Will of a CONNECT.
#[derive(Clone, Copy, Debug)]
struct Promise {
    qos: u8,
    /// Will Delay Interval in seconds.
    delay: u32,
}

/// Session that a client knows to exist.
#[derive(Debug)]
struct KnownSession {
    /// Whether a SUBACK was received in the session, so that it is on disk.
    is_kept: bool,
}

/// What must have happened to a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Published,
    NotPublished,
    Either,
}

impl ConnectionRecord {
    /// Records a CONNECT. Returns its number.
    pub(super) fn begin(
        &mut self,
        client: &'static str,
        (sent, sent_ms): (u64, u64),
        (clean, session_expiry): (bool, u32),
        will: Option<&Will>,
    ) -> u64 {
        let will = will.map(|will| {
            let delay = will.properties.iter().find_map(|property| match property {
                Property::WillDelay(seconds) => Some(*seconds),
                _ => None,
            });
            Promise { qos: will.qos, delay: delay.unwrap_or(0) }
        });
        let client = self.by_client.entry(client).or_default();
        if clean {
            client.session = None;
        }
        let (accepted, ended, heard_ms, ended_tick, ended_ms) = (None, None, sent_ms, sent, sent_ms);
        client.attempts.push(Attempt {
            sent,
            sent_ms,
            clean,
            session_expiry,
            will,
            accepted,
            heard_ms,
            ended,
            ended_tick,
            ended_ms,
        });
        client.attempts.len() as u64
    }

    pub(super) fn heard(&mut self, client: &'static str, sent_after: u64) {
        if let Some(attempt) = self.last(client) {
            attempt.heard_ms = sent_after;
        }
    }

    pub(super) fn ended(&mut self, client: &'static str, (tick, now): (u64, u64), how: Ended) {
        if let Some(attempt) = self.last(client) {
            attempt.ended = Some(how);
            attempt.ended_tick = tick;
            attempt.ended_ms = now;
        }
    }

    pub(super) fn granted(&mut self, client: &'static str) {
        if let Some(session) = &mut self.by_client.entry(client).or_default().session {
            session.is_kept = true;
        }
    }

    pub(super) fn crashed(&mut self, tick: u64, now: u64) {
        self.crashes.push((tick, now));
        for client in self.by_client.values_mut() {
            client.session.take_if(|session| !session.is_kept);
        }
    }

    pub(super) fn committed(&mut self, tick: u64) {
        self.commits.push(tick);
    }

    pub(super) fn all_closed(&mut self, now: u64) {
        self.closed_ms = Some(now);
    }

    fn last(&mut self, client: &'static str) -> Option<&mut Attempt> {
        self.by_client.entry(client).or_default().attempts.last_mut()
    }

    /// Records a CONNACK that accepts a client, and checks whether it had to report a session.
    pub(super) fn accepted(
        &mut self,
        client: &'static str,
        (tick, now): (u64, u64),
        resumed: bool,
        states: &mut States,
    ) {
        let (crashes, commits) = (&self.crashes, &self.commits);
        let known = self.by_client.entry(client).or_default();
        let (attempt, before) = known.attempts.split_last_mut().expect("it has connected");
        attempt.accepted = Some(Accepted { tick, ms: now, resumed });
        let told = || format!("{client} has a session: {resumed}, after {:#?}", before.last());
        assert!(!(attempt.clean && resumed), "{}", told());
        if let Some(last) = before.last() {
            let lasts_ms = u64::from(last.session_expiry) * 1_000;
            let was_closed = !matches!(last.ended, Some(Ended::Open)) && last.accepted.is_some();
            let was_killed = crashes.last().is_some_and(|(crash, _)| *crash > last.sent);
            if was_closed && !was_killed && attempt.sent_ms > last.ended_ms + lasts_ms + NOTICED_MS {
                assert!(!resumed, "{}, which has expired", told());
                states.add("session expired", u64::from(!attempt.clean && lasts_ms > 0));
            }
            // Unless the broker was killed before the resumption of the session was on disk.
            let goes_on = last.accepted.is_some_and(|accepted| is_on_disk(crashes, commits, accepted.tick));
            if goes_on && known.session.is_some() && now < last.heard_ms + lasts_ms {
                assert!(resumed || attempt.clean, "{}, at {now}", told());
            }
        }
        let is_anew = attempt.clean && before.last().is_some_and(|last| last.session_expiry > 0);
        states.add("session begun anew", u64::from(is_anew));
        states.reach(if resumed { "session resumed" } else { "session begun" });
        match &mut known.session {
            Some(_) if resumed => {}
            session => *session = Some(KnownSession { is_kept: false }),
        }
    }

    /// Records a CONNACK that refuses a client, which must not have a session.
    pub(super) fn refused(&mut self, client: &'static str, now: u64) {
        let goes_on = |accepted: Accepted| is_on_disk(&self.crashes, &self.commits, accepted.tick);
        let known = self.by_client.entry(client).or_default();
        let (attempt, before) = known.attempts.split_last().expect("it has connected");
        if let Some(last) =
            before.last().filter(|last| last.accepted.is_some_and(goes_on) && known.session.is_some())
        {
            let lasts_ms = u64::from(last.session_expiry) * 1_000;
            let is_there = !attempt.clean && now < last.heard_ms + lasts_ms;
            assert!(!is_there, "{client} is refused its session, after {last:#?}");
        }
    }

    /// Checks every will; `first_copy` returns when it first arrived at any client. Returns the wills that had to be
    /// published and never arrived.
    pub(super) fn check_wills(
        &self,
        first_copy: impl Fn(&'static str, u64) -> Option<u64>,
        states: &mut States,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        for (client, ClientAttempts { attempts, .. }) in &self.by_client {
            for (index, attempt) in attempts.iter().enumerate() {
                let (Some(will), Some(accepted)) = (attempt.will, attempt.accepted) else { continue };
                let number = index as u64 + 1;
                let first = first_copy(client, number);
                let next = attempts.get(index + 1);
                let delay_ms = u64::from(will.delay.min(attempt.session_expiry)) * 1_000;
                let due_ms = attempt.heard_ms + delay_ms;
                let verdict = self.verdict(attempt, will, next, delay_ms);
                let told = || format!("the will {number} of {client}, {attempt:#?}, before {next:#?}");
                if let Some(first) = first {
                    assert!(verdict != Verdict::NotPublished, "came: {}", told());
                    let early = first < due_ms && next.is_none_or(|next| first < next.sent_ms);
                    assert!(!early, "came at {first}, before {due_ms}: {}", told());
                }
                match (verdict, first) {
                    (Verdict::Published, Some(_)) if delay_ms > 0 => {
                        states.reach("will published after its delay");
                    }
                    (Verdict::Published, Some(_)) => states.reach("will published"),
                    (Verdict::NotPublished, _) if attempt.ended == Some(Ended::Confirmed) => {
                        states.reach("will not published after DISCONNECT");
                    }
                    (Verdict::NotPublished, _) if attempt.ended.is_some() => {
                        states.reach("will not published after a reconnect within its delay");
                    }
                    _ => {}
                }
                if verdict == Verdict::Published && first.is_none() && self.is_certain(attempt, accepted) {
                    missing.push(told());
                }
            }
        }
        missing
    }

    /// Returns what must have happened to the will of an attempt that was followed by `next`.
    fn verdict(&self, attempt: &Attempt, will: Promise, next: Option<&Attempt>, delay_ms: u64) -> Verdict {
        match attempt.ended {
            // A broker that is killed before the end is on disk restores the will without the end.
            Some(Ended::Confirmed) if !self.is_on_disk(attempt.ended_tick) => return Verdict::Either,
            None | Some(Ended::Confirmed) => return Verdict::NotPublished,
            Some(Ended::Said) => return Verdict::Either,
            Some(Ended::Cut | Ended::Open | Ended::Closed) => {}
        }
        if will.qos == 0 {
            return Verdict::Either;
        }
        let Some(next) = next else { return Verdict::Published };
        if will.delay == 0 {
            return Verdict::Published;
        }
        match next.accepted {
            Some(Accepted { ms, resumed: true, tick }) if ms < attempt.heard_ms + delay_ms => {
                return if self.is_on_disk(tick) { Verdict::NotPublished } else { Verdict::Either };
            }
            // Unless the broker was killed before the end of the session was on disk.
            Some(Accepted { resumed: false, tick, .. }) if self.is_on_disk(tick) => {
                return Verdict::Published;
            }
            Some(Accepted { resumed: false, .. }) => return Verdict::Either,
            _ => {}
        }
        // Latest time at which the delay began. A broker that was killed before it could store the disconnect counts
        // the delay anew.
        let closed_ms =
            if attempt.ended == Some(Ended::Open) { self.closed_ms } else { Some(attempt.ended_ms) };
        let crashes = self.crashes.iter().filter(|(tick, _)| *tick < next.sent).map(|(_, ms)| *ms);
        let since_ms = closed_ms.map(|closed| crashes.fold(closed, u64::max));
        // A broker that was killed before the publication is on disk restores the will, and counts its delay anew.
        if since_ms.is_some_and(|since| since + delay_ms + NOTICED_MS <= next.sent_ms)
            && self.is_on_disk(next.sent)
        {
            Verdict::Published
        } else {
            Verdict::Either
        }
    }

    /// Returns whether the broker certainly knows the will of an attempt.
    fn is_certain(&self, attempt: &Attempt, accepted: Accepted) -> bool {
        let crashed = self.crashes.iter().any(|(crash, _)| *crash > accepted.tick);
        // A session that ends with its connection is only in memory, and so is its will.
        !crashed || attempt.session_expiry > 0 && self.is_on_disk(accepted.tick)
    }

    /// Returns whether the state at `tick` was on disk before the broker was killed next.
    pub(super) fn is_on_disk(&self, tick: u64) -> bool {
        is_on_disk(&self.crashes, &self.commits, tick)
    }
}

fn is_on_disk(crashes: &[(u64, u64)], commits: &[u64], tick: u64) -> bool {
    let crash = crashes.iter().map(|(crash, _)| *crash).find(|crash| *crash > tick);
    // Sorted, as there may be thousands.
    let commit = commits.get(commits.partition_point(|commit| *commit <= tick));
    crash.is_none_or(|crash| commit.is_some_and(|commit| *commit < crash))
}
