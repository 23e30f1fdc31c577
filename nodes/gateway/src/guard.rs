//! Who may call, and how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;

use super::settings::User;

/// Callers whose rate is known; beyond it those that have rested longest are forgotten.
const KNOWN: usize = 10_000;
/// Wrong passwords and keys of one address in a minute, before it has to wait.
const WRONG_PER_MINUTE: f64 = 30.0;

/// Looks at every request before it becomes a call.
#[derive(Debug)]
pub(super) struct Guard {
    users: Vec<Known>,
    rate: u32,
    buckets: Mutex<HashMap<Caller, Bucket>>,
    pub(super) counts: Counts,
}

/// Somebody, by the digests of what they know: comparing those takes the same time for every guess.
#[derive(Debug)]
struct Known {
    name: String,
    basic: Option<blake3::Hash>,
    bearer: Option<blake3::Hash>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    User(String),
    Address(IpAddr),
    /// Somebody at this address who did not know a password.
    Wrong(IpAddr),
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user:?}"),
            Self::Address(address) | Self::Wrong(address) => write!(f, "address {address}"),
        }
    }
}

/// What may be taken now, and when that was so.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Why a request is turned away.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// It says nothing of who calls, or what is wrong.
    Unknown,
    /// Too often; again after this time.
    TooOften(Duration),
}

/// How many, of what.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unknown_callers: AtomicU64,
    pub(super) too_often: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) too_slow: AtomicU64,
    pub(super) foreign_pages: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) streams: AtomicU64,
}

impl Counts {
    pub(super) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Guard {
    pub(super) fn new(users: &[User], rate: u32) -> Self {
        let known = |user: &User| Known {
            name: user.name.clone(),
            basic: user
                .password
                .as_ref()
                .map(|word| blake3::hash(format!("{}:{word}", user.name).as_bytes())),
            bearer: user.key.as_ref().map(|key| blake3::hash(key.as_bytes())),
        };
        let users = users.iter().map(known).collect();
        Self { users, rate, buckets: Mutex::default(), counts: Counts::default() }
    }

    /// Who it is, if they may call now.
    pub(super) fn admit(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<Caller, Refused> {
        Counts::one(&self.counts.requests);
        let caller = if self.users.is_empty() {
            Caller::Address(address)
        } else {
            // Whoever guesses has to wait before the next guess is looked at.
            let wrong = Caller::Wrong(address);
            self.look(&wrong, WRONG_PER_MINUTE, WRONG_PER_MINUTE / 60.0, now)?;
            let Some(name) = self.user(headers) else {
                Counts::one(&self.counts.unknown_callers);
                if headers.contains_key(header::AUTHORIZATION) {
                    self.take(&wrong, WRONG_PER_MINUTE, WRONG_PER_MINUTE / 60.0, now);
                }
                return Err(Refused::Unknown);
            };
            Caller::User(name)
        };
        if self.rate > 0 {
            let rate = f64::from(self.rate);
            self.look(&caller, rate, rate, now)?;
            self.take(&caller, rate, rate, now);
        }
        Ok(caller)
    }

    fn user(&self, headers: &HeaderMap) -> Option<String> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, word) = given.split_once(' ')?;
        let digest = if scheme.eq_ignore_ascii_case("basic") {
            blake3::hash(&BASE64_STANDARD.decode(word.trim()).ok()?)
        } else {
            blake3::hash(word.trim().as_bytes())
        };
        let known = |user: &&Known| {
            let known = if scheme.eq_ignore_ascii_case("basic") { &user.basic } else { &user.bearer };
            // In the same time for every guess, as `blake3::Hash` compares.
            known.is_some_and(|known| known == digest)
        };
        let bearer = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic");
        self.users.iter().filter(|_| bearer).find(known).map(|user| user.name.clone())
    }

    /// Whether there is one left.
    fn look(&self, caller: &Caller, most: f64, per_second: f64, now: Instant) -> Result<(), Refused> {
        let mut buckets = self.buckets.lock();
        let Some(bucket) = buckets.get_mut(caller) else { return Ok(()) };
        bucket.fill(most, per_second, now);
        if bucket.left >= 1.0 {
            return Ok(());
        }
        Counts::one(&self.counts.too_often);
        Err(Refused::TooOften(Duration::from_secs_f64((1.0 - bucket.left) / per_second)))
    }

    fn take(&self, caller: &Caller, most: f64, per_second: f64, now: Instant) {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= KNOWN && !buckets.contains_key(caller) {
            // Whoever has everything left is as good as unknown; if nobody has, the one who rested longest.
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_mins(1));
            if buckets.len() >= KNOWN {
                let rested =
                    buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(caller, _)| caller.clone());
                rested.and_then(|rested| buckets.remove(&rested));
            }
        }
        let bucket = buckets.entry(caller.clone()).or_insert(Bucket { left: most, at: now });
        bucket.fill(most, per_second, now);
        bucket.left -= 1.0;
    }
}

impl Bucket {
    fn fill(&mut self, most: f64, per_second: f64, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.left = (self.left + more).min(most);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn guard(rate: u32) -> Guard {
        let user = |name: &str, password: Option<&str>, key: Option<&str>| User {
            name: name.to_owned(),
            password: password.map(ToOwned::to_owned),
            key: key.map(ToOwned::to_owned),
        };
        Guard::new(&[user("ada", Some("change:me"), None), user("pi", None, Some("k1"))], rate)
    }

    fn with(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().expect("a value"));
        headers
    }

    #[test]
    fn users_are_known_by_password_or_key() {
        let guard = guard(0);
        let admit = |headers: &HeaderMap| guard.admit(HERE, headers, Instant::now());
        let user = |name: &str| Ok(Caller::User(name.to_owned()));
        assert_eq!(admit(&with("Basic YWRhOmNoYW5nZTptZQ==")), user("ada"));
        assert_eq!(admit(&with("bearer k1")), user("pi"));
        for wrong in ["Basic YWRhOg==", "Basic !!", "Bearer change:me", "Bearer", "Digest k1", "Basic azE="] {
            assert_eq!(admit(&with(wrong)), Err(Refused::Unknown), "{wrong}");
        }
        assert_eq!(admit(&HeaderMap::new()), Err(Refused::Unknown));
    }

    #[test]
    fn whoever_guesses_has_to_wait() {
        let (guard, now) = (guard(0), Instant::now());
        for _ in 0..30 {
            assert_eq!(guard.admit(HERE, &with("Bearer x"), now), Err(Refused::Unknown));
        }
        let right = with("Bearer k1");
        assert!(matches!(guard.admit(HERE, &right, now), Err(Refused::TooOften(_))));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(guard.admit(elsewhere, &right, now).is_ok());
        assert!(guard.admit(HERE, &right, now + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn a_rate_is_kept() {
        let (guard, now) = (Guard::new(&[], 5), Instant::now());
        let none = HeaderMap::new();
        let admitted = |after: u64| {
            let now = now + Duration::from_millis(after);
            (0..20).filter(|_| guard.admit(HERE, &none, now).is_ok()).count()
        };
        assert_eq!(admitted(0), 5);
        assert_eq!(admitted(400), 2);
        assert_eq!(admitted(60_000), 5);
    }

    #[test]
    fn callers_that_are_known_have_a_limit() {
        let (guard, now, none) = (Guard::new(&[], 5), Instant::now(), HeaderMap::new());
        for address in 0..20_000_u32 {
            assert!(guard.admit(IpAddr::V4(Ipv4Addr::from(address)), &none, now).is_ok());
        }
        assert!(guard.buckets.lock().len() <= KNOWN);
    }
}
