//! Kinds of objects that a configuration may contain.
//!
//! A kind is the type of an entry in the configuration: its fields are the settings, and [`Kind::build`] creates the
//! object. Both are in the object's own file; the table of kinds has one line for each kind.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rantai_client::object::{Calls, Object};
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::ObjectName;
use serde::Deserialize;

use crate::serving::ServeOptions;

/// Sink for the lines that objects print.
pub type Output = Arc<dyn Fn(&str) + Send + Sync>;

/// Settings of one object in a configuration, from which the object is built.
pub trait Kind: fmt::Debug + Send + Sync + 'static {
    /// Returns the name the object is served under.
    fn name(&self) -> String;

    /// Builds the object.
    ///
    /// # Errors
    ///
    /// The settings are wrong; the text says what is wrong with them.
    fn build(&self, building: &Building<'_>) -> Result<Configured, String>;
}

/// Opens the files and folders of an object; fails with a text for people.
pub type Open = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// Input of [`Kind::build`]: the object's name, and what the objects of a configuration share.
#[derive(Clone)]
pub struct Building<'a> {
    /// Name the object is served under.
    pub name: ObjectName,
    /// Sink for the lines that objects print.
    pub output: &'a Output,
    /// Handle by which objects call others.
    pub calls: &'a Calls,
    /// Path of the configuration file.
    file: &'a str,
}

impl fmt::Debug for Building<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Building({})", self.name)
    }
}

impl<'a> Building<'a> {
    /// Creates the input for building an object of the configuration `file`.
    pub fn new(name: ObjectName, output: &'a Output, calls: &'a Calls, file: &'a str) -> Self {
        Self { name, output, calls, file }
    }

    /// Wraps an object that is served with the default options, exclusively.
    pub fn object(&self, object: impl Object) -> Configured {
        Configured {
            name: self.name.clone(),
            object: Arc::new(object),
            options: ServeOptions::default(),
            alone: false,
            open: None,
            started: None,
        }
    }

    /// Parses the name of another object.
    ///
    /// # Errors
    ///
    /// The name is not a valid object name.
    pub fn other(&self, name: &str) -> Result<ObjectName, String> {
        ObjectName::new(name).map_err(|error| error.to_string())
    }

    /// Resolves a path of the settings: a relative path is relative to the folder of the configuration file.
    pub fn path(&self, path: &Path) -> PathBuf {
        beside(self.file, path)
    }
}

/// Object that is ready to be served.
pub struct Configured {
    /// Name the object is served under.
    pub name: ObjectName,
    /// The object itself.
    pub object: Arc<dyn Object>,
    /// Options of serving the object.
    pub options: ServeOptions,
    /// Whether the object must be served by one node only.
    pub alone: bool,
    /// Opens the files that the object needs; called before the object is served.
    pub open: Option<Open>,
    /// Line that is printed once the object is served.
    pub started: Option<String>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Configured({})", self.name)
    }
}

impl Configured {
    /// Sets whether several nodes may serve the object together.
    #[must_use]
    pub fn replica(mut self, replica: bool) -> Self {
        self.options.mode = if replica { Mode::Replica } else { Mode::Exclusive };
        self
    }

    /// Sets how many calls may run at the same time; `None` keeps the default.
    #[must_use]
    pub fn concurrent(mut self, concurrent: Option<usize>) -> Self {
        self.options.limits.concurrent = concurrent.unwrap_or(self.options.limits.concurrent);
        self
    }

    /// Forbids that several nodes serve the object: each would repeat the other's work, or see only half of the calls.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Sets a function that opens what the object needs, before it is served.
    #[must_use]
    pub fn open_first(mut self, open: impl FnOnce() -> Result<(), String> + Send + 'static) -> Self {
        self.open = Some(Box::new(open));
        self
    }
}

/// Settings of an object that needs no more than a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simple {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Maximum number of calls that run at the same time; `None` for the default.
    pub concurrent: Option<usize>,
}

impl Simple {
    /// Wraps the object, served as these settings demand.
    pub fn serve(&self, building: &Building<'_>, object: impl Object) -> Configured {
        building.object(object).replica(self.replica).concurrent(self.concurrent)
    }
}

/// Resolves a path relative to the folder of the configuration `file`.
pub fn beside(file: &str, path: &Path) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}
