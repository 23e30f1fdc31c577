//! `rantai admin`: administration of a running broker, by its object `broker`.

mod acting;
mod lists;
mod reload;

use rantai_client::wire::fault::Code;
use rantai_client::wire::name::BROKER;
use rantai_client::{CallError, Client};

use crate::administration::BrokerAdministrationProxy;
use crate::connection::{Connection, log, run};
use crate::exit::{Exit, Failure};
use lists::ListOptions;

const EXAMPLES: &str = "\
Examples:
  rantai admin clients                           who is connected, from where, since when
  rantai admin client pi-3                       all about one client
  rantai admin disconnect pi-3                   end its connection; it may come back
  rantai admin drop-session pi-3                 end its session, with all that is queued for it
  rantai admin subscriptions site/attic/temp     who gets messages on this topic
  rantai admin retained 'site/#'                 retained messages, with their sizes
  rantai admin delete-retained site/attic/temp
  rantai admin log-level rantai_broker=debug,info
  rantai admin reload --broker mqtt://broker --user root --password-file ~/.root
  kill -HUP PID                                  the same, on the broker's machine: PID is that of its process

A broker without users is administered from its own machine alone.

Exit codes: 0 done, 1 the broker says no or a file is wrong, and nothing has changed, 2 wrong command line, 3 no broker, \
4 not an admin, 5 a broker without administration, 6 no answer in time, 7 not a filter.";

/// Administer a running broker: for users with the role admin.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Admin {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the connected clients
    Clients(ListOptions),
    /// Show a client, connected or away
    Client {
        /// Client id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End the connection of a client: its session stays, and it may connect again
    Disconnect {
        /// Client id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List the sessions, connected or not
    Sessions(ListOptions),
    /// End a session with its subscriptions and all that is queued for it, and its connection
    DropSession {
        /// Client id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List the subscriptions that get messages on a topic, or on some topics of a filter
    Subscriptions {
        /// Topic or filter
        #[arg(value_name = "FILTER", default_value = "#")]
        filter: String,
        #[command(flatten)]
        list: ListOptions,
    },
    /// List retained messages, without their payloads
    Retained {
        /// Topic or filter
        #[arg(value_name = "FILTER", default_value = "#")]
        filter: String,
        #[command(flatten)]
        list: ListOptions,
    },
    /// Delete the retained messages of topics, and print how many
    DeleteRetained {
        /// Topics, or filters
        #[arg(value_name = "TOPIC", required = true)]
        topics: Vec<String>,
        /// Allow filters that begin with a wildcard, and those that match the registry of a bus
        #[arg(long)]
        wide: bool,
    },
    /// Show the limits in effect, how far they are used, and whether a reload applies them
    Limits,
    /// Show the levels of the broker's log, or set them until its process ends
    LogLevel {
        /// Levels as for --log, such as `rantai_broker=debug,info`
        #[arg(value_name = "LEVELS")]
        levels: Option<String>,
    },
    /// Read users, roles, rules, certificates and limits again from the broker's files, and print what has changed
    Reload,
}

impl Admin {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.act())
    }

    async fn act(self) -> Result<(), Failure> {
        let Self { action, connection } = self;
        let client = connection.client().await?;
        let broker = Administered { connection: &connection, client: &client };
        let done = connection.within(async {
            match action {
                Action::Clients(list) => broker.clients(&list).await,
                Action::Client { id } => broker.client(id).await,
                Action::Disconnect { id } => broker.disconnect(id).await,
                Action::Sessions(list) => broker.sessions(&list).await,
                Action::DropSession { id } => broker.drop_session(id).await,
                Action::Subscriptions { filter, list } => broker.subscriptions(&filter, &list).await,
                Action::Retained { filter, list } => broker.retained(&filter, &list).await,
                Action::DeleteRetained { topics, wide } => broker.delete_retained(&topics, wide).await,
                Action::Limits => broker.limits().await,
                Action::LogLevel { levels } => broker.log_level(levels).await,
                Action::Reload => broker.reload().await,
            }
        });
        let done = done.await;
        client.close().await;
        done
    }
}

/// The broker that is administered.
struct Administered<'a> {
    connection: &'a Connection,
    client: &'a Client,
}

impl Administered<'_> {
    fn proxy(&self) -> BrokerAdministrationProxy {
        BrokerAdministrationProxy::from(self.client.object(BROKER).deadline(self.connection.timeout()))
    }

    /// Creates the failure of a call.
    fn failed(&self, error: &CallError) -> Failure {
        if is_absent(error) {
            let shown = self.connection.broker.shown();
            let text = format!(
                "no object {BROKER} on {shown}, by which it could be administered: `rantai broker` and `rantai up` serve it \
                 below each of their `bus_roots`"
            );
            return Failure::new(Exit::NotFound, text);
        }
        self.connection.failed(error)
    }
}

/// Checks whether nobody serves the object.
fn is_absent(error: &CallError) -> bool {
    error.fault().is_some_and(|fault| matches!(fault.code, Code::UNKNOWN_OBJECT | Code::LOST_OBJECT))
}
