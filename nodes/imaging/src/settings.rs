//! Configuration of imaging in nodes.toml.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::targets::{Files, Target, TargetError, Tgt, tgt};

/// Configuration of an imaging server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagingSettings {
    /// Name of the object.
    pub name: String,
    /// Folder of images, disks and the state; a relative path starts at the folder of the configuration file.
    pub folder: PathBuf,
    /// Image to use if a request names none.
    pub image: String,
    /// Snapshot to use if a request names none.
    pub snapshot: String,
    /// Message of the error if a node already has a disk.
    pub in_use: String,
    /// Message of the error if a node has no disk.
    pub not_in_use: String,
    /// Prefix of the nodes' initiator names: `PREFIX.NODE`.
    #[serde(default = "initiator")]
    pub initiator: String,
    /// Way to export disks.
    #[serde(default)]
    pub target: Driver,
    /// Projects and their permissions. If empty, every caller may do everything.
    #[serde(default)]
    pub projects: Vec<Project>,
}

fn initiator() -> String {
    "iqn.2026-01.example.rantai:initiator".to_owned()
}

/// Way to export disks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Driver {
    /// As plain files, without a network target.
    #[default]
    Files,
    /// Over iSCSI, with tgt.
    Tgt(tgt::Settings),
}

/// Users that share nodes and a quota.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Name of the project.
    pub name: String,
    /// Users, by their names at the broker.
    pub users: Vec<String>,
    /// Images that the users may use; a name that ends in `*` is a prefix. Default: all images.
    #[serde(default = "every")]
    pub images: Vec<String>,
    /// Maximum number of disks at the same time; unlimited by default.
    pub disks: Option<u64>,
    /// Maximum total size of these disks, in bytes; unlimited by default.
    pub bytes: Option<u64>,
}

fn every() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Driver {
    /// Starts the target; `folder` is that of the imaging server.
    pub(super) fn start(&self, folder: &Path) -> Result<Arc<dyn Target>, TargetError> {
        match self {
            Self::Files => Ok(Arc::new(Files::default())),
            Self::Tgt(settings) => {
                let own =
                    if settings.folder.as_os_str().is_empty() { Path::new("tgt") } else { &*settings.folder };
                let settings = tgt::Settings { folder: folder.join(own), ..settings.clone() };
                Ok(Arc::new(Tgt::start(settings)?))
            }
        }
    }
}

impl Project {
    pub(super) fn allows(&self, image: &str) -> bool {
        self.images.iter().any(|name| match name.strip_suffix('*') {
            Some(prefix) => image.starts_with(prefix),
            None => name == image,
        })
    }
}

impl ImagingSettings {
    /// Checks the names and projects.
    pub(super) fn check(&self) -> Result<(), String> {
        super::names::file("an image", &self.image).map_err(|problem| problem.text)?;
        super::names::file("a snapshot", &self.snapshot).map_err(|problem| problem.text)?;
        let mut users = HashSet::new();
        for user in self.projects.iter().flat_map(|project| &project.users) {
            if !users.insert(user) {
                return Err(format!("user {user:?} is in two projects"));
            }
        }
        Ok(())
    }
}
