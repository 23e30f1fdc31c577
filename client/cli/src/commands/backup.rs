//! `rantai backup`: a consistent copy of a data directory, by the process that uses it, or of one that nobody uses.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rantai_backup::{Backup, BackupError, BackupSettings, back_up};
use rantai_broker::Config;
use serde_json::json;

use crate::backups::{Answer, PROGRAM, REQUEST, SOCKET, at_socket, finish_restores, settings};
use crate::connection::{duration, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::print;

/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

const EXAMPLES: &str = "\
Examples:
  rantai backup --data-dir data               by the process that runs on it, to its backup_dir
  rantai backup --data-dir data --to copies   of one that no process uses, to ./copies

Exit codes: 0 made, 1 not made, 2 wrong command line, 4 the process is another user's, 6 not made in time: it goes on.";

/// Back up a data directory, while it is in use or not.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BackupCommand {
    /// The data directory of the broker or the node
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: PathBuf,
    /// Folder for the backup of a directory that no process uses [default: `backups` in the data directory]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Time to wait for the backup: 5, 5s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BackupCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let socket = self.data_dir.join(SOCKET);
        let Backup { path, manifest } = match at_socket(&self.data_dir, |socket| UnixStream::connect(socket))
        {
            Ok(process) => self.ask(process)?,
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                self.copy()?
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let text = format!(
                    "cannot ask by {}: {error}; say it as the user of that process, or as root",
                    socket.display()
                );
                return Err(Failure::new(Exit::Denied, text));
            }
            Err(error) => {
                let text = format!("cannot ask by {}: {error}", socket.display());
                return Err(Failure::new(Exit::Failed, text));
            }
        };
        let (bytes, number) = (manifest.bytes(), manifest.files.len());
        if self.json {
            print_json(&json!({"path": path, "bytes": bytes, "manifest": manifest}));
        } else {
            print(&format!("{}: {bytes} bytes in {number} files", path.display()));
        }
        for entry in manifest.files.iter().filter_map(|entry| Some((&entry.name, entry.elsewhere.as_ref()?)))
        {
            let (name, from) = (entry.0, entry.1.display());
            crate::terminal::note(&format!(
                "{name} is {from}, which is not in the data directory: a restore leaves it"
            ));
        }
        Ok(())
    }

    /// Asks the process that uses the directory.
    fn ask(&self, mut process: UnixStream) -> Result<Backup, Failure> {
        if self.to.is_some() {
            let text = "a process uses this directory, and puts its backups where its configuration says; leave --to out, and \
                        copy the backup";
            return Err(Failure::new(Exit::Usage, text));
        }
        let mut answer = Vec::new();
        let read = process.set_read_timeout(Some(self.timeout)).and_then(|()| process.write_all(REQUEST));
        match read.and_then(|()| process.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)) {
            Ok(_) => {}
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                let text = format!(
                    "the backup is not made after {:?}; it goes on, and the log tells its end",
                    self.timeout
                );
                return Err(Failure::new(Exit::NoAnswer, text));
            }
            Err(error) => {
                return Err(Failure::new(Exit::Failed, format!("the process ended meanwhile: {error}")));
            }
        }
        match serde_json::from_slice(&answer) {
            Ok(Answer::Made { path, manifest }) => Ok(Backup { path, manifest }),
            Ok(Answer::Failed(text)) => Err(Failure::new(Exit::Failed, format!("no backup: {text}"))),
            Err(_) => {
                let text = "the process gave no answer: it ended meanwhile, has no place for further clients, or is another \
                            user's; its log says more";
                Err(Failure::new(Exit::Failed, text))
            }
        }
    }

    /// Copies a directory that no process uses. Removes no earlier backup: nobody has said how many to keep.
    fn copy(&self) -> Result<Backup, Failure> {
        finish_restores(Some(&self.data_dir))?;
        let settings = BackupSettings {
            keep: usize::MAX,
            ..settings(self.to.clone(), &self.data_dir, &Config::default())
        };
        back_up(&self.data_dir, Vec::new(), PROGRAM, &settings).map_err(|error| match error {
            BackupError::InUse(_) => Failure::from_error(Exit::Failed, &error)
                .and_then_say("; where it has no backup.sock, it is just starting, or of an earlier version"),
            error => Failure::from_error(Exit::Failed, &error),
        })
    }
}
