//! Disks for machines: the object clones images and exports the clones to nodes.
//!
//! | Module | Contents |
//! |---|---|
//! | [`service`] | The object, and deduplication of requests |
//! | `wanted` | Interpretation of requests: the operation, permissions, preconditions |
//! | `work` | Execution of an operation, step by step |
//! | `commands` | Methods by name, with arguments as on a command line |
//! | `operation` | Operations, with steps that can be undone or repeated |
//! | `state`, `audit` | State on disk, and the audit log |
//! | `locks`, `names` | Locks of nodes, images and snapshots; safe names |
//! | [`storage`] | Images, snapshots and disks: a folder |
//! | [`targets`] | Export of disks, as files or over iSCSI |
//! | [`reply`], [`settings`] | Replies and configuration |
//! | `kind` | The object kind of an entry in nodes.toml |

mod audit;
mod commands;
mod kind;
mod locks;
mod names;
mod operation;
pub mod reply;
pub mod service;
pub mod settings;
mod state;
pub mod storage;
pub mod targets;
#[cfg(test)]
mod tests;
mod wanted;
mod work;

pub use service::{ImagingObject, ImagingProxy, Server};
pub use settings::ImagingSettings;
pub use state::LAYOUT as STATE_LAYOUT;
