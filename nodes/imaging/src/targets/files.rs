//! Target for disks as plain files: nothing is exported over a network, and nodes need access to the same file system.
//! For machines on which no other target is installed.

use std::collections::BTreeSet;
use std::path::Path;

use parking_lot::Mutex;

use super::target::{Access, Handed, Target, TargetError};

/// Target that only returns the paths of disks.
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
