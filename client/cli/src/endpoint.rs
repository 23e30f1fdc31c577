//! Broker and user of a command: flags take precedence over the environment, the environment over a context, and a context
//! over the defaults.

use std::cell::OnceCell;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rantai_client::session::{Address, TlsFiles};
use rantai_client::wire::name::Root;

use crate::connection::duration;
use crate::contexts::{Context, Contexts};
use crate::exit::{Exit, Failure};
use crate::private_file::is_open_to_others;
use crate::terminal::note;
use crate::tls::{TlsArguments, warn_of_open_key};

const DEFAULT_BROKER: &str = "mqtt://localhost:1883";
/// Maximum number of bytes read of a password file.
const MAX_PASSWORD_FILE: u64 = 64 << 10;

/// Where the broker is, for every command that needs one.
#[derive(clap::Args, Clone)]
pub(crate) struct Broker {
    #[arg(
        id = "broker",
        long = "broker",
        help = "The broker: mqtt://host, mqtts://host (TLS), wss://host/path or unix:/socket, or several separated by \
                commas, which are tried in order [default: mqtt://localhost:1883]",
        global = true,
        value_name = "URL",
        env = "RANTAI_BROKER",
        hide_env_values = true
    )]
    url: Option<String>,
    /// The first levels of every topic [default: rantai]
    #[arg(long, global = true, value_name = "ROOT", env = "RANTAI_ROOT", hide_env_values = true)]
    root: Option<String>,
    /// The user to log in as
    #[arg(long, global = true, value_name = "NAME", env = "RANTAI_USER", hide_env_values = true)]
    user: Option<String>,
    /// A file whose first line is the user's password
    #[arg(long, global = true, value_name = "FILE", env = "RANTAI_PASSWORD_FILE", hide_env_values = true)]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArguments,
    /// Broker, user and password of this context (`rantai context`)
    #[arg(long, global = true, value_name = "NAME", env = "RANTAI_CONTEXT", hide_env_values = true)]
    context: Option<String>,
    #[arg(skip)]
    endpoint: OnceCell<Endpoint>,
}

/// Address of a broker, and the settings that belong to it.
#[derive(Clone)]
struct Endpoint {
    address: Address,
    root: Root,
    timeout: Option<Duration>,
}

