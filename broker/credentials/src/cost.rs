//! Cost of computing an argon2id hash.

use argon2::Params;

/// Memory and time of one argon2id hash. Each record contains these values, so old records stay valid when the default changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Number of passes over the memory.
    pub passes: u32,
    /// Number of lanes. Lanes can be computed in parallel; this crate computes them one after the other.
    pub lanes: u32,
}

/// Maximum cost of a record. A check at this cost takes some seconds; a higher one would block a thread of the pool,
/// or exhaust the memory of the process.
const MAX: Cost = Cost { memory_kib: 256 * 1024, passes: 16, lanes: 16 };

impl Cost {
    /// Minimum cost of argon2id, for tests. It does not protect a password.
    pub const LOWEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// Returns the parameters of the hash; `None` if argon2id does not allow this cost or it exceeds the limits of records.
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
    /// 19 MiB, two passes, one lane: the minimum that OWASP's Password Storage Cheat Sheet recommends for argon2id. More
    /// memory would be a problem, as every thread of a broker's pool needs it at the same time, and brokers run on
    /// single-board computers.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}
