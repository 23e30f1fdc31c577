use std::net::IpAddr;

use super::*;
use crate::access::Principal;

const R: &str = "rantai/reply/calculator/ada--1";
const START: u64 = 1_000_000;

/// Clients of the tests, and their grants.
struct GrantsFixture {
    grants: Grants,
    now: u64,
}

impl GrantsFixture {
    fn new(limit: usize) -> Self {
        Self { grants: Grants::new(limit), now: START }
    }

    fn wanted<'a>(holder: &'a (Arc<Principal>, ByteString), correlation: &'a str) -> Wanted<'a> {
        let (principal, client_id) = holder;
        Wanted { principal, client_id, topic: R, correlation: correlation.as_bytes() }
    }

    /// Returns the asker of a user's request.
    fn by(&self, user: &str) -> Asked {
        let asker = Some(self.grants.asker(&Arc::new(Owner::User(user.into()))));
        Asked { asker, caller: Some(user.into()), passed_on: None }
    }

    fn ask(&self, node: &str, correlation: &str, asked: Asked, seconds: Option<u64>) -> bool {
        let expires = seconds.map(|seconds| self.now + seconds * 1000);
        let wanted = of(node);
        let wanted = Self::wanted(&wanted, correlation);
        let given = self.grants.give(&wanted, || Arc::new(asked), (expires, false), self.now);
        given == Given::Added
    }

    /// Sends a request again, because its client has not acknowledged it.
    fn ask_again(&self, node: &str, correlation: &str, asked: Asked) -> Given {
        let wanted = of(node);
        self.grants.give(&Self::wanted(&wanted, correlation), || Arc::new(asked), (None, true), self.now)
    }

    fn may_reply(&self, node: &str, correlation: &str) -> bool {
        self.grants.allow(&Self::wanted(&of(node), correlation), self.now)
    }

    fn reply(&self, node: &str, correlation: &str) {
        self.grants.use_up(&Self::wanted(&of(node), correlation));
    }

    /// Passes the request of `from` on to `to`.
    fn pass_on(&self, from: &str, to: &str, correlation: &str) {
        let asked = self.grants.passed_on(&Self::wanted(&of(from), correlation), self.now);
        let asked = asked.expect("it was asked");
        self.grants.give(&Self::wanted(&of(to), correlation), || asked, (None, false), self.now);
    }

    fn caller(&self, node: &str, correlation: &str) -> Option<ByteString> {
        self.grants.passed_on(&Self::wanted(&of(node), correlation), self.now)?.caller.clone()
    }

    fn sweep_all(&self) {
        for _ in 0..SHARDS / SHARDS_PER_SWEEP {
            self.grants.sweep(self.now);
        }
    }

    fn is_empty(&self) -> bool {
        self.grants.askers.forget_unused();
        self.grants.count() == 0 && self.grants.askers.len() == 0
    }
}

/// Returns the principal and client id of the client `node`, whose user has the same name.
fn of(node: &str) -> (Arc<Principal>, ByteString) {
    (Arc::new(Principal::of_user(node.into())), node.into())
}

#[test]
fn only_the_client_that_was_asked_may_reply_and_only_once() {
    let world = GrantsFixture::new(100);
    assert!(!world.may_reply("pi", "1"), "nobody has asked");
    world.ask("pi", "1", world.by("ada"), None);
    assert!(world.may_reply("pi", "1") && !world.may_reply("pi", "2") && !world.may_reply("eve", "1"));
    let eve = (of("eve").0, "pi".into());
    assert!(
        !world.grants.allow(&GrantsFixture::wanted(&eve, "1"), world.now),
        "another user with the client id"
    );
    let nobody = (Arc::default(), "pi".into());
    assert!(!world.grants.allow(&GrantsFixture::wanted(&nobody, "1"), world.now));
    let elsewhere = Wanted { topic: "rantai/reply/calculator/ada--2", ..GrantsFixture::wanted(&nobody, "1") };
    assert!(!world.grants.allow(&elsewhere, world.now));
    world.reply("pi", "1");
    assert!(!world.may_reply("pi", "1"));
    assert!(world.is_empty());
    world.reply("pi", "1");
    assert!(world.is_empty(), "used up already");
}

