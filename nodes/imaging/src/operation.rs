//! Operations: changes in steps that can be undone or repeated.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::locks::Need;
use super::reply::{Problem, Status};
use super::storage::{Progress, Storage, StorageError};
use super::targets::{Access, Handed, Target, TargetError};

/// Change to make. It contains everything that its steps need, including after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub(super) enum Intent {
    Provision {
        node: String,
        image: String,
        snapshot: String,
        access: Access,
        project: Option<String>,
        bytes: u64,
    },
    DetachNode {
        node: String,
    },
    CreateSnapshot {
        image: String,
        snapshot: String,
    },
    RemoveSnaps {
        image: String,
        snapshot: String,
    },
    Import {
        file: String,
        image: String,
    },
    Export {
        image: String,
        snapshot: String,
        file: String,
    },
    Rename {
        image: String,
        to: String,
    },
    RemoveImage {
        image: String,
    },
}

/// Step of an operation, which is done or undone as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakeDisk,
    HandOut,
    TakeBack,
    RemoveDisk,
    TakeSnapshot,
    RemoveSnapshot,
    Import,
    Export,
    Rename,
    RemoveImage,
}

/// Operation in progress, as stored on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) id: u64,
    /// Key of the request, by which a repeated request is recognised.
    pub(super) key: Option<String>,
    /// Method and arguments of the request, by which reuse of its key for another request is detected.
    pub(super) print: String,
    /// Caller of the request.
    pub(super) who: String,
    pub(super) began_ms: u64,
    pub(super) intent: Intent,
    /// Index of the last step that has begun.
    pub(super) step: usize,
    /// Whether a step has failed, so that the operation can only be undone.
    pub(super) undoing: bool,
}

/// Results of the steps of an operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StepResults {
    pub(super) handed: Option<Handed>,
    pub(super) digest: Option<String>,
    pub(super) bytes: u64,
}

/// Storage and target that execute the steps.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) target: Arc<dyn Target>,
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let status = match &error {
            StorageError::NotFound(_) => Status::NotFound,
            StorageError::Exists(_) => Status::Exists,
            _ => Status::Failed,
        };
        Self::new(status, error.to_string())
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        Self::new(Status::Failed, error.to_string())
    }
}

impl Intent {
    /// Returns the name of the method.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Provision { .. } => "provision",
            Self::DetachNode { .. } => "detach_node",
            Self::CreateSnapshot { .. } => "create_snapshot",
            Self::RemoveSnaps { .. } => "remove_snaps",
            Self::Import { .. } => "import",
            Self::Export { .. } => "export",
            Self::Rename { .. } => "rename",
            Self::RemoveImage { .. } => "remove_image",
        }
    }

    /// Returns the arguments of the request, without secrets.
    pub(super) fn args(&self) -> Vec<&str> {
        match self {
            Self::Provision { node, image, snapshot, .. } => vec![node, image, snapshot],
            Self::DetachNode { node } => vec![node],
            Self::CreateSnapshot { image, snapshot } | Self::RemoveSnaps { image, snapshot } => {
                vec![image, snapshot]
            }
            Self::Import { file, image } => vec![file, image],
            Self::Export { image, snapshot, file } => vec![image, snapshot, file],
            Self::Rename { image, to } => vec![image, to],
            Self::RemoveImage { image } => vec![image],
        }
    }

    /// Returns the locks that the operation needs.
    pub(super) fn needs(&self) -> Vec<Need> {
        let image = |name: &str| format!("image {name}");
        let snapshot = |image: &str, name: &str| format!("snapshot {image}/{name}");
        match self {
            Self::Provision { node, image: of, snapshot: name, .. } => vec![
                Need::alone(format!("node {node}")),
                Need::together(image(of)),
                Need::together(snapshot(of, name)),
            ],
            Self::DetachNode { node } => vec![Need::alone(format!("node {node}"))],
            Self::CreateSnapshot { image: of, snapshot: name }
            | Self::RemoveSnaps { image: of, snapshot: name } => {
                vec![Need::together(image(of)), Need::alone(snapshot(of, name))]
            }
            Self::Import { image: name, .. } | Self::RemoveImage { image: name } => {
                vec![Need::alone(image(name))]
            }
            Self::Export { image: of, snapshot: name, file } => vec![
                Need::together(image(of)),
                Need::together(snapshot(of, name)),
                Need::alone(format!("file {file}")),
            ],
            Self::Rename { image: name, to } => vec![Need::alone(image(name)), Need::alone(image(to))],
        }
    }

    pub(super) fn steps(&self) -> &'static [Step] {
        match self {
            Self::Provision { .. } => &[Step::MakeDisk, Step::HandOut],
            Self::DetachNode { .. } => &[Step::TakeBack, Step::RemoveDisk],
            Self::CreateSnapshot { .. } => &[Step::TakeSnapshot],
            Self::RemoveSnaps { .. } => &[Step::RemoveSnapshot],
            Self::Import { .. } => &[Step::Import],
            Self::Export { .. } => &[Step::Export],
            Self::Rename { .. } => &[Step::Rename],
            Self::RemoveImage { .. } => &[Step::RemoveImage],
        }
    }

    /// Returns whether the operation is completed after a crash, because it removes something. All other operations are undone.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self, Self::DetachNode { .. } | Self::RemoveSnaps { .. } | Self::RemoveImage { .. })
    }
}

