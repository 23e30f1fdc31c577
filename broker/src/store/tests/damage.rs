//! Database files that are damaged or were not written by the store.

use std::fs;

use redb::{Database, TableDefinition};

use super::*;
use crate::random::Seeded;
use crate::store::disk::{FORMAT, FORMAT_VERSION, META, QUEUE, RETAINED, SESSIONS};

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("broker.redb")
}

/// Returns the directory of a closed store of several pages.
fn closed_store() -> TempDir {
    let dir = dir();
    let (mut bench, _) = Bench::open(dir.path());
    let m = message("t", "queued");
    bench.write((0..2_000).map(|n| Op::Retain { message: message(&format!("t/{n}"), "payload") }));
    bench.write([
        Op::SaveSession { key: 1, record: full_session() },
        Op::Enqueue { key: 1, seq: 1, entry: entry(&m) },
    ]);
    bench.store.close();
    dir
}

/// Contents after a start with the file of [`written`], damaged in a way that is detected.
struct Remaining {
    sessions: usize,
    queue: usize,
    retained: usize,
    salvaged: Salvaged,
}

/// Asserts that a start is empty, reports the new path of the damaged file, can write, and that the next start is
/// normal.
fn assert_moved_aside(dir: &TempDir, what: &str) {
    let left = assert_salvaged(dir, what);
    assert_eq!((left.sessions, left.retained, left.salvaged.rows), (0, 0, 0), "{what}");
}

/// Asserts that a start has the readable rows, reports the new path of the damaged file, can write, and that the next
/// start is normal. Returns the contents.
fn assert_salvaged(dir: &TempDir, what: &str) -> Remaining {
    let start = fs::read(file(dir)).expect("there").into_iter().take(9).collect::<Vec<_>>();
    let (mut bench, snapshot) = Bench::try_open(dir.path()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let aside = snapshot.damaged.clone().unwrap_or_else(|| panic!("{what}: not noticed"));
    assert!(aside.file_name().expect("a name").to_string_lossy().starts_with("broker.redb.damaged-"));
    assert!(fs::read(&aside).expect("there").starts_with(&start), "{what}");
    assert_eq!(snapshot.salvaged, bench.store.salvaged());
    let sessions = snapshot.sessions.clone();
    let salvaged = snapshot.salvaged;
    let found = retained(snapshot);
    assert!(found.iter().all(|m| m.topic.starts_with("t/") && m.payload == "payload"), "{what}");
    bench.write([Op::Retain { message: message("after", "x") }]);
    let (_bench, snapshot) = bench.reopen(dir.path());
    assert_eq!((snapshot.damaged.clone(), snapshot.salvaged), (None, Salvaged::default()));
    assert_eq!(snapshot.sessions, sessions);
    assert_eq!(retained(snapshot).len(), found.len() + 1);
    let queue = sessions.iter().map(|session| session.queue.len()).sum();
    Remaining { sessions: sessions.len(), queue, retained: found.len(), salvaged }
}

#[test]
fn files_that_are_no_database_are_moved_aside() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("empty", vec![]),
        ("text", b"listener 1883\n".repeat(1_000)),
        ("short text", b"x".to_vec()),
        ("zeros", vec![0; 1 << 20]),
    ];
    for (what, bytes) in cases {
        let dir = dir();
        fs::write(file(&dir), bytes).expect("written");
        assert_moved_aside(&dir, what);
    }
}

#[test]
fn readable_rows_of_truncated_files_are_kept() {
    let whole = closed_store();
    let bytes = fs::read(file(&whole)).expect("there");
    for part in [1, 9, 100, 320, 4_096, 5_000, bytes.len() / 4, bytes.len() / 2] {
        let dir = dir();
        fs::write(file(&dir), &bytes[..part]).expect("written");
        let left = assert_salvaged(&dir, &format!("cut after {part}"));
        assert!(part > 5_000 || left.salvaged.rows == 0);
    }
}

#[test]
fn two_damaged_files_are_both_kept() {
    let dir = dir();
    for n in 1..=2 {
        fs::write(file(&dir), "x").expect("written");
        let (bench, snapshot) = Bench::open(dir.path());
        assert!(snapshot.damaged.is_some());
        bench.store.close();
        let aside = fs::read_dir(dir.path())
            .expect("there")
            .filter(|entry| entry.as_ref().expect("there").file_name().to_string_lossy().contains("damaged"))
            .count();
        assert_eq!(aside, n);
    }
}

