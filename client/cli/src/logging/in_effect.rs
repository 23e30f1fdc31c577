//! Log levels in effect, which can be changed while the process runs.

use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload::Handle;

use super::levels::levels;

/// Log of this process.
struct InEffect {
    filter: Handle<Targets, Registry>,
    at_start: String,
    levels: Mutex<String>,
}

static IN_EFFECT: OnceLock<InEffect> = OnceLock::new();

/// Levels that can replace those in effect.
#[derive(Debug)]
pub(crate) struct NewLevels(Targets);

/// Sets the log of this process, once, with its levels in the form of `--log`.
pub(super) fn set(filter: Handle<Targets, Registry>, levels: String) {
    let _ = IN_EFFECT.set(InEffect { filter, at_start: levels.clone(), levels: Mutex::new(levels) });
}

/// Returns the levels in effect, and those of the start, in the form of `--log`; empty without a log.
pub(crate) fn levels_in_effect() -> (String, String) {
    IN_EFFECT.get().map(|log| (log.levels.lock().clone(), log.at_start.clone())).unwrap_or_default()
}

/// Parses levels in the form of `--log`.
///
/// # Errors
///
/// The levels are invalid; the text says why, and what to write.
pub(crate) fn parse_levels(text: &str) -> Result<NewLevels, String> {
    levels(text).map(NewLevels)
}

impl NewLevels {
    /// Replaces the levels in effect, for all threads.
    pub(crate) fn apply(self) {
        let Some(log) = IN_EFFECT.get() else { return };
        let text = self.0.to_string();
        let mut levels = log.levels.lock();
        // The subscriber lives as long as the process.
        if log.filter.reload(self.0).is_ok() {
            *levels = text;
        }
    }
}
