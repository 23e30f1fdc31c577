//! `rantai upgrade-check`: whether this program reads the files of a data directory or a backup.

use std::path::PathBuf;

use rantai_backup::{FileFormat, Verdict, check_formats};
use serde_json::json;

use crate::backups::layouts;
use crate::connection::print_json;
use crate::exit::{Exit, Failure};
use crate::terminal::print;

const EXAMPLES: &str = "\
Examples:
  rantai upgrade-check --data-dir data                        no process may use it
  rantai upgrade-check --data-dir backups/20261201T003218Z    a backup of one that is in use

Exit codes: 0 every file is read, 1 one is not, 2 wrong command line.";

/// Tell which formats of a data directory this version reads or would upgrade; writes nothing.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpgradeCheck {
    /// The data directory, or a backup
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl UpgradeCheck {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let formats = check_formats(&self.data_dir, &layouts())
            .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let unread: Vec<&str> =
            formats.iter().filter(|file| is_unread(file)).map(|file| &*file.name).collect();
        if self.json {
            let files: Vec<_> = formats.iter().map(in_json).collect();
            print_json(&json!({"readable": unread.is_empty(), "files": files}));
        } else if formats.is_empty() {
            print("no database is there");
        } else {
            for file in &formats {
                print(&line(file));
            }
        }
        if unread.is_empty() {
            return Ok(());
        }
        let text = format!("cannot be read, for the reasons that are given: {}", unread.join(", "));
        let failure = Failure::new(Exit::Failed, text);
        Err(if self.json { failure.shown() } else { failure })
    }
}

fn is_unread(file: &FileFormat) -> bool {
    matches!(file.verdict, Verdict::Unreadable { .. })
}

fn line(file: &FileFormat) -> String {
    let name = &file.name;
    let format = file.format.map_or_else(String::new, |format| format!(" format {format},"));
    match &file.verdict {
        Verdict::AsItIs => format!("{name}:{format} read as it is"),
        Verdict::Upgraded { how } => format!("{name}:{format} upgraded when it is opened ({how})"),
        Verdict::Unknown => format!("{name}: not a file of this program"),
        Verdict::Unreadable { reason } => format!("{name}:{format} cannot be read: {reason}"),
        verdict => format!("{name}:{format} {verdict:?}"),
    }
}

fn in_json(file: &FileFormat) -> serde_json::Value {
    let (verdict, detail) = match &file.verdict {
        Verdict::AsItIs => ("as_it_is", None),
        Verdict::Upgraded { how } => ("upgraded", Some(how)),
        Verdict::Unreadable { reason } => ("unreadable", Some(reason)),
        _ => ("unknown", None),
    };
    json!({
        "name": file.name, "format": file.format, "current": file.current, "verdict": verdict, "detail": detail,
    })
}
