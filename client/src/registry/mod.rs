//! The name registry as a caller sees it: which objects there are, and who serves them now.
//!
//! [`View`] is fed with retained messages and answers; it does no I/O. [`Registry`] reads them from the bus.

mod absence;
mod live;
mod similar;
mod view;

pub(crate) use absence::lost;
pub use absence::unknown;
pub(crate) use live::QUIET;
pub use live::{Follower, Registry};
pub use similar::similar;
pub use view::{Change, View};
