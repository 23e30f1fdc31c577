//! Paths, and opening files without leaving the folder.
//!
//! There are two barriers: the form of a path is checked first, and then cap-std resolves it below the open folder, so
//! that neither a symbolic link nor a change between check and open leads out of it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use rantai_client::files::interface::{Attributes, FileEntry, LeftOut};
use rantai_client::files::{HIDDEN, check_path};
use rantai_client::wire::fault::{Code, Fault};
use rantai_group_commit::is_full;

/// Maximum number of files and folders that are visited for one list.
const MAX_VISITED: usize = 100_000;

/// Flag for opening, as opening a named pipe would block the thread until its other end is opened.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// Error of opening a socket, or a device without a driver.
const NO_DEVICE: i32 = rustix::io::Errno::NXIO.raw_os_error();

/// Open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: Dir,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: Dir::open_ambient_dir(path, ambient_authority())? })
    }

    /// Opens a file for reading, and returns its metadata.
    pub(super) fn file(&self, path: &str) -> Result<(File, Metadata), Fault> {
        check(path)?;
        self.regular(path, OpenOptions::new().read(true)).map_err(|error| explain(path, &error))
    }

    /// Returns the files below a folder, sorted by path, and the number of files left out for each reason.
    pub(super) fn list(&self, folder: &str) -> Result<(Vec<FileEntry>, Vec<LeftOut>), Fault> {
        let folder = folder.trim_end_matches('/');
        if !folder.is_empty() {
            check(folder)?;
        }
        let (mut files, mut left_out) = (Vec::new(), BTreeMap::<&str, u64>::new());
        self.walk(folder, |path, about| {
            let reason = match path.as_deref().map(check_path) {
                None => Some("a name must be UTF-8"),
                Some(Err(HIDDEN)) => return false,
                Some(Err(reason)) => Some(reason),
                Some(Ok(())) if about.is_symlink() => Some("links are not listed"),
                Some(Ok(())) if !about.is_file() && !about.is_dir() => Some("neither a file nor a folder"),
                Some(Ok(())) => None,
            };
            if let Some(reason) = reason {
                *left_out.entry(reason).or_default() += 1;
                return false;
            }
            if let Some(path) = path.filter(|_| about.is_file()) {
                files.push(FileEntry { path, size: about.len(), modified_ms: modified_ms(about) });
            }
            true
        })?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let left_out =
            left_out.into_iter().map(|(reason, count)| LeftOut { reason: reason.to_owned(), count });
        Ok((files, left_out.collect()))
    }

    /// Visits everything below a folder. `each` gets the path, or `None` if that is not UTF-8, and returns whether to descend
    /// into a folder. Symbolic links are not followed.
    pub(super) fn walk(
        &self,
        folder: &str,
        mut each: impl FnMut(Option<String>, &Metadata) -> bool,
    ) -> Result<(), Fault> {
        let (mut waiting, mut looked_at) = (vec![folder.to_owned()], 0);
        while let Some(folder) = waiting.pop() {
            let inside = if folder.is_empty() { self.dir.entries() } else { self.dir.read_dir(&folder) };
            for entry in inside.map_err(|error| explain(&folder, &error))?.flatten() {
                looked_at += 1;
                if looked_at > MAX_VISITED {
                    return Err(Fault::failed(
                        "too_many_files",
                        "there are more than 100,000 files and folders",
                    ));
                }
                let Ok(about) = entry.metadata() else { continue };
                let name = entry.file_name().into_string().ok();
                let path = name.map(|name| if folder.is_empty() { name } else { format!("{folder}/{name}") });
                if each(path.clone(), &about) && about.is_dir() {
                    waiting.extend(path);
                }
            }
        }
        Ok(())
    }

    /// Opens a regular file; fails for folders, pipes, sockets and devices.
    pub(super) fn regular(&self, path: &str, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
        let file = self.dir.open_with(path, options.custom_flags(NONBLOCK))?;
        let about = file.metadata()?;
        if about.is_file() { Ok((file, about)) } else { Err(io::Error::from_raw_os_error(NO_DEVICE)) }
    }
}

pub(super) fn modified_ms(about: &Metadata) -> u64 {
    let since = about.modified().ok().and_then(|time| time.into_std().duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_millis() as u64)
}

pub(super) fn attributes(about: &Metadata) -> Attributes {
    Attributes::new(about.modified().map(cap_std::time::SystemTime::into_std), about.mode())
}

/// Checks a path.
pub(super) fn check(path: &str) -> Result<(), Fault> {
    check_path(path).map_err(|why| Fault::new(Code::DENIED, format!("{path:?}: {why}")))
}

/// Returns the fault for an error of the disk. It contains no paths of the host besides the caller's.
pub(super) fn explain(path: &str, error: &io::Error) -> Fault {
    match error.kind() {
        _ if error.raw_os_error() == Some(NO_DEVICE) => no_file(path),
        io::ErrorKind::NotFound => Fault::failed("not_found", format!("there is no file {path:?}")),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => no_file(path),
        // cap-std's error for paths that lead outside.
        io::ErrorKind::PermissionDenied => Fault::new(Code::DENIED, format!("{path:?} may not be opened")),
        _ if is_full(error) => Fault::failed(
            "disk_full",
            format!("{path:?}: the disk is full; make room on it, and put it again"),
        ),
        _ => {
            tracing::warn!(path, "{error}");
            Fault::failed("disk", format!("{path:?}: the disk failed"))
        }
    }
}

pub(super) fn no_file(path: &str) -> Fault {
    Fault::failed("not_a_file", format!("{path:?} is no file"))
}

