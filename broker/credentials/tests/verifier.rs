//! The verifier as a broker uses it: which passwords are right, and how many hashes that takes.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use rantai_credentials::{Busy, Cost, MAX_PASSWORD_BYTES, Record, Verifier, VerifierLimits};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn record(password: &str) -> Record {
    Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed")
}

fn records(users: usize) -> HashMap<String, Record> {
    (0..users).map(|user| (format!("user{user}"), record(&format!("password{user}")))).collect()
}

fn verifier(users: usize) -> Verifier {
    Verifier::start(records(users), VerifierLimits { threads: 2, waiting: 4096 }).expect("threads")
}

fn check(verifier: &Verifier, user: &str, password: &str) -> Result<bool, Busy> {
    wait(verifier.verify(user, password.as_bytes(), HERE))
}

#[test]
fn reconnects_of_a_thousand_clients_use_the_cache() {
    let verifier = verifier(100);
    for user in 0..100 {
        assert_eq!(check(&verifier, &format!("user{user}"), &format!("password{user}")), Ok(true));
    }
    assert_eq!(verifier.counts().hashed, 100);
    for client in 0..1000 {
        let user = client % 100;
        assert_eq!(check(&verifier, &format!("user{user}"), &format!("password{user}")), Ok(true));
    }
    let counts = verifier.counts();
    assert_eq!((counts.hashed, counts.remembered), (100, 1000));
}

#[test]
fn concurrent_logins_of_one_user_cost_at_most_one_hash_per_thread() {
    let verifier = verifier(1);
    let all: Vec<_> = (0..1000).map(|_| verifier.verify("user0", b"password0", HERE)).collect();
    for one in all {
        assert_eq!(wait(one), Ok(true));
    }
    assert!(verifier.counts().hashed <= 2, "{:?}", verifier.counts());
}

#[test]
fn wrong_passwords_and_unknown_users_each_cost_a_hash() {
    let verifier = verifier(2);
    assert_eq!(check(&verifier, "user0", "password0"), Ok(true));
    for (user, password) in
        [("user0", "password1"), ("user0", ""), ("nobody", "password0"), ("nobody", "password1")]
    {
        let before = verifier.counts().hashed;
        assert_eq!(check(&verifier, user, password), Ok(false), "{user} {password}");
        assert_eq!(verifier.counts().hashed, before + 1, "{user} {password}");
    }
}

#[test]
fn a_too_long_password_is_rejected_without_a_hash() {
    let verifier = verifier(1);
    assert_eq!(check(&verifier, "user0", &"x".repeat(MAX_PASSWORD_BYTES + 1)), Ok(false));
    assert_eq!(check(&verifier, &"x".repeat(300), "x"), Ok(false));
    assert_eq!(verifier.counts().hashed, 0);
}

#[test]
fn a_changed_record_drops_only_its_own_cached_password() {
    let verifier = verifier(0);
    let (one, other) = (record("one"), record("other"));
    let users =
        |ada: &Record| HashMap::from([("ada".to_owned(), ada.clone()), ("ani".to_owned(), other.clone())]);
    assert_eq!(verifier.replace_records(users(&one)), HashSet::new());
    assert_eq!(check(&verifier, "ada", "one"), Ok(true));
    assert_eq!(check(&verifier, "ani", "other"), Ok(true));
    assert_eq!(verifier.replace_records(users(&record("new"))), HashSet::from(["ada".to_owned()]));
    assert_eq!(check(&verifier, "ada", "one"), Ok(false));
    assert_eq!(check(&verifier, "ada", "new"), Ok(true));
    let hashed = verifier.counts().hashed;
    assert_eq!(check(&verifier, "ani", "other"), Ok(true));
    assert_eq!(verifier.counts().hashed, hashed);
}

#[test]
fn a_full_queue_fails_with_busy() {
    let verifier = Verifier::start(records(1), VerifierLimits { threads: 1, waiting: 0 }).expect("a thread");
    assert_eq!(check(&verifier, "user0", "password0"), Err(Busy));
    assert_eq!(verifier.counts().busy, 1);
}
