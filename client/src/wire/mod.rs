//! Wire contract as types. No I/O, MQTT library or clock.
//!
//! | Module | Content |
//! |---|---|
//! | [`name`] | Names of roots, objects, methods and clients |
//! | [`topic`] | Topics, formatted and parsed |
//! | [`device`] | Topics and states of devices that a node adopts |
//! | [`request`] | Requests in both forms |
//! | [`reply`] | Replies in both forms |
//! | [`stream`] | Replies in parts |
//! | [`fault`] | Errors with their codes |
//! | [`accepted`] | Event of a node that executes a call |
//! | [`entry`] | Registry entries and node states |
//! | [`user`], [`features`] | Calling users, and broker features such as stamping them |
//! | [`role`] | Roles of users, converted to access rules of a broker |
//! | [`Properties`], [`compact`] | MQTT 5 properties; copies of what is kept of them |
//! | [`json`] | JSON as restricted by the contract |

pub mod accepted;
pub mod compact;
pub mod device;
pub mod entry;
pub mod fault;
pub mod features;
pub mod json;
pub mod name;
mod properties;
pub mod reply;
pub mod request;
pub mod role;
pub mod stream;
pub mod topic;
pub mod user;

pub use properties::{Properties, UserProperties};

/// Content Type of a binary parameter or result.
pub const BINARY: &str = "application/octet-stream";