pub(super) fn disk(path: &str) -> impl Fn(io::Error) -> Fault {
    move |error| explain(path, &error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_denied() {
        for path in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "/",
            "a\0b",
            "a\nb",
            ".hidden",
            "a/.hidden",
            "a\\b",
            "\u{7f}",
        ] {
            assert_eq!(check(path).expect_err(path).code, Code::DENIED);
        }
        assert!(check(&"x".repeat(201)).is_err());
        assert!(check(&"x/".repeat(40)).is_err());
        for path in ["a", "a b.txt", "a/b/c", "本/📖.txt", "a..b", "e\u{301}", "-rf", "~", "CON"] {
            assert!(check(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn random_paths_are_refused_or_stay_inside_the_folder() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "x").expect("written");
        let inside = outside.path().join("shared");
        std::fs::create_dir_all(inside.join("a/b")).expect("made");
        std::fs::write(inside.join("a/b/book"), "y").expect("written");
        let folder = Folder::open(&inside).expect("there");
        // Characters that look like dots and slashes, and characters that change the direction of text or join others.
        let pieces = [
            "..",
            ".",
            "/",
            "//",
            "\\",
            "\0",
            "a",
            "b",
            "book",
            "secret",
            "\u{2024}\u{2024}",
            "\u{2025}",
            "\u{ff0e}\u{ff0e}",
            "\u{2215}",
            "\u{ff0f}",
            "\u{202e}",
            "\u{200d}",
            "\u{feff}",
            "e\u{301}",
            "\u{e9}",
            "%2e%2e",
            "%2f",
            "~",
            "\u{85}",
            "\u{10ffff}",
            " ",
            "shared",
        ];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let book = std::fs::metadata(inside.join("a/b/book")).expect("there");
        for round in 0..20_000 {
            let most = if round % 100 == 0 { 2_000 } else { 9 };
            let path: String = (0..next(most)).map(|_| pieces[next(pieces.len())]).collect();
            let leads_out =
                path.starts_with('/') || path.contains('\0') || path.split('/').any(|p| p == "..");
            match folder.file(&path) {
                Ok((_, about)) => {
                    assert_eq!((about.dev(), about.ino()), (book.dev(), book.ino()), "{path:?}");
                }
                Err(fault) if leads_out => assert_eq!(fault.code, Code::DENIED, "{path:?}"),
                Err(fault) => {
                    let expected = [Code::DENIED, Code::FAILED];
                    assert!(expected.contains(&fault.code), "{path:?}: {fault:?}");
                }
            }
        }
        assert!(folder.file("a/b/book").is_ok());
    }

    #[test]
    fn pipes_and_devices_do_not_block() {
        let inside = tempfile::tempdir().expect("a directory");
        let etag = "0".repeat(64);
        let pipe = |name: &str| {
            let made = std::process::Command::new("mkfifo").arg(inside.path().join(name)).status();
            assert!(made.expect("mkfifo is part of every system").success());
        };
        pipe("pipe");
        pipe(&super::super::parts::part_name("book", &etag[..16]));
        let _socket = std::os::unix::net::UnixListener::bind(inside.path().join("socket")).expect("bound");
        std::fs::create_dir(inside.path().join("folder")).expect("made");
        let folder = Folder::open(inside.path()).expect("there");
        let refused = |fault: Fault| {
            assert_eq!(
                fault.data.get("kind").and_then(|kind| kind.as_str()),
                Some("not_a_file"),
                "{fault:?}"
            );
        };
        for path in ["pipe", "socket", "folder"] {
            refused(folder.file(path).expect_err("nothing to be read"));
            refused(folder.part_of(path, &etag).expect_err("nothing to be replaced"));
        }
        let (part, _) = folder.part_of("book", &etag).expect("a name");
        refused(folder.part("book", &part).expect_err("nothing to be written"));
        assert!(folder.list("").expect("a list").0.is_empty());
    }

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "x").expect("written");
        let inside = tempfile::tempdir().expect("a directory");
        std::fs::write(inside.path().join("book"), "y").expect("written");
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, inside.path().join(name)).expect("linked");
        };
        link(&outside.path().join("secret"), "file");
        link(outside.path(), "folder");
        link(Path::new("../../../../etc/passwd"), "relative");
        link(Path::new("book"), "within");
        link(Path::new("loop"), "loop");
        let folder = Folder::open(inside.path()).expect("there");
        for path in ["file", "folder/secret", "relative", "loop", "folder"] {
            assert!(folder.file(path).is_err(), "{path}");
        }
        assert!(folder.file("book").is_ok() && folder.file("within").is_ok());
        let listed: Vec<String> =
            folder.list("").expect("a list").0.into_iter().map(|file| file.path).collect();
        assert_eq!(listed, ["book"], "links are not listed");
        assert!(folder.part_of("folder", &"0".repeat(64)).is_err());
        assert!(folder.part("folder/new", "folder/.new.0000000000000000.part").is_err());
    }

    #[test]
    fn files_left_out_are_counted_by_reason() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for name in ["shared", ".hidden", "back\\slash", "new\nline", &"x".repeat(201)] {
            std::fs::write(at(name), "x").expect("written");
        }
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").expect("written");
        std::os::unix::fs::symlink(at("shared"), at("link")).expect("made");
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).expect("made");
        let (files, left_out) = Folder::open(dir.path()).expect("opened").list("").expect("a list");
        assert_eq!(files.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["shared"]);
        let counts: Vec<u64> = left_out.iter().map(|left| left.count).collect();
        assert_eq!(counts, [1, 1, 2, 1, 1], "{left_out:?}");
    }
}
