//! Authentication and rate limits of callers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use parking_lot::Mutex;
use rantai_client::shares::CallerKey;
use rantai_client::wire::user::User;
use rantai_client::{Client, Proxy};
use rantai_credentials::Busy;

use super::proxies::{self, Network};
use super::users::{Login, Users};

/// Maximum number of callers with a rate limit bucket; beyond it, the buckets that were used longest ago are dropped.
const MAX_KNOWN_CALLERS: usize = 10_000;
/// Number of wrong passwords for one user, or of wrong keys, that one address may send per minute before it has to wait.
const WRONG_PER_MINUTE: f64 = 30.0;
/// Suggested delay for a request whose password could not be checked.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Authenticates and rate-limits every request before it becomes a call.
#[derive(Debug)]
pub(super) struct Guard {
    users: Users,
    trusted_proxies: Vec<Network>,
    rate: u32,
    buckets: Mutex<HashMap<Caller, Bucket>>,
    pub(super) counts: Counts,
}

/// Caller of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    User(User),
    Address(IpAddr),
    /// Address that sent a wrong password for this user, or a wrong key.
    Wrong(Option<User>, IpAddr),
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => CallerKey::User(user.clone()).fmt(f),
            Self::Address(address) | Self::Wrong(_, address) => write!(f, "address {address}"),
        }
    }
}

impl Caller {
    /// Returns the user, if the caller is logged in.
    pub(super) fn user(&self) -> Option<&User> {
        match self {
            Self::User(user) => Some(user),
            Self::Address(_) | Self::Wrong(..) => None,
        }
    }

    /// Creates a proxy of an object with the caller's rights: those of the user, or those of clients that are not logged in.
    /// The gateway's own rights are used only if it may not act for others.
    pub(super) fn object(&self, client: &Client, object: &str) -> Proxy {
        let proxy = client.object(object);
        match self.user() {
            Some(user) => proxy.for_user(user),
            None if client.may_act_for_others() == Some(true) => proxy.for_nobody(),
            None => proxy,
        }
    }
}

/// Token bucket: the tokens left, and when they were counted.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Reason for refusing a request.
#[derive(Debug, PartialEq)]
pub(super) enum AdmissionError {
    /// The credentials are missing or wrong.
    Unknown,
    /// The rate limit is exceeded; retry after this time.
    TooOften(Duration),
}

/// Counters of requests and refusals.
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
    pub(super) crowded_addresses: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) streams: AtomicU64,
}

impl Counts {
    pub(super) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Guard {
    pub(super) fn new(users: Users, trusted_proxies: &[Network], rate: u32) -> Self {
        let trusted_proxies = trusted_proxies.to_vec();
        Self { users, trusted_proxies, rate, buckets: Mutex::default(), counts: Counts::default() }
    }

    /// Checks whether anybody may call, without a password.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// Checks whether an address is that of a trusted proxy, which reports the addresses of its clients.
    pub(super) fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        proxies::is_trusted(&self.trusted_proxies, address)
    }

