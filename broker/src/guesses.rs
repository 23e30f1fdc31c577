//! Delays against password guessing: the more wrong passwords for a user come from an address, the longer the next
//! attempt waits.
//!
//! Wrong passwords are counted twice: per client id, and for all client ids of a user and address, where more are
//! free. Logins of the same user from other addresses are not delayed, and a client id that has logged in as this user
//! from this address before is not delayed because of others. Every attempt waits for its turn, whether the password
//! is right or wrong, so that guessing on many connections at once gains nothing. A repetition of the same wrong
//! password by the same client does not count: a program with an old password repeats it forever.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::addresses::network;

/// Number of wrong passwords of one client id without a delay: people mistype, and programs retry a few times.
const FREE_PER_CLIENT_ID: u32 = 5;
/// Number of wrong passwords without a delay for all client ids of a user and address that have never logged in.
const FREE_PER_ADDRESS: u32 = 20;
/// First delay; each further wrong password doubles it.
const FIRST_DELAY_MS: u64 = 100;
/// Time without a wrong password after which the count is reset.
const RESET_AFTER_MS: u64 = 15 * 60 * 1000;
/// Maximum number of entries per generation. When a generation is full, the one before it is dropped.
const GENERATION_ENTRIES: usize = 8_192;
/// Maximum number of entries per generation for names that are not users, counted separately so that a flood of them
/// does not displace the counts of real users.
const UNKNOWN_USER_ENTRIES: usize = 2_048;

/// Attempt to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) user: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) client_id: &'a str,
    /// Whether this user exists.
    pub(crate) is_user: bool,
    /// Whether a session of this client id belongs to the user.
    pub(crate) has_session: bool,
}

/// Keyed hash of a password and of the records that it was checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// Error: too many attempts already wait for this user and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Counts of wrong passwords, by user and address.
#[derive(Debug)]
pub(crate) struct Guesses {
    longest_ms: u64,
    hasher: RandomState,
    table: Mutex<GuessTable>,
}

