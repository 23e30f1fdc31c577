//! Disks for machines: images are cloned, and the clones handed out.

pub mod target;
