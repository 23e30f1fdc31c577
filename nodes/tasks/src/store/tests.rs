//! Tests of the store, on a file and in memory.

use super::super::options::Options;
use super::*;
use rantai_client::shares::ShareLimits;
use serde_json::json;

fn most(tasks: u64) -> KeptLimits {
    KeptLimits { count: ShareLimits::new(tasks), bytes: ShareLimits::new(1 << 20) }
}

fn by(caller: impl Into<String>) -> Submitter {
    Submitter { caller: Some(caller.into()), is_admin: false }
}

fn task(key: Option<&str>) -> Task {
    let options = Options { key: key.map(ToOwned::to_owned), ..Options::default() };
    Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task")
}

#[tokio::test]
async fn tasks_outlive_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tasks.redb");
    let first = task(None);
    {
        let store = Store::open(Some(&file)).expect("a store");
        assert_eq!(store.name("one".to_owned()).await.expect("kept"), "one");
        let stored = store.submit(vec![first.clone()], Submitter::default(), most(10)).await.expect("stored");
        assert_eq!(stored, Submitted::Stored(vec![Stored::New(first.clone())]));
    }
    // The writing thread ends some time after the last handle is dropped.
    let store = loop {
        match Store::open(Some(&file)) {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(store.name("another".to_owned()).await.expect("kept"), "one");
    assert_eq!(store.get(first.uuid()).expect("read"), Some(first));
}

#[tokio::test]
async fn key_belongs_to_one_task_until_it_is_removed() {
    let store = Store::open(None).expect("a store");
    let first = task(Some("daily"));
    let one =
        async |task: Task| store.submit(vec![task], Submitter::default(), most(2)).await.expect("an answer");
    assert_eq!(one(first.clone()).await, Submitted::Stored(vec![Stored::New(first.clone())]));
    assert_eq!(one(task(Some("daily"))).await, Submitted::Stored(vec![Stored::Before(first.clone())]));
    assert!(matches!(one(task(None)).await, Submitted::Stored(_)));
    assert_eq!(one(task(None)).await, Submitted::Full);
    let end = |mut task: Task| {
        task.end(State::Succeeded, 5_000);
        Some(task)
    };
    assert!(store.change(first.uuid(), end).await.expect("stored").is_some());
    assert!(
        store.update(first.clone(), most(9)).await.expect("stored").is_none(),
        "what has ended has ended"
    );
    assert_eq!(store.forget(5_000).await.expect("nothing yet"), 0);
    assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
    assert_eq!(store.get(first.uuid()).expect("read"), None);
    assert!(
        matches!(&one(task(Some("daily"))).await, Submitted::Stored(s) if matches!(s[0], Stored::New(_)))
    );
    assert_eq!(store.list(None, 10, is_open).expect("read").len(), 2);
}

#[tokio::test]
async fn reused_key_with_another_call_is_refused() {
    let store = Store::open(None).expect("a store");
    let first = task(Some("daily"));
    assert!(matches!(
        store.submit(vec![first.clone()], Submitter::default(), most(9)).await,
        Ok(Submitted::Stored(_))
    ));
    let other = || {
        let options = Options { key: Some("daily".to_owned()), ..Options::default() };
        Task::new(Uuid::now_v7(), "pages", "add", json!([1, 3]), options, 1_000).expect("a task")
    };
    let reused = Submitted::Reused { key: "daily".to_owned(), id: first.id.clone() };
    assert_eq!(
        store.submit(vec![task(None), other()], Submitter::default(), most(9)).await.expect("an answer"),
        reused
    );
    let again = || Task { options: Options { retries: 7, ..first.options.clone() }, ..task(Some("daily")) };
    let stored = Submitted::Stored(vec![Stored::Before(first.clone())]);
    assert_eq!(
        store.submit(vec![again()], Submitter::default(), most(9)).await.expect("an answer"),
        stored,
        "options may differ"
    );
    let both = |key: &str| {
        let keyed = |mut task: Task| {
            task.options.key = Some(key.to_owned());
            task
        };
        vec![keyed(task(None)), keyed(other())]
    };
    let among = store.submit(both("weekly"), Submitter::default(), most(9)).await.expect("an answer");
    assert!(matches!(among, Submitted::Reused { key, .. } if key == "weekly"), "in one submission");
    assert_eq!(store.list(None, 10, is_open).expect("read"), [first]);
}

#[tokio::test]
async fn retried_task_is_not_ended_by_an_earlier_run() {
    let store = Store::open(None).expect("a store");
    let mut run = task(None);
    assert!(matches!(
        store.submit(vec![run.clone()], Submitter::default(), most(2)).await,
        Ok(Submitted::Stored(_))
    ));
    (run.state, run.runs) = (State::Running, 1);
    assert!(store.update(run.clone(), most(9)).await.expect("stored").is_some());
    let change = async |change: fn(&mut Task)| {
        let changed = move |mut task: Task| {
            change(&mut task);
            Some(task)
        };
        store.change(run.uuid(), changed).await.expect("stored").expect("known")
    };
    change(|task| task.end(State::Cancelled, 5_000)).await;
    let again = change(|task| task.take_up(5_500)).await;
    assert_eq!((again.state, again.runs, again.ended_ms), (State::Queued, 1, None));
    run.end(State::Succeeded, 6_000);
    assert!(store.update(run.clone(), most(9)).await.expect("an answer").is_none(), "that run was given up");
    assert_eq!(store.get(run.uuid()).expect("read"), Some(again));
}

#[tokio::test]
async fn submission_is_stored_completely_or_not_at_all() {
    let store = Store::open(None).expect("a store");
    let after = |before: &str| {
        let options = Options { after: vec![before.to_owned()], ..Options::default() };
        Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task")
    };
    let all =
        async |tasks: Vec<Task>| store.submit(tasks, Submitter::default(), most(3)).await.expect("an answer");
    let nobody = Uuid::new_v4().simple().to_string();
    assert_eq!(all(vec![task(None), after(&nobody)]).await, Submitted::Unknown(nobody));
    assert_eq!(all(vec![after("#0"), task(None)]).await, Submitted::Unknown("#0".to_owned()));
    assert_eq!(all((0..4).map(|_| task(Some("k"))).collect()).await, {
        let first = store.list(None, 1, is_open).expect("read").remove(0);
        let again = || Stored::Before(first.clone());
        Submitted::Stored(vec![Stored::New(first.clone()), again(), again(), again()])
    });
    assert_eq!(all(vec![task(None), after("#0"), task(None)]).await, Submitted::Full);
    assert_eq!(store.list(None, 10, is_open).expect("read").len(), 1, "nothing of what was refused");
    let Submitted::Stored(stored) = all(vec![task(None), after("#0")]).await else { panic!("stored") };
    assert_eq!(stored[1].task().options.after, [stored[0].task().id.clone()]);
}

#[tokio::test]
async fn dependency_of_a_waiting_task_is_not_removed() {
    let store = Store::open(None).expect("a store");
    let options = Options { after: vec!["#0".to_owned()], ..Options::default() };
    let second = Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task");
    let stored =
        store.submit(vec![task(None), second], Submitter::default(), most(3)).await.expect("an answer");
    let Submitted::Stored(stored) = stored else { panic!("stored") };
    let end = async |stored: &Stored| {
        let end = |mut task: Task| {
            task.end(State::Succeeded, 5_000);
            Some(task)
        };
        store.change(stored.task().uuid(), end).await.expect("stored").expect("known");
    };
    end(&stored[0]).await;
    assert_eq!(store.forget(9_000).await.expect("nothing yet"), 0);
    assert!(store.get(stored[0].task().uuid()).expect("read").is_some());
    end(&stored[1]).await;
    assert_eq!(store.forget(9_000).await.expect("forgotten"), 2);
}

#[tokio::test]
async fn tasks_are_stored_once_a_full_disk_has_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let (opener, switch) = commit::faulty::file(&directory.path().join("tasks.redb"));
    let store = Store::open_with(opener).expect("a store");
    let before = task(None);
    store.submit(vec![before.clone()], Submitter::default(), most(10)).await.expect("stored");
    switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused =
        store.submit(vec![task(Some("late"))], Submitter::default(), most(10)).await.expect_err("full");
    assert!(refused.is_retryable(), "{refused}");
    switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
    let stored = loop {
        match store.submit(vec![task(Some("late"))], Submitter::default(), most(10)).await {
            Ok(stored) => break stored,
            Err(error) => tokio::time::sleep(error.retry_after()).await,
        }
    };
    let Submitted::Stored(stored) = stored else { panic!("stored") };
    assert_eq!(store.get(before.uuid()).expect("read"), Some(before));
    assert_eq!(
        store.list(None, 10, is_open).expect("read").len(),
        2,
        "nothing lost, nothing twice: {stored:?}"
    );
}

