//! The writing thread survives I/O errors and panics, and reports the outcome of each write.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::faulty::{self, Switch};
use super::*;

const NUMBERS: TableDefinition<'static, u64, ()> = TableDefinition::new("numbers");

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(NUMBERS)?;
    Ok(())
}

fn on_a_faulty_disk() -> (TempDir, Committer, Arc<Switch>) {
    let folder = tempfile::tempdir().expect("a directory");
    let (opener, switch) = faulty::file(&folder.path().join("numbers.redb"));
    (folder, Committer::open(opener, prepare).expect("opened"), switch)
}

async fn add(committer: &Committer, number: u64) -> Result<(), DiskError> {
    let job = move |transaction: &WriteTransaction| {
        transaction.open_table(NUMBERS)?.insert(number, ())?;
        Ok(())
    };
    committer.write(job).await
}

/// Adds a number, and retries for as long as the error is retryable.
async fn add_at_last(committer: &Committer, number: u64) {
    loop {
        match add(committer, number).await {
            Ok(()) => return,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(error.retry_after().min(Duration::from_millis(20))).await;
            }
        }
    }
}

fn numbers(committer: &Committer) -> Result<Vec<u64>, DiskError> {
    committer.read(|database| {
        let table = database.begin_read()?.open_table(NUMBERS)?;
        let mut numbers = Vec::new();
        for entry in table.iter()? {
            numbers.push(entry?.0.value());
        }
        Ok(numbers)
    })
}

