//! `rantai context`: named brokers, with user and password.

use std::path::{Path, PathBuf};

use rantai_client::wire::name::Root;
use serde_json::{Value, json};

use crate::connection::{duration, note, print};
use crate::contexts::{Context, Contexts};
use crate::endpoint::{is_argument, parse_address, read_password, warn_of_password_in_url};
use crate::exit::{Exit, Failure};
use crate::prompt::{ask_hidden, read_line};
use crate::table::Table;
use crate::terminal::{print_json, print_text};
use crate::tls::check_files;

const EXAMPLES: &str = "\
Examples:
  rantai context add school --broker mqtt://pi.local --user ada --password
                                              asks for the password and keeps it
  rantai context add lab --broker mqtt://lab --user ada --password-file ~/.lab
  rantai context add site --broker mqtts://pi.local,mqtts://spare.local --ca ca.pem
                                              TLS, and the second one where the first is away
  rantai context use school                   every command from now on
  rantai ls --context lab                     this one alone; also RANTAI_CONTEXT
  rantai context use --none                   none from now on

Flags win over the environment, that over the context. Contexts are files in rantai/contexts of the user's configuration \
folder ($XDG_CONFIG_HOME, else ~/.config); one that others may read is refused.";

/// Keep brokers by name, with user and password
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ContextCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Add(Add),
    /// Set the context of commands that name none
    Use {
        /// The context
        #[arg(value_name = "NAME", required_unless_present = "none")]
        name: Option<String>,
        /// Use none
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List them; * is the one in use
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one as TOML, without its password
    Show {
        /// The context; the one in use without it
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove one
    Rm {
        /// The context
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Add a context
#[derive(clap::Args)]
struct Add {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[arg(long, help = "The broker, as --broker of other commands takes it", value_name = "URL")]
    broker: String,
    /// The first levels of every topic
    #[arg(long, value_name = "ROOT")]
    root: Option<String>,
    /// The user to log in as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Ask for the user's password and keep it in the context
    #[arg(long, requires = "user")]
    password: bool,
    /// Read the password from the first line of stdin and keep it in the context
    #[arg(long, requires = "user", conflicts_with = "password")]
    stdin: bool,
    /// Keep the path of a file instead, whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with_all = ["password", "stdin"])]
    password_file: Option<PathBuf>,
    /// Trust the authorities whose certificates are in this file, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A certificate to show to the broker, with its chain
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The private key of --cert, if it is in another file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Time that commands have: 5, 5s or 500ms
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// Put it in the place of one with the same name
    #[arg(long)]
    replace: bool,
}

impl ContextCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let contexts = Contexts::of_user()?;
        match self.action {
            Action::Add(add) => add.run(&contexts),
            Action::Use { name, .. } => contexts.set_current(name.as_deref()),
            Action::Ls { json } => list(&contexts, json),
            Action::Show { name, json } => show(&contexts, name, json),
            Action::Rm { name } => contexts.remove(&name),
        }
    }
}

impl Add {
    fn run(self, contexts: &Contexts) -> Result<(), Failure> {
        let usage = |text: String| Failure::new(Exit::Usage, text);
        let address = parse_address(&self.broker)?;
        if address.has_password() && is_argument(&self.broker) {
            warn_of_password_in_url();
        }
        if let Some(root) = &self.root {
            Root::new(root).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        }
        if let Some(timeout) = &self.timeout {
            duration(timeout).map_err(usage)?;
        }
        let mut context = Context {
            broker: address.to_string(),
            root: self.root,
            user: address.user().map(ToOwned::to_owned),
            password: address.has_password().then(|| address.password().to_owned()),
            password_file: None,
            ca: self.ca.as_deref().map(absolute).transpose()?,
            cert: self.cert.as_deref().map(absolute).transpose()?,
            key: self.key.as_deref().map(absolute).transpose()?,
            timeout: self.timeout,
        };
        check_files(&context.tls())?;
        if let Some(user) = self.user {
            if context.user.as_ref().is_some_and(|other| *other != user) {
                return Err(usage(
                    "the broker's URL names another user than --user; leave one of them out".into(),
                ));
            }
            context.user = Some(user);
        }
        if let Some(file) = self.password_file {
            // Read now, so that an error is reported here and not by the first command.
            read_password(&file)?;
            context.password_file = Some(absolute(&file)?);
            context.password = None;
        } else if self.password {
            context.password = Some(ask_hidden("Password: ")?);
        } else if self.stdin {
            context.password = Some(read_line()?);
        }
        let texts = [&context.user, &context.password, &context.timeout];
        if texts.into_iter().flatten().any(|text| text.chars().any(char::is_control)) {
            return Err(usage("a user, password or time has no control characters".into()));
        }
        contexts.add(&self.name, &context, self.replace)?;
        note(&format!(
            "added the context {}; `rantai context use {}` makes it the one in use",
            self.name, self.name
        ));
        Ok(())
    }
}

/// Returns the absolute path, as contexts are used from any folder.
fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::new(Exit::Usage, format!("cannot find {}: {error}", file.display()));
    std::path::absolute(file).map_err(failed)
}

fn list(contexts: &Contexts, json: bool) -> Result<(), Failure> {
    let current = contexts.current()?;
    let mut all = Vec::new();
    for name in contexts.names()? {
        let context = contexts.read(&name)?;
        all.push((current.as_deref() == Some(&*name), name, context));
    }
    if json {
        let all = all.iter().map(|(current, name, context)| {
            let mut value = value(name, context);
            value["current"] = json!(current);
            value
        });
        print(&Value::Array(all.collect()).to_string());
        return Ok(());
    }
    let mut table = Table::new(["", "NAME", "BROKER", "ROOT", "USER"]);
    for (current, name, context) in &all {
        let mark = if *current { "*" } else { "" };
        let (root, user) = (context.root.as_deref(), context.user.as_deref());
        table.row([mark, name, &context.broker, root.unwrap_or("-"), user.unwrap_or("-")]);
    }
    table.print();
    Ok(())
}

fn show(contexts: &Contexts, name: Option<String>, json: bool) -> Result<(), Failure> {
    let none = || Failure::new(Exit::Usage, "no context is in use; name one, or see `rantai context ls`");
    let name = match name {
        Some(name) => name,
        None => contexts.current()?.ok_or_else(none)?,
    };
    let context = contexts.read(&name)?;
    if json {
        print_json(&value(&name, &context));
    } else {
        print_text(context.to_toml(false).trim_end());
    }
    Ok(())
}

/// Returns the context as JSON, without the password.
fn value(name: &str, context: &Context) -> Value {
    json!({
        "name": name,
        "broker": context.broker,
        "root": context.root,
        "user": context.user,
        "has_password": context.password.is_some(),
        "password_file": context.password_file,
        "ca": context.ca,
        "cert": context.cert,
        "key": context.key,
        "timeout": context.timeout,
    })
}