/// Damage at any place is either detected, or is in unused space and loses nothing.
#[test]
fn random_damage_is_detected_or_loses_nothing() {
    let whole = closed_store();
    let bytes = fs::read(file(&whole)).expect("there");
    let mut random = Seeded::new(7);
    let (mut noticed, mut rows) = (0, 0);
    for round in 0..150 {
        let dir = dir();
        let mut bytes = bytes.clone();
        // Most of a new file is unused.
        let mut at = 0;
        while at == 0 || bytes[at] == 0 {
            at = random.below(bytes.len() as u64) as usize;
        }
        let length = [1, 16, 4_096, 65_536][round % 4].min(bytes.len() - at);
        for byte in &mut bytes[at..at + length] {
            *byte = if round % 8 < 4 { random.next() as u8 } else { 0 };
        }
        fs::write(file(&dir), bytes).expect("written");
        match Bench::try_open(dir.path()) {
            Ok((_, snapshot)) if snapshot.damaged.is_some() => {
                noticed += 1;
                let lost = snapshot.salvaged.lost;
                rows += snapshot.salvaged.rows;
                let found = retained(snapshot);
                assert!(found.iter().all(|m| m.payload == "payload"), "{length} bytes at {at}");
                assert!(found.len() < 2_000 || lost <= 3, "{length} bytes at {at}: {lost} lost");
            }
            Ok((_, snapshot)) => {
                assert_eq!(snapshot.sessions.len(), 1, "{length} bytes at {at}");
                assert_eq!(snapshot.sessions[0].queue.len(), 1, "{length} bytes at {at}");
                let messages = retained(snapshot);
                assert_eq!(messages.len(), 2_000, "{length} bytes at {at}");
                assert!(messages.iter().all(|m| m.payload == "payload"), "{length} bytes at {at}");
            }
            Err(error) => panic!("{length} bytes at {at}: {error:?}"),
        }
    }
    assert!(noticed > 50, "only {noticed}");
    assert!(rows > 40 * noticed, "only {rows} rows came back of {noticed} files");
}

/// Damages each page of the file in turn: only the rows on that page, or below it, are lost.
#[test]
fn one_flipped_bit_loses_only_the_rows_of_its_page() {
    let whole = closed_store();
    let bytes = fs::read(file(&whole)).expect("there");
    let (mut leaves, mut noticed) = (0, 0);
    for page in 1..bytes.len() / 4_096 {
        let at = page * 4_096;
        // The middle of the used part of the page.
        let used = bytes[at..at + 4_096].iter().rposition(|byte| *byte != 0).unwrap_or_default();
        if used == 0 {
            continue;
        }
        let mut bytes = bytes.clone();
        bytes[at + used / 2] ^= 4;
        let dir = dir();
        fs::write(file(&dir), bytes).expect("written");
        let (_, snapshot) =
            Bench::try_open(dir.path()).unwrap_or_else(|error| panic!("page {page}: {error:?}"));
        if snapshot.damaged.is_none() {
            assert_eq!((snapshot.sessions.len(), retained(snapshot).len()), (1, 2_000), "page {page}");
            continue;
        }
        noticed += 1;
        let (sessions, salvaged) = (snapshot.sessions.len(), snapshot.salvaged);
        let found = retained(snapshot);
        assert!(found.iter().all(|m| m.payload == "payload"), "page {page}");
        // 2,000 retained messages, a session, a queue row and its message.
        if salvaged.rows > 0 {
            assert_eq!(salvaged.rows + salvaged.lost, 2_003, "page {page}: {salvaged:?}");
        }
        leaves += usize::from(salvaged.lost < 300 && found.len() + sessions > 1_700);
    }
    assert!(noticed >= 10 && leaves >= 10, "of {noticed} damaged files {leaves} lost one page");
}

#[test]
fn with_on_damage_stop_a_damaged_file_is_an_error_and_stays() {
    let dir = dir();
    fs::write(file(&dir), "x").expect("written");
    let (sender, _committed) = unbounded_channel();
    let settings = StoreSettings { on_damage: OnDamage::Stop, ..StoreSettings::default() };
    let error = Store::open(dir.path(), sender, settings, NOW).expect_err("refused");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("on_damage"), "{error}");
    assert_eq!(fs::read(file(&dir)).expect("there"), b"x");
    assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 2, "the file and the lock");
}