impl Broker {
    /// Returns the broker's address, with user name and password.
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        Ok(self.endpoint()?.address.clone())
    }

    pub(crate) fn root(&self) -> Result<Root, Failure> {
        Ok(self.endpoint()?.root.clone())
    }

    /// Returns the time limit that the context sets for commands.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.endpoint().ok()?.timeout
    }

    /// Returns the files for TLS of flags and environment; those of a context are for its own broker only.
    #[cfg(feature = "gateway")]
    pub(crate) fn tls_files(&self) -> Result<TlsFiles, Failure> {
        self.tls.or(TlsFiles::default())
    }

    /// Replaces the broker that flags, environment or context name.
    pub(crate) fn name(&mut self, url: String) {
        self.url = Some(url);
        self.endpoint = OnceCell::new();
    }

    /// Returns the address without user name and password, for messages.
    pub(crate) fn shown(&self) -> String {
        self.endpoint().map_or_else(|_| "the broker".to_owned(), |endpoint| endpoint.address.to_string())
    }

    /// Adds the settings of a node's configuration that neither flags nor the environment set: broker, root, user with
    /// password file, and files for TLS. If the configuration names a broker, its user and TLS files are used for that
    /// broker only.
    pub(crate) fn complete(&mut self, config: &rantai_site::config::Config) {
        if self.root.is_none() {
            self.root.clone_from(&config.root);
        }
        if self.url.is_none() && self.context.is_none() {
            self.url = config.broker.as_ref().map(ToString::to_string);
        }
        self.endpoint = OnceCell::new();
        let is_meant = config.broker.as_ref().is_none_or(|broker| {
            let url = self.url.as_ref().and_then(|url| url.parse::<Address>().ok());
            url.is_some_and(|url| url.is_within(broker))
        });
        if !is_meant {
            return;
        }
        // With a certificate on the command line, the user is the certificate's, not the configuration's.
        let is_certificate = self.tls.cert.is_some();
        if self.user.is_none() && self.password_file.is_none() && !self.url_has_user() && !is_certificate {
            self.user.clone_from(&config.user);
            self.password_file.clone_from(&config.password_file);
        }
        let TlsFiles { ca, certificate, key } = &config.tls;
        self.tls.ca = self.tls.ca.take().or_else(|| ca.clone());
        if self.tls.cert.is_none() && self.tls.key.is_none() {
            (self.tls.cert, self.tls.key) = (certificate.clone(), key.clone());
        }
    }

    /// Passes the broker to a child process through its environment: an address may contain a password, which would be visible
    /// in the list of processes if it were an argument.
    pub(crate) fn hand_over(&self, command: &mut tokio::process::Command) {
        let path = |path: &Option<PathBuf>| path.clone().map(PathBuf::into_os_string);
        for (name, value) in [
            ("RANTAI_BROKER", self.url.clone().map(Into::into)),
            ("RANTAI_ROOT", self.root.clone().map(Into::into)),
            ("RANTAI_USER", self.user.clone().map(Into::into)),
            ("RANTAI_PASSWORD_FILE", path(&self.password_file)),
            ("RANTAI_CA", path(&self.tls.ca)),
            ("RANTAI_CERT", path(&self.tls.cert)),
            ("RANTAI_KEY", path(&self.tls.key)),
            ("RANTAI_CONTEXT", self.context.clone().map(Into::into)),
        ] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    fn url_has_user(&self) -> bool {
        let address = self.url.as_ref().and_then(|url| url.parse::<Address>().ok());
        address.is_some_and(|address| address.user().is_some())
    }

    fn endpoint(&self) -> Result<&Endpoint, Failure> {
        if self.endpoint.get().is_none() {
            let endpoint = self.resolve()?;
            return Ok(self.endpoint.get_or_init(|| endpoint));
        }
        Ok(self.endpoint.get().expect("just looked at"))
    }

    fn resolve(&self) -> Result<Endpoint, Failure> {
        let context = self.chosen_context()?;
        let known = context.as_ref();
        let url = self.url.as_deref().or(known.map(|context| &*context.broker)).unwrap_or(DEFAULT_BROKER);
        let mut address = parse_address(url)?;
        if address.has_password() && is_argument(url) {
            warn_of_password_in_url();
        }
        // The password of a context is sent to the broker of that context only.
        let kept = known.filter(|context| is_within(&address, &context.broker));
        if let Some((user, password)) = self.login(&address, kept)? {
            address = address.with_credentials(user, password);
        }
        if let Some(place) = address.open_password() {
            warn_of_open_password(&place);
        }
        let files = self.tls.or(kept.map(Context::tls).unwrap_or_default())?;
        if address.uses_tls() {
            warn_of_open_key(&files);
        }
        let address = address.with_tls(files);
        let root = self.root.as_deref().or(known.and_then(|context| context.root.as_deref()));
        let root = root.map_or_else(|| Ok(Root::default()), Root::new);
        let timeout = known.and_then(|context| context.timeout.as_deref()).map(duration).transpose();
        Ok(Endpoint {
            address,
            root: root.map_err(|error| Failure::from_error(Exit::Usage, &error))?,
            timeout: timeout
                .map_err(|error| Failure::new(Exit::Usage, format!("timeout of the context: {error}")))?,
        })
    }

    /// Returns the context that is named, or else the current one, unless another broker is given.
    fn chosen_context(&self) -> Result<Option<Context>, Failure> {
        if let Some(name) = &self.context {
            return Contexts::of_user()?.read(name).map(Some);
        }
        // Without a home directory there are no contexts.
        let Ok(contexts) = Contexts::of_user() else { return Ok(None) };
        let Some(name) = contexts.current()? else { return Ok(None) };
        let other = |context: &Context| match &self.url {
            Some(url) => parse_address(url).map(|address| !is_within(&address, &context.broker)),
            None => Ok(false),
        };
        match contexts.read(&name) {
            Ok(context) if other(&context)? => Ok(None),
            Ok(context) => Ok(Some(context)),
            Err(_) if self.url.is_some() => Ok(None),
            Err(failure) => Err(failure.and_then_say("; `rantai context use --none` uses none")),
        }
    }

    /// Returns the user name and password if they come from elsewhere than the address.
    fn login(
        &self,
        address: &Address,
        context: Option<&Context>,
    ) -> Result<Option<(String, String)>, Failure> {
        let usage = |text: &str| Err(Failure::new(Exit::Usage, text));
        let file = self.password_file.as_deref();
        if let Some(user) = address.user() {
            if address.other_user(self.user.as_deref().unwrap_or(user)).is_some() {
                return usage(
                    "the broker's URL names another user than --user or RANTAI_USER; leave one of them out",
                );
            }
            return file.map(|file| Ok((user.to_owned(), read_password(file)?))).transpose();
        }
        // A certificate given here determines the user, so that another user's password is not sent.
        let context = context.filter(|_| !(self.tls.cert.is_some() && address.uses_tls()));
        let Some(user) = self.user.as_ref().or_else(|| context?.user.as_ref()) else {
            return match file {
                Some(_) => usage("a password without a user: name the user with --user or RANTAI_USER"),
                None => Ok(None),
            };
        };
        // The password of a context belongs to the context's user only.
        let of_user = context.filter(|context| context.user.as_ref() == Some(user));
        let password = match (file, of_user) {
            (Some(file), _) => read_password(file)?,
            (None, Some(context)) => context.read_password()?,
            (None, None) => String::new(),
        };
        Ok(Some((user.clone(), password)))
    }
}