impl Hands {
    /// Executes a step.
    pub(super) fn run(
        &self,
        intent: &Intent,
        step: Step,
        made: &mut StepResults,
        progress: Progress<'_>,
    ) -> Result<(), Problem> {
        let Self { storage, target } = self;
        match (step, intent) {
            (Step::MakeDisk, Intent::Provision { node, image, snapshot, .. }) => {
                storage.make_disk(image, snapshot, node, progress)?;
            }
            (Step::HandOut, Intent::Provision { node, access, .. }) => {
                made.handed = Some(target.export(node, &self.disk(node), access)?);
            }
            (Step::TakeBack, Intent::DetachNode { node }) => target.withdraw(node)?,
            (Step::RemoveDisk, Intent::DetachNode { node }) => storage.remove_disk(node)?,
            (Step::TakeSnapshot, Intent::CreateSnapshot { image, snapshot }) => {
                made.digest = Some(storage.take_snapshot(image, snapshot, progress)?);
                made.bytes = storage.snapshot(image, snapshot)?.map_or(0, |about| about.bytes);
            }
            (Step::RemoveSnapshot, Intent::RemoveSnaps { image, snapshot }) => {
                storage.remove_snapshot(image, snapshot)?;
            }
            (Step::Import, Intent::Import { file, image }) => {
                made.digest = Some(storage.import(file, image, progress)?);
                made.bytes = storage.image(image)?.map_or(0, |about| about.bytes);
            }
            (Step::Export, Intent::Export { image, snapshot, file }) => {
                storage.export(image, snapshot, file, progress)?;
            }
            (Step::Rename, Intent::Rename { image, to }) => storage.rename(image, to)?,
            (Step::RemoveImage, Intent::RemoveImage { image }) => storage.remove_image(image)?,
            (step, intent) => unreachable!("{step:?} is no step of {}", intent.method()),
        }
        Ok(())
    }

    /// Undoes a step, whether it was completed or not.
    pub(super) fn undo(&self, intent: &Intent, step: Step) -> Result<(), Problem> {
        let Self { storage, target } = self;
        match (step, intent) {
            (Step::MakeDisk, Intent::Provision { node, .. }) => storage.remove_disk(node)?,
            (Step::HandOut, Intent::Provision { node, .. }) => target.withdraw(node)?,
            (Step::TakeSnapshot, Intent::CreateSnapshot { image, snapshot }) => {
                storage.remove_snapshot(image, snapshot)?;
            }
            (Step::Import, Intent::Import { image, .. }) => storage.remove_image(image)?,
            (Step::Export, Intent::Export { file, .. }) => storage.remove_export(file)?,
            (Step::Rename, Intent::Rename { image, to }) => storage.rename(to, image)?,
            // Removals are not undone.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn disk(&self, node: &str) -> PathBuf {
        self.storage.disk(node)
    }
}
