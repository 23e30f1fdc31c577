//! `rantai describe`: an object's methods, with the types of their parameters and results.

use serde_json::Value;

use crate::connection::{Connection, log, print, print_json, run};
use crate::exit::{EXIT_CODES, Failure};

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
    #[arg(value_name = "OBJECT")]
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
        let proxy = client.object(&self.object).deadline(self.connection.timeout);
        let document: Value =
            proxy.call("rpc.discover", ()).await.map_err(|error| self.connection.failed(&error))?;
        client.close().await;
        if self.connection.json {
            print_json(&document);
            return Ok(());
        }
        let info = &document["info"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        print(
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
            print(&format!("  {}({}) -> {result}", text(&method["name"]), params.join(", ")));
            let summary = text(&method["summary"]);
            if !summary.is_empty() {
                print(&format!("      {summary}"));
            }
        }
        for event in document["x-events"].as_array().into_iter().flatten() {
            let state = if event["state"] == Value::Bool(true) { "state" } else { "event" };
            print(&format!("  {state} {}: {}", text(&event["name"]), kind(&event["schema"])));
        }
        Ok(())
    }
}

/// A schema in a word.
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
