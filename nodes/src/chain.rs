//! The chain node: appends its item to the result and forwards the trip to the next link; a link that finds its own name in
//! the message ends the trip.

use std::sync::Arc;

use rantai_client::object::{
    Answer, Answering, Arguments, Call, Context, Description, Event, Forward, Method, Object, Parameter,
    no_such_method,
};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::request::Params;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kind::Output;
use crate::kind::{Building, Configured, Kind};

/// Maximum size of the message and the result of a trip together, in bytes of text.
const MAX_TRIP_BYTES: usize = 64 << 10;

/// Settings of one link of a chain. In the texts `{name}` and `{next}` are replaced by the two names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLink {
    /// Prefix of both names in the objects' names.
    #[serde(default)]
    pub prefix: String,
    /// Name of the link.
    pub name: String,
    /// Name of the next link.
    pub next: String,
    /// Whether several nodes may serve the link together.
    #[serde(default)]
    pub replica: bool,
    /// Methods of the link; all do the same. Default: `process`.
    #[serde(default = "process")]
    pub methods: Vec<String>,
    /// Maximum number of trail items with which a request is forwarded; `None` for the default of [`Limits`].
    ///
    /// [`Limits`]: crate::Limits
    pub trail: Option<usize>,
    /// Line that is printed once the link is served.
    #[serde(default)]
    pub started: Option<String>,
    /// Item that is appended to the result if the trip goes on.
    pub passing: String,
    /// Item that is appended to the result if the trip ends.
    pub closing: String,
    /// Lines that are printed if the trip goes on.
    #[serde(default)]
    pub passing_lines: Vec<String>,
    /// Lines that are printed if the trip ends.
    #[serde(default)]
    pub closing_lines: Vec<String>,
}

fn process() -> Vec<String> {
    vec!["process".to_owned()]
}

impl Kind for ChainLink {
    fn name(&self) -> String {
        format!("{}{}", self.prefix, self.name)
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let next = building.other(&format!("{}{}", self.prefix, self.next))?;
        let chain = Chain::new(self.clone(), next, building.output.clone());
        let mut configured = building.object(chain).replica(self.replica);
        let limits = &mut configured.options.limits;
        limits.trail = self.trail.unwrap_or(limits.trail);
        configured.started = self.started.as_ref().map(|text| text.replace("{name}", &self.name));
        Ok(configured)
    }
}

/// Object of one link of a chain.
pub struct Chain {
    link: ChainLink,
    /// Object that trips are forwarded to.
    next: ObjectName,
    output: Output,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({} -> {})", self.link.name, self.link.next)
    }
}

impl Chain {
    /// Creates a link that forwards trips to `next_object` and prints its lines to `output`.
    pub fn new(mut link: ChainLink, next_object: ObjectName, output: Output) -> Self {
        let ChainLink { name, next, passing, closing, passing_lines, closing_lines, .. } = &mut link;
        let lines = passing_lines.iter_mut().chain(closing_lines);
        for text in lines.chain([passing, closing]) {
            *text = text.replace("{name}", name).replace("{next}", next);
        }
        Self { link, next: next_object, output }
    }

    fn process(&self, params: Params, context: &Context) -> Result<Answer, Fault> {
        let (mut message, mut result) = read(params)?;
        let ChainLink { name, next, .. } = &self.link;
        let ends = message.iter().any(|item| item == name);
        let us = context.received.elapsed().as_micros() as u64;
        let hop = json!({"node": name, "us": us});
        let lines = if ends { &self.link.closing_lines } else { &self.link.passing_lines };
        for line in lines {
            (self.output)(line);
        }
        let mut event = hop.clone();
        event["next"] = if ends { Value::Null } else { json!(next) };
        event["hop"] = json!(context.trail.len() + 1);
        context.emitter.emit_for(context, "hop", &event)?;
        if ends {
            result.push(self.link.closing.clone());
            return Answer::value(&result);
        }
        message.push(name.clone());
        result.push(self.link.passing.clone());
        let method = MethodName::new("process").expect("an identifier");
        let params = vec![json!(message), json!(result)];
        Ok(Answer::Forward(Forward { to: self.next.clone(), method, params, hop }))
    }
}

impl Object for Chain {
    fn description(&self) -> Description {
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let method = |name: &String| Method {
            name: name.clone(),
            summary:
                "Ends the trip where the own name is an item of the message, and passes it on otherwise."
                    .to_owned(),
            params: vec![
                Parameter {
                    name: "message".to_owned(),
                    required: false,
                    schema: Some(json!({"oneOf": [{"type": "string"}, texts.clone()]})),
                },
                Parameter { name: "result".to_owned(), required: false, schema: Some(texts.clone()) },
            ],
            result: Some(texts.clone()),
            idempotent: true,
            read_only: false,
            once: false,
            secret: false,
            stream: false,
            time_limit_ms: None,
        };
        Description {
            summary: format!("A link of a chain: {} -> {}", self.link.name, self.link.next),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tags: vec!["chain".to_owned()],
            methods: self.link.methods.iter().map(method).collect(),
            events: vec![Event { name: "hop".to_owned(), schema: json!({"type": "object"}), state: false }],
            ..Description::default()
        }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            let Call { method, params, context } = call;
            if !self.link.methods.iter().any(|known| known == method.as_str()) {
                let known: Vec<&str> = self.link.methods.iter().map(|m| &**m).collect();
                return Err(no_such_method(method.as_str(), &known));
            }
            self.process(params, &context)
        })
    }
}

/// Reads the message and the result so far. A single string counts as a list of one item, a missing parameter as an empty
/// list.
fn read(params: Params) -> Result<(Vec<String>, Vec<String>), Fault> {
    let params = match params {
        Params::One { text, value } => match value {
            Value::String(text) => Params::Positional(vec![json!([text])]),
            Value::Array(_) | Value::Object(_) => Params::Positional(vec![value]),
            _ => Params::Positional(vec![json!([text])]),
        },
        other => other,
    };
    let mut arguments = Arguments::new(params, &["message", "result"])?;
    let message = match arguments.take_optional::<Value>()? {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(value) => serde_json::from_value(value)
            .map_err(|_| Fault::wrong_parameter("message", "a text or a list of texts"))?,
    };
    let result: Vec<String> = arguments.take_optional()?.unwrap_or_default();
    let size: usize = message.iter().chain(&result).map(String::len).sum();
    if size > MAX_TRIP_BYTES {
        let fault = Fault::new(Code::TOO_LARGE, format!("a message of more than {MAX_TRIP_BYTES} bytes"));
        return Err(fault.with("limit", MAX_TRIP_BYTES));
    }
    Ok((message, result))
}
