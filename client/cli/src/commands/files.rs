//! `rantai files`, `get` and `put`: files of another host.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use rantai_client::files::interface::{FileEntry, Listing};
use rantai_client::files::{FileError, Files, Transferred, check_path, digest};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{CallError, printable};
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};

use crate::completing;
use crate::connection::{Connection, log, print, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::progress::Bar;
use crate::terminal::note;

/// Maximum number of files transferred at the same time: each has a window of its own, and an open temporary file.
const MAX_TRANSFERS_AT_ONCE: usize = 4;

/// List the files of a shared folder.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  rantai up --config library         serves `books`
  rantai files books                 every file the object `books` shares
  rantai files books go/chapters     those of a folder of it

{EXIT_CODES}"))]
pub(crate) struct List {
    /// The object that shares the folder
    #[arg(value_name = "OBJECT", add = completing::objects())]
    object: String,
    /// A folder of it
    #[arg(value_name = "FOLDER", default_value = "")]
    folder: String,
    #[command(flatten)]
    connection: Connection,
}

/// Fetch files of a shared folder.
///
/// A file is there whole or not at all; until then it is a hidden file of its own beside it. Run again, it goes on
/// where it stopped. Another file that is there already is replaced only with --force. The modification time is kept,
/// and whether it is executable.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  rantai up --config library                    serves `books`
  rantai get books mytext.txt                   to ./mytext.txt
  rantai get books mytext.txt -o received.txt   by another name
  rantai get books a.bin b.bin -o downloads     several, into a folder
  rantai get books server.log --growing         what is there now of a file that is being written

{EXIT_CODES}"))]
pub(crate) struct Get {
    /// The object that shares the folder
    #[arg(value_name = "OBJECT", add = completing::objects())]
    object: String,
    /// The files' paths there
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// The file to write, or the folder to write into
    #[arg(short, long, value_name = "TO")]
    output: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(short, long)]
    force: bool,
    /// Fetch the present content of files that are being written
    #[arg(long)]
    growing: bool,
    /// Read the file again from the disk afterwards, and compare its digest
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Send files to a shared folder.
///
/// A file is there whole or not at all. Run again, it goes on where it stopped. The modification time is kept, and whether
/// it is executable.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  rantai put uploads photo.jpg                     as photo.jpg
  rantai put uploads photo.jpg --to 2026/one.jpg   by another name

The object is a [[files]] of your configuration, with quota_bytes: without it nothing can be sent.

{EXIT_CODES}"))]
pub(crate) struct Put {
    /// The object that shares the folder
    #[arg(value_name = "OBJECT", add = completing::objects())]
    object: String,
    /// Files of this host
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The path there; of several files the folder
    #[arg(long, value_name = "PATH")]
    to: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(async move {
            let client = self.connection.client().await?;
            let files = Files::new(&client, &self.object).patience(self.connection.timeout());
            let list =
                async { files.listing(&self.folder).await.map_err(|error| failed(&self.connection, error)) };
            let Listing { entries, left_out, .. } = self.connection.within(list).await?;
            client.close().await;
            if self.connection.json {
                print_json(&json!(entries));
            } else {
                for entry in &entries {
                    print(&row(entry));
                }
            }
            if !left_out.is_empty() {
                let reasons = left_out.iter().map(|left| format!("{} ({})", left.count, left.reason));
                note(&format!("left out: {}", reasons.collect::<Vec<_>>().join(", ")));
            }
            Ok(())
        })
    }
}

/// Formats a file of the list in one line, even if its name contains line feeds.
fn row(entry: &FileEntry) -> String {
    format!("{:>12}  {}", entry.size, printable(&entry.path))
}

