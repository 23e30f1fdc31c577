//! Configurations built into the program, and resolving the argument of `--config`.

use std::path::{Path, PathBuf};

use rantai_client::registry::similar;
use rantai_nodes::kind::Output;
use rantai_site::Plan;
use rantai_site::config::Config;
use tempfile::TempDir;

use crate::exit::{Exit, Failure};
use crate::roles::Role;
use crate::terminal::note;

/// Configuration built into the program.
pub(crate) struct BuiltIn {
    /// Name by which `--config` selects it.
    pub(crate) name: &'static str,
    /// Description of one line, for lists.
    pub(crate) about: &'static str,
    /// Text of the configuration, in TOML.
    pub(crate) text: &'static str,
    /// Files that its objects need: relative path and content.
    files: &'static [(&'static str, &'static str)],
}

/// Source that a configuration is read from.
enum Source {
    BuiltIn(&'static BuiltIn),
    File(PathBuf),
}

/// Configuration of objects, read and checked.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Name of the configuration in messages.
    pub(crate) label: String,
    /// Path of the configuration file; relative paths are resolved against its folder.
    pub(crate) file: String,
    /// Temporary folder with the files of a built-in configuration, removed with this value.
    pub(crate) folder: Option<TempDir>,
}

pub(crate) const NODES: &str = include_str!("../config/nodes.toml");
pub(crate) const IMAGING: &str = include_str!("../config/imaging.toml");
pub(crate) const INSULT: &str = include_str!("../config/insult.toml");
pub(crate) const LIBRARY: &str = include_str!("../config/library.toml");
pub(crate) const TELEMETRY: &str = include_str!("../config/telemetry.toml");
pub(crate) const UPCALL: &str = include_str!("../config/upcall.toml");
/// Book that the library lends.
pub(crate) const BOOK: &str = include_str!("../config/books/mytext.txt");

/// Configuration that is used without `--config`.
const DEFAULT: &BuiltIn = &OBJECTS[0];

/// Built-in configurations of objects.
pub(crate) const OBJECTS: &[BuiltIn] = &[
    BuiltIn {
        name: "nodes",
        about: "the default: calculator, echo, a shop, three cities in a chain, and tasks",
        text: NODES,
        files: &[],
    },
    BuiltIn {
        name: "circular",
        about: "Pyro's circular chain: the ring A, B, C",
        text: include_str!("../config/circular.toml"),
        files: &[],
    },
    #[cfg(feature = "gateway")]
    BuiltIn {
        name: "gateway",
        about: "the calculator, with REST on port 5151 and SOAP on port 8000",
        text: include_str!("../config/gateway.toml"),
        files: &[],
    },
    BuiltIn {
        name: "imaging",
        about: "disks for machines, cloned from images in the folder imaging",
        text: IMAGING,
        files: &[],
    },
    BuiltIn {
        name: "insult",
        about: "insult services on any number of workers, their store and a notifier",
        text: INSULT,
        files: &[],
    },
    BuiltIn {
        name: "library",
        about: "the e-library: a shop, a chain of books, tasks, and books that are lent",
        text: LIBRARY,
        files: &[("books/mytext.txt", BOOK)],
    },
    #[cfg(feature = "gateway")]
    BuiltIn {
        name: "pyro",
        about: "the calculator for programs with Pyro4 or Pyro5, and a name server on port 9090",
        text: include_str!("../../../config/pyro.toml"),
        files: &[],
    },
    BuiltIn {
        name: "telemetry",
        about: "a sensor that publishes readings as plain texts",
        text: TELEMETRY,
        files: &[],
    },
    BuiltIn { name: "upcall", about: "a server that calls its clients back", text: UPCALL, files: &[] },
];

/// Settings of the broker, each with its default: can be shown, but is not a configuration of objects.
pub(crate) const BROKER: BuiltIn = BuiltIn {
    name: "broker",
    about: "the broker's settings, each with its default; for --broker-config",
    text: include_str!("../config/broker.toml"),
    files: &[],
};

impl BuiltIn {
    /// Returns the built-in configuration of this name, including the broker's settings.
    pub(crate) fn find(name: &str) -> Result<&'static Self, Failure> {
        let mut known = OBJECTS.iter().chain([&BROKER]);
        known.find(|built_in| built_in.name == name).ok_or_else(|| unknown(name, ""))
    }

    /// Returns the names of its objects and gateways; none for the broker's settings.
    pub(crate) fn objects(&self) -> Vec<String> {
        if self.name == BROKER.name {
            return Vec::new();
        }
        // Some objects check their folders when they are built.
        let Ok(folder) = self.unpacked() else { return Vec::new() };
        let file = self.file_in(folder.as_ref().map_or(Path::new(""), TempDir::path));
        let nowhere: Output = std::sync::Arc::new(|_: &str| {});
        let Ok(config) = Config::from_toml(self.text, &file) else { return Vec::new() };
        Plan::new(config, &file, nowhere).map(|plan| plan.names()).unwrap_or_default()
    }

    /// Writes its files to a temporary folder; `None` if it has no files.
    fn unpacked(&self) -> Result<Option<TempDir>, Failure> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let folder = tempfile::tempdir().map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot make a temporary folder: {error}"))
        })?;
        self.unpack(folder.path())?;
        Ok(Some(folder))
    }

    /// Writes those of its files that do not exist in `folder` yet; returns how many it has written.
    fn unpack(&self, folder: &Path) -> Result<usize, Failure> {
        let mut written = 0;
        for (path, content) in self.files {
            let path = folder.join(path);
            // Files of the user are not overwritten.
            if path.exists() {
                continue;
            }
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| std::fs::write(&path, content)).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
            })?;
            written += 1;
        }
        Ok(written)
    }

    fn file_in(&self, folder: &Path) -> String {
        folder.join(format!("{}.toml", self.name)).display().to_string()
    }

    /// Reads the configuration. Relative paths are resolved against `data_dir`; without one against a temporary folder if it
    /// has files of its own, so that they are not mixed with the user's, and against the working directory otherwise.
    fn load(&'static self, data_dir: Option<&Path>) -> Result<Loaded, Failure> {
        let folder = match data_dir {
            Some(data_dir) => {
                if self.unpack(data_dir)? > 0 {
                    note(&format!(
                        "wrote the files of configuration {} to {}",
                        self.name,
                        data_dir.display()
                    ));
                }
                None
            }
            None => self.unpacked()?,
        };
        let base = folder.as_ref().map_or(data_dir.unwrap_or(Path::new("")), TempDir::path);
        let file = self.file_in(base);
        let config = Config::from_toml(self.text, &file).map_err(|error| Failure::from_config(&error))?;
        Ok(Loaded { config, label: format!("built-in configuration {}", self.name), file, folder })
    }
}

