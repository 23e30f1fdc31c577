//! Limit on open file descriptors, of which every connection needs one.

use rantai_broker::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for files, listeners and the connections of objects.
const RESERVE: u64 = 64;

/// Raises the soft limit on open file descriptors to the hard limit. Logs a warning if that is too few for `connections`;
/// for the default number of connections, which the user did not choose, only with `--verbose`.
pub(crate) fn raise_limit(connections: usize) {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != wanted.current
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let after = getrlimit(Resource::Nofile).current;
    if let Some((fits, needed)) = shortage(after, connections) {
        let text = format!(
            "{fits} of {connections} connections fit into the limit of {} open files; raise the hard limit to {needed} \
             (ulimit -Hn, or LimitNOFILE= of systemd), or set `connections` to {fits}",
            after.unwrap_or_default(),
        );
        if connections == Limits::default().connections {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text}");
        }
    }
}

/// Returns how many connections fit into a limit that is too low for all of them, and the limit that is needed. `None` as
/// the limit means unlimited.
fn shortage(limit: Option<u64>, connections: usize) -> Option<(u64, u64)> {
    let needed = (connections as u64).saturating_add(RESERVE);
    let limit = limit.filter(|limit| *limit < needed)?;
    Some((limit.saturating_sub(RESERVE), needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_below_connections_plus_reserve_is_a_shortage() {
        for (limit, connections, expected) in [
            (None, 100_000, None),
            (Some(100_064), 100_000, None),
            (Some(100_063), 100_000, Some((99_999, 100_064))),
            (Some(1_024), 100_000, Some((960, 100_064))),
            (Some(10), 100, Some((0, 164))),
            (Some(u64::MAX - 1), usize::MAX, Some((u64::MAX - 65, u64::MAX))),
        ] {
            assert_eq!(shortage(limit, connections), expected, "{limit:?} {connections}");
        }
    }
}
