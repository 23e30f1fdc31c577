//! `rantai restore`: puts a backup in the place of a data directory, in one step.

use std::path::PathBuf;

use rantai_backup::{BackupError, restore, verify};
use rantai_client::error_chain;
use serde_json::json;

use crate::backups::layouts;
use crate::connection::print_json;
use crate::exit::{Exit, Failure};
use crate::terminal::{note, print};

const EXAMPLES: &str = "\
Examples:
  rantai restore backups/20261201T003218Z --check                       whether every byte is as it was written
  rantai restore backups/20261201T003218Z --data-dir data               to a directory that is new or empty
  rantai restore backups/20261201T003218Z --data-dir data --replace     what is there goes to data.before-TIME

Of a mount point, as the volume of a container is, the files are moved instead, to before-TIME in it; folders stay.

Exit codes: 0 done, 1 the backup or the directory cannot be used and nothing has changed, 2 wrong command line.";

/// Restore a backup, after every byte of it is checked.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Restore {
    /// Folder of the backup
    backup: PathBuf,
    /// The data directory to put in place; no process may use it
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    data_dir: Option<PathBuf>,
    /// Move a directory that is not empty aside
    #[arg(long, requires = "data_dir")]
    replace: bool,
    /// Check the backup alone
    #[arg(long, conflicts_with = "data_dir")]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let failed = |error| match error {
            BackupError::Unfinished { .. } => Failure::from_error(Exit::Failed, &error),
            error => Failure::new(Exit::Failed, format!("nothing is restored: {}", error_chain(&error))),
        };
        let Some(data_dir) = &self.data_dir else {
            let manifest = verify(&self.backup).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
            let (created, bytes, program) = (&manifest.created, manifest.bytes(), &manifest.program);
            if self.json {
                print_json(&json!({"manifest": manifest}));
            } else {
                print(&format!("whole: {bytes} bytes of {created}, by {program}"));
            }
            return Ok(());
        };
        let restored = restore(&self.backup, data_dir, self.replace, &layouts()).map_err(failed)?;
        if self.json {
            let elsewhere: Vec<_> =
                restored.elsewhere.iter().map(|(copy, of)| json!({"copy": copy, "of": of})).collect();
            print_json(&json!({
                "data_dir": data_dir, "previous": restored.previous, "elsewhere": elsewhere, "manifest": restored.manifest,
            }));
            return Ok(());
        }
        print(&format!("{} is as of {}", data_dir.display(), restored.manifest.created));
        if let Some(previous) = &restored.previous {
            note(&format!("what was there is {} now", previous.display()));
        }
        for (copy, original) in &restored.elsewhere {
            note(&format!(
                "not restored, as it was elsewhere: {}; its copy is {}",
                original.display(),
                copy.display()
            ));
        }
        Ok(())
    }
}
