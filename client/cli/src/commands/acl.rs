//! `rantai acl`: evaluates the access rules of a broker's configuration, without a broker.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use rantai_access::{Action, ExportFor, Outcome, Table, Who};
use rantai_broker::{is_own_topic, is_state_of_bridge};
use rantai_client::wire::topic::{is_filter, is_topic};
use serde_json::json;

use crate::configurations::broker_settings;
use crate::connection::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  rantai acl test ada write rantai/call/calculator/add --config broker.toml
  rantai acl test ada subscribe '$share/g/rantai/call/#' --client-id ada--1 --config broker.toml
  rantai acl test - read open/door --config broker.toml           a client that does not log in
  rantai acl export --for mosquitto --config broker.toml > acl.conf

Exit codes: 0 allowed, or written, 1 refused, 2 wrong command line or configuration.";

/// Try access rules, or write them for another broker.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Acl {
    #[command(subcommand)]
    action: AclAction,
}

#[derive(clap::Subcommand)]
enum AclAction {
    /// Say whether a user may do something, and which rule decides
    Test(Test),
    /// Write the rules for another broker; those that it cannot express are listed in the file and on stderr
    Export(Export),
}

#[derive(clap::Args)]
struct BrokerConfig {
    /// The broker's settings in TOML
    #[arg(long, value_name = "FILE", env = "RANTAI_CONFIG", hide_env_values = true)]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Test {
    /// The user; - for a client that does not log in
    #[arg(value_name = "USER")]
    user: String,
    #[arg(value_name = "ACTION")]
    access: Access,
    /// A topic, or the filter of a subscription
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The client id; without it the user's name
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: BrokerConfig,
}

#[derive(clap::Args)]
struct Export {
    /// The other broker
    #[arg(long = "for", value_name = "BROKER")]
    broker: ExportTarget,
    #[command(flatten)]
    config: BrokerConfig,
}

#[derive(Clone, Copy, ValueEnum)]
enum Access {
    /// Be sent a message on the topic
    Read,
    /// Publish on it
    Write,
    /// Subscribe to the filter
    Subscribe,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportTarget {
    Mosquitto,
    Rmqtt,
}

impl Acl {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            AclAction::Test(test) => test.run(),
            AclAction::Export(export) => export.run(),
        }
    }
}

impl BrokerConfig {
    /// Reads the users of the configuration, and its access rules.
    fn read(&self) -> Result<(Vec<String>, Arc<Table>), Failure> {
        let config = broker_settings(&self.config)?;
        let users = config.users.into_iter().map(|user| user.name).collect();
        config.access.map(|table| (users, table)).ok_or_else(|| {
            let file = self.config.display();
            Failure::new(
                Exit::Usage,
                format!("{file} has neither [[users]] nor acl_file: everybody may do everything"),
            )
        })
    }
}

impl Test {
    fn run(self) -> Result<(), Failure> {
        let (expected, fits) = match self.access {
            Access::Subscribe => ("filter", is_subscription(&self.topic)),
            Access::Read | Access::Write => ("topic", is_topic(&self.topic)),
        };
        if !fits {
            return Err(Failure::new(Exit::Usage, format!("{:?} is no {expected}", self.topic)));
        }
        let (users, table) = self.config.read()?;
        let user = (self.user != "-").then_some(&*self.user);
        if user.is_some_and(|user| !users.iter().any(|known| known == user)) {
            let text = format!(
                "no user {:?} in {}; - stands for a client that does not log in",
                self.user,
                self.config.config.display()
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        let client_id = self.client_id.as_deref().or(user).unwrap_or("anonymous");
        let who = Who { user, client_id };
        let action = match self.access {
            Access::Read => Action::Deliver(&self.topic),
            Access::Write => Action::Publish(&self.topic),
            Access::Subscribe => Action::Subscribe(&self.topic),
        };
        let (allowed, text) = if let Err(error) = table.check_client_id(&who) {
            (false, format!("refused: {error}"))
        } else if matches!(self.access, Access::Write) && is_own_topic(&self.topic) {
            (false, "refused: topics that begin with $ are the broker's own".to_owned())
        } else if matches!(self.access, Access::Write) && is_state_of_bridge(&self.topic, client_id) {
            (true, "allowed: whoever has the client id says there whether its bridge is connected".to_owned())
        } else {
            let outcome = table.decide(&who, action).outcome;
            (!matches!(outcome, Outcome::Refused(_)), table.explain(&who, action))
        };
        if self.json {
            print_json(&json!({"allowed": allowed, "why": text}));
        } else {
            print(&text);
        }
        if allowed { Ok(()) } else { Err(Failure::reported(Exit::Failed)) }
    }
}

/// Checks whether a text is a valid filter of a subscription, with or without a shared group.
fn is_subscription(text: &str) -> bool {
    let Some(shared) = text.strip_prefix("$share/") else { return is_filter(text) };
    let fits =
        |(group, filter): (&str, &str)| !group.is_empty() && !group.contains(['+', '#']) && is_filter(filter);
    shared.split_once('/').is_some_and(fits)
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let (_, table) = self.config.read()?;
        let export = table.export(match self.broker {
            ExportTarget::Mosquitto => ExportFor::Mosquitto,
            ExportTarget::Rmqtt => ExportFor::Rmqtt,
        });
        print(export.text.trim_end());
        for sentence in &export.left_out {
            note(&format!("left out: {sentence}"));
        }
        Ok(())
    }
}