/// Regression: 20,000 tasks with an `at_ms` far ahead filled the ledger, and everybody else was answered busy for a
/// day.
#[tokio::test]
async fn one_caller_keeps_at_most_two_thirds_of_the_tasks_and_forgotten_ones_make_room() {
    let store = Store::open(None).expect("a store");
    let submit = async |caller: &str, count: usize| {
        let tasks: Vec<Task> = (0..count).map(|_| task(None)).collect();
        store.submit(tasks, by(caller), most(8)).await.expect("an answer")
    };
    let Submitted::Stored(stored) = submit("greedy", 6).await else { panic!("its share") };
    assert_eq!(submit("greedy", 1).await, Submitted::OverShare);
    assert!(matches!(submit("honest", 1).await, Submitted::Stored(_)));
    assert_eq!(submit("honest", 2).await, Submitted::Full);
    let id = stored[0].task().uuid();
    let end = |mut task: Task| {
        task.end(State::Succeeded, 5_000);
        Some(task)
    };
    assert!(store.change(id, end).await.expect("stored").is_some());
    assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
    // Five tasks of its own and one of another are kept, and two places are free.
    assert_eq!(submit("greedy", 1).await, Submitted::OverShare);
    assert!(matches!(submit("honest", 1).await, Submitted::Stored(_)));
    // Tasks that the ledger creates by itself, for schedules, have no share.
    let own = store.submit(vec![task(None)], Submitter::default(), most(8)).await.expect("an answer");
    assert!(matches!(own, Submitted::Stored(_)));
}