impl Loaded {
    /// Reads the configuration that `--config` selects, or the default: a path is a file, a bare name is built in.
    pub(crate) fn read(named: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, Failure> {
        match named.map_or(Ok(Source::BuiltIn(DEFAULT)), Source::of)? {
            Source::BuiltIn(built_in) => built_in.load(data_dir),
            Source::File(path) => {
                let config = Config::load(&path).map_err(|error| missing(&path, &error))?;
                let file = path.display().to_string();
                Ok(Self { config, label: file.clone(), file, folder: None })
            }
        }
    }
}

impl Source {
    fn of(named: &Path) -> Result<Self, Failure> {
        let text = named.to_string_lossy();
        let is_path = named.components().count() > 1 || text.contains(['/', '.']);
        if is_path {
            return Ok(Self::File(named.to_owned()));
        }
        if text == BROKER.name {
            let wrong = "broker has the settings of the broker, and no objects; give it to --broker-config, \
                         or to `rantai broker --config`";
            return Err(Failure::new(Exit::Usage, wrong));
        }
        match OBJECTS.iter().find(|built_in| built_in.name == text) {
            Some(built_in) => Ok(Self::BuiltIn(built_in)),
            // A file without an extension.
            None if named.is_file() => Ok(Self::File(named.to_owned())),
            None => Err(unknown(&text, " (a file is given by its path, as in ./mine.toml)")),
        }
    }
}

fn unknown(name: &str, more: &str) -> Failure {
    let known = OBJECTS.iter().chain([&BROKER]).map(|built_in| built_in.name);
    let meant = match similar(name, known)[..] {
        [] => "`rantai config ls` lists them".to_owned(),
        ref meant => format!("did you mean {}?", meant.join(" or ")),
    };
    Failure::new(Exit::Usage, format!("no built-in configuration {name:?}; {meant}{more}"))
}

/// Error of a file that cannot be read, with a hint if there is a built-in configuration of that name.
fn missing(path: &Path, error: &rantai_site::config::ConfigError) -> Failure {
    let failure = Failure::from_config(error);
    let name = path.file_stem().and_then(|name| name.to_str());
    let built_in = OBJECTS.iter().find(|built_in| Some(built_in.name) == name && !path.exists());
    match built_in {
        Some(BuiltIn { name, .. }) => failure.and_then_say(&format!("; --config {name} is built in")),
        None => failure,
    }
}

/// Reads the broker's settings: those of a file, or the built-in ones for the bare name `broker`.
pub(crate) fn broker_settings(named: &Path) -> Result<rantai_broker::Config, Failure> {
    let read = if named == Path::new(BROKER.name) {
        rantai_broker::Config::from_toml_with::<Role>(BROKER.text, named)
    } else {
        rantai_broker::Config::load_with::<Role>(named)
    };
    read.map_err(|error| Failure::from_config(&error))
}

/// Returns how to serve an object that is not on the bus; `None` if no built-in configuration has it.
pub(crate) fn advice(object: &str) -> Option<String> {
    let with = OBJECTS.iter().filter(|built_in| built_in.objects().iter().any(|name| name == object));
    let names: Vec<&str> = with.map(|built_in| built_in.name).collect();
    let first = names.first()?;
    let option = if *first == DEFAULT.name { String::new() } else { format!(" --config {first}") };
    let built_in = match names[..] {
        [one] => format!("the built-in configuration {one} has it"),
        [ref others @ .., last] => {
            format!("the built-in configurations {} and {last} have it", others.join(", "))
        }
        [] => return None,
    };
    Some(format!("{built_in}: `rantai up{option}`, or on this broker `rantai serve {object}{option}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_configuration_is_valid_and_has_objects() {
        for built_in in OBJECTS {
            assert!(!built_in.objects().is_empty(), "{}", built_in.name);
            let loaded = built_in.load(None).map_err(|failure| failure.tell());
            assert!(loaded.is_ok(), "{}", built_in.name);
        }
        assert!(rantai_broker::Config::from_toml(BROKER.text, Path::new("broker")).is_ok());
    }

    #[test]
    fn advice_names_the_configurations_with_the_object() {
        for (object, expected) in [
            ("lending", Some("rantai up --config library")),
            ("sister", Some("rantai serve sister --config telemetry")),
            ("tasks", Some("configurations nodes, imaging and library")),
            ("calculator", Some("`rantai up`")),
            ("nobody", None),
        ] {
            let advice = advice(object);
            assert_eq!(advice.is_some(), expected.is_some(), "{object}");
            assert!(advice.unwrap_or_default().contains(expected.unwrap_or_default()), "{object}");
        }
    }
}
