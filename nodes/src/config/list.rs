//! Objects as they come out of a file: each name once, and how they are served.

use std::collections::HashSet;
use std::sync::Arc;

use rantai_client::object::Object;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::ObjectName;

use super::ConfigError;
use crate::node::ServeOptions;

/// Opens what an object needs.
pub type Open = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// An object ready to be served.
pub struct Configured {
    /// By this name.
    pub name: ObjectName,
    /// The object.
    pub object: Arc<dyn Object>,
    /// And how.
    pub options: ServeOptions,
    /// Whether it may be served by one node only, whatever is wished.
    pub alone: bool,
    /// What has to be opened before it is served; the error is for people.
    pub open: Option<Open>,
    /// What is printed when it is.
    pub started: Option<String>,
}

impl std::fmt::Debug for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Configured({})", self.name)
    }
}

pub(super) fn options(replica: bool, concurrent: Option<usize>) -> ServeOptions {
    let mut options = ServeOptions::default();
    if replica {
        options.mode = Mode::Replica;
    }
    options.limits.concurrent = concurrent.unwrap_or(options.limits.concurrent);
    options
}

/// The objects of a file, in the making.
pub(super) struct List<'a> {
    file: &'a str,
    names: HashSet<ObjectName>,
    pub(super) objects: Vec<Configured>,
}

impl<'a> List<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, names: HashSet::new(), objects: Vec::new() }
    }

    pub(super) fn wrong(&self, name: &str, reason: &str) -> ConfigError {
        ConfigError::Object { file: self.file.to_owned(), name: name.to_owned(), reason: reason.to_owned() }
    }

    pub(super) fn name(&self, name: &str) -> Result<ObjectName, ConfigError> {
        ObjectName::new(name).map_err(|error| self.wrong(name, &error.to_string()))
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        object: Arc<dyn Object>,
        options: ServeOptions,
        started: Option<String>,
    ) -> Result<(), ConfigError> {
        let known = self.name(name)?;
        if !self.names.insert(known.clone()) {
            return Err(self.wrong(name, "it stands there twice"));
        }
        self.objects.push(Configured { name: known, object, options, alone: false, open: None, started });
        Ok(())
    }

    /// The last one needs this first.
    pub(super) fn open_first(&mut self, open: impl FnOnce() -> Result<(), String> + Send + 'static) {
        self.objects.last_mut().expect("just added").open = Some(Box::new(open));
    }

    /// What two nodes would do twice, or know only half of.
    pub(super) fn add_alone(&mut self, name: &str, object: Arc<dyn Object>) -> Result<(), ConfigError> {
        self.add(name, object, options(false, None), None)?;
        self.objects.last_mut().expect("just added").alone = true;
        Ok(())
    }
}
