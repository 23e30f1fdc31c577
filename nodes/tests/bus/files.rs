//! Files through the client, from a folder and from objects that break the rules.

use std::time::Duration;

use rantai_client::files::interface::{
    Attributes, FileEntry, Listing, Opened, SharedFiles, SharedFilesObject, Upload,
};
use rantai_client::files::{FileError, Files};
use rantai_client::object::{Binary, Stream};
use rantai_client::wire::fault::Fault;
use rantai_files::{Share, Sharing};

use super::support::bus;

/// Object with configured replies to `open`, and a configured number of bytes in a read.
struct Liar {
    opened: Opened,
    read: usize,
}

impl SharedFiles for Liar {
    async fn list(&self, _: Option<String>, _: Option<String>) -> Result<Listing, Fault> {
        let entry = FileEntry { path: "a".to_owned(), size: 1, modified_ms: 0 };
        Ok(Listing { entries: vec![entry], next: Some("a".to_owned()), ..Listing::default() })
    }

    async fn open(&self, _: String, _: Option<bool>) -> Result<Opened, Fault> {
        Ok(self.opened.clone())
    }

    async fn read(&self, _: String, _: String, _: u64, _: u32, _: Option<u64>) -> Result<Binary, Fault> {
        Ok(vec![7; self.read].into())
    }

    async fn create(&self, _: String, _: u64, _: String, _: Option<Attributes>) -> Result<Upload, Fault> {
        Ok(Upload { id: u64::MAX, offset: u64::MAX, block: 0 })
    }

    async fn write(&self, _: Binary) -> Result<u64, Fault> {
        Ok(u64::MAX)
    }

    async fn commit(&self, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    async fn tail(
        &self,
        _: String,
        _: Option<u32>,
        _: Option<bool>,
    ) -> Result<impl Stream<Item = Result<String, Fault>>, Fault> {
        Ok(futures_util::stream::empty())
    }
}

#[tokio::test]
async fn files_with_the_longest_names_are_listed() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let directory = tempfile::tempdir().expect("a directory");
    let mut folder = directory.path().to_owned();
    for part in 0..4 {
        folder.push(format!("{part}").repeat(200));
    }
    std::fs::create_dir_all(&folder).expect("made");
    for number in 0..1_500 {
        std::fs::write(folder.join(format!("{number:0200}")), "").expect("written");
    }
    let share = Share::new(directory.path(), Sharing::default()).expect("there");
    node.serve("books", SharedFilesObject(share)).await.expect("served");
    let listed = Files::new(&client, "books").list("").await.expect("a list");
    assert_eq!(listed.len(), 1_500);
    assert!(listed.is_sorted_by(|one, next| one.path < next.path));
}

#[tokio::test]
async fn a_fetch_that_was_cancelled_is_called_again_at_once() {
    const SIZE: usize = 4 << 20;
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let (shared, mine) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let bytes: Vec<u8> = (0..SIZE / 4).flat_map(|number| (number as u32).to_le_bytes()).collect();
    std::fs::write(shared.path().join("book"), &bytes).expect("written");
    let sharing = Sharing { block: 16 << 10, ..Sharing::default() };
    node.serve("books", SharedFilesObject(Share::new(shared.path(), sharing).expect("there")))
        .await
        .expect("served");
    let (files, target) = (Files::new(&client, "books"), mine.path().join("book"));
    let mut reached = 0;
    for wanted in [SIZE / 4, SIZE / 2] {
        let far = tokio::sync::Notify::new();
        let mut progress = |there: u64, _| {
            reached = there;
            if there >= wanted as u64 {
                far.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = far.notified() => {}
            done = files.get("book", &target, &mut progress) => panic!("not cancelled: {done:?}"),
        }
        assert!(!target.exists(), "nothing looks whole");
    }
    let done = files.get("book", &target, &mut |_, _| {}).await.expect("fetched");
    assert!(done.resumed > 0 && done.resumed <= reached, "{done:?} of {reached}");
    assert!(std::fs::read(target).expect("there") == bytes);
}

#[tokio::test]
async fn invalid_replies_to_open_and_read_fail_the_fetch() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let directory = tempfile::tempdir().expect("a directory");
    let target = directory.path().join("book");
    let right = blake3_of(&[7; 10]);
    for (number, (size, block, read, etag)) in [
        (10, 10, 10, "no digest".to_owned()),
        (10, 10, 11, right.clone()),
        (10, 10, 0, right.clone()),
        (10, 0, 10, right.clone()),
        (u64::MAX, u32::MAX, 10, right),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("liar-{number}");
        let opened = Opened { size, etag, block, attributes: Attributes::default() };
        node.serve(&name, SharedFilesObject(Liar { opened, read })).await.expect("served");
        let files = Files::new(&client, &name).patience(Duration::from_secs(5));
        files.get("book", &target, &mut |_, _| {}).await.expect_err("a lie");
        assert!(!target.exists(), "{name}: nothing looks whole");
    }
    let files = Files::new(&client, "liar-0").patience(Duration::from_secs(5));
    let listed = tokio::time::timeout(Duration::from_secs(10), files.list(""));
    assert!(matches!(listed.await.expect("it ends"), Err(FileError::Call(_))));
}

fn blake3_of(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    rantai_client::files::digest(file.path()).expect("read")
}
