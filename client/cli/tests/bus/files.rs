//! File transfers: files arrive completely or not at all, whatever process ends during the transfer.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{Bus, Server, bus};

/// Shared folder, and a folder to receive in.
pub(super) struct Folders {
    directory: tempfile::TempDir,
    config: PathBuf,
}

pub(super) fn folders(block: u32, quota: Option<u64>) -> Folders {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["shared", "mine"] {
        fs::create_dir(directory.path().join(name)).expect("made");
    }
    let config = directory.path().join("nodes.toml");
    let quota = quota.map_or_else(String::new, |quota| format!("quota_bytes = {quota}\n"));
    let text = format!(
        "[[files]]\nname = \"books\"\nfolder = \"shared\"\nblock_bytes = {block}\n{quota}replica = true\n"
    );
    fs::write(&config, text).expect("written");
    Folders { directory, config }
}

impl Folders {
    pub(super) fn shared(&self, name: &str) -> PathBuf {
        self.directory.path().join("shared").join(name)
    }

    pub(super) fn mine(&self, name: &str) -> PathBuf {
        self.directory.path().join("mine").join(name)
    }

    pub(super) fn serve(&self, bus: &Bus) -> Server {
        let mut node = bus.serve(&["--config", text(&self.config)]);
        node.wait_for("serving books");
        node
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Returns bytes without repetition.
pub(super) fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut state = size as u64 ^ 0x9E37_79B9_7F4A_7C15;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Computes the digest with the program `sha256sum`.
pub(super) fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum is part of every system");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

/// Returns the only part in a folder.
pub(super) fn part_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).expect("there").flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "part"))
}

#[test]
fn files_of_every_size_arrive_unchanged() {
    let bus = bus();
    let folders = folders(1_024, None);
    let _node = folders.serve(&bus);
    for size in [0, 1, 1_023, 1_024, 1_025, 3_000, 200_000] {
        let name = format!("{size}.bin");
        fs::write(folders.shared(&name), bytes(size)).expect("written");
        let target = folders.mine(&name);
        let done = bus.ok(&["get", "books", &name, "-o", text(&target), "--verify", "--json"]);
        let told: Value = serde_json::from_str(&done).expect("JSON");
        assert_eq!((told["size"].as_u64(), told["resumed"].as_u64()), (Some(size as u64), Some(0)));
        assert_eq!(fs::read(&target).expect("there"), bytes(size));
        assert_eq!(part_in(&folders.mine("")), None);
    }
    let words = "Programming GO\r\nBab 1: Halo, dünia 📖\n";
    fs::write(folders.shared("words 本.txt"), words).expect("written");
    bus.ok(&["get", "books", "words 本.txt", "-o", text(&folders.mine(""))]);
    assert_eq!(fs::read_to_string(folders.mine("words 本.txt")).expect("there"), words);
}

#[test]
fn concurrent_fetches_and_borrowers_do_not_disturb_each_other() {
    let bus = bus();
    let folders = folders(65_536, None);
    let _node = folders.serve(&bus);
    let names: Vec<String> = (0..10).map(|number| format!("book-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        fs::write(folders.shared(name), bytes(300_000 + number)).expect("written");
    }
    let (all, to) = (names.iter().map(String::as_str), folders.mine(""));
    bus.ok(&["get", "books"].into_iter().chain(all).chain(["-o", text(&to)]).collect::<Vec<_>>());
    let borrowers: Vec<(PathBuf, Server)> = (0..10)
        .map(|number| {
            let target = folders.mine(&format!("borrowed-{number}"));
            let get = Server::spawn(&mut bus.command(&["get", "books", "book-3", "-o", text(&target)]));
            (target, get)
        })
        .collect();
    for (target, mut get) in borrowers {
        assert_eq!(get.exit_code(), 0, "{:?}", get.said());
        assert_eq!(fs::read(target).expect("there"), bytes(300_003));
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(fs::read(folders.mine(name)).expect("there"), bytes(300_000 + number));
    }
    let listed: Value = serde_json::from_str(&bus.ok(&["files", "books", "--json"])).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(10));
}