#[derive(Debug)]
struct GuessTable {
    wrong: Generations<WrongPasswords>,
    /// Counts for names that are not users.
    wrong_unknown: Generations<WrongPasswords>,
    /// Clients that have logged in successfully.
    known: Generations<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct WrongPasswords {
    count: u32,
    /// Last wrong password.
    password: Option<Fingerprint>,
    last: u64,
    /// Time of the next attempt, in milliseconds.
    next: u64,
}

impl Guesses {
    /// Creates counts with delays of at most `longest`; zero disables them.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest_ms: longest.as_millis() as u64,
            hasher: RandomState::new(),
            table: Mutex::new(GuessTable::new()),
        }
    }

    /// Returns the fingerprint of a password for [`is_repeated`](Self::is_repeated) and [`failed`](Self::failed).
    /// `records` is a number that changes with the password records, because a password that was wrong may be right
    /// for new records.
    pub(crate) fn fingerprint(&self, records: u64, password: &[u8]) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((records, password)))
    }

    /// Returns whether the client's last password was the same and was wrong, so that it need not be checked again.
    pub(crate) fn is_repeated(&self, attempt: Attempt<'_>, password: Fingerprint) -> bool {
        let own = self.hash_client(attempt);
        let mut table = self.table.lock();
        table.wrong(attempt).get(own).is_some_and(|wrong| wrong.password == Some(password))
    }

    /// Reserves a turn for an attempt at `now`. Returns the delay until the turn, in milliseconds.
    ///
    /// # Errors
    ///
    /// [`TooMany`] if another attempt of the same client id is waiting, or two of other client ids.
    pub(crate) fn take_turn(&self, attempt: Attempt<'_>, now: u64) -> Result<u64, TooMany> {
        let mut table = self.table.lock();
        let counts = self.counts(attempt, &mut table);
        let mut turn = now;
        for &(key, free) in counts.iter().flatten() {
            let Some(wrong) = table.wrong(attempt).get(key) else { continue };
            if now > wrong.last + RESET_AFTER_MS {
                table.wrong(attempt).remove(key);
            } else if wrong.count > free {
                // One client id gets fewer turns than all together, so that it cannot take every turn.
                let waits = if free == FREE_PER_CLIENT_ID { 1 } else { 2 };
                if wrong.next > now + waits * self.longest_ms {
                    return Err(TooMany);
                }
                turn = turn.max(wrong.next);
            }
        }
        for &(key, free) in counts.iter().flatten() {
            if let Some(wrong) = table.wrong(attempt).get(key) {
                wrong.next = turn + self.delay_ms(wrong.count, free);
            }
        }
        Ok(turn - now)
    }

    /// Counts a wrong password. Returns whether this is the first one with a delay.
    pub(crate) fn failed(&self, attempt: Attempt<'_>, password: Fingerprint, now: u64) -> bool {
        if self.longest_ms == 0 {
            return false;
        }
        let mut table = self.table.lock();
        let mut begins = false;
        for (key, free) in self.counts(attempt, &mut table).into_iter().flatten() {
            let mut wrong = table.wrong(attempt).get(key).copied().unwrap_or_default();
            if now > wrong.last + RESET_AFTER_MS {
                wrong = WrongPasswords::default();
            }
            wrong.count = wrong.count.saturating_add(1);
            wrong.last = now;
            wrong.password = Some(password);
            wrong.next = wrong.next.max(now + self.delay_ms(wrong.count, free));
            table.wrong(attempt).insert(key, wrong);
            begins |= wrong.count == free + 1;
        }
        begins
    }

    /// Resets the counts after a right password.
    pub(crate) fn succeeded(&self, attempt: Attempt<'_>) {
        if self.longest_ms == 0 {
            return;
        }
        let mut table = self.table.lock();
        for (key, _) in self.counts(attempt, &mut table).into_iter().flatten() {
            table.wrong(attempt).remove(key);
        }
        table.known.insert(self.hash_client(attempt), ());
    }

    /// Returns the keys by which wrong passwords of an attempt are counted, with the free number of each: the key of
    /// the client id, and that of all client ids, unless this one has logged in before or has a session of the user.
    fn counts(&self, attempt: Attempt<'_>, table: &mut GuessTable) -> [Option<(u64, u32)>; 2] {
        let own = self.hash_client(attempt);
        let known = attempt.has_session || table.known.get(own).is_some();
        // Texts of any length become eight bytes. The hash is keyed, so that nobody can construct collisions.
        let all = self.hasher.hash_one((attempt.user, network(attempt.address)));
        [Some((own, FREE_PER_CLIENT_ID)), (!known).then_some((all, FREE_PER_ADDRESS))]
    }

    fn hash_client(&self, attempt: Attempt<'_>) -> u64 {
        self.hasher.hash_one((attempt.user, network(attempt.address), attempt.client_id))
    }

    fn delay_ms(&self, wrong: u32, free: u32) -> u64 {
        match wrong.checked_sub(free + 1) {
            None => 0,
            Some(doublings) => (FIRST_DELAY_MS << doublings.min(20)).min(self.longest_ms),
        }
    }
}

/// Table of at most two generations. Entries that were not looked up since the current generation began are dropped
/// with the older one.
#[derive(Debug)]
struct Generations<T> {
    young: HashMap<u64, T>,
    old: HashMap<u64, T>,
    /// Maximum number of entries of each generation.
    size: usize,
}

impl GuessTable {
    fn new() -> Self {
        Self {
            wrong: Generations::new(GENERATION_ENTRIES),
            wrong_unknown: Generations::new(UNKNOWN_USER_ENTRIES),
            known: Generations::new(GENERATION_ENTRIES),
        }
    }

    fn wrong(&mut self, attempt: Attempt<'_>) -> &mut Generations<WrongPasswords> {
        if attempt.is_user { &mut self.wrong } else { &mut self.wrong_unknown }
    }
}

