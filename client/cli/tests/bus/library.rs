//! The e-library, from its readers' point of view.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

use super::process::{Bus, Server, bus, finish};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/library.toml");

fn library(bus: &Bus, names: &[&str]) -> Server {
    let mut node = bus.serve(&[names, &["--config", CONFIG]].concat());
    for name in names {
        node.wait_for(&format!("serving {name}"));
    }
    node
}

#[test]
fn library_buy_prints_the_confirmation() {
    let bus = bus();
    let _shop = library(&bus, &["server"]);
    for title in ["Dune", "", "1984", "null", "Bumi Manusia", "本 📖"] {
        let printed = bus.ok(&["library", "buy", title]);
        assert_eq!(printed, format!("Buku dengan judul {title} berhasil dibeli!\n"));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let typed = directory.path().join("typed");
    std::fs::write(&typed, "Emma\n").expect("written");
    let stdin = File::open(&typed).expect("just written");
    let done = finish(bus.command(&["library", "buy"]).stdin(stdin));
    assert_eq!(done.stdout, "Buku dengan judul Emma berhasil dibeli!\n", "{done:?}");
}

#[test]
fn the_books_are_read_one_after_the_other() {
    let bus = bus();
    let names = ["1", "2", "3", "4"].map(|book| format!("example.chainTopology.{book}"));
    let mut shelf = library(&bus, &names.each_ref().map(String::as_str));
    for book in 1..=4 {
        shelf.wait_for(&format!("Buku {book} mulai dibaca"));
    }
    let done = |book: usize| format!("Buku {book} sudah selesai di baca!");
    let all = json!([done(1), done(2), done(3), done(4), "Kembali ke buku 1"]);
    assert_eq!(bus.ok(&["library", "read"]), format!("Status = {all}\n"));
    for (book, next) in [(1, 2), (2, 3), (3, 4), (4, 1)] {
        shelf.wait_for(&format!("Buku {book} sudah selesai di baca lanjutkan ke buku {next}"));
    }
    shelf.wait_for("Kembali ke buku 1; Buku akan di ulang dari halaman 1");
    let two = json!([done(1), done(2), "Kembali ke buku 3"]);
    assert_eq!(bus.ok(&["library", "read", "3", "--json"]), format!("{two}\n"));
}

#[test]
fn library_checkout_prints_the_time() {
    let bus = bus();
    let mut door = library(&bus, &["clock"]);
    let printed = bus.ok(&["library", "checkout"]);
    assert!(printed.starts_with("Telah melakukan check out buku dongeng pada:"), "{printed}");
    let line = door.wait_for("Telah terjual buku dongeng oleh ");
    assert!(line.len() > "Telah terjual buku dongeng oleh ".len(), "{line}");
    let receipt: Value = serde_json::from_str(&bus.ok(&["library", "checkout", "--json"])).expect("JSON");
    assert!(receipt["time"].as_str().is_some_and(|time| time.contains('T')), "{receipt}");
}

#[test]
fn pages_are_added_and_texts_joined() {
    let bus = bus();
    let _pages = library(&bus, &["pages"]);
    assert_eq!(bus.ok(&["call", "pages.add", "4", "120"]), "124\n");
    let joined = bus.ok(&["call", "pages.add", "Kamu sudah membaca 4", " halaman"]);
    assert_eq!(joined, "Kamu sudah membaca 4 halaman\n");
    let mixed = bus.run(&["call", "pages.add", "4", "halaman"]);
    assert!(mixed.code == 7 && mixed.stderr.contains("y: expected a number"), "{mixed:?}");
}

/// Starts the node's process with its journal in `directory`, under the same name each time.
fn keeper(bus: &Bus, directory: &Path, name: &str, config: &Path) -> Server {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let arguments =
        ["--config", &text(config), "--data-dir", &text(directory), "--node", name].map(ToOwned::to_owned);
    let mut node = bus.serve(&arguments.each_ref().map(String::as_str));
    node.wait_for("serving pages");
    node.wait_for("serving lending");
    node
}

#[tokio::test]
async fn repeated_request_after_kill_9_is_not_a_second_loan() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let (config, loans) = (directory.path().join("nodes.toml"), directory.path().join("loans.jsonl"));
    let text = std::fs::read_to_string(CONFIG).expect("it comes with the program");
    let text = text.replace("#log = \"loans.jsonl\"", &format!("log = {loans:?}"));
    let kept = text.split("# Adds up").nth(1).expect("the part with pages, clock and lending");
    let kept = kept.split("# A folder").next().expect("without the books");
    std::fs::write(&config, format!("# Adds up{kept}")).expect("written");
    let name = rantai_client::client::random_id("pi").to_string();
    let data = directory.path().join("data");
    let client = bus.client().await;
    let (loan, sum) = (Uuid::now_v7(), Uuid::now_v7());
    let mut answers = Vec::new();
    for round in 0..3 {
        let node = keeper(&bus, &data, &name, &config);
        let borrow = client.object("lending").request("borrow").identity(loan);
        let borrowed = borrow.payload("Pinjam Buku Programming GO!").send().await.expect("an answer");
        let add = client.object("pages").request("add").identity(sum).params((4, 120));
        let added = add.send().await.expect("an answer");
        assert_eq!((borrowed.repeated, added.repeated), (round > 0, round > 0), "round {round}");
        assert_eq!(added.read::<i64>().expect("a sum"), 124);
        answers.push(borrowed.read::<Value>().expect("a loan"));
        node.kill();
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer["path"] == "mytext.txt"));
    let written = std::fs::read_to_string(&loans).expect("the log of loans");
    assert_eq!(written.lines().count(), 1, "{written}");
    assert!(written.contains("\"title\":\"Programming GO\""), "{written}");
}
