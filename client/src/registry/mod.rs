//! The name registry as a caller sees it: which objects there are, and who serves them now.
//!
//! [`View`] is fed with retained messages and answers; it does no I/O.

mod similar;
mod view;

pub use similar::similar;
pub use view::{Change, View};
