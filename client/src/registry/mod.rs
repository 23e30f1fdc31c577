//! Registry of names as callers see it: which objects exist, and which nodes serve them now.
//!
//! [`View`] is fed with retained messages and does no I/O; [`Registry`] reads them from the bus.

mod absence;
mod live;
mod similar;
mod view;

pub(crate) use absence::lost;
pub use absence::{BROKER_NODE, FORM, STARTING, unknown};
pub(crate) use live::QUIET;
pub use live::{Follower, Registry};
pub use similar::similar;
pub use view::{Change, View};
