//! Restores that are killed, of directories that are exchanged and of mount points, whose files are moved.

use std::ffi::OsString;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;
use crate::restoring::restore_to;
use crate::{exchange, inside};

/// A closed data directory with 2,000 rows, and a backup in it with 1,000.
fn site() -> (Site, Backup) {
    let mut site = Site::new();
    let mut settings = site.settings();
    settings.folder = site.data().join("backups");
    let backup = back_up(&site.data(), site.open_databases(), "test 1", &settings).expect("made");
    write(&site.open[0], 1_000..2_000, None);
    site.open.clear();
    (site, backup)
}

fn rows(data: &Path) -> u64 {
    count(&data.join("second.redb"))
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("there").map(|entry| entry.expect("there").file_name()).collect();
    names.sort();
    names
}

/// The names in a folder, with the one that begins with `prefix` as that alone.
fn names_with(folder: &Path, prefix: &str) -> Vec<String> {
    let name = |name: OsString| name.into_string().expect("UTF-8");
    names(folder)
        .into_iter()
        .map(name)
        .map(|n| if n.starts_with(prefix) { prefix.to_owned() } else { n })
        .collect()
}

fn earlier(folder: &Path, prefix: &str) -> PathBuf {
    let name = names(folder).into_iter().find(|name| name.to_string_lossy().starts_with(prefix));
    folder.join(name.expect("it is there"))
}

/// It was called data.before-TIME then, as if it were the earlier directory.
#[test]
fn a_restore_killed_before_the_exchange_leaves_no_restored_files_under_the_name_of_earlier_ones() {
    let (site, backup) = site();
    let data = fs::canonicalize(site.data()).expect("there");
    let mut stage = exchange::stage(&data, &backup.path).expect("made");
    fs::write(stage.path.join("second.redb"), "restored").expect("written");
    let second = restore(&backup.path, &data, true, LAYOUTS);
    assert!(matches!(second, Err(BackupError::Restoring(_))), "the first has its lock: {second:?}");
    stage.is_placed = true;
    drop(stage);
    assert_eq!(names(site.folder.path()), ["data", "data.restoring"]);
    assert_eq!(rows(&site.data()), 2_000);
    finish_restore(&site.data()).expect("nothing to do");
    let restored = restore(&backup.path, &site.data(), true, LAYOUTS).expect("restored");
    assert_eq!((rows(&site.data()), rows(&restored.previous.expect("kept"))), (1_000, 2_000));
    assert_eq!(names_with(site.folder.path(), "data.before-"), ["data", "data.before-"]);
    assert_eq!(names(&site.data()), ["backups", "first.redb", "node-name", "second.redb"]);
}

#[test]
fn a_restore_killed_after_the_exchange_is_finished_and_its_backup_is_where_it_was() {
    for again in [false, true] {
        let (site, backup) = site();
        let data = fs::canonicalize(site.data()).expect("there");
        let mut stage = exchange::stage(&data, &backup.path).expect("made");
        for name in ["first.redb", "second.redb", "node-name"] {
            fs::copy(backup.path.join(name), stage.path.join(name)).expect("copied");
        }
        renameat_with(CWD, &stage.path, CWD, &data, RenameFlags::EXCHANGE).expect("exchanged");
        let running = finish_restore(&data);
        assert!(matches!(running, Err(BackupError::Restoring(_))), "it holds its lock: {running:?}");
        stage.is_placed = true;
        drop(stage);
        assert!(!backup.path.exists(), "killed before it moved the backups back");
        if again {
            // The next one is of the same backup, which is where it was.
            restore(&backup.path, &data, true, LAYOUTS).expect("restored");
            let before: Vec<u64> = names(site.folder.path())
                .iter()
                .filter(|name| name.to_string_lossy().contains(".before-"))
                .map(|name| rows(&site.folder.path().join(name)))
                .collect();
            assert_eq!(before.iter().sum::<u64>(), 3_000, "each of the two earlier directories");
        } else {
            finish_restore(&data).expect("finished");
            assert_eq!(rows(&earlier(site.folder.path(), "data.before-")), 2_000);
            assert_eq!(names_with(site.folder.path(), "data.before-"), ["data", "data.before-"]);
        }
        assert_eq!(rows(&data), 1_000);
        verify(&backup.path).expect("the backups are where they were");
        assert_eq!(names(&data), ["backups", "first.redb", "node-name", "second.redb"]);
    }
}

#[test]
fn a_folder_with_the_name_of_a_stage_that_is_none_stays() {
    let (site, backup) = site();
    let other = site.folder.path().join("data.restoring");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("mine"), "kept").expect("written");
    let refused = restore(&backup.path, &site.data(), true, LAYOUTS);
    assert!(matches!(refused, Err(BackupError::Taken(_))), "{refused:?}");
    assert_eq!(fs::read_to_string(other.join("mine")).expect("there"), "kept");
    assert_eq!(rows(&site.data()), 2_000);
}