impl Get {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.fetch())
    }

    async fn fetch(self) -> Result<(), Failure> {
        let mut targets = Vec::new();
        for path in &self.paths {
            targets.push((path.clone(), self.target(path)?));
        }
        each_its_own(&targets)?;
        let client = self.connection.client().await?;
        let files = Files::new(&client, &self.object).patience(self.connection.timeout());
        let files = files.replace(self.force).growing(self.growing);
        let (one, verify) = (targets.len() == 1, self.verify);
        let transfers = targets.into_iter().map(|(path, target)| {
            let (files, mut bar) = (files.clone(), Bar::new(&path, one));
            async move {
                let done = files.get(&path, &target, &mut |there, size| bar.show(there, size)).await;
                bar.end();
                let done = match done {
                    Ok(done) if verify => verified(&target, done).await,
                    done => done,
                };
                (path, target.display().to_string(), done)
            }
        });
        let failures = transfer(&self.connection, transfers, |_, error| self.failed(error)).await;
        client.close().await;
        first(failures)
    }

    fn failed(&self, error: FileError) -> Failure {
        let Some(fault) = changed(&error) else { return failed(&self.connection, error) };
        let what = fault.message.strip_suffix("; open it again").unwrap_or(&fault.message);
        let advice = if self.growing {
            "get it again once it only grows"
        } else {
            "get it again, or with --growing what is there now of a file that is being written"
        };
        let text = format!("cannot get it whole, tried twice: {what}; {advice}");
        let fault = Fault { message: text, ..fault.clone() };
        self.connection.failed(&CallError::from(fault))
    }

    fn target(&self, path: &str) -> Result<PathBuf, Failure> {
        let target = match &self.output {
            None => PathBuf::from(local_name(path)?),
            Some(output) if output.is_dir() => output.join(local_name(path)?),
            Some(output) if self.paths.len() == 1 && !ends_in_slash(output) => output.clone(),
            Some(output) => {
                let text = format!("{} is no folder; make it first", output.display());
                return Err(Failure::new(Exit::Usage, text));
            }
        };
        checked(path)?;
        Ok(target)
    }
}

/// Checks whether a path is that of a folder, by how it is written.
fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Returns the local name for a remote path. Paths are often copied from a list that came over the bus: for a name that
/// would be hidden or contains control characters, the user has to give one with `-o`.
fn local_name(path: &str) -> Result<&str, Failure> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.is_empty() || name.starts_with('.') || name.contains(char::is_control) {
        let text =
            format!("cannot name a file after {path:?}: hidden or not a file name; name it with -o FILE");
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(name)
}

impl Put {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.send())
    }

    async fn send(self) -> Result<(), Failure> {
        let mut targets = Vec::new();
        for file in &self.files {
            targets.push((file.clone(), self.path(file)?));
        }
        each_its_own(&targets)?;
        let client = self.connection.client().await?;
        let files = Files::new(&client, &self.object).patience(self.connection.timeout());
        let one = targets.len() == 1;
        let transfers = targets.into_iter().map(|(file, path)| {
            let (files, mut bar) = (files.clone(), Bar::new(&path, one));
            async move {
                let done = files.put(&file, &path, &mut |there, size| bar.show(there, size)).await;
                bar.end();
                (file.display().to_string(), path, done)
            }
        });
        let failures = transfer(&self.connection, transfers, |file, error| self.failed(file, error)).await;
        client.close().await;
        first(failures)
    }

    fn path(&self, file: &Path) -> Result<String, Failure> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{} has no name that can be sent", file.display()))
        })?;
        let path = match &self.to {
            None => name.to_owned(),
            Some(path) if self.files.len() == 1 && !path.ends_with('/') => path.clone(),
            Some(folder) => format!("{}/{name}", folder.trim_end_matches('/')),
        };
        checked(&path)?;
        Ok(path)
    }

    /// Adds name and size of the file if there is no room for it. The exit code is not that of a wrong command line, as
    /// for a request that is too large.
    fn failed(&self, file: &str, error: FileError) -> Failure {
        let FileError::Call(CallError::Fault(fault)) = &error else { return failed(&self.connection, error) };
        let is_full = fault.data.get("kind").is_some_and(|kind| kind == "disk_full");
        if fault.code != Code::TOO_LARGE && !is_full {
            return failed(&self.connection, error);
        }
        let size =
            std::fs::metadata(file).map(|about| format!(" ({} bytes)", about.len())).unwrap_or_default();
        let message = format!("cannot put {file}{size}: {}", fault.message);
        let fault = Fault { message, ..(**fault).clone() };
        self.connection.failed(&CallError::from(fault)).exits(Exit::Failed)
    }
}

/// Checks a path of the shared folder, before anything is sent.
fn checked(path: &str) -> Result<(), Failure> {
    check_path(path)
        .map_err(|rule| Failure::new(Exit::Usage, format!("cannot use the path {path:?}: {rule}")))
}

/// Returns the fault of a file that was changed during the transfer.
fn changed(error: &FileError) -> Option<&Fault> {
    match error {
        FileError::Call(CallError::Fault(fault)) if fault.code == Code::MISMATCH => Some(fault),
        _ => None,
    }
}

