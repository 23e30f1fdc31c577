//! Comparison of the rules with a simple reference, which keeps filters as text and checks each topic of a small set.

use fastrand::Rng;
use rantai_access::{
    Action, Effect, Index, Outcome, Refusal, Rule, RuleAccess, RuleFilter, Source, Subject, Syntax, Table,
    UserRecord, Who,
};

const LEVELS: [&str; 6] = ["a", "b", "ab", "z", "ada", "c1"];
const ADA: Who<'_> = Who { user: Some("ada"), client_id: "c1" };

/// Returns every topic of up to three levels. `z` is in no filter: it stands for all texts that no filter names.
fn world() -> Vec<String> {
    let firsts: Vec<String> = LEVELS.iter().chain(&["$s"]).map(ToString::to_string).collect();
    let longer = |topics: &[String]| -> Vec<String> {
        topics.iter().flat_map(|topic| LEVELS.iter().map(move |level| format!("{topic}/{level}"))).collect()
    };
    let seconds = longer(&firsts);
    let thirds = longer(&seconds);
    [firsts, seconds, thirds].concat()
}

/// Returns a random filter of at most two levels, with or without a `#` behind them.
fn random_filter(rng: &mut Rng, levels: &[&str]) -> String {
    let pick = |rng: &mut Rng| levels[rng.usize(..levels.len())].to_owned();
    let first = if rng.u8(..8) == 0 { "$s".to_owned() } else { pick(rng) };
    match rng.u8(..6) {
        0 => "#".to_owned(),
        1 => first,
        2 => first + "/#",
        3 => format!("{first}/{}/#", pick(rng)),
        _ => format!("{first}/{}", pick(rng)),
    }
}

const PLAIN: [&str; 4] = ["a", "b", "ab", "+"];
const EXTENDED: [&str; 7] = ["a", "b", "ab", "+", "a*", "%u", "%c"];

/// Returns whether the filter of a rule matches a topic, comparing texts.
fn matches(filter: &str, topic: &str, who: &Who<'_>) -> bool {
    if filter.contains("%u") && who.user.is_none() {
        return false;
    }
    if filter.contains("%c") && who.client_id.contains(['/', '+', '#']) {
        return false;
    }
    let filter = filter.replace("%u", who.user.unwrap_or_default()).replace("%c", who.client_id);
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    if topic[0].starts_with('$') != filter[0].starts_with('$') {
        return false;
    }
    let named = |wanted: &str, level: &str| match wanted.strip_suffix('*') {
        Some(before) => level.starts_with(before),
        None => wanted == "+" || wanted == level,
    };
    let length = filter.len() - usize::from(filter.ends_with(&["#"]));
    let fits = topic.len() >= length && filter[..length].iter().zip(&topic).all(|(w, l)| named(w, l));
    fits && (length < filter.len() || topic.len() == length)
}

#[test]
fn coverage_and_overlap_agree_with_checking_every_topic() {
    let (world, mut rng) = (world(), Rng::with_seed(7));
    let (mut covered, mut overlapped) = (0, 0);
    for _ in 0..20_000 {
        let (rule, asked) = (random_filter(&mut rng, &EXTENDED), random_filter(&mut rng, &PLAIN));
        let mut index = Index::default();
        index.insert(&RuleFilter::parse(&rule, Syntax::Extended).expect("a filter"), 0);
        let meant: Vec<_> = world.iter().filter(|topic| matches(&asked, topic, &ADA)).collect();
        let covers = meant.iter().all(|topic| matches(&rule, topic, &ADA));
        let overlaps = meant.iter().any(|topic| matches(&rule, topic, &ADA));
        assert_eq!(index.covering(&asked, &ADA).is_some(), covers, "{rule} covers {asked}");
        assert_eq!(index.overlapping(&asked, &ADA).is_some(), overlaps, "{rule} overlaps {asked}");
        covered += usize::from(covers);
        overlapped += usize::from(overlaps);
    }
    assert!(covered > 1000 && overlapped > covered, "{covered} {overlapped}");
}

/// Rule in the form of the reference.
struct Written {
    /// Clients that the rule applies to: a user, `nobody`, `everyone`, or the role of ada.
    whose: &'static str,
    deny: bool,
    access: RuleAccess,
    filter: String,
}

fn random_rules(rng: &mut Rng) -> Vec<Written> {
    let rule = |rng: &mut Rng| {
        let deny = rng.u8(..4) == 0;
        let accesses = [RuleAccess::Read, RuleAccess::Write, RuleAccess::ReadWrite];
        let whose = ["ada", "bob", "nobody", "everyone", "role"][rng.usize(..5)];
        Written { whose, deny, access: accesses[rng.usize(..3)], filter: random_filter(rng, &EXTENDED) }
    };
    (0..rng.usize(..14)).map(|_| rule(rng)).collect()
}