async fn numbers_at_last(committer: &Committer) -> Vec<u64> {
    loop {
        match numbers(committer) {
            Ok(numbers) => return numbers,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn writes_on_a_full_disk_are_retryable_and_succeed_once_there_is_room() {
    // Fails a different write of the commit in each round.
    for writes in 0..12 {
        let (_folder, committer, switch) = on_a_faulty_disk();
        add(&committer, 1).await.expect("written");
        switch.writes.store(writes, Ordering::Relaxed);
        switch.full.store(true, Ordering::Relaxed);
        let (mut number, mut kept) = (1, vec![1]);
        // A few commits may still succeed.
        let error = loop {
            number += 1;
            match add(&committer, number).await {
                Ok(()) => kept.push(number),
                Err(error) => break error,
            }
        };
        let fault = error.fault("the ledger");
        assert_eq!(fault.code, rantai_client::wire::fault::Code::BUSY, "{error}");
        assert!(fault.is_retryable() && fault.data["retry_after_ms"].as_u64() > Some(0));
        assert!(add(&committer, 1_000).await.is_err(), "the disk is still full");

        switch.full.store(false, Ordering::Relaxed);
        add_at_last(&committer, 2_000).await;
        kept.push(2_000);
        let mut found = numbers_at_last(&committer).await;
        if matches!(error, DiskError::Unknown(_)) {
            found.retain(|found| *found != number);
        }
        assert_eq!(found, kept, "what was told is what is there, after {writes} writes");
    }
}

#[tokio::test]
async fn committed_data_is_readable_while_the_disk_is_full() {
    let (_folder, committer, switch) = on_a_faulty_disk();
    add(&committer, 1).await.expect("written");
    // The first write to fail is part of the commit: the file can be opened again without writing.
    switch.full.store(true, Ordering::Relaxed);
    assert!(add(&committer, 2).await.is_err());
    switch.full.store(false, Ordering::Relaxed);
    assert_eq!(numbers_at_last(&committer).await, [1]);
}

#[tokio::test]
async fn reopening_a_file_is_retried_until_it_succeeds() {
    let (_folder, committer, switch) = on_a_faulty_disk();
    add(&committer, 1).await.expect("written");
    switch.full.store(true, Ordering::Relaxed);
    switch.gone.store(true, Ordering::Relaxed);
    let error = add(&committer, 2).await.expect_err("full");
    assert!(error.is_retryable(), "{error}");
    let error = numbers(&committer).expect_err("closed");
    assert!(matches!(error, DiskError::Closed(_)), "{error}");
    let opened = switch.opened.load(Ordering::Relaxed);
    while switch.opened.load(Ordering::Relaxed) < opened + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    switch.full.store(false, Ordering::Relaxed);
    switch.gone.store(false, Ordering::Relaxed);
    // Without a write: reads cause the file to be opened again, too.
    assert_eq!(numbers_at_last(&committer).await.first(), Some(&1));
    add_at_last(&committer, 3).await;
}

#[tokio::test]
async fn failed_read_reopens_the_file() {
    let (_folder, committer, switch) = on_a_faulty_disk();
    add(&committer, 1).await.expect("written");
    switch.unreadable.store(true, Ordering::Relaxed);
    let error = numbers(&committer).expect_err("the disk cannot be read");
    assert!(error.is_retryable(), "{error}");
    switch.unreadable.store(false, Ordering::Relaxed);
    assert_eq!(numbers_at_last(&committer).await, [1]);
    add_at_last(&committer, 2).await;
}

#[tokio::test]
async fn stalled_disk_refuses_new_writes_and_completes_earlier_ones() {
    let folder = tempfile::tempdir().expect("a directory");
    let (opener, switch) = faulty::file(&folder.path().join("numbers.redb"));
    let committer = Committer::open_with(opener, prepare, Duration::from_millis(20)).expect("opened");
    switch.hang();
    let write = |number| {
        let committer = committer.clone();
        tokio::spawn(async move { add(&committer, number).await })
    };
    let given = write(1);
    tokio::task::yield_now().await;
    switch.wait_until_it_hangs();
    // Queued behind the commit that hangs, before or after that was detected.
    let waiting = write(2);
    tokio::task::yield_now().await;
    let refused = loop {
        // A write before the detection would wait: checks as writes do, without one.
        if let Err(error) = committer.refuse_stalled() {
            break error;
        }
    };
    assert!(matches!(refused, DiskError::Stalled) && refused.is_retryable(), "{refused}");
    assert!(matches!(waiting.await.expect("no panic"), Err(DiskError::Stalled)));
    assert!(matches!(add(&committer, 3).await, Err(DiskError::Stalled)));
    assert!(matches!(numbers(&committer), Err(DiskError::Stalled)), "a read would wait as well");
    switch.release();
    given.await.expect("no panic").expect("written");
    add_at_last(&committer, 4).await;
    assert_eq!(numbers_at_last(&committer).await, [1, 4]);
}

#[tokio::test]
async fn panicking_jobs_do_not_affect_others_of_their_commit() {
    for (opener, what) in [(memory as fn() -> Opener, "memory"), (on_disk, "a file")] {
        let committer = Committer::open(opener(), prepare).expect("opened");
        let mut writes = JoinSet::new();
        for number in 0..300 {
            let committer = committer.clone();
            writes.spawn(async move {
                let job = move |transaction: &WriteTransaction| {
                    transaction.open_table(NUMBERS)?.insert(number, ())?;
                    assert_ne!(number % 100, 7, "a job panics, as the test asked");
                    Ok(number)
                };
                (number, committer.write(job).await)
            });
        }
        for (number, result) in writes.join_all().await {
            match result {
                Ok(value) => assert!(value == number && number % 100 != 7),
                Err(error) => {
                    assert!(matches!(error, DiskError::Panicked) && number % 100 == 7, "{number}: {error}");
                    assert!(!error.fault("the ledger").is_retryable());
                }
            }
        }
        let expected: Vec<u64> = (0..300).filter(|number| number % 100 != 7).collect();
        assert_eq!(numbers_at_last(&committer).await, expected, "in {what}");
        add(&committer, 1_000).await.expect("the thread lives");
    }
}

fn on_disk() -> Opener {
    let folder = tempfile::tempdir().expect("a directory");
    let opener = file(&folder.path().join("numbers.redb"));
    Box::new(move || {
        let _keep = &folder;
        opener()
    })
}

#[tokio::test]
async fn a_panic_while_a_table_is_open_leaves_the_rest_of_its_tables_as_they_were() {
    let committer = Committer::open(memory(), prepare).expect("opened");
    add(&committer, 1).await.expect("written");
    let job = |transaction: &WriteTransaction| -> Result<(), redb::Error> {
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.remove(1)?;
        let _other = transaction.open_table(TableDefinition::<u64, u64>::new("other"))?;
        panic!("a job panics, as the test asked");
    };
    assert!(matches!(committer.write(job).await, Err(DiskError::Panicked)));
    assert_eq!(numbers_at_last(&committer).await, [1]);
}

#[tokio::test]
async fn failing_job_does_not_affect_others_of_its_commit() {
    let committer = Committer::open(memory(), prepare).expect("opened");
    let wrong = |transaction: &WriteTransaction| {
        transaction.open_table(TableDefinition::<&str, ()>::new("numbers"))?;
        Ok(())
    };
    let (first, second, third) = tokio::join!(add(&committer, 1), committer.write(wrong), add(&committer, 2));
    assert!(first.is_ok() && third.is_ok());
    assert!(!second.expect_err("another type of table").is_retryable());
    assert_eq!(numbers_at_last(&committer).await, [1, 2]);
}

#[tokio::test]
async fn write_when_possible_waits_for_room() {
    let (_folder, committer, switch) = on_a_faulty_disk();
    switch.full.store(true, Ordering::Relaxed);
    assert!(add(&committer, 1).await.is_err());
    let waiting = tokio::spawn({
        let committer = committer.clone();
        async move {
            let job = |transaction: &WriteTransaction| {
                transaction.open_table(NUMBERS)?.insert(2, ())?;
                Ok(())
            };
            committer.write_when_possible(job).await
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    switch.full.store(false, Ordering::Relaxed);
    waiting.await.expect("no panic").expect("written");
    assert!(numbers_at_last(&committer).await.contains(&2));
}

#[tokio::test]
async fn commits_have_a_maximum_number_of_jobs() {
    let committer = Committer::open(memory(), prepare).expect("opened");
    let (began, begins) = channel();
    let (go, waits) = channel::<()>();
    let holds = move |_: &WriteTransaction| {
        let _ = began.send(());
        let _ = waits.recv();
        Ok(())
    };
    let writes = [tokio::spawn({
        let committer = committer.clone();
        async move { committer.write(holds).await }
    })];
    while begins.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    let writes = writes.into_iter().chain((0..600).map(|number| {
        let committer = committer.clone();
        tokio::spawn(async move { add(&committer, number).await })
    }));
    let writes: Vec<_> = writes.collect();
    while committer.0.room.available_permits() > MAX_QUEUED_JOBS - writes.len() {
        tokio::task::yield_now().await;
    }
    drop(go);
    for write in writes {
        write.await.expect("no panic").expect("written");
    }
    assert_eq!(numbers_at_last(&committer).await.len(), 600);
    // One commit for the job that blocked the thread, and three of at most 256 jobs.
    let commits = committer.read(|database| Ok(group::last(database)?)).expect("reads");
    assert_eq!(commits, 4);
}
