//! How a disk is handed out.

mod files;
mod target;
pub mod tgt;

pub use files::Files;
pub use target::{Access, Handed, Target, TargetError};
pub use tgt::Tgt;
