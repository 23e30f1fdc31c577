//! `rantai call`: makes one call, and prints its result.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use rantai_client::session::QoS;
use rantai_client::wire::name::ClientId;
use rantai_client::{CallError, Content, Items, Opened, Proxy, Request, Response, hex};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::arguments;
use crate::completing;
use crate::connection::{Connection, log, print, print_json, run, shown};
use crate::exit::{EXIT_CODES, Exit, Failure, of_code};
use crate::signals::interrupted;
use crate::terminal::{print_bytes, print_text};

/// Time limit for closing the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  rantai call calculator.add 2 3              5
  rantai call calculator.add a=2 b=3          by name
  rantai call server.welcomeMessage Dune      a plain word is a text
  rantai call echo.echo '[1,2]'               an argument may be any JSON
  rantai call calculator.rpc.stats --json     built-in methods
  rantai call echo.echo hello --all           every instance that serves the name
";

/// Call a method of an object.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Call {
    /// The object and its method, as in calculator.add
    #[arg(value_name = "OBJECT.METHOD", add = completing::methods())]
    target: String,
    /// Parameters: JSON or plain words; name=value for all of them to give them by name
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// The instance on this node
    #[arg(long, value_name = "NODE", conflicts_with = "all")]
    at: Option<ClientId>,
    /// Every instance; ends when all that are registered have answered, or the time is over
    #[arg(long, conflicts_with = "oneway")]
    all: bool,
    /// Do not wait for an answer
    #[arg(long)]
    oneway: bool,
    /// Wait until somebody serves the object, within the time of --timeout
    #[arg(long)]
    wait: bool,
    /// One binary parameter, from this file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "arguments")]
    input: Option<PathBuf>,
    /// Delivery guarantee of the request
    #[arg(long, value_name = "0|1", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    #[command(flatten)]
    connection: Connection,
}

impl Call {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.call())
    }

    async fn call(self) -> Result<(), Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let (object, method) = arguments::target(&self.target).map_err(usage)?;
        let payload = arguments::payload(&self.arguments).map_err(usage)?;
        let binary = self.input.as_ref().map(read).transpose()?;
        let client = self.connection.client().await?;
        let patience = self.connection.timeout();
        let mut proxy = client.object(object).deadline(patience);
        if self.qos == 0 {
            proxy = proxy.qos(QoS::AtMostOnce);
        }
        if let Some(node) = &self.at {
            proxy = proxy.at(node.clone());
        }
        let request = |proxy: &Proxy| match binary {
            Some(bytes) => proxy.request(method).binary(bytes),
            None => proxy.request(method).payload(payload),
        };
        let answered = async {
            if self.wait {
                let until = Instant::now() + patience;
                proxy = proxy.patient();
                let there = proxy.wait_for(patience).await;
                there.map_err(|error| self.connection.failed(&error))?;
                proxy = proxy.deadline(until.saturating_duration_since(Instant::now()));
            }
            self.answered(object, request(&proxy)).await
        };
        let interrupted = interrupted().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let result = tokio::select! {
            result = answered => result,
            // Dropping the call cancels it at the node.
            () = interrupted => Err(Failure::new(Exit::Cancelled, "interrupted; the call is cancelled")),
        };
        // Sends what is queued, within a time limit, as the broker may not acknowledge anything any more.
        let _ = timeout(CLOSE_TIMEOUT, client.close()).await;
        result
    }

    /// Sends the request, and prints the replies.
    async fn answered(&self, object: &str, request: Request) -> Result<(), Failure> {
        let failed = |error: CallError| self.connection.failed(&error);
        if self.oneway {
            return request.oneway().await.map_err(failed);
        }
        if self.all {
            return self.show_all(object, request).await;
        }
        let response = match request.open().await.map_err(failed)? {
            Opened::Whole(response) => response,
            Opened::Items(items) => return self.show_items(items).await,
        };
        self.show(&response, false);
        match response.outcome {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.connection.failed(&CallError::Fault(fault))),
        }
    }

    /// Prints the replies of all instances, as they arrive.
    async fn show_all(&self, object: &str, request: Request) -> Result<(), Failure> {
        let failed = |error: CallError| self.connection.failed(&error);
        let mut answers = request.answers().await.map_err(failed)?;
        let (mut first_error, mut errors, mut results) = (None, 0, 0);
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(failed)?;
            self.show(&answer, true);
            match answer.outcome {
                Ok(_) => results += 1,
                Err(fault) => {
                    errors += 1;
                    first_error.get_or_insert(fault.code);
                }
            }
        }
        // One result is enough for success; without any, the first error determines the exit code.
        match first_error {
            _ if results > 0 => Ok(()),
            Some(code) => {
                let text = format!("{object}: no result from any of {errors} instances");
                Err(Failure::new(of_code(code), text).shown())
            }
            None => Err(Failure::new(Exit::NoAnswer, format!("{object}: nobody answered in time"))),
        }
    }

    /// Prints each item of a stream in a line, as it arrives.
    async fn show_items(&self, mut items: Items<Value>) -> Result<(), Failure> {
        while let Some(item) = items.next().await {
            match item {
                Ok(item) if self.connection.json => print_json(&item),
                Ok(item) => print(&shown(&item)),
                Err(error) => return Err(self.connection.failed(&error)),
            }
        }
        Ok(())
    }

    fn show(&self, response: &Response, with_node: bool) {
        let node = response.node.as_deref().unwrap_or("?");
        let json = self.connection.json;
        match &response.outcome {
            Ok(Content::Value(value)) if with_node && json => {
                print_json(&json!({"node": node, "result": value}));
            }
            Ok(Content::Value(value)) if with_node => print(&format!("{node}: {}", shown(value))),
            Ok(Content::Value(value)) if json => print_json(value),
            Ok(Content::Value(value)) => print_text(&shown(value)),
            Ok(Content::Binary(bytes)) if with_node && json => {
                print_json(&json!({"node": node, "hex": hex(bytes)}));
            }
            Ok(Content::Binary(bytes)) if with_node => {
                let text = str::from_utf8(bytes).map_or_else(|_| hex(bytes), ToOwned::to_owned);
                print(&format!("{node}: {text}"));
            }
            Ok(Content::Binary(bytes)) if json => print_json(&json!({"hex": hex(bytes)})),
            Ok(Content::Binary(bytes)) => print_bytes(bytes),
            Err(fault) if with_node && json => print_json(&json!({"node": node, "error": fault})),
            Err(fault) if with_node => print(&format!("{node}: {fault}")),
            Err(_) => {}
        }
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display())))
}
