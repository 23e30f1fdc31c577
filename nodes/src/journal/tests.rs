//! Tests of the journal by itself, on files and on a disk that fails.

use std::sync::atomic::Ordering;

use super::*;
use rantai_client::wire::name::Root;
use rantai_client::wire::topic::ReplyTopic;
use rantai_commit::faulty;
use serde_json::json;

fn identity(id: u8) -> Identity {
    let reply_to = ReplyTopic::named(&Root::default(), "rantai/reply/ledger/me").expect("a reply topic");
    Identity::new("ledger", &request::Identity { reply_to: &reply_to, id: &[id; 16], hops: 0 })
}

async fn begun(journal: &Journal, id: u8, now: u64) -> Result<Begun, Fault> {
    let (identity, holders) = (identity(id), journal.holders.clone());
    let job = move |transaction: &WriteTransaction| {
        begin(transaction, &identity, [7; 16], now, "me", &holders, &mut Changes::default())
    };
    let begun = journal.committer.write(job).await.expect("written");
    begun.map_err(|refused| match refused {
        JournalRefusal::Fault(fault) => *fault,
        JournalRefusal::OverShare => panic!("there is room"),
    })
}

#[tokio::test]
async fn recorded_result_is_kept_for_its_time() {
    let journal = Arc::new(Journal::in_memory(Environment::default()).expect("a journal"));
    assert_eq!(begun(&journal, 1, 1_000).await, Ok(Begun::New));
    journal.end(&identity(1), &Ok(Answer::Value(json!(5)))).await.expect("written");
    let kept = Begun::Before(Box::new(Ok(Answer::Value(json!(5)))));
    let last = 1_000 + KEPT_TIME.as_secs() - 1;
    assert_eq!(begun(&journal, 1, last).await, Ok(kept));
    assert_eq!(begun(&journal, 1, last + 1).await, Ok(Begun::New));
}

#[tokio::test]
async fn every_kind_of_result_is_returned_to_a_repeat() {
    let journal = Arc::new(Journal::in_memory(Environment::default()).expect("a journal"));
    let ends = [
        Ok(Answer::Value(json!({"a": [1, null]}))),
        Ok(Answer::Binary(vec![0, 255].into())),
        Err(Fault::failed("no_book", "which?")),
    ];
    for (id, end) in ends.into_iter().enumerate() {
        let id = id as u8;
        assert_eq!(begun(&journal, id, 0).await, Ok(Begun::New));
        journal.end(&identity(id), &end).await.expect("written");
        assert_eq!(begun(&journal, id, 1).await, Ok(Begun::Before(Box::new(end))));
    }
    assert_eq!(begun(&journal, 100, 0).await, Ok(Begun::New));
    journal
        .end(&identity(100), &Ok(Answer::Binary(vec![0; MAX_RESULT_BYTES + 1].into())))
        .await
        .expect("written");
    let error = begun(&journal, 100, 1).await.expect_err("not kept");
    assert_eq!(error.code, Code::IDENTITY_REUSED);
}

fn on_a_faulty_disk() -> (tempfile::TempDir, Arc<Journal>, Arc<faulty::Switch>) {
    let folder = tempfile::tempdir().expect("a directory");
    let (opener, switch) = faulty::file(&folder.path().join("once.redb"));
    (folder, Arc::new(Journal::open_with(opener, Environment::default()).expect("a journal")), switch)
}

