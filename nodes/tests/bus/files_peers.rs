//! Shared folders and callers of which one is of an older version, without attributes and growing files.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rantai_client::files::Files;
use rantai_client::files::interface::{SharedFiles, SharedFilesObject, Upload};
use rantai_client::object::Binary;
use rantai_client::schemars::JsonSchema;
use rantai_client::wire::fault::Fault;
use rantai_client::{Proxy, interface};
use rantai_files::{Share, Sharing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::support::bus;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
struct EarlierOpened {
    size: u64,
    etag: String,
    block: u32,
}

/// First version of the interface of shared folders.
#[interface]
trait EarlierFiles {
    async fn open(&self, path: String) -> Result<EarlierOpened, Fault>;

    async fn read(&self, path: String, etag: String, offset: u64, length: u32) -> Result<Binary, Fault>;

    async fn create(&self, path: String, size: u64, etag: String) -> Result<Upload, Fault>;

    async fn write(&self, data: Binary) -> Result<u64, Fault>;

    async fn commit(&self, id: u64) -> Result<(), Fault>;
}

struct Earlier(Share);

impl EarlierFiles for Earlier {
    async fn open(&self, path: String) -> Result<EarlierOpened, Fault> {
        let opened = self.0.open(path, None).await?;
        Ok(EarlierOpened { size: opened.size, etag: opened.etag, block: opened.block })
    }

    async fn read(&self, path: String, etag: String, offset: u64, length: u32) -> Result<Binary, Fault> {
        self.0.read(path, etag, offset, length, None).await
    }

    async fn create(&self, path: String, size: u64, etag: String) -> Result<Upload, Fault> {
        self.0.create(path, size, etag, None).await
    }

    async fn write(&self, data: Binary) -> Result<u64, Fault> {
        self.0.write(data).await
    }

    async fn commit(&self, id: u64) -> Result<(), Fault> {
        self.0.commit(id).await
    }
}

fn share(folder: &Path) -> Share {
    let sharing = Sharing { quota: Some(1 << 20), block: 1_024, ..Sharing::default() };
    Share::new(folder, sharing).expect("there")
}

fn long_ago() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_000_000_000_123)
}

/// Creates an executable file with an old modification time.
fn program(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
    let file = File::open(path).expect("there");
    file.set_permissions(Permissions::from_mode(0o755)).expect("ours");
    file.set_modified(long_ago()).expect("ours");
}

/// Returns the modification time and the permission bits.
fn about(path: &Path) -> (SystemTime, u32) {
    let about = std::fs::metadata(path).expect("there");
    (about.modified().expect("a time"), about.permissions().mode() & 0o111)
}

#[tokio::test]
async fn files_are_exchanged_with_an_older_node() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let directory = tempfile::tempdir().expect("a directory");
    let [shared, mine] = ["shared", "mine"].map(|name| directory.path().join(name));
    for folder in [&shared, &mine] {
        std::fs::create_dir(folder).expect("made");
    }
    node.serve("books", EarlierFilesObject(Earlier(share(&shared)))).await.expect("served");
    let bytes: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    program(&shared.join("book"), &bytes);
    for growing in [false, true] {
        let target = mine.join(format!("book-{growing}"));
        let files = Files::new(&client, "books").growing(growing);
        files.get("book", &target, &mut |_, _| {}).await.expect("fetched");
        assert!(std::fs::read(&target).expect("there") == bytes);
        let (modified, executable) = about(&target);
        assert!(modified > long_ago() && executable == 0, "it does not know better");
    }
    program(&mine.join("program"), &bytes);
    let files = Files::new(&client, "books");
    files.put(&mine.join("program"), "program", &mut |_, _| {}).await.expect("sent");
    assert!(std::fs::read(shared.join("program")).expect("there") == bytes);
    let (modified, executable) = about(&shared.join("program"));
    assert!(modified > long_ago() && executable == 0, "it was not told");
}

#[tokio::test]
async fn files_are_exchanged_with_an_older_caller() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let directory = tempfile::tempdir().expect("a directory");
    node.serve("books", SharedFilesObject(share(directory.path()))).await.expect("served");
    program(&directory.path().join("1984"), b"text");
    let caller = EarlierFilesProxy::new(&client, "books");
    let opened = caller.open("1984".to_owned()).await.expect("opened");
    assert_eq!((opened.size, opened.block), (4, 1_024));
    let read = caller.read("1984".to_owned(), opened.etag.clone(), 0, 100).await.expect("read");
    assert_eq!(read.0, b"text"[..]);
    let upload = caller.create("copy".to_owned(), 4, opened.etag.clone()).await.expect("begun");
    let header = [upload.id.to_be_bytes(), 0_u64.to_be_bytes()].concat();
    caller.write(Binary::from([&header[..], b"text"].concat())).await.expect("written");
    caller.commit(upload.id).await.expect("whole");
    let (modified, executable) = about(&directory.path().join("copy"));
    assert!(modified > long_ago() && executable == 0);

    // The single parameter of `open` was text, so that a payload of digits must still be accepted.
    let books: Proxy = client.object("books");
    let bare = books.request("open").payload("1984").send().await.expect("answered").read::<Value>();
    assert_eq!(bare.expect("opened")["attributes"]["modified_ms"], 1_000_000_000_123_u64);
}

#[tokio::test]
async fn wrong_modification_time_does_not_fail_a_transfer() {
    let bus = bus().await;
    let (node, client) = (bus.node().await, bus.client().await);
    let directory = tempfile::tempdir().expect("a directory");
    node.serve("books", SharedFilesObject(share(directory.path()))).await.expect("served");
    let books = client.object("books");
    let etag = blake3::hash(b"").to_hex().to_string();
    for (number, time) in [json!(-5), json!(-1e300), json!(u64::MAX), json!(1e300)].into_iter().enumerate() {
        let name = format!("book-{number}");
        let params = json!([name, 0, etag, {"modified_ms": time, "executable": true}]);
        let upload: Upload = books.call("create", params).await.expect("begun");
        books.call::<Value>("commit", (upload.id,)).await.expect("whole");
        let (modified, executable) = about(&directory.path().join(&name));
        assert_eq!(modified == UNIX_EPOCH, number < 2, "{time}: {modified:?}");
        assert!(executable != 0 && (number < 2 || modified > long_ago()), "{time}: {modified:?}");
    }
}
