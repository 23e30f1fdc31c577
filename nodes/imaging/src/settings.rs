//! What stands of imaging in nodes.toml.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::targets::{Files, Target, TargetError, Tgt, tgt};

/// An imaging server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagingSettings {
    /// The name it is served by.
    pub name: String,
    /// Where images, disks and the state are; a relative path begins where the file of this configuration is.
    pub folder: PathBuf,
    /// The image where none is named.
    pub image: String,
    /// The snapshot where none is named.
    pub snapshot: String,
    /// What is said of a node that has a disk already.
    pub in_use: String,
    /// What is said of a node that has none.
    pub not_in_use: String,
    /// What the names of the nodes' initiators begin with; a node's own is `PREFIX.NODE`.
    #[serde(default = "initiator")]
    pub initiator: String,
    /// How disks are handed out.
    #[serde(default)]
    pub target: Driver,
    /// Who may do what. Everybody may everything where there is nobody.
    #[serde(default)]
    pub projects: Vec<Project>,
}

fn initiator() -> String {
    "iqn.2026-01.example.rantai:initiator".to_owned()
}

/// How disks are handed out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Driver {
    /// As files: nothing is exported.
    #[default]
    Files,
    /// Over iSCSI, by tgt.
    Tgt(tgt::Settings),
}

/// People who share nodes and a quota.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Users by the names under which the broker knows them.
    pub users: Vec<String>,
    /// Images they may use; a name that ends in `*` is a prefix. Every one without it.
    #[serde(default = "every")]
    pub images: Vec<String>,
    /// Disks they may have at the same time.
    pub disks: Option<u64>,
    /// Bytes of these disks.
    pub bytes: Option<u64>,
}

fn every() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Driver {
    /// Begins to hand out.
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
    /// Whatever could not be served.
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
