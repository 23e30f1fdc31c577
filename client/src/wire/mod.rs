//! Wire contract as types. No I/O, MQTT library or clock.
//!
//! | Module | Content |
//! |---|---|
//! | [`name`] | Names of roots, objects, methods and clients |
//! | [`topic`] | Topics, formatted and parsed |
//! | [`request`] | Requests in both forms |
//! | [`reply`] | Replies in both forms |
//! | [`stream`] | Replies in parts |
//! | [`fault`] | Errors with their codes |
//! | [`accepted`] | Event of a node that executes a call |
//! | [`entry`] | Registry entries and node states |
//! | [`user`], [`features`] | Calling users, and broker features such as stamping them |
//! | [`role`] | Roles of users, converted to access rules of a broker |
//! | [`json`] | JSON as restricted by the contract |

pub mod accepted;
pub mod entry;
pub mod fault;
pub mod features;
pub mod json;
pub mod name;
pub mod reply;
pub mod request;
pub mod role;
pub mod stream;
pub mod topic;
pub mod user;

use bytes::Bytes;

/// MQTT 5 properties of a message that the contract uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation: Option<Bytes>,
    /// Message Expiry Interval, in seconds.
    pub expiry: Option<u32>,
    /// User properties, in order.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// Returns the first user property of this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// Content Type of a binary parameter or result.
pub const BINARY: &str = "application/octet-stream";
