//! Log of the commands that serve: format, levels by module, and a file in place of stderr.

mod file;
mod in_effect;
mod levels;
mod sink;

use std::path::PathBuf;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry, reload};

use crate::exit::Failure;
use crate::log_file::MAX_OLD_FILES;
use file::LogThread;
pub(crate) use in_effect::{levels_in_effect, parse_levels};
use levels::levels;
use sink::{LogLine, Sink};
pub(crate) use sink::{finish, print_line};

/// Default maximum size of a log file, in bytes.
const FILE_BYTES: u64 = 10 << 20;
/// Minimum size of a log file, in bytes: it must hold some lines.
const MIN_FILE_BYTES: u64 = 4 << 10;
/// Default number of earlier files.
const FILES: u16 = 5;

/// What is logged, where, and in which form.
#[derive(clap::Args)]
pub(crate) struct LogOptions {
    /// Log warnings and errors only
    #[arg(short, long, conflicts_with_all = ["verbose", "log"])]
    quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log")]
    verbose: u8,
    /// Levels by module, such as `rantai_broker=debug,info`: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    log: Option<Targets>,
    /// `json`: each line of stderr, or of the log file, is an object
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Log to this file instead of stderr
    #[arg(long, value_name = "PATH")]
    log_file: Option<PathBuf>,
    /// Size at which the log file is put away as PATH.1
    #[arg(
        long,
        value_name = "N",
        requires = "log_file",
        default_value_t = FILE_BYTES,
        value_parser = clap::value_parser!(u64).range(MIN_FILE_BYTES..)
    )]
    log_file_bytes: u64,
    /// How many files that were put away are kept
    #[arg(
        long,
        value_name = "K",
        requires = "log_file",
        default_value_t = FILES,
        value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_OLD_FILES))
    )]
    log_files: u16,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl LogOptions {
    /// Begins logging. Lines printed by [`print_line`] then take the same form.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let file = self.log_file.as_deref();
        let file =
            file.map(|path| LogThread::start(path, self.log_file_bytes, self.log_files)).transpose()?;
        let is_json = self.log_format == LogFormat::Json;
        // Without both, the log is the same as that of the other commands.
        if is_json || file.is_some() {
            sink::set(Sink { is_json, file });
        }
        let lines = fmt::layer().with_writer(LogLine).log_internal_errors(false);
        let lines = match self.log_format {
            // Targets are shown only if levels can be chosen by them.
            LogFormat::Text => lines.with_target(self.log.is_some()).boxed(),
            LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).boxed(),
        };
        let (filter, handle) = reload::Layer::new(self.filter());
        registry().with(lines.with_filter(filter)).init();
        in_effect::set(handle, self.filter().to_string());
        Ok(())
    }

    fn filter(&self) -> Targets {
        match &self.log {
            Some(levels) => levels.clone(),
            None => Targets::new().with_default(LevelFilter::from_level(self.level())),
        }
    }

    fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::WARN,
            (false, 0) => Level::INFO,
            (false, 1) => Level::DEBUG,
            (false, _) => Level::TRACE,
        }
    }
}