fn tamper(dir: &TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(file(dir)).expect("opens");
    let write = database.begin_write().expect("begins");
    change(&write);
    write.commit().expect("commits");
}

#[test]
fn unknown_records_count_as_damage() {
    type Change = fn(&redb::WriteTransaction);
    let whole = (1, 1, 2_000);
    let cases: [(&str, Change, (usize, usize, usize)); 6] = [
        (
            "a retained message",
            |write| {
                write.open_table(RETAINED).unwrap().insert("t/5", [9u8].as_slice()).unwrap();
            },
            (1, 1, 1_999),
        ),
        (
            "a session",
            |write| {
                write.open_table(SESSIONS).unwrap().insert(1, [1u8].as_slice()).unwrap();
            },
            (0, 0, 2_000),
        ),
        (
            "a missing message",
            |write| {
                write.delete_table(crate::store::disk::MESSAGES).unwrap();
                write.open_table(crate::store::disk::MESSAGES).unwrap();
            },
            (1, 0, 2_000),
        ),
        (
            "a missing table",
            |write| {
                write.delete_table(QUEUE).unwrap();
            },
            (1, 0, 2_000),
        ),
        (
            "a table of another type",
            |write| {
                write.delete_table(QUEUE).unwrap();
                write.open_table(TableDefinition::<u64, u64>::new("queue")).unwrap();
            },
            (1, 0, 2_000),
        ),
        (
            "no format version",
            |write| {
                write.open_table(META).unwrap().remove(FORMAT).unwrap();
            },
            whole,
        ),
    ];
    for (what, change, expected) in cases {
        let dir = closed_store();
        tamper(&dir, change);
        let left = assert_salvaged(&dir, what);
        assert_eq!((left.sessions, left.queue, left.retained), expected, "{what}");
    }
}

#[test]
fn a_later_format_is_an_error_and_stays() {
    let dir = closed_store();
    tamper(&dir, |write| {
        write.open_table(META).unwrap().insert(FORMAT, FORMAT_VERSION + 1).unwrap();
    });
    let error = Bench::try_open(dir.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Newer { found, .. } if found == FORMAT_VERSION + 1), "{error}");
    assert!(error.to_string().contains(&format!("broker.redb has format {}", FORMAT_VERSION + 1)));
    assert!(file(&dir).exists());
    tamper(&dir, |write| {
        write.open_table(META).unwrap().insert(FORMAT, FORMAT_VERSION).unwrap();
    });
    let (_, snapshot) = Bench::open(dir.path());
    assert_eq!(retained(snapshot).len(), 2_000);
}

#[test]
fn a_file_of_format_1_is_read_and_upgraded() {
    let dir = closed_store();
    tamper(&dir, |write| {
        write.open_table(META).unwrap().insert(FORMAT, 1).unwrap();
    });
    let (bench, snapshot) = Bench::open(dir.path());
    assert_eq!(retained(snapshot).len(), 2_000);
    drop(bench);
    tamper(&dir, |write| {
        let mut meta = write.open_table(META).unwrap();
        let found = meta.insert(FORMAT, FORMAT_VERSION).unwrap().map(|found| found.value());
        assert_eq!(found, Some(FORMAT_VERSION), "an older broker would not understand what may be in it");
    });
}

#[test]
fn a_file_in_use_is_an_error_and_stays() {
    let dir = dir();
    let (first, _) = Bench::open(dir.path());
    let error = Bench::try_open(dir.path()).err().expect("refused");
    assert!(matches!(&error, StoreError::Locked { path } if *path == file(&dir)), "{error}");
    drop(first);
    // A program that has the file open without the broker's lock on the directory.
    let other = Database::open(file(&dir)).expect("opens");
    let error = Bench::try_open(dir.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(other);
    let (_, snapshot) = Bench::open(dir.path());
    assert_eq!(snapshot.damaged, None);
}

#[test]
fn an_interrupted_start_is_not_damage() {
    let dir = dir();
    fs::write(dir.path().join("broker.redb.new"), "half").expect("written");
    let (_, snapshot) = Bench::open(dir.path());
    assert_eq!(snapshot.damaged, None);
}
