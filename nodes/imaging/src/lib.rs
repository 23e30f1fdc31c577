//! Disks for machines: images are cloned, and the clones handed out.
//!
//! | Room | What |
//! |---|---|
//! | [`service`] | The object, and every request once |
//! | `wanted` | What a request asks for, who may, and what is possible |
//! | `work` | An operation carried out, step by step |
//! | `commands` | Methods by name, with arguments as on a command line |
//! | `operation` | What is to be done, in steps that can be taken back or done again |
//! | `state`, `audit` | What is known on disk, and who did what |
//! | `locks`, `names` | Who is at what; names that lead nowhere else |
//! | [`storage`] | Images, snapshots and disks: a folder |
//! | [`targets`] | How a disk is handed out |
//! | [`reply`], [`settings`] | What is answered, and what is configured |
//! | `kind` | The object of an entry in nodes.toml |

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
