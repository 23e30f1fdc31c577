//! Users who share a ledger: none sees, cancels or hides tasks of another, whatever is lost and in any order.

use rantai_client::shares::CallerKey;
use rantai_client::wire::fault::{Code, Fault};
use serde_json::json;

use super::world::{MINUTE_MS, START_MS, World};
use crate::interface::{Submission, Tasks as _};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::schedule::Timing;
use crate::task::State;

fn user(name: &str) -> CallerKey {
    CallerKey::User(name.parse().expect("a name"))
}

fn client(name: &str) -> CallerKey {
    CallerKey::Client(name.parse().expect("an id"))
}

fn is_unknown(fault: &Fault) -> bool {
    fault.code == Code::FAILED && fault.data["kind"] == "no_such_task"
}

async fn listed(ledger: &Ledger) -> Vec<String> {
    let listed = ledger.list(None, None).await.expect("a list");
    listed.into_iter().map(|summary| summary.id).collect()
}

#[tokio::test]
async fn tasks_are_visible_to_owner_and_admins_only() {
    let mut world = World::quiet(11);
    let options = || Options { delay_ms: MINUTE_MS, ..Options::default() };
    let of_ada = world.submit_by(user("ada"), "printer", options()).await;
    let of_nobody = world.submit_by(client("ada"), "printer", options()).await;
    for stranger in [user("bob"), client("ada"), CallerKey::Unnamed] {
        let ledger = world.ledger_of(stranger.clone());
        let refusals = [
            ledger.get(of_ada.clone()).await.map(drop),
            ledger.cancel(of_ada.clone()).await.map(drop),
            ledger.retry(of_ada.clone()).await.map(drop),
        ];
        for refused in refusals {
            assert!(is_unknown(&refused.expect_err("not theirs")), "{stranger:?}");
        }
        let expected = if stranger == user("bob") { vec![] } else { vec![of_nobody.clone()] };
        assert_eq!(listed(&ledger).await, expected, "{stranger:?}");
    }
    let ada = world.ledger_of(user("ada"));
    assert_eq!(listed(&ada).await, [of_ada.as_str()]);
    assert!(is_unknown(&ada.get(of_nobody.clone()).await.expect_err("nobody's is not hers")));
    let task = ada.get(of_ada.clone()).await.expect("hers");
    assert_eq!((task.user.as_deref(), task.state), (Some("ada"), State::Queued));
    let root = world.ledger_of(user("root"));
    assert_eq!(listed(&root).await, [of_ada.as_str(), of_nobody.as_str()]);
    assert!(root.cancel(of_ada.clone()).await.expect("an admin"));
    assert!(ada.retry(of_ada).await.expect("it was cancelled"));
}

#[tokio::test]
async fn schedules_of_owners_are_separate() {
    let mut world = World::quiet(12);
    let timing = |cron: &str| Timing { cron: cron.to_owned(), zone: "UTC".to_owned(), overlap: true };
    let schedule = async |world: &World, caller: CallerKey, cron: &str| {
        let (object, method) = ("printer".to_owned(), "use".to_owned());
        let ledger = world.ledger_of(caller);
        ledger
            .schedule("daily".to_owned(), timing(cron), object, method, None, None)
            .await
            .expect("a schedule")
    };
    schedule(&world, user("ada"), "* * * * *").await;
    schedule(&world, user("bob"), "*/5 * * * *").await;
    schedule(&world, client("bob"), "*/7 * * * *").await;
    let crons = async |caller: CallerKey, after: Option<&str>| -> Vec<String> {
        let listed = world.ledger_of(caller).schedules(after.map(str::to_owned)).await.expect("a list");
        listed.into_iter().map(|schedule| schedule.timing.cron).collect()
    };
    assert_eq!(crons(user("ada"), None).await, ["* * * * *"]);
    assert_eq!(crons(user("bob"), None).await, ["*/5 * * * *"]);
    assert_eq!(crons(CallerKey::Unnamed, None).await, ["*/7 * * * *"]);
    assert_eq!(crons(user("root"), None).await, ["* * * * *", "*/5 * * * *", "*/7 * * * *"]);
    assert_eq!(crons(user("root"), Some("ada/daily")).await, ["*/5 * * * *", "*/7 * * * *"]);
    assert!(crons(user("bob"), Some("daily")).await.is_empty());
    // The next page begins after the owner and name of the last entry, whoever reads it.
    assert!(crons(user("bob"), Some("bob/daily")).await.is_empty());
    assert_eq!(crons(client("x"), Some("/a")).await, ["*/7 * * * *"]);
    assert_eq!(crons(user("root"), Some("/a")).await.len(), 3);
    for stranger in [user("bob"), client("x")] {
        let ledger = world.ledger_of(stranger);
        let fault = ledger.unschedule("ada/daily".to_owned()).await.expect_err("no admin");
        assert_eq!(fault.code, Code::WRONG_PARAMETERS);
    }
    world.run_until(START_MS + 2 * MINUTE_MS).await;
    let ada = world.ledger_of(user("ada"));
    let made = ada.list(None, None).await.expect("a list");
    assert_eq!(made.len(), 2, "what a schedule makes is its owner's");
    assert!(world.ledger_of(user("root")).unschedule("ada/daily".to_owned()).await.expect("an admin"));
    assert!(world.ledger_of(user("bob")).unschedule("daily".to_owned()).await.expect("his"));
    assert!(!ada.unschedule("daily".to_owned()).await.expect("an answer"));
    // Regression: schedules created before there were users belong to no user, and could never be removed.
    assert!(world.ledger_of(user("root")).unschedule("/daily".to_owned()).await.expect("an admin"));
}

