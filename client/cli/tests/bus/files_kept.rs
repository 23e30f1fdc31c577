//! File attributes that transfers keep, and files that are being written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{bytes, folders, sha256, text};
use super::process::{bus, finish};

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

/// Sets permissions, and the modification time in milliseconds since 1970.
fn set(path: &Path, mode: u32, modified_ms: u64) {
    let file = File::open(path).expect("there");
    file.set_permissions(Permissions::from_mode(mode)).expect("ours");
    file.set_modified(at(modified_ms)).expect("ours");
}

/// Returns permissions and modification time.
fn about(path: &Path) -> (u32, SystemTime) {
    let about = fs::metadata(path).expect("there");
    (about.permissions().mode() & 0o7777, about.modified().expect("a time"))
}

/// Creates a command in a process with this umask.
fn with_umask(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn time_and_executable_bit_are_kept_and_no_other_permission() {
    let (bus, folders) = (bus(), folders(1_024, Some(1_000_000)));
    let _node = folders.serve(&bus);
    let (shared, mine) = (folders.shared("program"), folders.mine("program"));
    fs::write(&shared, bytes(5_000)).expect("written");
    // If anybody may execute the shared file, everybody who may read the copy may execute it.
    set(&shared, 0o6711, 1_000_000_000_123);
    let get = |umask: &str| {
        let get = bus.command(&["get", "books", "program", "-o", text(&mine)]);
        let done = finish(&mut with_umask(umask, &get));
        assert_eq!(done.code, 0, "{done:?}");
        about(&mine)
    };
    for (umask, mode) in [("022", 0o755), ("077", 0o700), ("027", 0o750)] {
        assert_eq!(get(umask), (mode, at(1_000_000_000_123)), "{umask}");
        fs::remove_file(&mine).expect("removed");
    }
    set(&shared, 0o640, 1_000_000_000_123);
    assert_eq!(get("022"), (0o644, at(1_000_000_000_123)));

    // The same bytes exist already.
    set(&shared, 0o755, 1_100_000_000_456);
    set(&mine, 0o600, 5);
    assert_eq!(get("022"), (0o700, at(1_100_000_000_456)));
    set(&shared, 0o644, 1_200_000_000_789);
    assert_eq!(get("022"), (0o600, at(1_200_000_000_789)));

    for (mode, executable, modified) in [(0o4750, true, 1_300_000_000_001), (0o640, false, 1_400_000_000_002)]
    {
        set(&mine, mode, modified);
        bus.ok(&["put", "books", text(&mine), "--to", "a/sent"]);
        let (mode, at_node) = about(&folders.shared("a/sent"));
        assert_eq!((mode & 0o111 != 0, mode & 0o7000, at_node), (executable, 0, at(modified)), "{mode:o}");
    }
}

#[test]
fn sparse_files_stay_sparse() {
    const SIZE: u64 = 8 << 20;
    let (bus, folders) = (bus(), folders(65_536, Some(1 << 30)));
    let _node = folders.serve(&bus);
    let room = |path: &Path| fs::metadata(path).expect("there").blocks() * 512;
    for (name, places) in
        [("empty", &[][..]), ("begin", &[0]), ("middle", &[4 << 20, 5_000_001]), ("end", &[SIZE - 3])]
    {
        let shared = folders.shared(name);
        let file = File::create(&shared).expect("made");
        file.set_len(SIZE).expect("long");
        for place in places {
            file.write_all_at(b"abc", *place).expect("written");
        }
        let mine = folders.mine(name);
        bus.ok(&["get", "books", name, "-o", text(&mine), "--verify"]);
        bus.ok(&["put", "books", text(&mine), "--to", "sent"]);
        let sent = folders.shared("sent");
        for arrived in [&mine, &sent] {
            assert_eq!(sha256(arrived), sha256(&shared), "{name}");
            assert_eq!(fs::metadata(arrived).expect("there").len(), SIZE, "{name}");
            assert!(room(arrived) <= 64 << 10, "{name}: {} bytes of the disk", room(arrived));
        }
    }
    // A file without holes in the source has none here, either.
    fs::write(folders.shared("full"), bytes(1 << 20)).expect("written");
    bus.ok(&["get", "books", "full", "-o", text(&folders.mine("full"))]);
    assert_eq!(fs::read(folders.mine("full")).expect("there"), bytes(1 << 20));
}

#[test]
fn growing_file_is_fetched_with_growing() {
    let (bus, folders) = (bus(), folders(65_536, None));
    let _node = folders.serve(&bus);
    let (log, target) = (folders.shared("log"), folders.mine("log"));
    fs::write(&log, bytes(8 << 20)).expect("written");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&log).expect("there");
            while !is_over.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").expect("written");
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let get = ["get", "books", "log", "-o", text(&target)];
        let refused = bus.run(&get);
        let fetched = bus.run(&[&get[..], &["--growing", "--verify"]].concat());
        is_over.store(true, Ordering::Relaxed);
        assert!(refused.code == 1 && refused.stderr.contains("--growing"), "{refused:?}");
        assert_eq!(fetched.code, 0, "{fetched:?}");
    });
    let (fetched, log) = (fs::read(&target).expect("there"), fs::read(&log).expect("there"));
    assert!(fetched.len() >= 8 << 20 && fetched.len() < log.len(), "{} of {}", fetched.len(), log.len());
    assert!(fetched == log[..fetched.len()]);
}