#[test]
fn topic_and_correlation_are_distinguished() {
    let world = GrantsFixture::new(100);
    let pi = of("pi");
    let wanted =
        |topic, correlation: &'static str| Wanted { topic, ..GrantsFixture::wanted(&pi, correlation) };
    world.grants.give(&wanted("rantai/reply/a", "bc"), Arc::default, (None, false), START);
    assert!(world.grants.allow(&wanted("rantai/reply/a", "bc"), START));
    assert!(!world.grants.allow(&wanted("rantai/reply/ab", "c"), START));
}

#[test]
fn requests_that_no_object_would_answer_get_no_grant() {
    let world = GrantsFixture::new(100);
    assert!(world.ask("pi", &"x".repeat(64), world.by("ada"), None));
    assert!(!world.ask("pi", &"x".repeat(65), world.by("ada"), None));
    let (pi, long) = (of("pi"), "x".repeat(265));
    let wanted = Wanted { topic: &long, ..GrantsFixture::wanted(&pi, "1") };
    assert_eq!(world.grants.give(&wanted, Arc::default, (None, false), START), Given::Refused);
    assert_eq!(world.grants.count(), 1);
}

#[test]
fn a_grant_ends_with_its_request() {
    let mut world = GrantsFixture::new(100);
    for (correlation, expiry, seconds) in [
        ("none", None, 30),
        ("short", Some(2), 2),
        ("hour", Some(3_600), 3_600),
        ("day", Some(86_400), 3_600),
    ] {
        world.now = START;
        world.ask("pi", correlation, world.by("ada"), expiry);
        world.now = START + seconds * 1000 - 1;
        assert!(world.may_reply("pi", correlation), "{correlation}");
        world.now += 1;
        assert!(!world.may_reply("pi", correlation), "{correlation}");
    }
    world.sweep_all();
    assert!(world.is_empty());
}

#[test]
fn a_request_sent_again_may_be_replied_to_again() {
    let mut world = GrantsFixture::new(100);
    world.ask("pi", "1", world.by("ada"), Some(5));
    world.reply("pi", "1");
    // The acknowledgement of the request was lost with the connection.
    world.now += 4_000;
    assert_eq!(world.ask_again("pi", "1", world.by("ada")), Given::Added);
    assert!(world.may_reply("pi", "1"));
    world.reply("pi", "1");
    assert!(!world.may_reply("pi", "1"));
    // Two requests without Correlation Data have the same key.
    world.ask("pi", "", world.by("ada"), None);
    world.ask("pi", "", world.by("ada"), None);
    world.reply("pi", "");
    assert!(world.may_reply("pi", ""));
    world.reply("pi", "");
    assert!(!world.may_reply("pi", "") && world.is_empty());
}

/// Once, a node that lost its connection between request and reply could reply twice.
#[test]
fn a_request_sent_again_before_its_reply_is_replied_to_once() {
    let mut world = GrantsFixture::new(100);
    world.ask("pi", "1", world.by("ada"), None);
    world.now += 29_000;
    assert_eq!(world.ask_again("pi", "1", world.by("ada")), Given::Renewed);
    world.now += 29_000;
    assert!(world.may_reply("pi", "1"), "for as long as if it had been sent now");
    world.reply("pi", "1");
    assert!(!world.may_reply("pi", "1") && world.is_empty());
}

#[test]
fn an_expired_grant_counts_for_nothing_when_its_request_comes_again() {
    let mut world = GrantsFixture::new(100);
    world.ask("pi", "1", world.by("ada"), Some(1));
    world.now += 1_000;
    world.ask("pi", "1", world.by("bob"), Some(1));
    assert_eq!(world.caller("pi", "1").as_deref(), Some("bob"));
    world.reply("pi", "1");
    assert!(!world.may_reply("pi", "1") && world.is_empty());
}

