//! The trait of whatever hands disks out.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may have a disk, and by which words. Of every node its own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The initiator's name, an iqn.
    pub initiator: String,
    /// The user of CHAP.
    pub user: String,
    /// Its secret: 16 letters and digits.
    pub secret: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({}, {})", self.initiator, self.user)
    }
}

/// A disk that is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handed {
    /// The name of its target, an iqn; nothing where it is handed out as a file.
    pub target: Option<String>,
    /// Address and port of the portal.
    pub portal: Option<String>,
    /// The number of the disk in its target.
    pub lun: Option<u32>,
    /// The file, where nothing is exported.
    pub file: Option<String>,
}

/// Why a disk cannot be handed out, or not be taken back. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub String);

/// Hands disks out, one target a node. All methods block.
pub trait Target: Send + Sync + 'static {
    /// What it is called in the configuration.
    fn name(&self) -> &'static str;

    /// Hands the disk of a node out. Once more for what is handed out already is no error, and leaves it as it is
    /// now asked for; whoever is logged in stays so where it can be helped.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that. Nothing of it is left then, or [`withdraw`](Self::withdraw) takes it away.
    fn export(&self, node: &str, disk: &Path, access: &Access) -> Result<Handed, TargetError>;

    /// Takes the disk of a node back, whoever uses it. What is not handed out is no error.
    ///
    /// # Errors
    ///
    /// Where it may still be handed out.
    fn withdraw(&self, node: &str) -> Result<(), TargetError>;

    /// Nodes whose disks are handed out.
    ///
    /// # Errors
    ///
    /// Where that cannot be told.
    fn handed_out(&self) -> Result<Vec<String>, TargetError>;
}
