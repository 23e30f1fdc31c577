//! Contexts: brokers with the credentials to log in to them, stored by name in the user's configuration folder.
//!
//! Each is a file `rantai/contexts/NAME.toml` in that folder; `rantai/context` contains the name of the current context,
//! which is used if none is named.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rantai_client::registry::similar;
use rantai_client::session::TlsFiles;
use rantai_group_commit::make_private_folder;
use serde::Deserialize;

use crate::exit::{Exit, Failure};
use crate::private_file::{check_private, write_private};

/// Maximum length of a context's name, in bytes.
const MAX_CONTEXT_NAME: usize = 64;

/// Broker, and the credentials to log in to it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Address of the broker, without user name and password.
    pub(crate) broker: String,
    pub(crate) root: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// File with the password, instead of the password itself.
    pub(crate) password_file: Option<PathBuf>,
    /// Certificates of the trusted authorities, instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Private key of `cert`, if it is in another file.
    pub(crate) key: Option<PathBuf>,
    /// Time limit of commands, in the form of `--timeout`.
    pub(crate) timeout: Option<String>,
}

/// Folder of contexts.
pub(crate) struct Contexts {
    folder: PathBuf,
}

impl Contexts {
    /// Opens the user's contexts: below `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn of_user() -> Result<Self, Failure> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let folder = base.ok_or_else(|| {
            Failure::new(Exit::Usage, "no folder for contexts: neither XDG_CONFIG_HOME nor HOME is set")
        })?;
        Ok(Self { folder: folder.join("rantai") })
    }

    fn folder(&self) -> PathBuf {
        self.folder.join("contexts")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.toml"))
    }

    fn current_file(&self) -> PathBuf {
        self.folder.join("context")
    }

    /// Returns the name of the current context, which is used if none is named.
    pub(crate) fn current(&self) -> Result<Option<String>, Failure> {
        let file = self.current_file();
        match fs::read_to_string(&file) {
            Ok(text) => check_name(text.trim()).map(|()| Some(text.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &file, &error)),
        }
    }

    /// Sets the current context; `None` removes the setting.
    pub(crate) fn set_current(&self, name: Option<&str>) -> Result<(), Failure> {
        let file = self.current_file();
        match name {
            Some(name) => {
                self.read(name)?;
                self.write(&file, &format!("{name}\n"))
            }
            None => match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &file, &error)),
                _ => Ok(()),
            },
        }
    }

    /// Returns the names of all contexts, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Failure> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &folder, &error)),
        };
        let names = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".toml").filter(|name| check_name(name).is_ok()).map(ToOwned::to_owned)
        });
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a context; fails if other users may read it.
    pub(crate) fn read(&self, name: &str) -> Result<Context, Failure> {
        check_name(name)?;
        let (folder, file) = (self.folder(), self.file(name));
        let unknown = || {
            let names = self.names().unwrap_or_default();
            let meant = match similar(name, names.iter().map(String::as_str))[..] {
                [] => "; `rantai context ls` lists those there are".to_owned(),
                ref meant => format!("; did you mean {}?", meant.join(" or ")),
            };
            Failure::new(Exit::Usage, format!("no context {name:?}{meant}"))
        };
        for path in [&folder, &file] {
            let about = path.metadata().map_err(|error| match error.kind() {
                ErrorKind::NotFound => unknown(),
                _ => failed("read", path, &error),
            })?;
            check_private(path, &about)?;
        }
        let text = fs::read_to_string(&file).map_err(|error| failed("read", &file, &error))?;
        parse(&text, &file)
    }

    /// Adds a context; replaces one of the same name only if `replace` is true.
    pub(crate) fn add(&self, name: &str, context: &Context, replace: bool) -> Result<(), Failure> {
        check_name(name)?;
        let file = self.file(name);
        if file.symlink_metadata().is_ok() && !replace {
            let text = format!("there is a context {name:?} already; --replace puts this one in its place");
            return Err(Failure::new(Exit::Usage, text));
        }
        self.write(&file, &context.to_toml(true))
    }

    /// Removes a context; if it was the current one, none is current.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        let file = self.file(name);
        fs::remove_file(&file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(Exit::Usage, format!("no context {name:?}")),
            _ => failed("remove", &file, &error),
        })?;
        if self.current()?.as_deref() == Some(name) { self.set_current(None) } else { Ok(()) }
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), Failure> {
        let folder = self.folder();
        make_private_folder(&folder).map_err(|error| failed("make", &folder, &error))?;
        let about = folder.metadata().map_err(|error| failed("read", &folder, &error))?;
        check_private(&folder, &about)?;
        write_private(file, text).map_err(|error| failed("write", file, &error))
    }
}

