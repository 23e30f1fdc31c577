//! Backups of a data directory with two databases and a node name, while the databases are written and after they are
//! closed.

mod killed;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rantai_group_commit::{
    Format, Layout, OpenDatabase, Opener, Order, Reopening, Space, open_databases, open_private,
};
use redb::{Builder, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};
use tempfile::TempDir;

use super::*;

const NUMBERS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("numbers");
const FORMAT: TableDefinition<'static, (), u64> = TableDefinition::new("format");

const FIRST: Layout = Layout {
    file: "first.redb",
    order: Order::Broker,
    format: Format {
        current: 3,
        stored: Some(|read| Ok(read.open_table(FORMAT)?.get(())?.map_or(0, |version| version.value()))),
    },
    tables: |tables| {
        tables.table(FORMAT)?;
        tables.table(NUMBERS)
    },
};
const SECOND: Layout = Layout {
    file: "second.redb",
    order: Order::Journal,
    format: Format { current: 1, stored: None },
    tables: |tables| tables.table(NUMBERS),
};
const LAYOUTS: &[&Layout] = &[&FIRST, &SECOND];

struct Site {
    folder: TempDir,
    open: Vec<Reopening>,
}

fn opener(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || Builder::new().create_file(open_private(&path)?))
}

fn write(database: &Reopening, numbers: std::ops::Range<u64>, format: Option<u64>) {
    let database = database.get().expect("open");
    let write = database.as_ref().expect("open").begin_write().expect("begun");
    let mut table = write.open_table(NUMBERS).expect("opened");
    for number in numbers {
        table.insert(number, [7; 1_000].as_slice()).expect("inserted");
    }
    drop(table);
    if let Some(format) = format {
        write.open_table(FORMAT).expect("opened").insert((), format).expect("inserted");
    }
    write.commit().expect("committed");
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("made");
        fs::write(data.join("node-name"), "node-1\n").expect("written");
        let mut open = Vec::new();
        for (layout, format) in [(&SECOND, None), (&FIRST, Some(3))] {
            let path = data.join(layout.file);
            let database = Reopening::open(opener(&path)).expect("opened");
            database.list(&path, layout);
            write(&database, 0..1_000, format);
            open.push(database);
        }
        Self { folder, open }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn settings(&self) -> BackupSettings {
        BackupSettings { folder: self.folder.path().join("backups"), keep: 3, free_space: Some(0) }
    }

    /// Only the databases of this test: other tests run in the same process.
    fn open_databases(&self) -> Vec<OpenDatabase> {
        let data = fs::canonicalize(self.data()).expect("there");
        open_databases().into_iter().filter(|open| open.path.starts_with(&data)).collect()
    }

    fn back_up(&self) -> Result<Backup, BackupError> {
        back_up(&self.data(), self.open_databases(), "test 1", &self.settings())
    }
}

fn count(path: &Path) -> u64 {
    let database = Builder::new().open(path).expect("opened");
    database.begin_read().expect("begun").open_table(NUMBERS).expect("there").len().expect("counted")
}

