//! Private certificate authority in a folder: signs the certificates of servers and clients, and maintains the list of
//! revoked ones.

mod about;
mod authority;
mod constraints;
mod folder;
mod host;
mod issued;
mod revocations;

pub(crate) use about::About;
pub(crate) use authority::{Authority, Subject, WithKey, check_key};
pub(crate) use constraints::Only;
pub(crate) use folder::{Folder, Pair, write_secret};
pub(crate) use host::{Host, of_this_machine};
pub(crate) use revocations::{Listed, revoke, revoked_serials};

use std::time::{SystemTime, UNIX_EPOCH};

use crate::exit::{Exit, Failure};

/// Length of a day, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// 2026-01-01, in seconds since 1970: an earlier time means that the clock is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// Returns the seconds since 1970 by this machine's clock.
///
/// # Errors
///
/// The clock is obviously wrong, like that of a Raspberry Pi without a network: certificates would begin and end at the wrong
/// time.
pub(crate) fn now() -> Result<i64, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    if now < EARLIEST {
        let text = format!(
            "the clock of this machine says {}, which cannot be right; set it (`sudo date -s 'YEAR-MONTH-DAY HOUR:MINUTE'`, or \
             connect it to a network that has the time), then make certificates",
            date(now)
        );
        return Err(Failure::new(Exit::Failed, text));
    }
    Ok(now)
}

/// Formats the date of a time, in UTC: `2026-11-29`.
pub(crate) fn date(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0);
    time.map_or_else(|| seconds.to_string(), |time| time.format("%Y-%m-%d").to_string())
}