fn table(rules: &[Written]) -> Table {
    let source = || Source::Role { role: "role".into(), entry: "test".into() };
    let mut builder = Table::builder().user(UserRecord::new("ada").expect("a name").roles(["role"]));
    let mut of_role = Vec::new();
    for written in rules {
        let filter = RuleFilter::parse(&written.filter, Syntax::Extended).expect("a filter");
        let effect = if written.deny { Effect::Deny } else { Effect::Allow };
        let rule = Rule::new(effect, written.access, filter, source()).expect("a rule");
        let subject = match written.whose {
            "role" => {
                of_role.push(rule);
                continue;
            }
            "nobody" => Subject::Nobody,
            "everyone" => Subject::Everyone,
            user => Subject::User(user.to_owned()),
        };
        builder = builder.rule(subject, rule);
    }
    builder.role("role", of_role).build().expect("a table")
}

/// Returns the decision of the reference: the client's rules come before those for everyone, and in each of the two
/// ranks, rules that deny come before rules that allow.
fn expected(rules: &[Written], who: &Who<'_>, write: bool, topic: &str) -> bool {
    let own = |rule: &&Written| match rule.whose {
        "role" => who.user == Some("ada"),
        "nobody" => who.user.is_none(),
        whose => who.user == Some(whose),
    };
    let about = |rule: &&Written| {
        let other = if write { RuleAccess::Read } else { RuleAccess::Write };
        rule.access != other && matches(&rule.filter, topic, who)
    };
    let fits = !who.client_id.contains(['+', '#']);
    let ranks: [Vec<&Written>; 2] = [
        rules.iter().filter(own).collect(),
        rules.iter().filter(|rule| rule.whose == "everyone" && fits).collect(),
    ];
    for rank in ranks {
        let mut hits = rank.into_iter().filter(about).peekable();
        if hits.peek().is_some() {
            return hits.all(|rule| !rule.deny);
        }
    }
    false
}

const CLIENTS: [Who<'_>; 5] = [
    ADA,
    Who { user: Some("bob"), client_id: "ada" },
    Who { user: None, client_id: "ab" },
    Who { user: Some("bob"), client_id: "x/y" },
    Who { user: Some("ada"), client_id: "x+" },
];

#[test]
fn a_million_decisions_agree_with_the_reference() {
    let (world, mut rng) = (world(), Rng::with_seed(15));
    let mut allowed = 0;
    for _ in 0..2500 {
        let rules = random_rules(&mut rng);
        let table = table(&rules);
        for _ in 0..400 {
            let (who, topic) = (CLIENTS[rng.usize(..CLIENTS.len())], &world[rng.usize(..world.len())]);
            let write = rng.bool();
            let action = if write { Action::Publish(topic) } else { Action::Deliver(topic) };
            let decision = table.decide(&who, action);
            let by_reference = expected(&rules, &who, write, topic);
            assert_eq!(decision.is_allowed(), by_reference, "{}", table.explain(&who, action));
            assert!(decision.by.is_some() || decision.outcome == Outcome::Refused(Refusal::NoRule));
            allowed += usize::from(by_reference);
        }
    }
    assert!((100_000..900_000).contains(&allowed), "{allowed}");
}

#[test]
fn granted_subscriptions_agree_with_checks_at_delivery() {
    let (world, mut rng) = (world(), Rng::with_seed(3));
    let mut counts = [0; 3];
    for _ in 0..4000 {
        let rules = random_rules(&mut rng);
        let table = table(&rules);
        for _ in 0..5 {
            let (who, filter) = (CLIENTS[rng.usize(..CLIENTS.len())], random_filter(&mut rng, &PLAIN));
            let meant: Vec<_> = world.iter().filter(|topic| matches(&filter, topic, &who)).collect();
            let kept = |topic: &&String| expected(&rules, &who, false, topic);
            let outcome = table.decide(&who, Action::Subscribe(&filter)).outcome;
            let shared = table.decide(&who, Action::Subscribe(&format!("$share/g/{filter}"))).outcome;
            match outcome {
                Outcome::Allowed => assert!(meant.iter().all(&kept), "{filter}"),
                Outcome::Refused(_) => assert!(!meant.iter().any(kept), "{filter}"),
                _ => {}
            }
            let same = outcome == Outcome::Allowed;
            assert_eq!(
                shared == Outcome::Allowed,
                same,
                "{filter}: a group is joined where nothing is looked at again"
            );
            counts[match outcome {
                Outcome::Allowed => 0,
                Outcome::Refused(_) => 1,
                _ => 2,
            }] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}
