//! Deterministic simulation of a whole broker without sockets and disk: connections, sessions, router and store, with
//! in-memory streams, an in-memory disk and virtual time.
//!
//! Everything in a run depends only on its seed, so a failure is reproduced by running its seed again.
//!
//! | File | Contents |
//! |---|---|
//! | `seeds` | Runs of many seeds on all cores, the states they reached, and reports of failures |
//! | `plan` | Choices of a seed for a whole run |
//! | `traffic` | Random traffic, step by step, and the end of a run |
//! | `world` | A broker and its clients: links, disk, time, and kill -9 |
//! | `client` `link` `wire` | A client that follows the protocol, its end of a connection, and packets |
//! | `record` | The clients' knowledge of messages, subscriptions, sessions and wills, and the checks of it |
//! | the others | Single cases |

mod budgets;
mod clean_start;
mod cleared;
mod client;
mod disk;
mod filters;
mod gated;
mod link;
mod plan;
mod reads;
mod record;
mod seeds;
mod takeover;
mod traffic;
mod wills;
mod wire;
mod world;

use client::{Filter, Profile};
use wire::Version;

/// Time at which each run begins, in milliseconds since 1970.
const START: u64 = 1_700_000_000_000;

fn profile(name: &'static str, version: Version, filters: &'static [Filter]) -> Profile {
    Profile {
        name,
        version,
        session_expiry: 3600,
        filters,
        will: None,
        keep_alive: 0,
        window: u16::MAX,
        packet_ids: u16::MAX,
    }
}

/// Runs `future` in virtual time.
fn simulated<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}