/// Omits user name and password.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("broker", &self.shown()).finish_non_exhaustive()
    }
}

impl Context {
    fn read_password(&self) -> Result<String, Failure> {
        match (&self.password, &self.password_file) {
            (Some(password), _) => Ok(password.clone()),
            (None, Some(file)) => read_password(file),
            (None, None) => Ok(String::new()),
        }
    }
}

pub(crate) fn parse_address(url: &str) -> Result<Address, Failure> {
    url.parse().map_err(|error| Failure::from_error(Exit::Usage, &error))
}

/// Checks whether all hosts of an address are among those of `url`.
fn is_within(address: &Address, url: &str) -> bool {
    url.parse::<Address>().is_ok_and(|known| address.is_within(&known))
}

/// Reads a password from the first line of a file; warns if others may read the file.
pub(crate) fn read_password(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let failed = |error: &std::io::Error| {
        Failure::new(Exit::Usage, format!("cannot read the password file {shown}: {error}"))
    };
    let opened = std::fs::File::open(file).map_err(|error| failed(&error))?;
    if opened.metadata().is_ok_and(|about| about.is_file() && is_open_to_others(&about)) {
        note(&format!("warning: others may read {shown}; `chmod 600 {shown}` keeps the password to you"));
    }
    let mut text = String::new();
    opened.take(MAX_PASSWORD_FILE).read_to_string(&mut text).map_err(|error| failed(&error))?;
    match text.lines().next() {
        None | Some("") => {
            Err(Failure::new(Exit::Usage, format!("no password in {shown}: its first line is empty")))
        }
        Some(password) => Ok(password.to_owned()),
    }
}

/// Checks whether a text is an argument of this process, which every user of the machine can read.
pub(crate) fn is_argument(text: &str) -> bool {
    std::env::args_os().any(|argument| argument.to_string_lossy().ends_with(text))
}

/// Warns that the password is sent unencrypted; at most once.
fn warn_of_open_password(place: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        note(&format!(
            "warning: the password goes to {place} in the clear, where others on the network may read it; \
             mqtts:// or wss:// encrypts it"
        ));
    });
}

pub(crate) fn warn_of_password_in_url() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        note(
            "warning: everybody on this machine can read the password in the broker's URL; use --user and \
             --password-file, or a context (`rantai context add`)",
        );
    });
}
