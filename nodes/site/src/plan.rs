//! Contents of a site: the objects of a configuration, its ledger and its gateways.

use std::path::Path;

use rantai_client::wire::entry::Mode;

use crate::config::{Config, ConfigError, Configured, beside};
use crate::error::SiteError;
use rantai_nodes::kind::Output;

/// Name of the ledger's object.
pub(super) const TASKS: &str = "tasks";

/// Objects of a configuration, ready to be served, with its ledger and gateways.
pub struct Plan {
    /// Configuration that the objects come from.
    pub config: Config,
    /// Objects that are served.
    pub objects: Vec<Configured>,
    /// Sink for the lines that objects print.
    pub(super) output: Output,
    /// Whether nodes that hold the names are asked to give them up.
    pub(super) replace: bool,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("names", &self.names()).finish_non_exhaustive()
    }
}

impl Plan {
    /// Builds the objects of a configuration, which print to `output`. Relative paths are relative to the folder of `file`.
    ///
    /// # Errors
    ///
    /// Those of [`Config::objects`].
    pub fn new(mut config: Config, file: &str, output: Output) -> Result<Self, ConfigError> {
        let objects = config.objects(file, &output)?;
        if let Some(tasks) = &mut config.tasks {
            tasks.file = tasks.file.take().map(|tasks| beside(file, &tasks));
        }
        Ok(Self { config, objects, output, replace: false })
    }

    /// Returns the names of the objects, of the ledger (`tasks`) and of the gateways (`rest`, `soap`, `pyro`).
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.objects.iter().map(|object| object.name.to_string()).collect();
        names.extend(self.config.tasks.iter().map(|_| TASKS.to_owned()));
        #[cfg(feature = "gateway")]
        {
            names.extend(self.config.rest.iter().map(|_| "rest".to_owned()));
            names.extend(self.config.soap.iter().map(|_| "soap".to_owned()));
            names.extend(self.config.pyro.iter().map(|_| "pyro".to_owned()));
        }
        names
    }

    /// Removes everything whose name is not among `names`.
    ///
    /// # Errors
    ///
    /// [`SiteError::Unknown`] for the first name that is not among [`names`](Self::names); nothing is removed then.
    pub fn keep(&mut self, names: &[String]) -> Result<(), SiteError> {
        let known = self.names();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            return Err(SiteError::Unknown(unknown.clone()));
        }
        let kept = |name: &str| names.iter().any(|kept| kept == name);
        self.objects.retain(|object| kept(object.name.as_str()));
        self.config.tasks.take_if(|_| !kept(TASKS));
        #[cfg(feature = "gateway")]
        {
            self.config.rest.take_if(|_| !kept("rest"));
            self.config.soap.take_if(|_| !kept("soap"));
            self.config.pyro.take_if(|_| !kept("pyro"));
        }
        Ok(())
    }

    /// Serves the objects as replicas, together with other nodes.
    ///
    /// # Errors
    ///
    /// [`SiteError::Alone`] if one of the objects must be served by one node only.
    pub fn serve_as_replicas(&mut self) -> Result<(), SiteError> {
        if let Some(alone) = self.objects.iter().find(|object| object.alone) {
            return Err(SiteError::Alone(alone.name.to_string()));
        }
        for object in &mut self.objects {
            object.options.mode = Mode::Replica;
        }
        Ok(())
    }

    /// Asks nodes that hold the names to give them up.
    pub fn replace_holders(&mut self) {
        self.replace = true;
        for object in &mut self.objects {
            object.options.replace = true;
        }
    }

    /// Checks what a start checks before it connects, beside what reading the configuration has checked: the root and the name of
    /// the node. Opens nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Site::start`](super::Site::start).
    pub fn check(&self) -> Result<(), SiteError> {
        self.config.root()?;
        self.config.node()?;
        Ok(())
    }

    /// Opens the files and folders that the objects need, each once. Called by [`Site::connect`](super::Site::connect) if it
    /// has not been called.
    ///
    /// # Errors
    ///
    /// [`SiteError::Open`] for the first that cannot be opened.
    pub fn open(&mut self) -> Result<(), SiteError> {
        for object in &mut self.objects {
            if let Some(open) = object.open.take() {
                open().map_err(|reason| SiteError::Open { object: object.name.to_string(), reason })?;
            }
        }
        Ok(())
    }

    /// Returns the file of the ledger: that of the configuration, else one in the data directory; `None` without either, for a
    /// ledger in memory.
    pub(super) fn ledger_file(&self, data_dir: Option<&Path>) -> Option<std::path::PathBuf> {
        let configured = self.config.tasks.as_ref().and_then(|tasks| tasks.file.clone());
        configured.or_else(|| data_dir.map(|folder| folder.join("tasks.redb")))
    }
}