async fn begun_at_last(journal: &Journal, id: u8) -> Begun {
    loop {
        match journal.begin(&identity(id), [7; 16], &CallerKey::Unnamed).await {
            Ok(begun) => return begun,
            Err(fault) => assert_eq!(fault.code, Code::BUSY, "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn result_is_recorded_after_a_full_disk_has_room() {
    let (_folder, journal, switch) = on_a_faulty_disk();
    assert_eq!(begun_at_last(&journal, 1).await, Begun::New);
    switch.full.store(true, Ordering::Relaxed);
    let answer = Ok(Answer::Value(json!(5)));
    let ending = tokio::spawn({
        let (journal, answer) = (journal.clone(), answer.clone());
        async move { journal.end(&identity(1), &answer).await }
    });
    while journal.ending.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    // No other calls are started while the disk is full.
    let fault = journal.begin(&identity(2), [7; 16], &CallerKey::Unnamed).await.expect_err("full");
    assert!(fault.code == Code::BUSY && fault.is_retryable(), "{fault}");
    // Simulates the end of the caller's deadline.
    ending.abort();
    assert!(ending.await.is_err_and(|error| error.is_cancelled()));
    let fault =
        journal.begin(&identity(1), [7; 16], &CallerKey::Unnamed).await.expect_err("its end is not written");
    assert_eq!(fault.code, Code::BUSY, "a repeat may come again: {fault}");
    switch.full.store(false, Ordering::Relaxed);
    assert_eq!(begun_at_last(&journal, 1).await, Begun::Before(Box::new(answer)));
    assert_eq!(begun_at_last(&journal, 2).await, Begun::New);
}

/// Regression: the beginning was on disk although its caller was answered busy, so that the repeat failed with
/// `outcome_unknown`.
#[tokio::test]
async fn call_answered_busy_is_executed_by_its_repeat() {
    let mut doubted = 0;
    for writes in [0, 1, 2, 3, 5, 8] {
        let (_folder, journal, switch) = on_a_faulty_disk();
        switch.writes.store(writes, Ordering::Relaxed);
        switch.full.store(true, Ordering::Relaxed);
        switch.gone.store(true, Ordering::Relaxed);
        let mut id = 0;
        let refused = loop {
            id += 1;
            match journal.begin(&identity(id), [7; 16], &CallerKey::Unnamed).await {
                Ok(begun) => assert_eq!(begun, Begun::New),
                Err(fault) => break fault,
            }
        };
        assert_eq!(refused.code, Code::BUSY, "{refused}");
        doubted += journal.doubtful.lock().len();
        switch.full.store(false, Ordering::Relaxed);
        switch.gone.store(false, Ordering::Relaxed);
        assert_eq!(begun_at_last(&journal, id).await, Begun::New, "after {writes} writes");
        assert!(journal.doubtful.lock().is_empty());
    }
    assert!(doubted > 0, "some of the commits are doubtful");
}

#[tokio::test]
async fn concurrent_calls_are_all_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || Journal::open(&directory.path().join("once.redb"), Environment::default());
    let journal = Arc::new(open().expect("a journal"));
    assert!(open().is_err(), "one process at a time");
    let mut calls = tokio::task::JoinSet::new();
    for id in 0..=255 {
        let journal = journal.clone();
        calls.spawn(async move { journal.begin(&identity(id), [7; 16], &CallerKey::Unnamed).await });
    }
    let begun = calls.join_all().await;
    assert!(begun.iter().all(|begun| *begun == Ok(Begun::New)));
}

/// Regression: one caller's million calls kept those of all other callers from being started for a day.
#[tokio::test]
async fn one_caller_does_not_fill_the_journal_and_counts_outlive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("once.redb");
    let open = || Journal::open_within(commit::file(&file), Environment::default(), ShareLimits::new(9));
    let caller = |name: &str| CallerKey::Client(name.parse().expect("an id"));
    let begin = async |journal: &Journal, id: u8, name: &str| {
        journal.begin(&identity(id), [7; 16], &caller(name)).await
    };
    {
        let journal = open().expect("a journal");
        for id in 0..6 {
            assert_eq!(begin(&journal, id, "greedy").await, Ok(Begun::New));
        }
        let fault = begin(&journal, 6, "greedy").await.expect_err("its share");
        assert!(fault.code == Code::BUSY && fault.message.contains("share"), "{fault}");
        assert_eq!(begin(&journal, 7, "honest").await, Ok(Begun::New));
    }
    // The writing thread ends some time after the last handle is dropped.
    let journal = loop {
        match open() {
            Ok(journal) => break journal,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(begin(&journal, 6, "greedy").await.expect_err("its share").code, Code::BUSY);
    assert_eq!(begin(&journal, 8, "honest").await, Ok(Begun::New));
}

/// Regression: a `once` method was executed twice, because the record of a call that an earlier start had begun was
/// taken for that of the repeat.
#[tokio::test]
async fn call_that_an_earlier_start_has_begun_is_not_begun_again_after_a_write_in_doubt() {
    let folder = tempfile::tempdir().expect("a directory");
    let open = || {
        let opener = commit::file(&folder.path().join("once.redb"));
        Journal::simulated(opener, Environment::default()).expect("a journal")
    };
    let caller = CallerKey::Client("me".parse().expect("an id"));
    let (journal, mut commits) = open();
    let one = identity(1);
    let (begun, _) = tokio::join!(journal.begin(&one, [7; 16], &caller), async { commits.commit() });
    assert_eq!(begun, Ok(Begun::New));
    drop((journal, commits));
    let (journal, mut commits) = open();
    let doubt = DiskError::Unknown(Arc::new(redb::Error::PreviousIo));
    let repeat = journal.begin(&one, [7; 16], &caller);
    let (begun, _) = tokio::join!(repeat, async { commits.commit_but_tell(&doubt) });
    assert_eq!(begun.expect_err("it is not known").code, Code::BUSY);
    let repeat = journal.begin(&one, [7; 16], &caller);
    let (begun, _) = tokio::join!(repeat, async { commits.commit() });
    let Ok(Begun::Before(before)) = begun else { panic!("it may have been carried out: {begun:?}") };
    assert_eq!(before.expect_err("nobody knows").data["kind"], "outcome_unknown");
}
