//! The last lines of a file, and lines that are appended to it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use cap_std::fs::{File, Metadata, MetadataExt as _};
use futures_util::Stream;
use futures_util::stream::{iter, try_unfold};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rantai_client::wire::fault::Fault;
use tokio::time::sleep;

use super::folder::{Folder, disk};
use super::{Share, ShareState};

/// Number of bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Maximum distance from the end at which lines are searched, in bytes.
const MAX_DISTANCE: u64 = 4 << 20;
/// Maximum number of lines that may be requested.
pub(super) const MAX_LINES: u32 = 10_000;
/// Default number of lines.
pub(super) const DEFAULT_LINES: u32 = 10;
/// Length above which a line is split into several items, in bytes.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Interval at which a file is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Reading position in a file.
#[derive(Debug)]
pub(super) struct Tail {
    path: String,
    /// File that is being read. Kept open, as another file could get its inode number otherwise.
    file: File,
    /// Device and inode number of the file.
    identity: (u64, u64),
    offset: u64,
    /// Beginning of a line whose end has not been written yet.
    rest: Vec<u8>,
    follow: bool,
    is_over: bool,
}

impl Tail {
    /// Starts at the last `lines` lines of a file.
    pub(super) fn begin(folder: &Folder, path: String, lines: u32, follow: bool) -> Result<Self, Fault> {
        let (mut file, about) = folder.file(&path)?;
        let offset = start(&mut file, about.len(), lines).map_err(disk(&path))?;
        let identity = identity(&about);
        Ok(Self { path, file, identity, offset, rest: Vec::new(), follow, is_over: false })
    }

    /// Returns the next lines; empty if there is nothing new. A file that was truncated or replaced is read from its beginning.
    fn read(&mut self, folder: &Folder) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        let mut block = vec![0; READ_BYTES];
        let mut read = self.read_block(&mut block)?;
        if read == 0 {
            // At the end of the file: it may have been replaced, or be about to be.
            let (file, about) = match folder.file(&self.path) {
                Err(fault)
                    if self.follow && fault.data.get("kind").is_some_and(|kind| kind == "not_found") =>
                {
                    return Ok(lines);
                }
                file => file?,
            };
            if self.identity != identity(&about) || about.len() < self.offset {
                (self.file, self.identity, self.offset) = (file, identity(&about), 0);
                lines.extend(self.last());
                read = self.read_block(&mut block)?;
            }
        }
        self.rest.extend_from_slice(&block[..read]);
        while let Some(end) = self.rest.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n') {
            lines.push(String::from_utf8_lossy(&self.rest[..end]).into_owned());
            self.rest.drain(..=end);
        }
        while self.rest.len() >= MAX_LINE_BYTES {
            let piece: Vec<u8> = self.rest.drain(..MAX_LINE_BYTES).collect();
            lines.push(String::from_utf8_lossy(&piece).into_owned());
        }
        if read == 0 && !self.follow {
            self.is_over = true;
            lines.extend(self.last());
        }
        Ok(lines)
    }

    fn read_block(&mut self, block: &mut [u8]) -> Result<usize, Fault> {
        let read = self.file.seek(SeekFrom::Start(self.offset)).and_then(|_| self.file.read(block));
        let read = read.map_err(disk(&self.path))?;
        self.offset += read as u64;
        Ok(read)
    }

    /// Returns the rest of the file as a line that has no line feed.
    fn last(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// Returns the lines as a stream, which ends at the end of the file unless it is followed.
    pub(super) fn lines(self, share: Share) -> impl Stream<Item = Result<String, Fault>> + Send {
        let parts = try_unfold((share, self), |(share, mut tail)| async move {
            if tail.is_over {
                return Ok::<_, Fault>(None);
            }
            let job = move |inner: &ShareState| tail.read(&inner.folder).map(|lines| (tail, lines));
            let (tail, lines) = share.work(job).await?;
            if lines.is_empty() && tail.follow {
                sleep(POLL_INTERVAL).await;
            }
            Ok(Some((iter(lines).map(Ok), (share, tail))))
        });
        parts.try_flatten()
    }
}

fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

