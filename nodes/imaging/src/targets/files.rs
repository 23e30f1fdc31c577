//! Disks as files: nothing is exported, and whoever shares the file system finds them. For a machine on which no
//! target is installed.

use std::collections::BTreeSet;
use std::path::Path;

use parking_lot::Mutex;

use super::target::{Access, Handed, Target, TargetError};

/// Tells where a disk is, and no more.
#[derive(Debug, Default)]
pub struct Files {
    handed: Mutex<BTreeSet<String>>,
}

impl Target for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn export(&self, node: &str, disk: &Path, _: &Access) -> Result<Handed, TargetError> {
        let file =
            disk.canonicalize().map_err(|error| TargetError(format!("{}: {error}", disk.display())))?;
        self.handed.lock().insert(node.to_owned());
        Ok(Handed { target: None, portal: None, lun: None, file: Some(file.display().to_string()) })
    }

    fn withdraw(&self, node: &str) -> Result<(), TargetError> {
        self.handed.lock().remove(node);
        Ok(())
    }

    fn handed_out(&self) -> Result<Vec<String>, TargetError> {
        Ok(self.handed.lock().iter().cloned().collect())
    }
}