#[tokio::test]
async fn bytes_are_shared_like_tasks_and_a_repeated_key_is_free() {
    let store = Store::open(None).expect("a store");
    let limits = KeptLimits { count: ShareLimits::new(100), bytes: ShareLimits::new(9_000) };
    let large = |key: &str| {
        let options = Options { key: Some(key.to_owned()), ..Options::default() };
        let params = json!(["x".repeat(3_000)]);
        Task::new(Uuid::now_v7(), "pages", "add", params, options, 1_000).expect("a task")
    };
    let submit = async |caller: &str, key: &str| {
        store.submit(vec![large(key)], by(caller), limits).await.expect("an answer")
    };
    assert!(matches!(submit("greedy", "one").await, Submitted::Stored(_)));
    assert_eq!(submit("greedy", "two").await, Submitted::OverShare);
    assert!(matches!(submit("greedy", "one").await, Submitted::Stored(_)), "it is there already");
    assert!(matches!(submit("honest", "three").await, Submitted::Stored(_)));
    assert_eq!(submit("third", "four").await, Submitted::Full);
}

/// The amounts are not stored on disk themselves, but computed from the tasks and schedules.
#[tokio::test]
async fn amounts_of_callers_are_restored_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tasks.redb");
    let submit = async |store: &Store, caller: &str, count: usize| {
        let tasks: Vec<Task> = (0..count).map(|_| task(None)).collect();
        store.submit(tasks, by(caller), most(8)).await.expect("an answer")
    };
    let id = {
        let store = Store::open(Some(&file)).expect("a store");
        let Submitted::Stored(stored) = submit(&store, "greedy", 6).await else { panic!("its share") };
        assert_eq!(submit(&store, "greedy", 1).await, Submitted::OverShare);
        stored[0].task().uuid()
    };
    // The writing thread ends some time after the last handle is dropped.
    let store = loop {
        match Store::open(Some(&file)) {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert_eq!(submit(&store, "greedy", 1).await, Submitted::OverShare);
    assert!(matches!(submit(&store, "honest", 2).await, Submitted::Stored(_)));
    // The result counts as well, and is released with its task.
    let end = |mut task: Task| {
        task.result = Some(json!("x".repeat(1_000)));
        task.end(State::Succeeded, 5_000);
        Some(task)
    };
    let ended = store.change(id, end).await.expect("stored").expect("known");
    let owner = ended.owner.expect("it has one");
    assert_eq!(owner.caller, "greedy");
    assert!((1_000..2_000).contains(&owner.bytes), "{owner:?}");
    assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
    assert_eq!(submit(&store, "greedy", 1).await, Submitted::OverShare, "five of its own, and one free");
    assert!(matches!(submit(&store, "third", 1).await, Submitted::Stored(_)));
}

#[tokio::test]
async fn failed_write_counts_against_no_caller() {
    let directory = tempfile::tempdir().expect("a directory");
    let (opener, switch) = commit::faulty::file(&directory.path().join("tasks.redb"));
    let store = Store::open_with(opener).expect("a store");
    let submit = async || store.submit(vec![task(None)], by("greedy"), most(8)).await;
    switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..20 {
        submit().await.expect_err("full");
    }
    switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
    let mut stored = 0;
    while stored < 6 {
        match submit().await {
            Ok(submitted) => {
                assert!(matches!(submitted, Submitted::Stored(_)), "{stored}: {submitted:?}");
                stored += 1;
            }
            Err(error) => tokio::time::sleep(error.retry_after()).await,
        }
    }
    assert_eq!(submit().await.expect("an answer"), Submitted::OverShare);
}

/// Submissions in one commit are counted one after the other, including those that were cancelled.
#[tokio::test]
async fn submissions_at_the_same_time_stay_within_the_share() {
    let store = Store::open(None).expect("a store");
    let submit = |count: usize| {
        let tasks: Vec<Task> = (0..count).map(|_| task(None)).collect();
        let store = store.clone();
        async move { store.submit(tasks, by("greedy"), most(60)).await.expect("an answer") }
    };
    let all: Vec<_> = (0..60).map(|_| tokio::spawn(submit(1))).collect();
    let mut stored = 0;
    for one in all {
        stored += usize::from(matches!(one.await.expect("an answer"), Submitted::Stored(_)));
    }
    assert_eq!(stored, 40);
    let tasks: Vec<Task> = (0..5).map(|_| task(None)).collect();
    let given_up =
        tokio::time::timeout(std::time::Duration::ZERO, store.submit(tasks, by("hasty"), most(60)));
    // Sometimes the writing thread is faster than the cancellation.
    let _ = given_up.await;
    // Written after it, and therefore on disk after it.
    assert!(matches!(store.forget(0).await, Ok(0)));
    assert_eq!(store.list(None, 99, is_open).expect("read").len(), 45);
    let more = store.submit((0..10).map(|_| task(None)).collect(), by("hasty"), most(60));
    assert_eq!(more.await.expect("an answer"), Submitted::OverShare, "ten alone would be within its share");
}

fn of(user: Option<&str>, key: Option<&str>) -> Task {
    Task { user: user.map(str::to_owned), ..task(key) }
}

#[tokio::test]
async fn keys_of_owners_are_separate() {
    let store = Store::open(None).expect("a store");
    let submit =
        async |task: Task| match store.submit(vec![task], by("x"), most(100)).await.expect("an answer") {
            Submitted::Stored(mut stored) => stored.remove(0),
            other => panic!("{other:?}"),
        };
    let mut first = Vec::new();
    for user in [None, Some("ada"), Some("bob")] {
        let Stored::New(task) = submit(of(user, Some("daily"))).await else {
            panic!("a key of its own: {user:?}")
        };
        assert!(
            matches!(submit(of(user, Some("daily"))).await, Stored::Before(known) if known.id == task.id)
        );
        first.push(task);
    }
    let end = |mut task: Task| {
        task.end(State::Succeeded, 5_000);
        Some(task)
    };
    store.change(first[1].uuid(), end).await.expect("stored").expect("known");
    assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
    assert!(matches!(submit(of(Some("ada"), Some("daily"))).await, Stored::New(_)), "it was forgotten");
    assert!(
        matches!(submit(of(None, Some("daily"))).await, Stored::Before(known) if known.id == first[0].id)
    );
    assert!(
        matches!(submit(of(Some("bob"), Some("daily"))).await, Stored::Before(known) if known.id == first[2].id)
    );
}

#[tokio::test]
async fn key_of_a_user_in_a_file_of_an_earlier_version_is_found() {
    let store = Store::open(None).expect("a store");
    let old =
        Task { owner: Some(Owner { caller: "user \"ada\"".to_owned(), bytes: 500 }), ..task(Some("daily")) };
    let row = old.clone();
    let put = move |transaction: &WriteTransaction| {
        transaction.open_table(TASKS)?.insert(row.uuid().as_bytes(), &*write(&row))?;
        transaction.open_table(KEYS)?.insert("daily", row.uuid().as_bytes())?;
        Ok(())
    };
    store.committer.write(put).await.expect("stored");
    assert_eq!(store.get(old.uuid()).expect("read").expect("known").user.as_deref(), Some("ada"));
    let submit =
        async |user| store.submit(vec![of(user, Some("daily"))], by("x"), most(9)).await.expect("an answer");
    for (user, is_known) in [(Some("ada"), true), (Some("bob"), false), (None, false)] {
        let Submitted::Stored(stored) = submit(user).await else { panic!("{user:?}") };
        assert_eq!(matches!(&stored[0], Stored::Before(known) if known.id == old.id), is_known, "{user:?}");
    }
}

#[tokio::test]
async fn task_after_one_of_another_user_is_refused_as_unknown() {
    let store = Store::open(None).expect("a store");
    let before = of(Some("ada"), None);
    assert!(matches!(store.submit(vec![before.clone()], by("ada"), most(9)).await, Ok(Submitted::Stored(_))));
    let after = |user| {
        let mut task = of(user, None);
        task.options.after = vec![before.id.clone()];
        vec![task]
    };
    for user in [Some("bob"), None] {
        let submitted = store.submit(after(user), by("bob"), most(9)).await.expect("an answer");
        assert_eq!(submitted, Submitted::Unknown(before.id.clone()));
    }
    let admin = Submitter { is_admin: true, ..by("root") };
    for (user, submitter) in [(Some("ada"), by("ada")), (Some("root"), admin)] {
        let submitted = store.submit(after(user), submitter, most(9)).await.expect("an answer");
        assert!(matches!(submitted, Submitted::Stored(_)));
    }
}

/// Regression: only the size as submitted was counted, so that results of 256 KiB for a million tasks fit into 4 GiB.
#[tokio::test]
async fn result_without_room_is_not_kept_and_costs_its_own_task() {
    let store = Store::open(None).expect("a store");
    let limits = KeptLimits { count: ShareLimits::new(100), bytes: ShareLimits::new(90_000) };
    let run = async |caller: &str, bytes: usize| {
        let new = vec![task(None)];
        let Submitted::Stored(mut stored) = store.submit(new, by(caller), limits).await.expect("an answer")
        else {
            panic!("there is room for what is submitted")
        };
        let mut task = stored.remove(0).into_task();
        task.result = Some("x".repeat(bytes).into());
        task.end(State::Succeeded, 5_000);
        store.update(task, limits).await.expect("stored").expect("it had not ended")
    };
    let kind = |task: &Task| task.error.as_ref().map(|error| error["data"]["kind"].clone());
    for _ in 0..2 {
        assert_eq!(run("greedy", 25_000).await.state, State::Succeeded);
    }
    let over = run("greedy", 25_000).await;
    assert_eq!((over.state, over.result.clone(), kind(&over)), (State::Failed, None, Some(json!("full"))));
    assert_eq!(store.get(over.uuid()).expect("read"), Some(over.clone()), "as it is told");
    assert_eq!(run("honest", 20_000).await.state, State::Succeeded, "there is room for others");
    assert_eq!(store.forget(5_001).await.expect("forgotten"), 4);
    assert_eq!(run("greedy", 50_000).await.state, State::Succeeded, "all was given back");
}

#[tokio::test]
async fn error_that_is_too_large_is_cut() {
    let store = Store::open(None).expect("a store");
    let mut run = task(None);
    assert!(matches!(store.submit(vec![run.clone()], by("x"), most(9)).await, Ok(Submitted::Stored(_))));
    run.error = Some(json!({"code": -32000, "message": "é".repeat(500_000), "data": {}}));
    run.end(State::Failed, 5_000);
    let kept = store.update(run, most(9)).await.expect("stored").expect("it had not ended");
    let error = kept.error.expect("it failed");
    assert!(error.to_string().len() < 4_000 && error["code"] == -32000, "{error}");
}