/// Returns the offset of the last `lines` lines.
fn start(file: &mut File, size: u64, lines: u32) -> std::io::Result<u64> {
    let (mut end, mut found) = (size, 0);
    let mut block = vec![0; READ_BYTES];
    while end > 0 && size - end < MAX_DISTANCE {
        let begin = end.saturating_sub(READ_BYTES as u64);
        let part = &mut block[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let place = begin + index as u64 + 1;
            // The line feed of the last line begins no further line.
            if *byte == b'\n' && place < size {
                found += 1;
                if found == lines {
                    return Ok(place);
                }
            }
        }
        end = begin;
    }
    if lines == 0 {
        return Ok(size);
    }
    if end == 0 {
        return Ok(0);
    }
    // The limit of the search is reached: starts at the first line that begins after it.
    let mut part = vec![0; READ_BYTES];
    file.seek(SeekFrom::Start(end))?;
    let read = file.read(&mut part)?;
    let line = part[..read].iter().position(|byte| *byte == b'\n');
    Ok(end + line.map_or(0, |line| line as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        folder: Folder,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let folder = Folder::open(dir.path()).expect("opened");
            Self { dir, folder }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.path(), text).expect("written");
        }

        fn append(&self, text: &[u8]) {
            let file = std::fs::OpenOptions::new().append(true).open(self.path());
            file.expect("there").write_all(text).expect("written");
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join(Path::new("log"))
        }

        fn tail(&self, lines: u32, follow: bool) -> Tail {
            Tail::begin(&self.folder, "log".to_owned(), lines, follow).expect("a file")
        }

        fn all(&self, lines: u32) -> Vec<String> {
            let (mut tail, mut all) = (self.tail(lines, false), Vec::new());
            while !tail.is_over {
                all.append(&mut tail.read(&self.folder).expect("read"));
            }
            all
        }
    }

    #[test]
    fn last_lines_are_found_with_and_without_a_final_line_feed() {
        let world = World::new();
        for (text, lines, expected) in [
            ("", 3, &[][..]),
            ("a", 3, &["a"]),
            ("a\n", 3, &["a"]),
            ("a\nb\nc\nd\n", 2, &["c", "d"]),
            ("a\nb\nc\nd", 2, &["c", "d"]),
            ("a\n\n\nd\n", 3, &["", "", "d"]),
            ("a\nb\n", 0, &[]),
            ("a\nb\n", 10, &["a", "b"]),
        ] {
            world.write(text);
            assert_eq!(world.all(lines), expected, "{text:?} {lines}");
        }
        let long: Vec<String> = (0..50_000).map(|number| format!("line {number}")).collect();
        world.write(&long.join("\n"));
        assert_eq!(world.all(9_999), long[50_000 - 9_999..]);
        let lines: Vec<String> = (0..10_000).map(|number| format!("{number:01000}")).collect();
        world.write(&lines.join("\n"));
        let all = world.all(10_000);
        assert!(
            all.len() > 4_000 && all == lines[10_000 - all.len()..],
            "whole lines of the last 4 MiB: {}",
            all.len()
        );
    }

    #[test]
    fn a_file_is_followed_through_growth_and_replacement() {
        let world = World::new();
        world.write("old\nlast\n");
        let mut tail = world.tail(1, true);
        let mut read = || tail.read(&world.folder).expect("read");
        assert_eq!(read(), ["last"]);
        assert!(read().is_empty());
        world.append(b"half");
        assert!(read().is_empty(), "its end is not there");
        world.append(b" a line\nand \xff\n");
        assert_eq!(read(), ["half a line", "and \u{fffd}"]);
        world.write("new\n");
        assert_eq!(read(), ["new"], "it is shorter");
        std::fs::remove_file(world.path()).expect("removed");
        world.write("another file, which is longer\n");
        assert_eq!(read(), ["another file, which is longer"]);
        std::fs::remove_file(world.path()).expect("removed");
        assert!(tail.read(&world.folder).expect("it may come back").is_empty());
        world.write("it did\n");
        assert_eq!(tail.read(&world.folder).expect("read"), ["it did"]);
        std::fs::remove_file(world.path()).expect("removed");
        std::fs::create_dir(world.path()).expect("made");
        assert!(tail.read(&world.folder).is_err(), "it is no file");
    }

    #[test]
    fn endless_line_is_split_into_pieces() {
        let world = World::new();
        world.write(&"x".repeat(3 * MAX_LINE_BYTES + 5));
        let lengths: Vec<usize> = world.all(1).iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
    }
}