impl Context {
    /// Returns the context's files for TLS.
    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles { ca: self.ca.clone(), certificate: self.cert.clone(), key: self.key.clone() }
    }

    /// Formats the context's file; without the password for showing it.
    pub(crate) fn to_toml(&self, with_password: bool) -> String {
        let mut text = String::new();
        let password = self.password.as_deref();
        let shown = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let password_file = shown(&self.password_file);
        let (ca, cert, key) = (shown(&self.ca), shown(&self.cert), shown(&self.key));
        for (key, value) in [
            ("broker", Some(&*self.broker)),
            ("root", self.root.as_deref()),
            ("user", self.user.as_deref()),
            ("password", password.filter(|_| with_password)),
            ("password_file", password_file.as_deref()),
            ("ca", ca.as_deref()),
            ("cert", cert.as_deref()),
            ("key", key.as_deref()),
            ("timeout", self.timeout.as_deref()),
        ] {
            if let Some(value) = value {
                // Without control characters a JSON string is a TOML string.
                let _ = writeln!(text, "{key} = {}", serde_json::Value::from(value));
            }
        }
        if password.is_some() && !with_password {
            text.push_str("# and a password, which is not shown\n");
        }
        text
    }
}

/// Parses a context's file. Errors contain neither its lines nor its values, as one of them is a password.
fn parse(text: &str, file: &Path) -> Result<Context, Failure> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text[..text.floor_char_boundary(start)].matches('\n').count() + 1;
        let what = match error.message() {
            message if message.starts_with("unknown field") || message.starts_with("missing field") => {
                message
            }
            _ => "it is not of the form KEY = \"TEXT\"",
        };
        Failure::new(Exit::Usage, format!("{}:{line}: {what}", file.display()))
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_name = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= MAX_CONTEXT_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_name {
        return Ok(());
    }
    let text = format!(
        "{name:?} is no name of a context: letters, digits, '-', '_' and '.', at most {MAX_CONTEXT_NAME}, and a letter or \
         digit first"
    );
    Err(Failure::new(Exit::Usage, text))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_context_is_read_back_unchanged() {
        let context = Context {
            broker: "mqtt://pi.local:1883".to_owned(),
            user: Some("ada".to_owned()),
            password: Some("a\"b\\c # é".to_owned()),
            ..Context::default()
        };
        let read = parse(&context.to_toml(true), Path::new("x")).expect("read");
        assert_eq!((read.broker, read.user, read.password), (context.broker, context.user, context.password));
        assert_eq!((read.root, read.timeout, read.password_file), (None, None, None));
    }

    #[test]
    fn context_names_cannot_be_paths() {
        for name in ["pi", "pi.local", "a_b-1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "-a", "a b", "é", &"x".repeat(MAX_CONTEXT_NAME + 1)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn errors_show_no_password() {
        for text in
            ["broker = 'x'\npassword = 13579", "broker = 'x'\npassword = rahasia", "pasword = 'rahasia'"]
        {
            let error = parse(text, Path::new("x")).err().expect("wrong");
            let shown = format!("{error:?}");
            assert!(!shown.contains("rahasia") && !shown.contains("13579"), "{shown}");
        }
    }
}