#[tokio::test]
async fn built_in_methods_are_refused_by_every_submission() {
    let world = World::quiet(13);
    let ledger = world.ledger_of(user("root"));
    let method = || "rpc.yield".to_owned();
    let timing = Timing { cron: "* * * * *".to_owned(), zone: "UTC".to_owned(), overlap: true };
    let call = |method: &str| Submission {
        object: "printer".to_owned(),
        method: method.to_owned(),
        params: json!(null),
        options: Options::default(),
    };
    let refusals = [
        ledger.submit("printer".to_owned(), method(), None, None).await.map(drop),
        ledger.submit_all(vec![call("use"), call("rpc.cancel")]).await.map(drop),
        ledger.schedule("s".to_owned(), timing, "printer".to_owned(), method(), None, None).await.map(drop),
    ];
    for refused in refusals {
        let fault = refused.expect_err("refused");
        assert!(fault.code == Code::DENIED && fault.message.contains("built in"), "{fault}");
    }
    assert!(listed(&ledger).await.is_empty(), "all or none");
}

/// Users submit, cancel and read at random while nodes go and the ledger crashes: each sees only its own tasks.
#[tokio::test]
async fn users_never_reach_tasks_of_others_under_losses() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        let users = ["ada", "bob", "eve"];
        let mut ids = Vec::new();
        for round in 0..12 {
            let owner = users[round % 3];
            let options = Options {
                delay_ms: (round as u64 % 4) * MINUTE_MS,
                key: Some(format!("key-{}", round / 3)),
                retries: 2,
                ..Options::default()
            };
            ids.push((owner, world.submit_by(user(owner), "printer", options).await));
        }
        let distinct: std::collections::BTreeSet<_> = ids.iter().map(|(_, id)| id).collect();
        assert_eq!(distinct.len(), 12, "one key of three users is three tasks");
        for minute in 1..8 {
            world.run_until(START_MS + minute * MINUTE_MS).await;
            let stranger = users[minute as usize % 3];
            let ledger = world.ledger_of(user(stranger));
            for (owner, id) in &ids {
                let seen = ledger.get(id.clone()).await;
                assert_eq!(seen.is_ok(), *owner == stranger, "seed {seed}, {stranger} and {owner}");
                if *owner != stranger {
                    assert!(is_unknown(&ledger.cancel(id.clone()).await.expect_err("not theirs")));
                }
            }
            let own = ids.iter().filter(|(owner, _)| *owner == stranger).map(|(_, id)| id.clone());
            assert_eq!(listed(&ledger).await, own.collect::<Vec<_>>(), "seed {seed}");
        }
        world.end_disturbances();
        world.run_until(START_MS + 3 * 60 * MINUTE_MS).await;
        for (owner, id) in &ids {
            let task = world.task(id);
            assert!(task.state.is_ended(), "seed {seed}: {task:?}");
            assert_eq!(task.user.as_deref(), Some(*owner));
        }
        let identities = world.identities();
        assert!(ids.iter().all(|(_, id)| !identities.contains(id)), "no correlation is an id");
    }
}
