//! Kinds of objects that a configuration may have.
//!
//! A kind is the type of an entry in the configuration: its fields are the settings, and [`Kind::build`] makes an
//! object of them. Both stand in the object's own file; the table of kinds has one line for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rantai_client::object::{Calls, Object};
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::ObjectName;
use serde::Deserialize;

use crate::serving::ServeOptions;

/// Prints a line that an object prints.
pub type Output = Arc<dyn Fn(&str) + Send + Sync>;

/// An entry of a configuration, of which an object is made.
pub trait Kind: fmt::Debug + Send + Sync + 'static {
    /// The name the object is served by.
    fn name(&self) -> String;

    /// Makes the object.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings, for people.
    fn build(&self, building: &Building<'_>) -> Result<Configured, String>;
}

/// Opens the files and folders of an object; the error is for people.
pub type Open = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// What an object is made with: its name, and what a configuration's objects share.
#[derive(Clone)]
pub struct Building<'a> {
    /// The name the object is served by.
    pub name: ObjectName,
    /// Prints what objects print.
    pub output: &'a Output,
    /// How objects call others.
    pub calls: &'a Calls,
    /// The file of the configuration.
    file: &'a str,
}

impl fmt::Debug for Building<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Building({})", self.name)
    }
}

impl<'a> Building<'a> {
    /// The surroundings of an object in the configuration `file`.
    pub fn new(name: ObjectName, output: &'a Output, calls: &'a Calls, file: &'a str) -> Self {
        Self { name, output, calls, file }
    }

    /// The object, to be served by one node at a time.
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

    /// The name of another object.
    ///
    /// # Errors
    ///
    /// Returns why it is no name.
    pub fn other(&self, name: &str) -> Result<ObjectName, String> {
        ObjectName::new(name).map_err(|error| error.to_string())
    }

    /// A path of the settings: a relative one begins where the file of the configuration is.
    pub fn path(&self, path: &Path) -> PathBuf {
        beside(self.file, path)
    }
}

/// An object ready to be served.
pub struct Configured {
    /// The name it is served by.
    pub name: ObjectName,
    /// The object.
    pub object: Arc<dyn Object>,
    /// How it is served.
    pub options: ServeOptions,
    /// Whether it must be served by one node only.
    pub alone: bool,
    /// Opens what it needs, before it is served.
    pub open: Option<Open>,
    /// What is printed when it is served.
    pub started: Option<String>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Configured({})", self.name)
    }
}

impl Configured {
    /// Lets several nodes serve it together, where `replica` is true.
    #[must_use]
    pub fn replica(mut self, replica: bool) -> Self {
        self.options.mode = if replica { Mode::Replica } else { Mode::Exclusive };
        self
    }

    /// Sets how many calls may wait at the same time; the default stays without a number.
    #[must_use]
    pub fn concurrent(mut self, concurrent: Option<usize>) -> Self {
        self.options.limits.concurrent = concurrent.unwrap_or(self.options.limits.concurrent);
        self
    }

    /// Forbids that several nodes serve it: two would do everything twice, or know only half of it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Opens what it needs before it is served.
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
    /// The name it is served by.
    pub name: String,
    /// Whether several nodes may serve it together.
    #[serde(default)]
    pub replica: bool,
    /// Calls that may wait at the same time.
    pub concurrent: Option<usize>,
}

impl Simple {
    /// The object, served as these settings say.
    pub fn serve(&self, building: &Building<'_>, object: impl Object) -> Configured {
        building.object(object).replica(self.replica).concurrent(self.concurrent)
    }
}

/// A relative path begins where the configuration is.
pub fn beside(file: &str, path: &Path) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}