impl<T> Generations<T> {
    fn new(size: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), size }
    }

    fn get(&mut self, key: u64) -> Option<&mut T> {
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    fn insert(&mut self, key: u64, value: T) {
        if self.young.len() >= self.size && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn attempt<'a>(user: &'a str, address: &str, client_id: &'a str) -> Attempt<'a> {
        Attempt {
            user,
            address: address.parse().expect("an address"),
            client_id,
            is_user: true,
            has_session: false,
        }
    }

    /// Returns the fingerprint of a password that was not tried before.
    fn another(guesses: &Guesses) -> Fingerprint {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        guesses.fingerprint(0, &NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes())
    }

    fn guesses() -> Guesses {
        Guesses::new(Duration::from_secs(2))
    }

    /// Tries `count` wrong passwords, each at the time of its turn. Returns the time of the last attempt.
    fn guess(guesses: &Guesses, who: Attempt<'_>, count: u32, mut now: u64) -> u64 {
        for _ in 0..count {
            now += guesses.take_turn(who, now).expect("waits for its turn");
            guesses.failed(who, another(guesses), now);
        }
        now
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let guesses = guesses();
        let ada = attempt("ada", "10.0.0.1", "x");
        assert_eq!(guess(&guesses, ada, FREE_PER_CLIENT_ID, NOW), NOW, "a few are free");
        assert_eq!(guess(&guesses, ada, 1, NOW), NOW);
        let mut waits = Vec::new();
        let mut now = NOW;
        for _ in 0..7 {
            let before = now;
            now = guess(&guesses, ada, 1, now);
            waits.push(now - before);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn concurrent_attempts_wait_in_turn_and_their_number_is_limited() {
        let guesses = guesses();
        let ada = attempt("ada", "10.0.0.1", "x");
        let now = guess(&guesses, ada, 20, NOW);
        let turns: Vec<_> = (0..3).map(|_| guesses.take_turn(ada, now)).collect();
        assert_eq!(turns, [Ok(2_000), Err(TooMany), Err(TooMany)]);
    }

    /// A client is not refused because other clients with another client id have taken turns.
    #[test]
    fn a_flood_of_one_client_id_leaves_turns_to_others() {
        let guesses = guesses();
        let flood = attempt("ada", "10.0.0.1", "x");
        let now = guess(&guesses, flood, 2 * FREE_PER_ADDRESS, NOW);
        while guesses.take_turn(flood, now).is_ok() {}
        let wait = guesses.take_turn(attempt("ada", "10.0.0.1", "hers"), now).expect("a turn");
        assert!(wait <= 2 * 2_000, "{wait}");
    }

    /// Using another client id for each guess does not avoid the delays.
    #[test]
    fn a_new_client_id_per_guess_does_not_avoid_delays() {
        let guesses = guesses();
        let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
        let mut now = NOW;
        for name in &names {
            now = guess(&guesses, attempt("ada", "10.0.0.1", name), 1, now);
        }
        let waited = now - NOW;
        assert!(waited > 25_000, "{waited} ms for 40 guesses");
    }

    #[test]
    fn other_users_and_addresses_are_not_delayed() {
        let guesses = guesses();
        guesses.succeeded(attempt("ada", "10.0.0.1", "hers"));
        let now = guess(&guesses, attempt("ada", "10.0.0.1", "x"), FREE_PER_ADDRESS, NOW);
        assert_eq!(guesses.take_turn(attempt("ada", "10.0.0.1", "y"), now), Ok(0), "another client id");
        let now = guess(&guesses, attempt("ada", "10.0.0.1", "x"), 10, now);
        assert_ne!(guesses.take_turn(attempt("ada", "10.0.0.1", "y"), now), Ok(0), "too many of all");
        assert_eq!(guesses.take_turn(attempt("ada", "10.0.0.2", "x"), now), Ok(0), "from elsewhere");
        assert_eq!(guesses.take_turn(attempt("bob", "10.0.0.1", "x"), now), Ok(0), "another user");
        assert_eq!(guesses.take_turn(attempt("ada", "10.0.0.1", "hers"), now), Ok(0), "known there");
        let known = guess(&guesses, attempt("ada", "10.0.0.1", "hers"), 20, now);
        assert_ne!(guesses.take_turn(attempt("ada", "10.0.0.1", "hers"), known), Ok(0), "its own count");
    }

    #[test]
    fn counts_are_reset_by_a_right_password_and_by_time() {
        let guesses = guesses();
        let ada = attempt("ada", "10.0.0.1", "x");
        let now = guess(&guesses, ada, 20, NOW);
        guesses.succeeded(ada);
        assert_eq!(guesses.take_turn(ada, now), Ok(0));
        let bob = attempt("bob", "10.0.0.1", "x");
        let now = guess(&guesses, bob, 20, NOW);
        assert_eq!(guesses.take_turn(bob, now + RESET_AFTER_MS + 1), Ok(0));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let guesses = guesses();
        let names: Vec<_> = (0..4 * GENERATION_ENTRIES).map(|number| number.to_string()).collect();
        let ada = attempt("ada", "10.0.0.1", "x");
        let now = guess(&guesses, ada, 20, NOW);
        for name in &names[..GENERATION_ENTRIES / 2] {
            guesses.failed(attempt(name, "10.0.0.1", "x"), another(&guesses), now);
        }
        assert_ne!(guesses.take_turn(ada, now), Ok(0), "still there");
        for name in &names {
            guesses.failed(attempt(name, "10.0.0.1", "x"), another(&guesses), now);
        }
        assert_eq!(guesses.take_turn(ada, now), Ok(0));
        for name in &names {
            guesses.succeeded(attempt(name, "10.0.0.1", "x"));
        }
        let table = guesses.table.lock();
        assert!(table.wrong.young.len() + table.wrong.old.len() <= 2 * GENERATION_ENTRIES);
        assert!(table.known.young.len() + table.known.old.len() <= 2 * GENERATION_ENTRIES);
    }

    #[test]
    fn a_maximum_delay_of_zero_disables_delays() {
        let guesses = Guesses::new(Duration::ZERO);
        assert_eq!(guess(&guesses, attempt("ada", "10.0.0.1", "x"), 100, NOW), NOW);
    }

    /// Case: a program keeps trying an outdated password.
    #[test]
    fn the_same_wrong_password_of_a_client_counts_once() {
        let guesses = guesses();
        let ada = attempt("ada", "10.0.0.1", "x");
        let old = guesses.fingerprint(0, b"old");
        assert!(!guesses.is_repeated(ada, old));
        guesses.failed(ada, old, NOW);
        assert!(guesses.is_repeated(ada, old));
        assert!(!guesses.is_repeated(attempt("ada", "10.0.0.1", "y"), old), "another client");
        assert!(!guesses.is_repeated(attempt("bob", "10.0.0.1", "x"), old), "another user");
        assert!(!guesses.is_repeated(ada, guesses.fingerprint(0, b"new")), "another password");
        assert!(!guesses.is_repeated(ada, guesses.fingerprint(1, b"old")), "other records");
        guesses.succeeded(ada);
        assert!(!guesses.is_repeated(ada, old), "forgotten with the count");
    }

    #[test]
    fn a_client_id_with_a_session_of_the_user_is_not_delayed_by_others() {
        let guesses = guesses();
        let mut now = NOW;
        for name in 0..2 * FREE_PER_ADDRESS {
            now = guess(&guesses, attempt("ada", "10.0.0.1", &name.to_string()), 1, now);
        }
        let hers = attempt("ada", "10.0.0.1", "hers");
        assert_ne!(guesses.take_turn(hers, now), Ok(0));
        assert_eq!(guesses.take_turn(Attempt { has_session: true, ..hers }, now), Ok(0));
    }

    #[test]
    fn unknown_names_do_not_displace_counts_of_real_users() {
        let guesses = guesses();
        let ada = attempt("ada", "10.0.0.1", "x");
        let now = guess(&guesses, ada, 20, NOW);
        for name in 0..4 * GENERATION_ENTRIES {
            let name = name.to_string();
            let stranger = Attempt { is_user: false, ..attempt(&name, "10.0.0.1", "x") };
            guesses.failed(stranger, another(&guesses), now);
        }
        assert_ne!(guesses.take_turn(ada, now), Ok(0));
        let table = guesses.table.lock();
        assert!(table.wrong_unknown.young.len() + table.wrong_unknown.old.len() <= 2 * UNKNOWN_USER_ENTRIES);
    }
}
