//! Replies of imaging, each of which contains a status code of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::targets::Handed;

/// Reply: `{"status_code": 200, "retval": …}`, or a status with a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// 200, or a [`Status`].
    pub status_code: u16,
    /// Result of a request that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retval: Option<Value>,
    /// Error message of a request that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// Disk that was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// Disk, and the credentials by which a node accesses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Location of the disk.
    #[serde(flatten)]
    pub handed: Handed,
    /// Name by which the node's initiator must log in.
    pub initiator: String,
    /// User name for CHAP.
    pub user: String,
    /// Secret for CHAP.
    pub secret: String,
}

/// Status codes of requests that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The name exists already.
    Exists = 401,
    /// The caller is not permitted to do this.
    Denied = 403,
    /// The name does not exist.
    NotFound = 404,
    /// The image has snapshots.
    HasSnapshots = 405,
    /// Another operation uses the name, or the state cannot be written at the moment.
    Busy = 409,
    /// The method does not exist or is not supported here.
    Unsupported = 410,
    /// The number of arguments is wrong, an argument is not valid, or a quota would be exceeded.
    OutOfRange = 411,
    /// The node already has a disk, or has none.
    Target = 440,
    /// A step failed.
    Failed = 500,
}

/// Error of a request: a status and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// Status code of the reply.
    pub status: Status,
    /// Text for people.
    pub text: String,
}

impl Problem {
    pub(super) fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl From<Result<Value, Problem>> for Reply {
    fn from(result: Result<Value, Problem>) -> Self {
        match result {
            Ok(retval) => Self { status_code: 200, retval: Some(retval), msg: None, disk: None },
            Err(Problem { status, text }) => {
                Self { status_code: status as u16, retval: None, msg: Some(text), disk: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn replies_are_this_json() {
        let written = |result: Result<Value, Problem>| json!(Reply::from(result));
        assert_eq!(written(Ok(json!(["a"]))), json!({"status_code": 200, "retval": ["a"]}));
        let problem = Problem::new(Status::Target, "Node is already in use");
        assert_eq!(written(Err(problem)), json!({"status_code": 440, "msg": "Node is already in use"}));
    }
}
