//! Group commit: many writers, one thread that commits for all of them.
//!
//! A commit waits for the disk. What is put meanwhile gathers in a [`Queue`] and becomes the next commit, so that those
//! who write at the same time share the wait. The thread is its user's: the broker retries a group until it is on
//! disk, the nodes refuse the jobs of a group that failed.

mod backoff;
mod database;
#[cfg(feature = "faulty")]
pub mod faulty;
mod operation;
mod private;
mod queue;
mod space;

pub use backoff::Backoff;
pub use database::{Memory, Opener, Reopening};
pub use operation::Operation;
pub use private::{make_private_folder, open_private};
pub use queue::{Group, Pace, Queue, Ticket};
pub use space::{Space, is_full};
