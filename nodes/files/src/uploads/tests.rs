use std::path::Path;
use std::time::SystemTime;

use rantai_client::wire::fault::Code;

use super::super::parts::part_name;
use super::*;

const QUOTA: u64 = 10_000;

fn bytes(of: &[u8]) -> Bytes {
    Bytes::copy_from_slice(of)
}

fn etag(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn parts(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("there").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count()
}

/// Regression: of two uploads with one part, the later truncated it under the earlier, whose digest was computed as if
/// the bytes were there, so that a file full of zeros was moved to the path.
#[test]
fn a_part_has_one_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let (uploads, elsewhere) = (Uploads::default(), Uploads::default());
    let book = vec![7; 1_000];
    let right = etag(&book);
    let (id, _) = uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &right).expect("begun");
    uploads.write(&folder, id, 0, &bytes(&book[..600])).expect("written");
    let same_name = format!("{}{}", &right[..16], "0".repeat(48));
    for (uploads, size, etag) in
        [(&uploads, 500, &right), (&uploads, 1_000, &same_name), (&elsewhere, 1_000, &right)]
    {
        let refused = uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", size, etag);
        assert_eq!(refused.expect_err("one writer").code, Code::BUSY);
    }
    uploads.write(&folder, id, 600, &bytes(&book[600..])).expect("written");
    uploads.commit(&folder, id).expect("whole");
    assert_eq!(std::fs::read(directory.path().join("book")).expect("there"), book);
    // Once the file is in its place, the name of its part is free.
    elsewhere.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &right).expect("begun");
    assert_eq!(parts(directory.path()), 1);
}

#[test]
fn committed_file_is_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::default();
    for (right, name) in [(true, "book"), (false, "other")] {
        let announced = etag(if right { b"x" } else { b"y" });
        let (id, _) =
            uploads.create(&folder, QUOTA, &CallerKey::Unnamed, name, 1, &announced).expect("begun");
        uploads.write(&folder, id, 0, &bytes(b"x")).expect("written");
        assert_eq!(uploads.commit(&folder, id).is_ok(), right);
        assert_eq!(uploads.commit(&folder, id).is_ok(), right, "and says so again");
    }
    let open = std::fs::read_dir("/proc/self/fd").expect("there").flatten();
    let ours = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let ours: Vec<_> =
        ours.filter(|path| path.starts_with(directory.path()) && path != directory.path()).collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(parts(directory.path()), 0);
}

#[test]
fn upload_larger_than_the_free_space_is_refused_at_its_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    for (free_space, size, begins) in
        [(u64::MAX, 1, false), (0, 1, true), (0, 1 << 60, false), (1 << 60, 1 << 20, false)]
    {
        let uploads = Uploads::new(Some(free_space), ShareLimits::new(DEFAULT_UPLOADS));
        match uploads.create(&folder, u64::MAX, &CallerKey::Unnamed, "book", size, &etag(b"x")) {
            Ok(_) => assert!(begins, "{free_space} {size}"),
            Err(fault) => {
                assert!(!begins, "{fault}");
                assert_eq!(fault.data["kind"], "disk_full", "{fault}");
                assert!(fault.data["limit"].as_u64() < Some(size));
            }
        }
        assert_eq!(parts(directory.path()), usize::from(begins));
        for entry in std::fs::read_dir(directory.path()).expect("there").flatten() {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
}

#[test]
fn upload_that_fills_the_disk_fails_and_removes_its_part() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::new(Some(0), ShareLimits::new(DEFAULT_UPLOADS));
    let (id, _) = uploads
        .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &etag(&[7; 1_000]))
        .expect("begun");
    uploads.write(&folder, id, 0, &bytes(&[7; 600])).expect("written");
    let found = uploads.find(id).expect("there");
    if let UploadState::Writing(writing) = &mut found.lock().state {
        writing.file = File::options().write(true).open("/dev/full").expect("there");
    }
    for _ in 0..2 {
        let fault = uploads.write(&folder, id, 600, &bytes(&[7; 400])).expect_err("full");
        assert_eq!(fault.data["kind"], "disk_full", "{fault}");
        assert_eq!(parts(directory.path()), 0);
    }
    let fault = uploads.commit(&folder, id).expect_err("given up");
    assert_eq!(fault.data["kind"], "disk_full", "{fault}");
    let (again, offset) = uploads
        .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1_000, &etag(&[7; 1_000]))
        .expect("begun anew");
    assert!(again != id && offset == 0);
}

