//! Targets, which export disks to nodes.

mod files;
mod target;
pub mod tgt;

pub use files::Files;
pub use target::{Access, Handed, Target, TargetError};
pub use tgt::Tgt;
