//! Files: a folder that is shared, files that are fetched and sent, each there whole or not at all.
//!
//! `cargo run -p rantai --example files`

use rantai::broker::Config;
use rantai::files::{FileError, Files, FolderObject, Share, Sharing, digest};
use rantai::{Broker, Client, Code, Node};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(Config::on_free_port()).await?;
    let address = format!("mqtt://{}", broker.addresses()[0]);

    // The host that shares a folder. With a quota callers may write too, up to so many bytes in all.
    let shared = tempfile::tempdir()?;
    let book: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(shared.path().join("book.bin"), &book)?;
    let node = Node::connect(&address).await?;
    let sharing = Sharing { quota: Some(16 << 20), ..Sharing::default() };
    node.serve("library", FolderObject::new(Share::new(shared.path(), sharing)?)).await?;

    // The host that uses it.
    let mine = tempfile::tempdir()?;
    let client = Client::connect(&address).await?;
    let library = Files::new(&client, "library");
    let listed = library.list("").await?;
    assert_eq!((listed.len(), listed[0].path.as_str(), listed[0].size), (1, "book.bin", 4_000_000));
    println!("{}: {} bytes", listed[0].path, listed[0].size);

    // Blocks travel several at a time, the digest is checked at the end, and the file appears when it is whole. A transfer that
    // was interrupted goes on where it was when it is called again.
    let target = mine.path().join("book.bin");
    let mut last = 0;
    let fetched = library.get("book.bin", &target, &mut |done, _| last = done).await?;
    assert_eq!((fetched.size, last), (4_000_000, 4_000_000));
    assert_eq!(fetched.etag, digest(&target)?);
    assert!(std::fs::read(&target)? == book);
    println!("fetched, BLAKE3 {}", fetched.etag);

    // Nothing of this host is overwritten unless that is asked for.
    std::fs::write(&target, "my own notes")?;
    let error = library.get("book.bin", &target, &mut |_, _| {}).await.expect_err("another file is there");
    assert!(matches!(error, FileError::Exists(_)));
    println!("{error}");

    // The other way. Paths cannot lead out of the shared folder.
    library.put(&target, "notes/mine.txt", &mut |_, _| {}).await?;
    assert_eq!(std::fs::read_to_string(shared.path().join("notes/mine.txt"))?, "my own notes");
    let error = library.put(&target, "../escaped.txt", &mut |_, _| {}).await.expect_err("a path outside");
    assert!(matches!(&error, FileError::Call(error) if error.code() == Some(Code::DENIED)), "{error:?}");
    println!("../escaped.txt: {error}");
    Ok(())
}