#[test]
fn idle_upload_releases_its_room_and_can_be_resumed() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let mut uploads = Uploads::default();
    let (book, right) = (vec![7; 6_000], etag(&[7; 6_000]));
    let (id, _) = uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right).expect("begun");
    uploads.write(&folder, id, 0, &bytes(&book[..1_000])).expect("written");
    let other = etag(b"other");
    let refused = uploads
        .create(&folder, QUOTA, &CallerKey::Unnamed, "other", 5_000, &other)
        .expect_err("promised to the book");
    assert_eq!((refused.code, refused.data["limit"].as_u64()), (Code::TOO_LARGE, Some(4_000)));
    let found = uploads.find(id).expect("there");

    uploads.idle = Duration::ZERO;
    let (second, _) = uploads
        .create(&folder, QUOTA, &CallerKey::Unnamed, "other", 5_000, &other)
        .expect("promised no more");
    uploads.idle = IDLE_TIMEOUT;
    assert!(
        matches!(found.lock().state, UploadState::Left),
        "a write that had found it finds nothing to write to"
    );
    let fault = uploads.write(&folder, id, 1_000, &bytes(&book[1_000..])).expect_err("forgotten");
    assert_eq!(fault.data["kind"], "no_upload");
    let refused = uploads
        .create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right)
        .expect_err("promised to the other");
    assert_eq!(refused.code, Code::TOO_LARGE);

    uploads.write(&folder, second, 0, &bytes(&[0; 5_000])).expect("written");
    uploads.commit(&folder, second).expect_err("not what was announced");
    let (id, offset) =
        uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 6_000, &right).expect("room again");
    assert_eq!(offset, 1_000);
    uploads.write(&folder, id, offset, &bytes(&book[1_000..])).expect("written");
    uploads.commit(&folder, id).expect("whole");
    assert_eq!(std::fs::read(directory.path().join("book")).expect("there"), book);
}

#[test]
fn abandoned_parts_are_removed_when_room_is_needed_and_after_a_day() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::default();
    let minutes_old = |name: &str, minutes: u64| {
        let part = directory.path().join(name);
        let file = File::options().append(true).create(true).open(&part).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_mins(minutes)).expect("set");
        part
    };
    let left = |name: &str, minutes| {
        std::fs::write(directory.path().join(name), [0; 2_000]).expect("written");
        minutes_old(name, minutes)
    };
    let (id, _) =
        uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "live", 2_000, &etag(b"live")).expect("begun");
    uploads.write(&folder, id, 0, &bytes(&[0; 2_000])).expect("written");
    let live = minutes_old(&part_name("live", &etag(b"live")[..16]), 10_000);
    let ancient = left(&part_name("ancient", "0123456789abcdef"), 10_000);
    let oldest = left(&part_name("oldest", "0123456789abcdef"), 60);
    let old = left(&part_name("old", "0123456789abcdef"), 30);
    let new = left(&part_name("new", "0123456789abcdef"), 1);
    let there = || [&live, &ancient, &oldest, &old, &new].map(|part| part.exists());
    assert_eq!(there(), [true; 5]);

    uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "empty", 0, &etag(b"")).expect("begun");
    assert_eq!(there(), [true, false, true, true, true], "after a day");
    let refused =
        uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "large", 6_001, &etag(b"")).expect_err("no room");
    assert_eq!((refused.code, refused.data["limit"].as_u64()), (Code::TOO_LARGE, Some(2_000)));
    assert_eq!(there(), [true, false, true, true, true], "none goes in vain");
    uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "small", 2_001, &etag(b"small")).expect("begun");
    assert_eq!(there(), [true, false, false, true, true], "the oldest");
}

#[test]
fn part_that_ends_with_a_hole_is_resumed_and_counts_its_length() {
    use std::os::unix::fs::MetadataExt as _;
    const BLOCK: usize = 64 << 10;
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let book = [vec![0; BLOCK], vec![7; BLOCK], vec![0; 2 * BLOCK], vec![0; 10]].concat();
    let (size, right) = (book.len() as u64, etag(&book));
    let quota = 10 * size;
    for (number, block) in book.chunks(BLOCK).map(bytes).enumerate() {
        // Each on a node that was restarted.
        let uploads = Uploads::default();
        let begun = uploads.create(&folder, quota, &CallerKey::Unnamed, "book", size, &right);
        let (id, offset) = begun.expect("it goes on");
        assert_eq!(offset as usize, number * BLOCK);
        let (used, _) = folder.used().expect("looked at");
        assert_eq!(used, offset, "holes count");
        uploads.write(&folder, id, offset, &block).expect("written");
        uploads.write(&folder, id, offset, &block).expect("written twice is written once");
        if offset + block.len() as u64 == size {
            uploads.commit(&folder, id).expect("whole");
        }
    }
    assert!(std::fs::read(directory.path().join("book")).expect("there") == book);
    let room = std::fs::metadata(directory.path().join("book")).expect("there").blocks() * 512;
    assert!(room <= 2 * BLOCK as u64, "{room} bytes of the disk");
}