#[test]
fn two_files_with_one_destination_are_refused() {
    let bus = bus();
    let folders = folders(65_536, Some(1_000_000));
    let _node = folders.serve(&bus);
    for name in ["a", "b"] {
        for place in [folders.shared(name), folders.mine(name)] {
            fs::create_dir(&place).expect("made");
            fs::write(place.join("book"), name).expect("written");
        }
    }
    let to = folders.mine("");
    let done = bus.run(&["get", "books", "a/book", "b/book", "-o", text(&to)]);
    assert!(done.code == 2 && done.stderr.contains("would both become"), "{done:?}");
    assert!(!folders.mine("book").exists());
    let (one, other) = (folders.mine("a/book"), folders.mine("b/book"));
    let done = bus.run(&["put", "books", text(&one), text(&other), "--to", "c"]);
    assert!(done.code == 2 && done.stderr.contains("would both become"), "{done:?}");
    assert!(!folders.shared("c").exists());
    fs::rename(&other, folders.mine("b/other")).expect("renamed");
    bus.ok(&["put", "books", text(&one), text(&folders.mine("b/other")), "--to", "c"]);
    assert_eq!(fs::read_to_string(folders.shared("c/other")).expect("there"), "b");
}

#[test]
fn paths_outside_the_share_are_refused_and_the_node_survives() {
    let bus = bus();
    let folders = folders(1_024, None);
    fs::write(folders.shared("book"), "x").expect("written");
    fs::write(folders.directory.path().join("secret"), "x").expect("written");
    fs::create_dir(folders.shared("folder")).expect("made");
    std::os::unix::fs::symlink(folders.directory.path().join("secret"), folders.shared("link"))
        .expect("linked");
    std::os::unix::fs::symlink(folders.directory.path(), folders.shared("up")).expect("linked");
    let mut node = folders.serve(&bus);
    let target = folders.mine("x");
    for (path, code) in [
        ("missing", 1),
        ("folder", 1),
        ("book/inside", 1),
        ("../secret", 2),
        ("folder/../../secret", 2),
        ("/etc/passwd", 2),
        ("link", 4),
        ("up/secret", 4),
        (".hidden", 2),
        ("a\nb", 2),
        ("", 2),
    ] {
        let done = bus.run(&["get", "books", path, "-o", text(&target), "--timeout", "5"]);
        assert_eq!(done.code, code, "{path:?}: {done:?}");
        assert!(!target.exists() && part_in(&folders.mine("")).is_none(), "{path:?} left something");
        // A caller that does not check the path first is refused, too.
        let asked = bus.run(&["call", "books.open", &format!("path={}", serde_json::json!(path))]);
        assert_eq!(asked.code, if code == 2 { 4 } else { code }, "{path:?}: {asked:?}");
    }
    let long = "x".repeat(5_000);
    assert_eq!(bus.run(&["get", "books", &long, "-o", text(&target)]).code, 2);
    let done = bus.run(&["put", "books", text(&folders.shared("book"))]);
    assert!(done.code == 4 && done.stderr.contains("nothing may be written here"), "{done:?}");
    // Cause: it was fetched, could not be put in its place, and its part stayed.
    let folder = format!("{}/", text(&folders.mine("new")));
    let done = bus.run(&["get", "books", "book", "-o", &folder]);
    assert!(done.code == 2 && done.stderr.contains("is no folder; make it first"), "{done:?}");
    assert!(part_in(&folders.mine("")).is_none(), "it left something");
    bus.ok(&["get", "books", "book", "-o", text(&target)]);
    assert!(node.is_running());
}

