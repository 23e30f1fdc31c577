//! `nodes.toml`: configuration of the objects that are served, and of the site.

mod broker;
mod calls;
mod error;
mod kinds;

use std::collections::HashSet;
#[cfg(feature = "gateway")]
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rantai_client::session::{Address, TlsFiles};
use rantai_client::wire::name::{ClientId, ObjectName, Root};

pub use calls::CallLimits;
pub use error::ConfigError;
pub use rantai_nodes::kind::{Configured, beside};

use error::in_toml_words;
use kinds::Written;

use rantai_client::object::Calls;
use rantai_nodes::kind::Output;
use rantai_nodes::kind::{Building, Kind};
use rantai_tasks::TaskLedger;

/// Contents of a configuration file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Name of the node on the bus; `None` for one that begins with the host's name and has a random end.
    pub node: Option<String>,
    /// Root of all topics; `None` for `rantai`.
    pub root: Option<String>,
    /// Default address of the broker, for when no other is given.
    pub broker: Option<Address>,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// Default user that connections log in as.
    pub user: Option<String>,
    /// File whose first line is the user's password.
    pub password_file: Option<PathBuf>,
    /// Users who may see and change all tasks, and for whom statistics contain the names of callers.
    pub admins: Vec<String>,
    /// Settings of the objects.
    pub kinds: Vec<Arc<dyn Kind>>,
    /// Handle for the calls of the objects, which is bound to a broker later.
    pub calls: Calls,
    /// Settings of the ledger of tasks, if there is one.
    pub tasks: Option<TaskLedger>,
    /// Limits of calls to the objects and the ledger.
    pub call_limits: CallLimits,
    /// Settings of the REST gateway, if there is one.
    #[cfg(feature = "gateway")]
    pub rest: Option<rantai_gateway::settings::Rest>,
    /// Settings of the SOAP gateway, if there is one.
    #[cfg(feature = "gateway")]
    pub soap: Option<rantai_gateway::settings::Soap>,
    /// Settings of the Pyro gateway, if there is one.
    #[cfg(feature = "gateway")]
    pub pyro: Option<Box<rantai_pyro::settings::Pyro>>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is invalid.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let config = Self::from_toml(&text, &name)?;
                #[cfg(feature = "gateway")]
                config.warn_of_readable_keys(file);
                Ok(config)
            }
            Err(source) => Err(ConfigError::Read { file: name, source }),
        }
    }

    /// Warns about plain-text keys in a file that others can read.
    #[cfg(feature = "gateway")]
    fn warn_of_readable_keys(&self, file: &Path) {
        let rest = self.rest.iter().flat_map(rantai_gateway::settings::Rest::plain_keys);
        let soap = self.soap.iter().flat_map(rantai_gateway::settings::Soap::plain_keys);
        let Some(user) = rest.chain(soap).next() else { return };
        if file.metadata().is_ok_and(|about| about.permissions().mode() & 0o044 != 0) {
            let shown = file.display();
            tracing::warn!(
                "others may read {shown}, and in it the key of {user:?}; write the record of a key that `rantai passwd \
                 --key` prints, or run `chmod 600 {shown}`"
            );
        }
    }

    /// Parses a configuration; `file` is its path, which is used in errors, and to resolve relative paths.
    ///
    /// # Errors
    ///
    /// The text is invalid; the error shows line, column and a caret.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { file: file.to_owned(), message };
        let parsed: Written =
            toml::from_str(text).map_err(|error| invalid(in_toml_words(&error).trim_end().to_owned()))?;
        let mut config = Self::read(parsed).map_err(invalid)?;
        config.tls = broker::tls(config.tls, file).map_err(invalid)?;
        config.password_file = config.password_file.map(|path| beside(file, &path));
        if config.password_file.is_some() && config.user.is_none() {
            return Err(invalid("password_file: whose password it is is not said; add `user`".to_owned()));
        }
        #[cfg(feature = "gateway")]
        {
            let beside = |path: &mut std::path::PathBuf| *path = beside(file, path);
            config.rest.iter_mut().flat_map(rantai_gateway::settings::Rest::files_mut).for_each(beside);
            config.soap.iter_mut().flat_map(rantai_gateway::settings::Soap::files_mut).for_each(beside);
            config.pyro.iter_mut().flat_map(|pyro| pyro.files_mut()).for_each(beside);
            let admins = config.admins.clone();
            config.rest.iter_mut().for_each(|rest| rest.admins.clone_from(&admins));
        }
        config.node().map_err(|error| invalid(format!("node: {error}")))?;
        config.root().map_err(|error| invalid(format!("root: {error}")))?;
        config.objects(file, &(Arc::new(|_: &str| {}) as Output))?;
        #[cfg(feature = "gateway")]
        {
            let checked = config.rest.as_ref().map_or(Ok(()), rantai_gateway::settings::Rest::check);
            checked.map_err(|error| invalid(format!("rest: {error}")))?;
            let checked = config.soap.as_ref().map_or(Ok(()), rantai_gateway::settings::Soap::check);
            checked.map_err(|error| invalid(format!("soap: {error}")))?;
            let checked = config.pyro.as_ref().map_or(Ok(()), |pyro| pyro.check());
            checked.map_err(|error| invalid(format!("pyro: {error}")))?;
        }
        Ok(config)
    }

    /// Returns the configured name of the node.
    ///
    /// # Errors
    ///
    /// The name is invalid.
    pub fn node(&self) -> Result<Option<ClientId>, rantai_client::wire::name::NameError> {
        self.node.as_deref().map(ClientId::new).transpose()
    }

    /// Returns the root of all topics.
    ///
    /// # Errors
    ///
    /// The root is invalid.
    pub fn root(&self) -> Result<Root, rantai_client::wire::name::NameError> {
        self.root.as_deref().map_or_else(|| Ok(Root::default()), Root::new)
    }

    /// Builds the objects, which print to `output`. Relative paths are relative to the folder of `file`.
    ///
    /// # Errors
    ///
    /// A name is invalid or used twice, or an object cannot be built from its settings.
    pub fn objects(&self, file: &str, output: &Output) -> Result<Vec<Configured>, ConfigError> {
        let mut names = HashSet::new();
        let object = |kind: &Arc<dyn Kind>| {
            let name = kind.name();
            let wrong =
                |reason: String| ConfigError::Object { file: file.to_owned(), name: name.clone(), reason };
            let known = ObjectName::new(&name).map_err(|error| wrong(error.to_string()))?;
            if !names.insert(known.clone()) {
                return Err(wrong("it stands there twice".to_owned()));
            }
            kind.build(&Building::new(known, output, &self.calls, file)).map_err(wrong)
        };
        self.kinds.iter().map(object).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::from_toml(text, "nodes.toml").expect_err(text).to_string()
    }

    #[test]
    fn the_files_that_come_with_it_are_in_order() {
        for (text, expected) in [
            (include_str!("../../../../config/nodes.toml"), 7),
            (include_str!("../../../../config/circular.toml"), 3),
            (include_str!("../../../../config/library.toml"), 9),
            #[cfg(feature = "gateway")]
            (include_str!("../../../../config/gateway.toml"), 1),
            #[cfg(feature = "gateway")]
            (include_str!("../../../../config/pyro.toml"), 1),
            (include_str!("../../../../config/telemetry.toml"), 1),
            (include_str!("../../../../config/upcall.toml"), 1),
            (include_str!("../../../../config/insult.toml"), 4),
            (include_str!("../../../../config/imaging.toml"), 1),
        ] {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/it.toml");
            let config = Config::from_toml(text, file).expect("in order");
            let objects = config.objects(file, &(Arc::new(|_: &str| {}) as Output)).expect("in order");
            assert_eq!(objects.len(), expected);
        }
    }

    /// Cause: with these at 0 a start succeeded, and every task was busy, every call too late.
    #[test]
    fn a_limit_that_lets_nothing_through_is_no_limit() {
        let tasks = ["at_once", "per_object", "tasks", "bytes", "per_caller"].map(|key| ("[tasks]", key));
        let calls = ["handshake_ms", "head_ms", "body_ms", "call_ms", "calls_per_object", "calls_per_caller"];
        let rest = "[rest]\nlisten = '127.0.0.1:0'\n[rest.limits]";
        let gateway = calls.iter().chain(&["connections", "streams_per_caller"]).map(|key| (rest, *key));
        let gateway = gateway.filter(|_| cfg!(feature = "gateway"));
        for (section, key) in tasks.into_iter().chain(gateway) {
            let error = refused(&format!("{section}\n{key} = 0\n"));
            assert!(error.contains(&format!("{key} = 0\n")) && error.contains("  ^\n"), "{error}");
        }
    }

    /// Cause: errors showed the line of the file as it was, and errors end up in logs.
    #[test]
    fn errors_show_no_password() {
        let users = "[rest]\nlisten = '127.0.0.1:0'\nusers = [";
        let of_users = [
            "{ name = 'a', password = 'rahasia' }",
            "{ nam = 'a', \"key\" = \"rahasia\" }",
            "{ password = rahasia",
        ];
        let of_users = of_users.map(|user| format!("{users}{user}]\n"));
        let own = ["password = 'rahasia'\n", "broker = ['mqtt://ani:rahasia@pi', 1]\n", "key = 'rahasia\n"];
        for text in own
            .map(ToOwned::to_owned)
            .into_iter()
            .chain(of_users.into_iter().filter(|_| cfg!(feature = "gateway")))
        {
            let error = refused(&text);
            assert!(!error.contains("rahasia") && error.contains('^'), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        let error = refused("[[echo]]\nname = \"echo\"\nreplicas = true\n");
        assert!(
            error.contains("line 3") && error.contains('^') && error.contains("unknown field"),
            "{error}"
        );
        let error = refused("[[echo]]\nname = \"x\"\n[[ecko]]\nname = \"y\"\n");
        assert!(error.contains("line 3") && error.contains('^') && error.contains("`echo`"), "{error}");
        let error = refused("[[chain]]\nname = 1\n");
        assert!(
            error.contains("line 2") && error.contains('^') && error.contains("expected a text"),
            "{error}"
        );
        let error = refused("[[echo]]\nname = \"a b\"\n");
        assert!(error.contains("\"a b\" is no object name"), "{error}");
        let error = refused("[[echo]]\nname = \"x\"\n[[calculator]]\nname = \"x\"\n");
        assert!(error.contains("twice"), "{error}");
        let store = "[[insult_service]]\nname = 's'\nstore = 'a b'\nregistered = ''\nknown = ''\n";
        let error = refused(store);
        assert!(error.contains("object \"s\"") && error.contains("\"a b\" is no object name"), "{error}");
        assert!(refused("node = \"a/b\"").contains("client id"));
        let sensor = "[[sensor]]\nname = \"s\"\nperiod_ms = 1000\nreadings = []\n";
        assert!(refused(sensor).contains("object \"s\": it has 1 to 64 readings"));
    }
}
