//! Group commit: many writers, and one thread that commits for all of them.
//!
//! A commit waits for the disk. Writes that arrive in the meantime gather in a [`Queue`] and become the next commit, so
//! that concurrent writers share the wait. The thread belongs to the user of this crate: the broker retries a group until
//! it is on disk, and the nodes refuse the jobs of a group that failed.

mod backoff;
mod database;
#[cfg(feature = "faulty")]
pub mod faulty;
mod layout;
mod open_databases;
mod operation;
mod private;
mod queue;
mod space;

pub use backoff::Backoff;
pub use database::{Memory, Opener, Reopening};
pub use layout::{CHUNK, Format, Layout, Order, ReadVersion, Shape, Tables};
pub use open_databases::{OpenDatabase, open_databases};
pub use operation::Operation;
pub use private::{make_private_folder, open_private};
pub use queue::{Group, Pace, Queue, Ticket};
pub use space::{Space, is_full};
