//! Places of calls in progress, shared among the callers of the gateway.
//!
//! To an object, all callers of a gateway are one client. A caller's share of the calls of an object must therefore be less
//! than the gateway's share at that object.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::shares::{HeldPlace, ShareLimits, ShareLog, ShareReport, Shares};
use rantai_client::wire::fault::Fault;

use super::guard::Caller;
use super::settings::Limits;

/// Number of tables above which those without a call are dropped.
const MAX_TABLES: usize = 256;

/// Calls in progress by object and caller, of all gateways that share a client.
#[derive(Debug)]
pub struct WaitingCalls {
    limits: ShareLimits,
    by_object: Mutex<HashMap<String, Arc<Shares<Caller>>>>,
    log: ShareLog,
}

impl WaitingCalls {
    /// Creates the table for gateways with these limits; of each limit, the lowest is used.
    pub fn new<'a>(limits: impl IntoIterator<Item = &'a Limits>) -> Self {
        let any = ShareLimits { limit: u64::MAX, per_caller: None };
        let limits = limits.into_iter().fold(any, |lowest, limits| ShareLimits {
            limit: lowest.limit.min(limits.calls_per_object),
            per_caller: lowest.per_caller.into_iter().chain(limits.calls_per_caller).min(),
        });
        Self { limits, by_object: Mutex::default(), log: ShareLog::default() }
    }

    /// Reports the tables with calls, and their largest holders.
    pub(super) fn reports(&self) -> Vec<ShareReport> {
        let by_object = self.by_object.lock();
        let mut tables: Vec<_> = by_object.iter().filter(|(_, calls)| calls.taken() > 0).collect();
        tables.sort_unstable_by_key(|(object, _)| *object);
        tables
            .into_iter()
            .map(|(object, calls)| calls.report(&format!("calls of {object}"), &self.log))
            .collect()
    }

    /// Takes a place for a call until the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// -32005 if the caller is over its share.
    pub(super) fn begin(&self, object: &str, caller: &Caller) -> Result<HeldPlace<Caller>, Fault> {
        let mut by_object = self.by_object.lock();
        if by_object.len() >= MAX_TABLES && !by_object.contains_key(object) {
            by_object.retain(|_, calls| calls.taken() > 0);
        }
        let calls = by_object.entry(object.to_owned()).or_insert_with(|| Shares::new(self.limits));
        calls.take(caller).ok_or_else(|| {
            self.log.refused(format_args!("the calls of {object}"), caller);
            Fault::busy(500)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_separate_by_caller_and_object() {
        let waiting =
            WaitingCalls::new([&Limits { calls_per_object: 8, ..Limits::default() }, &Limits::default()]);
        let [ada, bob] = ["ada", "bob"].map(|name| Caller::User(name.parse().expect("a name")));
        let held: Vec<_> = (0..6).map(|_| waiting.begin("slow", &ada).expect("its share")).collect();
        assert!(waiting.begin("slow", &ada).is_err());
        assert!(waiting.begin("slow", &bob).is_ok() && waiting.begin("other", &ada).is_ok());
        for number in 0..2 * MAX_TABLES {
            assert!(waiting.begin(&format!("object{number}"), &ada).is_ok());
        }
        assert!(waiting.by_object.lock().len() <= MAX_TABLES, "tables without a call are forgotten");
        assert!(waiting.begin("slow", &ada).is_err(), "and those with calls are not");
        drop(held);
        assert!(waiting.begin("slow", &ada).is_ok());
    }
}