/// Checks that no two files have the same target: the later would silently replace the earlier.
fn each_its_own<S: Debug, T: Debug + Hash + Eq>(targets: &[(S, T)]) -> Result<(), Failure> {
    let mut taken = HashMap::new();
    for (source, target) in targets {
        if let Some(other) = taken.insert(target, source) {
            let text = format!("{other:?} and {source:?} would both become {target:?}");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    Ok(())
}

/// Transfers files and prints the result of each; returns the failures.
async fn transfer<T>(
    connection: &Connection,
    transfers: impl Iterator<Item = T>,
    failed: impl Fn(&str, FileError) -> Failure,
) -> Vec<Failure>
where
    T: Future<Output = (String, String, Result<Transferred, FileError>)> + Send + 'static,
{
    let mut failures = Vec::new();
    few_at_once(transfers, |ended| match ended {
        Ok((from, to, Ok(done))) => tell(connection, &from, &to, &done),
        Ok((from, _, Err(error))) => failures.push(failed(&from, error)),
        Err(error) => failures.push(Failure::from_error(Exit::Failed, &error)),
    })
    .await;
    failures
}

/// Runs the jobs, at most [`MAX_TRANSFERS_AT_ONCE`] at a time, and calls `ended` with the result of each.
async fn few_at_once<T>(
    mut jobs: impl Iterator<Item = T>,
    mut ended: impl FnMut(Result<T::Output, JoinError>),
) where
    T: Future<Output: Send> + Send + 'static,
{
    let mut running: JoinSet<T::Output> = JoinSet::new();
    for job in jobs.by_ref().take(MAX_TRANSFERS_AT_ONCE) {
        running.spawn(job);
    }
    while let Some(result) = running.join_next().await {
        ended(result);
        if let Some(job) = jobs.next() {
            running.spawn(job);
        }
    }
}

/// Reads the file from disk again, and compares its digest.
async fn verified(target: &Path, done: Transferred) -> Result<Transferred, FileError> {
    let file = target.to_owned();
    let read = tokio::task::spawn_blocking(move || digest(&file)).await;
    match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(found) if found == done.etag => Ok(done),
        Ok(_) => Err(FileError::Digest { path: target.display().to_string() }),
        Err(source) => Err(FileError::Disk { path: target.to_owned(), source }),
    }
}

fn tell(connection: &Connection, from: &str, to: &str, done: &Transferred) {
    let Transferred { size, etag, resumed, .. } = done;
    if connection.json {
        let told: Value = json!({"from": from, "to": to, "size": size, "blake3": etag, "resumed": resumed});
        print_json(&told);
    } else {
        let again = if *resumed > 0 { format!(", {resumed} of them from before") } else { String::new() };
        print(&format!("{from} -> {to}: {size} bytes{again}"));
    }
}

/// Prints all failures but the first, which is returned and determines the exit code.
fn first(failures: Vec<Failure>) -> Result<(), Failure> {
    let mut failures = failures.into_iter();
    let first = failures.next();
    for failure in failures {
        failure.tell();
    }
    first.map_or(Ok(()), Err)
}

pub(super) fn failed(connection: &Connection, error: FileError) -> Failure {
    match error {
        FileError::Call(error) => connection.failed(&error),
        FileError::Exists(_) => Failure::new(Exit::Failed, format!("{error}; --force replaces it")),
        error => Failure::from_error(Exit::Failed, &error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn file_name_with_line_feeds_is_listed_in_one_line() {
        let entry = FileEntry { path: "a\x1b[2J\nb".to_owned(), size: 7, modified_ms: 0 };
        assert_eq!(row(&entry), "           7  a\\u{1b}[2J\\nb");
    }

    #[tokio::test]
    async fn all_files_are_transferred_with_bounded_concurrency() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs = (0..50).map(|number| {
            let (running, most) = (running.clone(), most.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                for _ in 0..number % 7 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                assert_ne!(number, 3, "one that panics does not hold up the others");
                number
            }
        });
        let (mut done, mut panicked) = (Vec::new(), 0);
        few_at_once(jobs, |ended| match ended {
            Ok(number) => done.push(number),
            Err(_) => panicked += 1,
        })
        .await;
        done.sort_unstable();
        assert_eq!((done, panicked), ((0..50).filter(|number| *number != 3).collect(), 1));
        assert_eq!(most.load(Ordering::Relaxed), MAX_TRANSFERS_AT_ONCE);
    }
}