#[test]
fn files_are_sent_within_the_quota_and_replaced_whole() {
    let bus = bus();
    let folders = folders(65_536, Some(1_000_000));
    let _node = folders.serve(&bus);
    for size in [0, 1, 65_536, 65_537, 500_000] {
        fs::write(folders.mine("new"), bytes(size)).expect("written");
        let done = bus.ok(&["put", "books", text(&folders.mine("new")), "--to", "a/b/new.bin", "--json"]);
        assert!(done.contains(&format!("\"size\":{size}")), "{done}");
        assert_eq!(fs::read(folders.shared("a/b/new.bin")).expect("there"), bytes(size));
    }
    fs::write(folders.mine("large"), bytes(600_000)).expect("written");
    let done = bus.run(&["put", "books", text(&folders.mine("large"))]);
    assert_eq!(done.code, 1, "{done:?}");
    for told in [text(&folders.mine("large")), "(600000 bytes)", "needs 600000 bytes", "has room for 500000;"]
    {
        assert!(done.stderr.contains(told), "{told}: {done:?}");
    }
    for path in ["../out", "/out", "a/../../out", ".hidden"] {
        let put = bus.run(&["put", "books", text(&folders.mine("new")), "--to", path]);
        let get = bus.run(&["get", "books", path, "-o", text(&folders.mine("got"))]);
        for done in [put, get] {
            assert!(done.code == 2 && done.stderr.contains(&format!("{path:?}")), "{path}: {done:?}");
        }
    }
    let left: Vec<_> =
        fs::read_dir(folders.shared("")).expect("there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["a"], "nothing but what was sent");
}

/// Regression: a file of the user that was named like a part was truncated to whole blocks, overwritten, and removed in
/// the end.
#[test]
fn files_of_the_user_named_like_parts_are_kept() {
    let bus = bus();
    let folders = folders(1_024, None);
    let _node = folders.serve(&bus);
    fs::write(folders.shared("book"), bytes(10_000)).expect("written");
    let names = ["book.part", ".book.part", ".book.0123456789abcdef.part", "book.tmp", ".book"];
    for content in [bytes(5_000), bytes(50_000), Vec::new()] {
        for name in names {
            fs::write(folders.mine(name), &content).expect("written");
        }
        bus.ok(&["get", "books", "book", "-o", text(&folders.mine(""))]);
        assert_eq!(fs::read(folders.mine("book")).expect("there"), bytes(10_000));
        for name in names {
            assert_eq!(fs::read(folders.mine(name)).expect("there"), content, "{name}");
        }
        fs::remove_file(folders.mine("book")).expect("removed");
    }
    assert_eq!(fs::read_dir(folders.mine("")).expect("there").count(), names.len(), "nothing else");
}

/// Regression: `-o /dev/null --force` as root replaced the device by a file.
#[test]
fn force_replaces_files_and_nothing_else() {
    let bus = bus();
    let folders = folders(1_024, None);
    let _node = folders.serve(&bus);
    fs::write(folders.shared("book"), bytes(10_000)).expect("written");
    let target = folders.mine("book");
    let _socket = std::os::unix::net::UnixListener::bind(&target).expect("a socket");
    let refused = |what: &str| {
        let done = bus.run(&["get", "books", "book", "-o", text(&target), "--force"]);
        assert!(done.code == 1 && done.stderr.contains("no regular file"), "{what}: {done:?}");
    };
    refused("a socket");
    fs::remove_file(&target).expect("removed");
    let fifo = std::process::Command::new("mkfifo").arg(&target).status().expect("it runs");
    assert!(fifo.success());
    refused("a pipe");
    fs::remove_file(&target).expect("removed");
    // A folder as destination: the name of the file in it is taken.
    fs::create_dir_all(target.join("book")).expect("made");
    refused("a folder");
    let left = fs::read_dir(folders.mine("")).expect("there").count();
    assert_eq!(left, 1, "no part is left");
}

#[test]
fn existing_file_is_replaced_only_with_force() {
    let bus = bus();
    let folders = folders(1_024, None);
    let _node = folders.serve(&bus);
    fs::write(folders.shared("book"), bytes(10_000)).expect("written");
    let (target, elsewhere) = (folders.mine("book"), folders.mine("elsewhere"));
    let get = ["get", "books", "book", "-o", text(&target), "--json"];
    let refused = |what: &str| {
        let done = bus.run(&get);
        assert!(done.code == 1 && done.stderr.contains("--force replaces it"), "{what}: {done:?}");
    };
    // Files of another size, and of the same.
    for mine in [bytes(9_999), vec![7; 10_000], Vec::new()] {
        fs::write(&target, &mine).expect("written");
        refused("a file");
        assert_eq!(fs::read(&target).expect("there"), mine);
    }
    bus.ok(&[&get[..], &["--force"]].concat());
    assert_eq!(fs::read(&target).expect("there"), bytes(10_000));
    let told = bus.ok(&get);
    assert!(told.contains("\"resumed\":10000"), "the same file is there: {told}");
    fs::remove_file(&target).expect("removed");
    for there in [true, false] {
        if there {
            fs::write(&elsewhere, "mine").expect("written");
        }
        std::os::unix::fs::symlink(&elsewhere, &target).expect("linked");
        refused("a link");
        bus.ok(&[&get[..], &["-f"]].concat());
        assert!(fs::symlink_metadata(&target).expect("there").is_file(), "the link was replaced");
        assert_eq!(fs::read(&elsewhere).ok(), there.then(|| b"mine".to_vec()), "and not what it leads to");
        fs::remove_file(&target).expect("removed");
        let _ = fs::remove_file(&elsewhere);
    }
    assert_eq!(fs::read_dir(folders.mine("")).expect("there").count(), 0, "no part is left");
}

#[test]
fn fetched_file_cannot_get_a_hidden_name() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    for path in [".bashrc", "a/.bashrc", "a/..", "a/", "", "a\x1b[2J", "a\nb"] {
        let done = bus.run(&["get", "nobody", path, "-o", text(directory.path()), "--timeout", "2"]);
        assert!(done.code == 2 && done.stderr.contains("cannot name a file after"), "{path:?}: {done:?}");
    }
}

