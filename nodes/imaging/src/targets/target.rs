//! The trait of targets.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Credentials of a node for its disk. Each node has its own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Name of the initiator, an iqn.
    pub initiator: String,
    /// User name for CHAP.
    pub user: String,
    /// Secret for CHAP: 16 letters and digits.
    pub secret: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({}, {})", self.initiator, self.user)
    }
}

/// Disk that was exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handed {
    /// Name of its target, an iqn; `None` if it is exported as a file.
    pub target: Option<String>,
    /// Address and port of the portal.
    pub portal: Option<String>,
    /// Number of the disk in its target.
    pub lun: Option<u32>,
    /// Path of the file, if the disk is not exported over a network.
    pub file: Option<String>,
}

/// Error of exporting a disk or of withdrawing it, as a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub String);

/// Exporter of disks, with one target per node. All methods block.
pub trait Target: Send + Sync + 'static {
    /// Returns the name of the driver in the configuration.
    fn name(&self) -> &'static str;

    /// Exports the disk of a node. If the disk is exported already, the export is updated to these arguments; sessions
    /// that are logged in are kept if possible.
    ///
    /// # Errors
    ///
    /// The disk cannot be exported. In that case nothing of the export remains, or [`withdraw`](Self::withdraw) removes it.
    fn export(&self, node: &str, disk: &Path, access: &Access) -> Result<Handed, TargetError>;

    /// Withdraws the disk of a node, even if it is in use. Succeeds if the disk is not exported.
    ///
    /// # Errors
    ///
    /// The disk may still be exported.
    fn withdraw(&self, node: &str) -> Result<(), TargetError>;

    /// Returns the nodes whose disks are exported.
    ///
    /// # Errors
    ///
    /// The exports cannot be listed.
    fn handed_out(&self) -> Result<Vec<String>, TargetError>;
}
