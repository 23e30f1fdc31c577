//! `rantai library`: clients of the e-library.

use std::path::PathBuf;

use rantai_client::files::Files;
use rantai_systems::clock::ClockProxy;
use rantai_systems::lending::LendingProxy;
use rantai_systems::welcome::WelcomeProxy;
use serde_json::{Value, json};

use super::files::failed;
use crate::connection::{Connection, log, print_json, run};
use crate::exit::{EXIT_CODES, Failure};
use crate::progress::Bar;
use crate::prompt::ask;
use crate::terminal::print_text;

/// File name of a borrowed book, unless the user gives one.
const RECEIVED: &str = "received.txt";

const EXAMPLES: &str = "\
Examples:
  rantai up --config library               serves what these call
  rantai library buy Dune                  what the shop says
  rantai library buy                       asks for the title
  rantai library read                      through the four books
  rantai library borrow 'Programming GO'   writes received.txt
  rantai library borrow 'Programming GO' -o go.txt   by another name
  rantai library checkout                  the time of the checkout
";

/// Buy, read, check out and borrow books.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Library {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Buy a book
    Buy {
        /// Its title; asked for when it is left out
        #[arg(value_name = "TITLE")]
        title: Option<String>,
        /// The shop
        #[arg(long, value_name = "OBJECT", default_value = "server")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Read the books, one after the other
    Read {
        /// The book to stop at
        #[arg(value_name = "STOP", default_value = "hello")]
        stop: String,
        /// The first book
        #[arg(long, value_name = "OBJECT", default_value = "example.chainTopology.1")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Borrow a book: it is fetched whole, and then the library says so
    Borrow {
        /// Its title
        #[arg(value_name = "TITLE")]
        title: String,
        /// The file to write, or the folder to write received.txt into
        #[arg(short, long, value_name = "TO", default_value = RECEIVED)]
        output: PathBuf,
        /// Replace a file that is there already
        #[arg(short, long)]
        force: bool,
        /// The counter
        #[arg(long, value_name = "OBJECT", default_value = "lending")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Check a book out
    Checkout {
        /// The clock
        #[arg(long, value_name = "OBJECT", default_value = "clock")]
        object: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Library {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        match self.action {
            Action::Buy { title, object, connection } => {
                let title = match title {
                    Some(title) => title,
                    None => ask("Mau beli buku dengan judul apa? ", "TITLE")?,
                };
                run(buy(title, object, connection))
            }
            Action::Read { stop, object, connection } => run(read(stop, object, connection)),
            Action::Borrow { title, output, force, object, connection } => {
                run(borrow(title, output, force, object, connection))
            }
            Action::Checkout { object, connection } => run(checkout(object, connection)),
        }
    }
}

fn show(connection: &Connection, text: &str, value: &Value) {
    if connection.json { print_json(value) } else { print_text(text) }
}

async fn buy(title: String, object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let shop = WelcomeProxy::from(client.object(&object).deadline(connection.timeout()));
    let text = shop.welcome_message(title).await.map_err(|error| connection.failed(&error))?;
    client.close().await;
    show(&connection, &text, &json!(text));
    Ok(())
}

async fn read(stop: String, object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let book = client.object(&object).deadline(connection.timeout());
    let status: Value =
        book.call("status", (json!([stop]),)).await.map_err(|error| connection.failed(&error))?;
    client.close().await;
    show(&connection, &format!("Status = {status}"), &status);
    Ok(())
}

async fn borrow(
    title: String,
    output: PathBuf,
    force: bool,
    object: String,
    connection: Connection,
) -> Result<(), Failure> {
    let client = connection.client().await?;
    let counter = LendingProxy::from(client.object(&object).deadline(connection.timeout()));
    let loan = counter.borrow(title).await.map_err(|error| connection.failed(&error))?;
    // The file name does not depend on what the library sends.
    let target = if output.is_dir() { output.join(RECEIVED) } else { output };
    let files = Files::new(&client, &loan.files).patience(connection.timeout()).replace(force);
    let mut bar = Bar::new(&loan.title, true);
    let fetched = files.get(&loan.path, &target, &mut |there, size| bar.show(there, size)).await;
    bar.end();
    let fetched = fetched.map_err(|error| failed(&connection, error))?;
    client.close().await;
    let told = json!({"loan": loan, "file": target, "size": fetched.size, "blake3": fetched.etag});
    show(&connection, &loan.finished, &told);
    Ok(())
}

async fn checkout(object: String, connection: Connection) -> Result<(), Failure> {
    let client = connection.client().await?;
    let clock = ClockProxy::from(client.object(&object).deadline(connection.timeout()));
    let receipt = clock.checkout().await.map_err(|error| connection.failed(&error))?;
    client.close().await;
    show(&connection, &receipt.text, &json!(receipt));
    Ok(())
}