#[test]
fn open_databases_are_copied_in_their_order_and_restored() {
    let site = Site::new();
    let backup = site.back_up().expect("made");
    write(&site.open[0], 1_000..2_000, None);
    let names: Vec<_> = backup.manifest.files.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["first.redb", "second.redb", "node-name"]);
    assert!(backup.manifest.files.is_sorted_by_key(|entry| entry.taken.clone()));
    for entry in &backup.manifest.files {
        let about = fs::metadata(backup.path.join(&entry.name)).expect("there");
        assert_eq!((about.len(), about.permissions().mode() & 0o777), (entry.bytes, 0o600), "{}", entry.name);
    }
    assert_eq!(verify(&backup.path).expect("as written"), backup.manifest);
    let to = site.folder.path().join("new/data");
    let restored = restore(&backup.path, &to, false, LAYOUTS).expect("restored");
    assert!(restored.previous.is_none() && restored.elsewhere.is_empty());
    assert_eq!((count(&to.join("first.redb")), count(&to.join("second.redb"))), (1_000, 1_000));
    assert_eq!(fs::read_to_string(to.join("node-name")).expect("there"), "node-1\n");
    assert_eq!(fs::metadata(&to).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn closed_databases_are_copied_under_their_lock() {
    let mut site = Site::new();
    let refused = back_up(&site.data(), Vec::new(), "test 1", &site.settings());
    assert!(matches!(refused, Err(BackupError::InUse(path)) if path.ends_with("first.redb")));
    site.open.clear();
    let backup = site.back_up().expect("made");
    let first = fs::read(site.data().join("first.redb")).expect("there");
    assert!(fs::read(backup.path.join("first.redb")).expect("there") == first, "every byte");
    assert_eq!(backup.manifest.files.len(), 3);
}

#[test]
fn a_database_elsewhere_is_in_the_backup_but_not_restored() {
    let site = Site::new();
    let path = site.folder.path().join("other.redb");
    let other = Reopening::open(opener(&path)).expect("opened");
    other.list(&path, &SECOND);
    write(&other, 0..10, None);
    let mut open = site.open_databases();
    open.extend(
        open_databases().into_iter().filter(|open| open.path.ends_with(path.file_name().expect("named"))),
    );
    let backup = back_up(&site.data(), open, "test 1", &site.settings()).expect("made");
    let to = site.folder.path().join("restored");
    let restored = restore(&backup.path, &to, false, LAYOUTS).expect("restored");
    let (copy, original) = &restored.elsewhere[0];
    assert_eq!((count(copy), original), (10, &fs::canonicalize(&path).expect("there")));
    assert_eq!(fs::read_dir(&to).expect("there").count(), 3);
}

#[test]
fn every_flipped_or_missing_byte_is_refused_and_changes_nothing() {
    let site = Site::new();
    let backup = site.back_up().expect("made");
    let to = site.folder.path().join("restored");
    for entry in fs::read_dir(&backup.path).expect("there") {
        let path = entry.expect("there").path();
        let whole = fs::read(&path).expect("read");
        let places = [0, whole.len() / 3, whole.len() / 2, whole.len() - 1];
        let mut damages: Vec<Option<Vec<u8>>> = places
            .iter()
            .map(|&place| {
                let mut flipped = whole.clone();
                flipped[place] ^= 1;
                Some(flipped)
            })
            .collect();
        damages.extend([
            Some(whole[..whole.len() - 1].to_vec()),
            Some(Vec::new()),
            Some([&*whole, b"x"].concat()),
        ]);
        damages.push(None);
        for damage in damages {
            match damage {
                Some(bytes) => fs::write(&path, bytes).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let refused = restore(&backup.path, &to, true, LAYOUTS);
            assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{}: {refused:?}", path.display());
            assert!(!to.exists());
        }
        fs::write(&path, whole).expect("written");
    }
    restore(&backup.path, &to, false, LAYOUTS).expect("whole again");
}

/// Changes the manifest of a backup, and writes the digest that belongs to the change.
fn forge(backup: &Path, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::read(backup).expect("read");
    change(&mut manifest);
    for name in [MANIFEST, MANIFEST_DIGEST] {
        fs::remove_file(backup.join(name)).expect("removed");
    }
    manifest.write(backup).expect("written");
}

#[test]
fn names_that_leave_the_folder_and_later_formats_are_refused() {
    let site = Site::new();
    for name in ["../first.redb", "/etc/passwd", ".hidden", "", "a/b", "second.redb", MANIFEST] {
        let backup = site.back_up().expect("made");
        forge(&backup.path, |manifest| name.clone_into(&mut manifest.files[0].name));
        assert!(matches!(verify(&backup.path), Err(BackupError::Damaged { .. })), "{name}");
    }
    let backup = site.back_up().expect("made");
    forge(&backup.path, |manifest| manifest.format += 1);
    assert!(matches!(verify(&backup.path), Err(BackupError::Newer { found: 2, supported: 1, .. })));
    // A link to a file with the right content is refused too.
    let backup = site.back_up().expect("made");
    let (first, moved) = (backup.path.join("first.redb"), site.folder.path().join("moved"));
    fs::rename(&first, &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, &first).expect("linked");
    assert!(matches!(verify(&backup.path), Err(BackupError::Damaged { .. })));
}

#[test]
fn a_directory_with_files_is_replaced_only_on_request_and_moved_aside() {
    let mut site = Site::new();
    let mut settings = site.settings();
    settings.folder = site.data().join("backups");
    let backup = back_up(&site.data(), site.open_databases(), "test 1", &settings).expect("made");
    write(&site.open[0], 1_000..2_000, None);
    let refused = restore(&backup.path, &site.data(), false, LAYOUTS);
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))), "{refused:?}");
    let refused = restore(&backup.path, &site.data(), true, LAYOUTS);
    assert!(matches!(refused, Err(BackupError::Running(_))), "{refused:?}");
    site.open.clear();
    fs::set_permissions(site.data(), fs::Permissions::from_mode(0o750)).expect("set");
    // Leftover of a restore that was killed.
    fs::create_dir(site.folder.path().join("data.restoring")).expect("made");
    let restored = restore(&backup.path, &site.data(), true, LAYOUTS).expect("restored");
    let previous = restored.previous.expect("there was one");
    assert_eq!(
        (count(&site.data().join("second.redb")), count(&previous.join("second.redb"))),
        (1_000, 2_000)
    );
    assert_eq!(fs::metadata(site.data()).expect("there").permissions().mode() & 0o777, 0o750);
    verify(&backup.path).expect("the backups are where they were");
    let mut names: Vec<_> =
        fs::read_dir(site.folder.path()).expect("there").map(|e| e.expect("there").path()).collect();
    names.sort();
    assert_eq!(names, [fs::canonicalize(site.data()).expect("there"), previous]);
}

