//! Comparison of the trie with matching one by one, and removal of filters.

use super::*;

/// Subscriber with a key and a fixed readiness.
#[derive(Clone, Copy, Debug)]
struct Fixed(u64, Readiness);

impl Subscriber for Fixed {
    type Ground = ();

    fn key(&self) -> u64 {
        self.0
    }

    fn readiness(&self, _: QoS, _: u64, (): &()) -> Readiness {
        self.1
    }
}

fn ready(key: u64) -> Fixed {
    Fixed(key, Readiness::Ready)
}

fn subscribe(trie: &mut Subscriptions<Fixed>, subscriber: Fixed, filter: &str, qos: QoS, identifier: u32) {
    let options = Options { qos, ..Options::default() };
    let subscription = Subscription { subscriber, options, identifier: Some(identifier) };
    trie.insert(&filter.into(), subscription, GroupLimits::NONE).expect("no limit");
}

fn found(trie: &Subscriptions<Fixed>, topic: &str) -> Vec<(u64, QoS, Vec<u32>)> {
    let mut targets = Vec::new();
    trie.targets(topic, 0, QoS::AtMostOnce, 0, &(), &mut targets);
    let mut found: Vec<_> = targets
        .into_iter()
        .map(|mut t| {
            t.identifiers.sort_unstable();
            (t.subscriber.key(), t.qos, t.identifiers)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_session_is_one_target_with_the_highest_qos_and_all_identifiers() {
    let mut trie = Subscriptions::default();
    let (a, b) = (ready(1), ready(2));
    subscribe(&mut trie, a, "x/#", QoS::AtMostOnce, 1);
    subscribe(&mut trie, b, "x/y", QoS::AtLeastOnce, 2);
    subscribe(&mut trie, a, "+/y", QoS::ExactlyOnce, 3);
    subscribe(&mut trie, a, "#", QoS::AtLeastOnce, 4);
    assert_eq!(found(&trie, "x/y"), [(1, QoS::ExactlyOnce, vec![1, 3, 4]), (2, QoS::AtLeastOnce, vec![2])]);
    assert_eq!(found(&trie, "x"), [(1, QoS::AtLeastOnce, vec![1, 4])]);
    assert_eq!(found(&trie, "$SYS/y"), []);
}

#[test]
fn removed_filters_leave_no_nodes() {
    let mut trie = Subscriptions::default();
    let session = ready(1);
    let filters = ["a/b/c", "a/+/c", "a/b/#", "#", "+", "$share/g/a/b", "/", "//+"];
    for (number, filter) in filters.into_iter().enumerate() {
        subscribe(&mut trie, session, filter, QoS::AtMostOnce, number as u32 + 1);
    }
    assert_eq!(trie.count(), filters.len());
    for filter in filters {
        trie.remove(filter, 1);
    }
    assert_eq!(trie.count(), 0);
    assert!(trie.root.is_empty());
}

#[test]
fn the_trie_agrees_with_matching_one_by_one() {
    let mut trie = Subscriptions::default();
    let levels = ["a", "b", "+", "", "$x"];
    let mut filters = vec!["#".to_owned()];
    for one in levels {
        filters.push(one.to_owned());
        filters.push(format!("{one}/#"));
        for two in levels {
            filters.push(format!("{one}/{two}"));
        }
    }
    filters.retain(|f| topic::valid_filter(f, 128));
    let sessions: Vec<_> = (1..=filters.len() as u64).map(ready).collect();
    for (session, filter) in sessions.iter().zip(&filters) {
        subscribe(&mut trie, *session, filter, QoS::AtMostOnce, 1);
    }
    for topic in ["a", "a/b", "b/a", "/", "a/", "/a", "$x", "$x/a", "a/b/a", "b"] {
        let expected: Vec<u64> = sessions
            .iter()
            .zip(&filters)
            .filter(|(_, filter)| rantai_topics::matches(filter, topic))
            .map(|(session, _)| session.key())
            .collect();
        let got: Vec<u64> = found(&trie, topic).into_iter().map(|(key, ..)| key).collect();
        assert_eq!(got, expected, "{topic:?}");
    }
}

#[test]
fn a_shared_group_prefers_ready_members_and_takes_full_ones_last() {
    let mut trie = Subscriptions::default();
    let members = [
        Fixed(1, Readiness::Full),
        Fixed(2, Readiness::Gone),
        Fixed(3, Readiness::Waiting),
        Fixed(4, Readiness::Ready),
        Fixed(5, Readiness::Away),
        Fixed(6, Readiness::Stalled),
    ];
    for (number, &member) in members.iter().enumerate() {
        subscribe(&mut trie, member, "$share/g/a", QoS::AtLeastOnce, number as u32 + 1);
    }
    for expected in [4, 3, 6, 5, 1] {
        for _ in 0..8 {
            let keys: Vec<u64> = found(&trie, "a").into_iter().map(|(key, ..)| key).collect();
            assert_eq!(keys, [expected]);
        }
        trie.remove("$share/g/a", expected);
    }
    assert!(found(&trie, "a").is_empty(), "nothing can be delivered to who is gone");
}

#[test]
fn absent_members_do_not_increase_the_share_of_the_next_member() {
    let mut trie = Subscriptions::default();
    for key in 1..=6 {
        let readiness = if key <= 4 { Readiness::Away } else { Readiness::Ready };
        subscribe(&mut trie, Fixed(key, readiness), "$share/g/a", QoS::AtLeastOnce, 1);
    }
    let mut parts = [0; 7];
    for _ in 0..60 {
        parts[found(&trie, "a")[0].0 as usize] += 1;
    }
    assert_eq!(parts, [0, 0, 0, 0, 0, 30, 30]);
}

/// Once, ten thousand members that acknowledge nothing were all asked for each publish.
#[test]
fn the_number_of_members_asked_is_bounded_if_none_is_ready() {
    let mut trie = Subscriptions::default();
    for key in 1..=1_000 {
        subscribe(&mut trie, Fixed(key, Readiness::Waiting), "$share/g/a", QoS::AtLeastOnce, 1);
        subscribe(&mut trie, Fixed(key, Readiness::Stalled), "$share/g/c", QoS::AtLeastOnce, 1);
        subscribe(&mut trie, Fixed(key, Readiness::Full), "$share/full/b", QoS::AtLeastOnce, 1);
    }
    let steps = |trie: &Subscriptions<Fixed>, topic| {
        let mut targets = Vec::new();
        let steps = trie.targets(topic, 0, QoS::AtLeastOnce, 0, &(), &mut targets);
        (targets[0].subscriber, steps)
    };
    assert!(steps(&trie, "a").1 < 100 && steps(&trie, "c").1 < 100);
    // A member with room is found after any number of members without.
    subscribe(&mut trie, Fixed(1_001, Readiness::Away), "$share/full/b", QoS::AtLeastOnce, 1);
    let (chosen, steps) = steps(&trie, "b");
    assert_eq!((chosen.key(), steps > 1_000), (1_001, true));
}

#[test]
fn groups_on_one_filter_are_bounded_for_all_and_for_each_session() {
    let mut trie = Subscriptions::default();
    let limits = GroupLimits { filter: 3, session: 2 };
    let mut join = |key: u64, filter: &str| {
        let subscription =
            Subscription { subscriber: ready(key), options: Options::default(), identifier: None };
        trie.insert(&filter.into(), subscription, limits)
    };
    assert_eq!(join(1, "$share/a/x"), Ok(()));
    assert_eq!(join(1, "$share/b/x"), Ok(()));
    assert_eq!(join(1, "$share/b/x"), Ok(()), "the same again");
    assert_eq!(join(1, "$share/c/x"), Err(TooManyGroups), "two a session");
    assert_eq!(join(1, "$share/c/y"), Ok(()), "another filter");
    assert_eq!(join(2, "$share/c/x"), Ok(()));
    assert_eq!(join(3, "$share/d/x"), Err(TooManyGroups), "three a filter");
    assert_eq!(join(3, "$share/a/x"), Ok(()), "a group that is there");
    assert_eq!(trie.count(), 5);
    for (key, filter) in
        [(1, "$share/a/x"), (1, "$share/b/x"), (1, "$share/c/y"), (2, "$share/c/x"), (3, "$share/a/x")]
    {
        trie.remove(filter, key);
        trie.remove(filter, key);
    }
    assert_eq!(trie.count(), 0);
    assert!(trie.root.is_empty());
}
