//! List of the database files that are open in this process, for backups: a file is locked by its process, so that no
//! other one can read it.

use std::path::{Path, PathBuf};
use std::sync::Weak;

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadTransaction, ReadableDatabase as _};

use crate::layout::Layout;

static OPEN: Mutex<Vec<OpenDatabase>> = Mutex::new(Vec::new());

/// Database file that is open in this process. Does not keep it open.
#[derive(Clone, Debug)]
pub struct OpenDatabase {
    /// Path of the file.
    pub path: PathBuf,
    /// Tables of the file.
    pub layout: &'static Layout,
    database: Weak<RwLock<Option<Database>>>,
}

impl OpenDatabase {
    /// Begins to read the last committed state, which stays readable while others write. Blocks while a commit writes the
    /// header of the file.
    ///
    /// # Errors
    ///
    /// Errors of the database; [`redb::Error::DatabaseClosed`] if it was dropped, or is being opened again after an error.
    pub fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        let database = self.database.upgrade().ok_or(redb::Error::DatabaseClosed)?;
        let database = database.try_read().ok_or(redb::Error::DatabaseClosed)?;
        Ok(database.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
    }
}

/// Returns the database files that are open in this process, in the order in which a backup has to read them.
pub fn open_databases() -> Vec<OpenDatabase> {
    let mut open = OPEN.lock();
    open.retain(|database| database.database.strong_count() > 0);
    let mut databases = open.clone();
    drop(open);
    databases.sort_by(|a, b| (a.layout.order, &a.path).cmp(&(b.layout.order, &b.path)));
    databases
}

pub(crate) fn add(path: &Path, layout: &'static Layout, database: Weak<RwLock<Option<Database>>>) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut open = OPEN.lock();
    open.retain(|listed| listed.database.strong_count() > 0);
    open.push(OpenDatabase { path, layout, database });
}
