//! One clock for everything that expires.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), wall.as_millis() as u64)
});

/// Milliseconds since 1970, counted from the wall clock's reading at the first call.
///
/// Within a process it never runs backwards, whatever is done to the wall clock, and it can be kept on disk
/// and compared after a restart.
pub(crate) fn now_ms() -> u64 {
    START.1 + START.0.elapsed().as_millis() as u64
}