#[test]
fn a_chain_keeps_its_caller_and_all_its_grants_end_together() {
    let world = GrantsFixture::new(100);
    world.ask("bandung", "1", world.by("ada"), None);
    world.pass_on("bandung", "lembang", "1");
    world.pass_on("lembang", "subang", "1");
    for link in ["bandung", "lembang", "subang"] {
        assert_eq!(world.caller(link, "1").as_deref(), Some("ada"));
        assert!(world.may_reply(link, "1"), "passing on uses nothing up: {link}");
    }
    world.reply("subang", "1");
    assert!(!world.may_reply("bandung", "1") && !world.may_reply("lembang", "1"));
    assert!(world.is_empty(), "what the chain has asked for is given back at once");
}

#[test]
fn a_link_may_reply_itself_if_the_next_one_is_dead() {
    let world = GrantsFixture::new(100);
    world.ask("bandung", "1", world.by("ada"), None);
    world.pass_on("bandung", "lembang", "1");
    world.pass_on("lembang", "bandung", "1");
    world.reply("bandung", "1");
    world.reply("lembang", "1");
    assert!(!world.may_reply("lembang", "1"), "a circle is used up as well");
}

#[test]
fn replicas_reply_each_for_itself() {
    let world = GrantsFixture::new(100);
    for node in ["a", "b", "c"] {
        world.ask(node, "1", world.by("ada"), None);
    }
    world.reply("a", "1");
    assert!(!world.may_reply("a", "1") && world.may_reply("b", "1") && world.may_reply("c", "1"));
}

#[test]
fn requests_of_two_callers_that_look_alike_are_passed_on_for_neither() {
    let world = GrantsFixture::new(100);
    world.ask("pi", "", world.by("ada"), None);
    assert_eq!(world.caller("pi", "").as_deref(), Some("ada"));
    world.ask("pi", "", world.by("bob"), None);
    assert_eq!(world.caller("pi", ""), None);
    world.reply("pi", "");
    world.reply("pi", "");
    assert!(world.is_empty());
}

#[test]
fn a_flood_of_requests_counts_against_its_asker() {
    let mut world = GrantsFixture::new(90);

    let eve =
        (0..1_000).take_while(|n| world.ask("pi", &n.to_string(), world.by("eve"), Some(3_600))).count();
    assert!((58..=60).contains(&eve), "two thirds: {eve}");
    assert!(!world.grants.may_ask(world.by("eve").asker.as_ref()));
    for number in 0..15 {
        assert!(world.grants.may_ask(world.by("ada").asker.as_ref()), "{number}");
        assert!(world.ask("pi", &format!("ada {number}"), world.by("ada"), None));
        assert!(world.may_reply("pi", &format!("ada {number}")));
    }
    assert!(!world.may_reply("pi", &eve.to_string()), "no grant was given beyond the share");
    world.now += MAX_GRANT_MS;
    world.sweep_all();
    assert!(world.is_empty() && world.grants.may_ask(world.by("eve").asker.as_ref()));
}

#[test]
fn one_turn_sweeps_a_part_of_the_table() {
    let mut world = GrantsFixture::new(10_000);
    for number in 0..5_000 {
        world.ask("pi", &number.to_string(), world.by("ada"), Some(1));
    }
    world.now += 1_000;
    world.grants.sweep(world.now);
    let left = world.grants.count();
    assert!(left > 5_000 / 2 && left < 5_000, "{left}");
    world.sweep_all();
    assert!(world.is_empty());
    assert!(world.grants.shards.iter().all(|shard| shard.lock().capacity() == 0), "memory is given back");
}

#[test]
fn clients_without_a_user_are_counted_by_address() {
    let world = GrantsFixture::new(9);
    let owner = |last: u8| Arc::new(Owner::at(IpAddr::from([127, 0, 0, last])));
    let address = |last| Some(world.grants.asker(&owner(last)));
    let asked = |last| Asked { asker: address(last), ..Asked::default() };
    while world.ask("pi", &world.grants.count().to_string(), asked(1), None) {}
    assert!(!world.grants.may_ask(address(1).as_ref()) && world.grants.may_ask(address(2).as_ref()));
}