#[test]
fn a_link_that_leads_nowhere_is_not_replaced() {
    let (site, backup) = site();
    let link = site.folder.path().join("link");
    std::os::unix::fs::symlink(site.folder.path().join("unmounted"), &link).expect("linked");
    assert!(restore(&backup.path, &link, true, LAYOUTS).is_err());
    assert!(link.symlink_metadata().expect("there").is_symlink());
}

#[test]
fn mount_points_are_recognized() {
    let site = Site::new();
    assert!(inside::is_mount(Path::new("/proc")) && !inside::is_mount(&site.data()));
}

#[test]
fn files_of_a_mount_point_are_moved_within_it_and_folders_stay() {
    let (site, backup) = site();
    let data = fs::canonicalize(site.data()).expect("there");
    fs::write(data.join("broker.redb.damaged-1"), "old").expect("written");
    let refused = restore_to(&backup.path, &data, false, LAYOUTS, |_| true);
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))), "{refused:?}");
    let used = fs::File::open(data.join("first.redb")).expect("there");
    used.lock().expect("locked");
    let refused = restore_to(&backup.path, &data, true, LAYOUTS, |_| true);
    assert!(matches!(refused, Err(BackupError::Running(_))), "{refused:?}");
    drop(used);
    let restored = restore_to(&backup.path, &data, true, LAYOUTS, |_| true).expect("restored");
    let before = restored.previous.expect("there were files");
    assert_eq!(before.parent(), Some(&*data));
    assert_eq!((rows(&data), rows(&before)), (1_000, 2_000));
    assert_eq!(names(&before), ["broker.redb.damaged-1", "first.redb", "node-name", "second.redb"]);
    assert_eq!(
        names_with(&data, "before-"),
        ["backups", "before-", "first.redb", "node-name", "second.redb"]
    );
    assert_eq!(names(site.folder.path()), ["data"], "nothing is beside it");
    verify(&backup.path).expect("the backups are where they were");
    // A file system of its own, which nobody has written to yet.
    let empty = site.folder.path().join("empty");
    fs::create_dir_all(empty.join("lost+found")).expect("made");
    let restored = restore_to(&backup.path, &empty, false, LAYOUTS, |_| true).expect("restored");
    assert!(restored.previous.is_none());
    assert_eq!(names(&empty), ["first.redb", "lost+found", "node-name", "second.redb"]);
}

/// Each state in which kill -9 can leave the moves.
#[test]
fn a_restore_within_a_mount_point_is_the_earlier_or_the_restored_state_whenever_it_is_killed() {
    let files = ["first.redb", "node-name", "second.redb"];
    // Before the name that decides, the files are the earlier ones, and what was copied goes.
    let (before, backup) = site();
    let mut stage = inside::stage(&before.data(), files.into_iter()).expect("made");
    fs::copy(backup.path.join("first.redb"), stage.path.join("first.redb")).expect("copied");
    let running = finish_restore(&before.data());
    assert!(matches!(running, Err(BackupError::Restoring(_))), "{running:?}");
    let left = stage.path.clone();
    stage.is_placed = true;
    drop(stage);
    assert!(left.exists());
    finish_restore(&before.data()).expect("finished");
    assert_eq!((rows(&before.data()), left.exists()), (2_000, false));
    // Behind it, they are the restored ones.
    for step in 0..=2 * files.len() + 1 {
        let (site, backup) = site();
        let data = site.data();
        let (mut folder, aside) =
            (data.join(".restored-20260101T000000Z"), data.join("before-20260101T000000Z"));
        fs::create_dir(&folder).expect("made");
        for name in files {
            fs::copy(backup.path.join(name), folder.join(name)).expect("copied");
        }
        let moved = step.min(files.len());
        for name in &files[..moved] {
            fs::create_dir_all(&aside).expect("made");
            fs::rename(data.join(name), aside.join(name)).expect("moved");
        }
        if step > files.len() {
            let placing = data.join(".placing-20260101T000000Z");
            fs::rename(&folder, &placing).expect("named");
            folder = placing;
            for name in &files[..step - files.len() - 1] {
                fs::rename(folder.join(name), data.join(name)).expect("moved");
            }
        }
        let checked = check_formats(&data, LAYOUTS);
        assert!(matches!(checked, Err(BackupError::Interrupted(_))), "{step}: {checked:?}");
        finish_restore(&data).expect("finished");
        finish_restore(&data).expect("nothing is left to do");
        assert_eq!((rows(&data), rows(&aside)), (1_000, 2_000), "{step}");
        assert_eq!(
            names_with(&data, "before-"),
            ["backups", "before-", "first.redb", "node-name", "second.redb"]
        );
        verify(&backup.path).expect("the backups are where they were");
    }
}
