//! What computing an argon2id hash costs.

use argon2::Params;

/// Memory and time of one argon2id hash. The same values are in the record, so that old records stay valid when the
/// default changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes, which could be computed in parallel; here they are computed one after the other.
    pub lanes: u32,
}

/// The highest cost of a record that is read: one such check takes some seconds and would otherwise take a thread of the
/// pool, or the memory of the process, for good.
const MAX: Cost = Cost { memory_kib: 256 * 1024, passes: 16, lanes: 16 };

impl Cost {
    /// The lowest cost that argon2id has, for tests. It protects no password.
    pub const LOWEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// The cost as the parameters of the hash; `None` where argon2id does not allow it or it is above the limits of
    /// records.
    pub(crate) fn params(self) -> Option<Params> {
        let Self { memory_kib, passes, lanes } = self;
        if memory_kib > MAX.memory_kib || passes > MAX.passes || lanes > MAX.lanes {
            return None;
        }
        Params::new(memory_kib, passes, lanes, None).ok()
    }

    pub(crate) fn of(params: &Params) -> Self {
        Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }
}

impl Default for Cost {
    /// 19 MiB, two passes, one lane: the least that OWASP's Password Storage Cheat Sheet recommends for argon2id. More
    /// memory would hurt more here than elsewhere: every thread of a broker's pool needs it at once, and brokers run on
    /// single-board computers.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}