#[test]
fn the_oldest_backups_and_leftovers_of_interrupted_ones_are_removed() {
    let site = Site::new();
    let folder = site.settings().folder;
    let first = site.back_up().expect("made");
    for left in [".partial-20260101T000000Z", ".removing-20260101T000000Z", "20260101T000000Z.mine"] {
        fs::create_dir(folder.join(left)).expect("made");
    }
    let later: Vec<_> = (0..3).map(|_| site.back_up().expect("made").path).collect();
    assert!(!first.path.exists());
    let mut left: Vec<_> =
        fs::read_dir(&folder).expect("there").map(|entry| entry.expect("there").path()).collect();
    left.sort();
    assert_eq!(left, [&[folder.join(".lock"), folder.join("20260101T000000Z.mine")][..], &later].concat());
}

/// The newest backup was removed, so its name is free again, while an older one of the same second exists.
#[test]
fn the_newest_backup_is_kept_when_the_clock_was_set_back() {
    let site = Site::new();
    let folder = site.settings().folder;
    for later in ["29991231T235959Z", "29991231T235958Z", "29991231T235957Z"] {
        fs::create_dir_all(folder.join(later)).expect("made");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("set");
    for _ in 0..6 {
        let backup = site.back_up().expect("made");
        verify(&backup.path).expect("there");
    }
    assert!(!folder.join("29991231T235957Z").exists() && folder.join("29991231T235959Z").exists());
}

#[test]
fn a_backup_is_refused_if_another_is_made_if_others_may_write_and_without_space() {
    let site = Site::new();
    let settings = site.settings();
    fs::create_dir(&settings.folder).expect("made");
    let mode = |mode| fs::set_permissions(&settings.folder, fs::Permissions::from_mode(mode)).expect("set");
    mode(0o770);
    assert!(matches!(site.back_up(), Err(BackupError::OpenFolder(_))));
    mode(0o700);
    let lock = open_private(&settings.folder.join(".lock")).expect("opened");
    lock.lock().expect("locked");
    assert!(matches!(site.back_up(), Err(BackupError::Busy(_))));
    drop(lock);
    let free = Space::at(&settings.folder).expect("read").free;
    let short = BackupSettings { free_space: Some(free / 2 + 1), ..settings.clone() };
    let refused = back_up(&site.data(), site.open_databases(), "test 1", &short);
    assert!(matches!(refused, Err(BackupError::NoSpace { .. })), "{refused:?}");
    let names: Vec<_> =
        fs::read_dir(&settings.folder).expect("there").map(|e| e.expect("there").file_name()).collect();
    assert_eq!(names, [".lock"], "nothing is left of it");
    fs::create_dir(site.folder.path().join("empty")).expect("made");
    let nothing = back_up(&site.folder.path().join("empty"), Vec::new(), "test 1", &settings);
    assert!(matches!(nothing, Err(BackupError::Nothing(_))));
    let other = BackupSettings { folder: site.folder.path().join("empty/backups"), ..settings };
    let nothing = back_up(&site.folder.path().join("empty"), Vec::new(), "test 1", &other);
    assert!(matches!(nothing, Err(BackupError::Nothing(_))));
    assert!(!other.folder.exists(), "a mistyped directory stays as it was");
}

#[test]
fn formats_are_reported_without_changing_the_files() {
    let mut site = Site::new();
    let checked = |site: &Site| check_formats(&site.data(), LAYOUTS).expect("read");
    let verdicts =
        |formats: &[FileFormat]| formats.iter().map(|format| format.verdict.clone()).collect::<Vec<_>>();
    let in_use = checked(&site);
    assert!(in_use.iter().all(
        |format| matches!(&format.verdict, Verdict::Unreadable { reason } if reason.contains("running"))
    ));
    write(&site.open[1], 0..1, Some(2));
    // State after kill -9: the file is marked as open and needs a repair.
    let killed = fs::read(site.data().join("second.redb")).expect("read");
    site.open.clear();
    fs::write(site.data().join("second.redb"), &killed).expect("written");
    fs::write(site.data().join("ours.redb"), &killed).expect("written");
    fs::write(site.data().join("broken.redb"), "no database").expect("written");
    let before = fs::read(site.data().join("first.redb")).expect("read");
    let formats = checked(&site);
    let names: Vec<_> = formats.iter().map(|format| (&*format.name, format.format, format.current)).collect();
    assert_eq!(
        names,
        [
            ("broken.redb", None, None),
            ("first.redb", Some(2), Some(3)),
            ("ours.redb", Some(1), Some(1)),
            ("second.redb", Some(1), Some(1))
        ]
    );
    let verdicts_now = verdicts(&formats);
    assert!(matches!(verdicts_now[0], Verdict::Unreadable { .. }));
    assert_eq!(verdicts_now[1], Verdict::Upgraded { how: "from format 2 to 3".into() });
    assert_eq!(verdicts_now[2..], [Verdict::AsItIs, Verdict::AsItIs]);
    assert!(fs::read(site.data().join("first.redb")).expect("read") == before);
    assert!(fs::read(site.data().join("second.redb")).expect("read") == killed);
    let database = Reopening::open(opener(&site.data().join("first.redb"))).expect("opened");
    write(&database, 0..1, Some(4));
    database.close();
    assert!(
        matches!(&checked(&site)[1].verdict, Verdict::Unreadable { reason } if reason.contains("format 4"))
    );
    fs::remove_file(site.data().join("broken.redb")).expect("removed");
    let backup = back_up(&site.data(), Vec::new(), "test 1", &site.settings()).expect("made");
    let refused = restore(&backup.path, &site.folder.path().join("restored"), false, LAYOUTS);
    assert!(refused.is_err_and(|error| error.to_string().contains("format 4")));
}
