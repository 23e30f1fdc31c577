//! What travels on the broker, in types. Pure: no I/O, no MQTT library, no clock.
//!
//! | Module | What |
//! |---|---|
//! | [`name`] | Names of roots, objects, methods and clients |
//! | [`topic`] | Topics, formatted and parsed |
//! | [`request`] | Requests in both forms |
//! | [`reply`] | Replies in both forms |
//! | [`stream`] | Replies in parts |
//! | [`fault`] | Errors with their codes |
//! | [`accepted`] | The word of a node that it carries a call out |
//! | [`entry`] | Registry entries and node states |
//! | [`user`], [`features`] | Who calls, and which brokers say so |
//! | [`role`] | Who may do what on the bus, as rules for a broker |
//! | [`json`] | What of JSON the contract takes |

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

/// The MQTT 5 properties of a message, as far as the contract uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation: Option<Vec<u8>>,
    /// Message Expiry Interval, in seconds.
    pub expiry: Option<u32>,
    /// User properties, in their order.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// The first user property of this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// The content type of a binary parameter or result.
pub const BINARY: &str = "application/octet-stream";