/// After a power failure a part may have its length, but not its bytes.
#[test]
fn damaged_part_of_an_upload_is_replaced() {
    let bus = bus();
    let folders = folders(1_024, Some(1_000_000));
    let _node = folders.serve(&bus);
    fs::write(folders.mine("book"), bytes(10_000)).expect("written");
    let told = bus.ok(&["put", "books", text(&folders.mine("book")), "--to", "first", "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let digest = &told["blake3"].as_str().expect("a digest")[..16];
    let check = blake3::hash(format!("part of second {digest}").as_bytes()).to_hex();
    let part = format!(".second.{digest}{}.part", &check[..16]);
    fs::write(folders.shared(&part), [0; 5_000]).expect("written");
    bus.ok(&["put", "books", text(&folders.mine("book")), "--to", "second"]);
    assert_eq!(fs::read(folders.shared("second")).expect("there"), bytes(10_000));
    assert!(!folders.shared(&part).exists());
}

#[test]
fn pipes_are_refused_by_put() {
    let bus = bus();
    let folders = folders(1_024, Some(1_000_000));
    let _node = folders.serve(&bus);
    let pipe = folders.mine("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("part of every system").success());
    for source in [&pipe, &folders.mine("")] {
        let done = bus.run(&["put", "books", text(source), "--to", "book"]);
        assert!(done.code == 1 && done.stderr.contains("only a regular file"), "{done:?}");
    }
    assert!(!folders.shared("book").exists());
}

#[test]
fn borrowed_book_is_complete_without_the_closing_message() {
    let bus = bus();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/library.toml");
    let mut node = bus.serve(&["lending", "books", "--config", config]);
    node.wait_for("serving lending");
    node.wait_for("serving books");
    let directory = tempfile::tempdir().expect("a directory");
    let to = text(directory.path());
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/books/mytext.txt");
    for title in ["Programming GO", "Pinjam Buku Programming GO!"] {
        let printed = bus.ok(&["library", "borrow", title, "-o", to]);
        assert_eq!(printed, "Peminjaman buku telah selesai diproses\n");
        let received = directory.path().join("received.txt");
        assert_eq!(fs::read(&received).expect("there"), fs::read(book).expect("there"));
        fs::remove_file(received).expect("removed");
    }
    let mut question = String::new();
    write!(question, "Programing GO").expect("written");
    let done = bus.run(&["library", "borrow", &question, "-o", to]);
    assert!(done.code == 1 && done.stderr.contains("did you mean \"Programming GO\""), "{done:?}");
    assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0, "nothing was received");
}

/// Regression: the library chose the file name, and `.bashrc` was overwritten.
#[test]
fn borrowed_book_gets_the_name_chosen_by_the_user() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let there = |name: &str| directory.path().join(name);
    fs::create_dir(there("books")).expect("made");
    fs::create_dir(there("mine")).expect("made");
    fs::write(there("books/text"), "the book").expect("written");
    let names = [".bashrc", "a\u{1b}[2J", "../outside", "/tmp/outside", "", "received.txt\n"];
    let mut config = "[[files]]\nname = 'books'\nfolder = 'books'\n".to_owned();
    for (number, received) in names.iter().enumerate() {
        write!(
            config,
            "[[lending]]\nname = 'lending-{number}'\nfiles = 'books'\nrequest = '{{title}}'\nfinished = 'done'\n\
             received = {}\nbooks = {{ Go = 'text' }}\n",
            serde_json::json!(received)
        )
        .expect("a text");
    }
    fs::write(there("nodes.toml"), config).expect("written");
    let mut node = bus.serve(&["--config", text(&there("nodes.toml"))]);
    for number in 0..names.len() {
        node.wait_for(&format!("serving lending-{number}"));
    }
    node.wait_for("serving books");
    let borrow = |object: &str, more: &[&str]| {
        let mut command = bus.command(&["library", "borrow", "Go", "--object", object]);
        super::process::finish(command.args(more).current_dir(there("mine")))
    };
    fs::write(there("mine/.bashrc"), "mine").expect("written");
    for (number, name) in names.iter().enumerate() {
        let done = borrow(&format!("lending-{number}"), &[]);
        assert_eq!(done.code, 0, "{name:?}: {done:?}");
        assert_eq!(fs::read_to_string(there("mine/received.txt")).expect("there"), "the book");
        fs::remove_file(there("mine/received.txt")).expect("removed");
        assert_eq!(fs::read_to_string(there("mine/.bashrc")).expect("there"), "mine", "{name:?}");
        assert_eq!(fs::read_dir(there("mine")).expect("there").count(), 1, "{name:?}: nothing else");
    }
    assert!(!there("outside").exists());

    fs::write(there("mine/received.txt"), "mine").expect("written");
    let done = borrow("lending-0", &[]);
    assert!(done.code == 1 && done.stderr.contains("--force replaces it"), "{done:?}");
    assert_eq!(fs::read_to_string(there("mine/received.txt")).expect("there"), "mine");
    assert_eq!(borrow("lending-0", &["-o", "go.txt"]).code, 0);
    assert_eq!(borrow("lending-0", &["-o", "go.txt"]).code, 0, "the same book is there");
    assert_eq!(fs::read_to_string(there("mine/go.txt")).expect("there"), "the book");
    assert_eq!(borrow("lending-0", &["--force"]).code, 0);
    assert_eq!(fs::read_to_string(there("mine/received.txt")).expect("there"), "the book");
}

#[test]
fn listing_counts_files_that_are_not_shared() {
    let (bus, folders) = (bus(), folders(65_536, None));
    fs::write(folders.shared("a"), "a").expect("written");
    fs::write(folders.shared("new\nline"), "a").expect("written");
    std::os::unix::fs::symlink(folders.shared("a"), folders.shared("link")).expect("made");
    let _node = folders.serve(&bus);
    let done = bus.run(&["files", "books"]);
    assert_eq!((done.code, done.stdout.lines().count()), (0, 1), "{done:?}");
    assert!(
        done.stderr.contains("left out: 1 (") && done.stderr.contains("1 (links are not listed)"),
        "{done:?}"
    );
}