    /// Authenticates a request on the connection of `peer`, and checks its rate.
    pub(super) async fn admit(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<Caller, AdmissionError> {
        Counts::one(&self.counts.requests);
        let address = proxies::client(&self.trusted_proxies, peer, headers);
        let caller = if self.is_open() {
            Caller::Address(address)
        } else {
            Caller::User(self.log_in(address, headers, now).await?)
        };
        if self.rate > 0 {
            let rate = f64::from(self.rate);
            self.look(&caller, rate, rate, now)?;
            self.take(&caller, rate, rate, now);
        }
        Ok(caller)
    }

    /// Checks the credentials of a request. After too many wrong guesses, the next is refused until some time has passed: only
    /// for this user and at this address, so that neither the user elsewhere nor others at the address are locked out.
    async fn log_in(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<User, AdmissionError> {
        let unknown = || {
            Counts::one(&self.counts.unknown_callers);
            AdmissionError::Unknown
        };
        let login = Login::read(headers).ok_or_else(unknown)?;
        let user = match &login {
            Login::Password { user, .. } => Some(user.clone()),
            Login::Key(_) => None,
        };
        let wrong = Caller::Wrong(user, address);
        self.look(&wrong, WRONG_PER_MINUTE, WRONG_PER_MINUTE / 60.0, now)?;
        match self.users.check(&login, address).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => {
                self.take(&wrong, WRONG_PER_MINUTE, WRONG_PER_MINUTE / 60.0, now);
                Err(unknown())
            }
            Err(Busy) => {
                Counts::one(&self.counts.too_often);
                Err(AdmissionError::TooOften(BUSY_RETRY_AFTER))
            }
        }
    }

    /// Checks whether the caller's bucket has a token left.
    fn look(&self, caller: &Caller, most: f64, per_second: f64, now: Instant) -> Result<(), AdmissionError> {
        let mut buckets = self.buckets.lock();
        let Some(bucket) = buckets.get_mut(caller) else { return Ok(()) };
        bucket.fill(most, per_second, now);
        if bucket.left >= 1.0 {
            return Ok(());
        }
        Counts::one(&self.counts.too_often);
        Err(AdmissionError::TooOften(Duration::from_secs_f64((1.0 - bucket.left) / per_second)))
    }

    fn take(&self, caller: &Caller, most: f64, per_second: f64, now: Instant) {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_KNOWN_CALLERS && !buckets.contains_key(caller) {
            // A full bucket may be dropped; if there is none, the one that was used longest ago.
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_mins(1));
            if buckets.len() >= MAX_KNOWN_CALLERS {
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
    use std::net::Ipv4Addr;

    use axum::http::header;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use rantai_credentials::Record;

    use super::*;
    use crate::settings;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Record of the key `abc`.
    const RECORD: &str = "$sha256$ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";

    fn guard(rate: u32) -> Guard {
        // `$6$`: one round of SHA-512, which is fast.
        let password = "$6$c2FsdHNhbHQxMjM0$+QxGzIhfk+Rq/7ap/GY7IRnpeO8t5hEQOSG4Dr5qU67e5IqSU3HXCn6DsTQklQYpwf1r1S1KgMfsecF7XkwbvA==".parse().expect("a record");
        let user = |name: &str, password: Option<Record>, key: Option<&str>| settings::User {
            name: name.to_owned(),
            password,
            key: key.map(settings::UserKey::new),
        };
        let users = [
            user("ada", Some(password), None),
            user("pi", None, Some("k1")),
            user("hashed", None, Some(RECORD)),
        ];
        let trusted = [Network::try_from("127.0.0.9".to_owned()).expect("an address")];
        Guard::new(Users::new(&users, None).expect("users"), &trusted, rate)
    }

    fn open(rate: u32) -> Guard {
        Guard::new(Users::new(&[], None).expect("none"), &[], rate)
    }

    fn with(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().expect("a value"));
        headers
    }

    fn basic(pair: &str) -> HeaderMap {
        with(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    #[tokio::test]
    async fn users_log_in_by_password_or_key() {
        let guard = guard(0);
        let admit = async |headers: &HeaderMap| guard.admit(HERE, headers, Instant::now()).await;
        let user = |name: &str| Ok(Caller::User(User::new(name).expect("a name")));
        assert_eq!(admit(&basic("ada:change:me")).await, user("ada"));
        assert_eq!(admit(&with("bearer k1")).await, user("pi"));
        assert_eq!(admit(&with("bearer abc")).await, user("hashed"));
        assert_eq!(
            admit(&with(&format!("bearer {RECORD}"))).await,
            Err(AdmissionError::Unknown),
            "the record is no key"
        );
        for wrong in ["Basic YWRhOg==", "Basic !!", "Bearer change:me", "Bearer", "Digest k1", "Basic azE="] {
            assert_eq!(admit(&with(wrong)).await, Err(AdmissionError::Unknown), "{wrong}");
        }
        assert_eq!(admit(&basic("pi:k1")).await, Err(AdmissionError::Unknown));
        assert_eq!(admit(&HeaderMap::new()).await, Err(AdmissionError::Unknown));
    }

    /// Regression: 30 wrong passwords locked out an address, and behind a proxy everybody.
    #[tokio::test]
    async fn wrong_passwords_delay_only_the_guessing_address_and_user() {
        let (guard, now) = (guard(0), Instant::now());
        for _ in 0..30 {
            assert_eq!(guard.admit(HERE, &basic("ada:x"), now).await, Err(AdmissionError::Unknown));
        }
        let right = basic("ada:change:me");
        assert!(matches!(guard.admit(HERE, &right, now).await, Err(AdmissionError::TooOften(_))));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(guard.admit(elsewhere, &right, now).await.is_ok(), "the right password from elsewhere");
        assert!(guard.admit(HERE, &with("Bearer k1"), now).await.is_ok(), "another user");
        assert!(guard.admit(HERE, &right, now + Duration::from_secs(3)).await.is_ok());
    }

    #[tokio::test]
    async fn clients_behind_a_trusted_proxy_are_distinguished() {
        let (guard, now) = (guard(0), Instant::now());
        let proxy = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        let from = |address: &str, mut headers: HeaderMap| {
            headers.insert("x-forwarded-for", address.parse().expect("a value"));
            headers
        };
        for _ in 0..31 {
            let _ = guard.admit(proxy, &from("6.6.6.6", basic("ada:x")), now).await;
        }
        let right = || basic("ada:change:me");
        let admitted = guard.admit(proxy, &from("6.6.6.6", right()), now).await;
        assert!(matches!(admitted, Err(AdmissionError::TooOften(_))));
        assert!(guard.admit(proxy, &from("1.1.1.1", right()), now).await.is_ok());
        // Other clients' `X-Forwarded-For` is ignored.
        for guess in 0..31 {
            let named = from(&format!("5.5.5.{guess}"), basic("ada:x"));
            let _ = guard.admit(HERE, &named, now).await;
        }
        assert!(matches!(guard.admit(HERE, &right(), now).await, Err(AdmissionError::TooOften(_))));
    }

    #[tokio::test]
    async fn calls_beyond_the_rate_are_refused() {
        let (guard, now) = (open(5), Instant::now());
        let none = HeaderMap::new();
        let admitted = async |after: u64| {
            let now = now + Duration::from_millis(after);
            let mut admitted = 0;
            for _ in 0..20 {
                admitted += usize::from(guard.admit(HERE, &none, now).await.is_ok());
            }
            admitted
        };
        assert_eq!(admitted(0).await, 5);
        assert_eq!(admitted(400).await, 2);
        assert_eq!(admitted(60_000).await, 5);
    }

    #[tokio::test]
    async fn number_of_remembered_callers_is_bounded() {
        let (guard, now, none) = (open(5), Instant::now(), HeaderMap::new());
        for address in 0..20_000_u32 {
            assert!(guard.admit(IpAddr::V4(Ipv4Addr::from(address)), &none, now).await.is_ok());
        }
        assert!(guard.buckets.lock().len() <= MAX_KNOWN_CALLERS);
    }
}