#[test]
fn attributes_are_set_at_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::default();
    let create =
        || uploads.create(&folder, QUOTA, &CallerKey::Unnamed, "book", 1, &etag(b"x")).expect("begun");
    let (id, _) = create();
    for modified_ms in [5, 1_000_000_000_123] {
        assert_eq!(create().0, id, "it goes on");
        let attributes = Attributes { modified_ms: Some(modified_ms), executable: Some(true) };
        uploads.announce(id, attributes).expect("there");
    }
    uploads.write(&folder, id, 0, &bytes(b"x")).expect("written");
    uploads.commit(&folder, id).expect("whole");
    let kept = Attributes::of(&std::fs::metadata(directory.path().join("book")).expect("there"));
    let expected = Attributes { modified_ms: Some(1_000_000_000_123), executable: Some(true) };
    assert_eq!(kept, expected, "those that were announced last");
}

#[test]
fn refused_upload_creates_no_folder() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let refused =
        Uploads::default().create(&folder, QUOTA, &CallerKey::Unnamed, "a/b/book", QUOTA + 1, &etag(b"x"));
    assert_eq!(refused.expect_err("no room").code, Code::TOO_LARGE);
    assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
}

/// Regression: 63 uploads of one byte took all places, and all other callers were answered busy for five minutes.
#[test]
fn one_caller_gets_at_most_two_thirds_of_the_uploads() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::new(None, ShareLimits::new(8));
    let create = |caller: &str, name: &str| {
        let caller = CallerKey::Client(caller.parse().expect("an id"));
        uploads.create(&folder, QUOTA, &caller, name, 1, &etag(b"x"))
    };
    let begun: Vec<_> = (0..6).map(|n| create("greedy", &format!("g{n}")).expect("begun")).collect();
    let refused = create("greedy", "g6").expect_err("over its share");
    assert_eq!(refused.code, Code::BUSY);
    assert!(refused.data["retry_after_ms"].is_u64());
    create("honest", "book").expect("others are served");
    assert_eq!(create("greedy", "g0").expect("it goes on"), begun[0]);
    for (id, _) in &begun[..2] {
        uploads.write(&folder, *id, 0, &bytes(b"x")).expect("written");
        uploads.commit(&folder, *id).expect("whole");
    }
    create("greedy", "g6").expect("its own that are done make room");
    assert_eq!(create("greedy", "g7").expect_err("over its share").code, Code::BUSY);
}

/// Regression: one caller announced a file of the whole quota, sent a byte of it from time to time, and no other caller
/// could write.
#[test]
fn one_caller_cannot_announce_the_whole_quota() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = Folder::open(directory.path()).expect("there");
    let uploads = Uploads::new(Some(0), ShareLimits::new(DEFAULT_UPLOADS));
    let [greedy, honest] = ["greedy", "honest"].map(|name| CallerKey::Client(name.parse().expect("an id")));
    let create = |uploads: &Uploads, caller: &CallerKey, name: &str, size: u64| {
        uploads.create(&folder, QUOTA, caller, name, size, &etag(name.as_bytes()))
    };
    let alone = create(&uploads, &greedy, "all", QUOTA).expect_err("too large for one caller");
    assert_eq!((alone.code, alone.data["limit"].as_u64()), (Code::TOO_LARGE, Some(6_667)));
    create(&uploads, &greedy, "most", 6_667).expect("its share");
    let more = create(&uploads, &greedy, "more", 1).expect_err("it has its share");
    assert_eq!((more.code, more.data["limit"].as_u64()), (Code::BUSY, Some(0)));
    create(&uploads, &honest, "book", 2_000).expect("there is room for others");
    let report = uploads.reports(QUOTA).pop().expect("a report of bytes");
    let top = report.top.iter().map(|holder| holder.held).collect::<Vec<_>>();
    assert_eq!((report.taken, report.refused, top), (8_667, 2, vec![6_667, 2_000]));
    let set = Uploads::new(Some(0), ShareLimits::new(DEFAULT_UPLOADS)).announced_per_caller(Some(500));
    assert!(create(&set, &greedy, "set", 501).is_err() && create(&set, &greedy, "small", 500).is_ok());
}
