//! Report on a shared table: how full it is, and its largest holders.

use std::fmt::Display;
use std::hash::Hash;

use serde::Serialize;

use super::{ShareLog, Shares};

/// Maximum number of callers named in a report.
const MAX_NAMED_CALLERS: usize = 5;

/// Prefix of users among the names of callers.
const USER_PREFIX: &str = "user ";
/// Replacement for the name of a user that is hidden.
const HIDDEN_USER: &str = "another user";

/// Report on a shared table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareReport {
    /// Plural noun for the table's items: `calls`, `uploads`.
    pub table: String,
    /// Number of places of the table.
    pub limit: u64,
    /// Number of places that are taken.
    pub taken: u64,
    /// Number of callers that hold places.
    pub callers: u64,
    /// Number of refusals of callers over their share.
    pub refused: u64,
    /// Callers that hold most, the largest first; at most five.
    pub top: Vec<ShareHolder>,
}

/// Caller, and the number of places it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareHolder {
    /// Holder: a user, a client or an address.
    pub caller: String,
    /// Number of places it holds.
    pub held: u64,
}

impl ShareReport {
    /// Creates the report of a table of which callers hold `held`.
    pub fn new(
        table: &str,
        limit: u64,
        taken: u64,
        refusals: &ShareLog,
        held: impl Iterator<Item = (String, u64)>,
    ) -> Self {
        let mut top: Vec<ShareHolder> = held.map(|(caller, held)| ShareHolder { caller, held }).collect();
        top.sort_unstable_by(|one, other| (other.held, &one.caller).cmp(&(one.held, &other.caller)));
        let callers = top.len() as u64;
        top.truncate(MAX_NAMED_CALLERS);
        Self { table: table.to_owned(), limit, taken, callers, refused: refusals.count(), top }
    }

    /// Hides the names of users other than `reader`, for a reader that is no admin; `None` for a client without a user.
    #[must_use]
    pub fn hide_users_except(mut self, reader: Option<&str>) -> Self {
        let reader = reader.map(|user| format!("{USER_PREFIX}{user:?}"));
        for holder in &mut self.top {
            if holder.caller.starts_with(USER_PREFIX) && Some(&holder.caller) != reader.as_ref() {
                HIDDEN_USER.clone_into(&mut holder.caller);
            }
        }
        self
    }
}

impl<K: Eq + Hash + Clone + Display> Shares<K> {
    /// Reports how full the table is, and its largest holders.
    pub fn report(&self, table: &str, refusals: &ShareLog) -> ShareReport {
        let held: Vec<(String, u64)> =
            self.held.lock().iter().map(|(caller, held)| (caller.to_string(), *held)).collect();
        let taken = held.iter().map(|(_, held)| held).sum();
        ShareReport::new(table, self.limits.limit, taken, refusals, held.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{CallerKey, ShareLimits};

    #[test]
    fn report_names_the_largest_holders() {
        let (shares, log) = (Shares::new(ShareLimits::new(64)), ShareLog::default());
        let held: Vec<_> = "aabbbcdefgg".chars().map(|caller| shares.take(&caller).expect("room")).collect();
        log.refused("the places", "b");
        let report = shares.report("calls", &log);
        let top: Vec<_> = report.top.iter().map(|holder| (&*holder.caller, holder.held)).collect();
        assert_eq!(top, [("b", 3), ("a", 2), ("g", 2), ("c", 1), ("d", 1)]);
        assert_eq!((report.limit, report.taken, report.callers, report.refused), (64, 11, 7, 1));
        drop(held);
        assert_eq!(shares.report("calls", &log).top, []);
    }

    #[test]
    fn report_hides_other_users() {
        let callers = [
            CallerKey::User("ada".parse().expect("a name")),
            CallerKey::User("bob".parse().expect("a name")),
            CallerKey::Unnamed,
        ];
        let shares = Shares::new(ShareLimits::new(64));
        let _held: Vec<_> = callers.iter().map(|caller| shares.take(caller).expect("room")).collect();
        let told = |reader| -> Vec<String> {
            let report = shares.report("calls", &ShareLog::default()).hide_users_except(reader);
            report.top.into_iter().map(|holder| holder.caller).collect()
        };
        let unnamed = CallerKey::Unnamed.to_string();
        assert_eq!(told(Some("ada")), [unnamed.as_str(), "user \"ada\"", HIDDEN_USER]);
        assert_eq!(told(None), [unnamed.as_str(), HIDDEN_USER, HIDDEN_USER]);
    }
}
