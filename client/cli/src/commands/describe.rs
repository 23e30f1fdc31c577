//! `rantai describe`: prints an object's methods, with the types of their parameters and results.

use rantai_client::Client;
use rantai_client::wire::fault::Code;
use serde_json::Value;
use tokio::time::timeout;

use crate::completing;
use crate::connection::{Connection, log, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure};
use crate::table::print_wrapped;

const EXAMPLES: &str = "\
Examples:
  rantai describe calculator           its methods, one a line
  rantai describe calculator --json    the whole as an OpenRPC document
";

/// Show what an object can do.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Describe {
    /// The object
    #[arg(value_name = "OBJECT", add = completing::objects())]
    object: String,
    #[command(flatten)]
    connection: Connection,
}

impl Describe {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        run(self.describe())
    }

    async fn describe(self) -> Result<(), Failure> {
        let client = self.connection.client().await?;
        let proxy = client.object(&self.object).deadline(self.connection.timeout());
        let document = match proxy.call::<Value>("rpc.discover", ()).await {
            Ok(document) => document,
            Err(error) if error.code() == Some(Code::NO_SUCH_METHOD) => {
                return Err(self.undescribed(&client).await);
            }
            Err(error) => return Err(self.connection.failed(&error)),
        };
        client.close().await;
        if self.connection.json {
            print_json(&document);
            return Ok(());
        }
        let info = &document["info"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        print_wrapped(
            format!("{} {}  {}", text(&info["title"]), text(&info["version"]), text(&info["description"]))
                .trim_end(),
        );
        for method in document["methods"].as_array().into_iter().flatten() {
            let params = method["params"].as_array().into_iter().flatten().map(|param| {
                let optional = if param["required"] == Value::Bool(true) { "" } else { "?" };
                format!("{}{optional}: {}", text(&param["name"]), kind(&param["schema"]))
            });
            let params: Vec<String> = params.collect();
            let result = kind(&method["result"]["schema"]);
            print_wrapped(&format!("  {}({}) -> {result}", text(&method["name"]), params.join(", ")));
            let summary = text(&method["summary"]);
            if !summary.is_empty() {
                print_wrapped(&format!("      {summary}"));
            }
        }
        for event in document["x-events"].as_array().into_iter().flatten() {
            let state = if event["state"] == Value::Bool(true) { "state" } else { "event" };
            print_wrapped(&format!("  {state} {}: {}", text(&event["name"]), kind(&event["schema"])));
        }
        Ok(())
    }
}

impl Describe {
    /// Creates the error for an object without `rpc.discover`, with the methods of its registry entry.
    async fn undescribed(&self, client: &Client) -> Failure {
        let listed = timeout(self.connection.timeout(), client.registry().list()).await;
        let view = listed.ok().and_then(Result::ok);
        let entry = view.as_ref().and_then(|view| view.all().find(|(entry, _)| entry.object == self.object));
        let methods = entry.map(|(entry, _)| entry.methods.join(", ")).filter(|methods| !methods.is_empty());
        let methods = match methods {
            Some(methods) => format!("its entry in the registry has the methods {methods}"),
            None => "its entry in the registry has no methods either".to_owned(),
        };
        let text =
            format!("{} does not describe itself: it has no method rpc.discover; {methods}", self.object);
        Failure::new(Exit::NotFound, text)
    }
}

/// Formats a schema as a short type.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or(name).to_owned();
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" | ");
    }
    if schema["format"] == "binary" {
        return "bytes".to_owned();
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("[{}]", self::kind(&schema["items"])),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        _ => "any".to_owned(),
    }
}
