//! The chain node: it adds its item and passes the trip on; the one that is met again ends it.

use std::sync::Arc;

use rantai_client::object::{
    Answer, Answering, Arguments, Call, Context, Description, Event, Forward, Method, Object, Parameter,
    no_such_method,
};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{MethodName, ObjectName};
use rantai_client::wire::request::Params;
use serde_json::{Value, json};

use crate::services::Output;

/// The largest message and result of a trip together, in bytes of text.
const LARGEST: usize = 64 << 10;

/// What a chain node is told. In the texts `{name}` and `{next}` stand for the two names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own name: the item of a message at which a trip ends here.
    pub name: String,
    /// The next one's.
    pub next: String,
    /// The object behind the next one's name.
    pub next_object: ObjectName,
    /// Methods it answers to; all do the same.
    pub methods: Vec<String>,
    /// Its item in the result of a trip that goes on.
    pub passing: String,
    /// Its item in the result of a trip that ends.
    pub closing: String,
    /// What it prints when a trip goes on.
    pub passing_lines: Vec<String>,
    /// What it prints when a trip ends.
    pub closing_lines: Vec<String>,
}

/// One link of a chain.
pub struct Chain {
    settings: Settings,
    output: Output,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({} -> {})", self.settings.name, self.settings.next)
    }
}

impl Chain {
    /// A link that prints its lines to `output`.
    pub fn new(mut settings: Settings, output: Output) -> Self {
        let Settings { name, next, passing, closing, passing_lines, closing_lines, .. } = &mut settings;
        let lines = passing_lines.iter_mut().chain(closing_lines);
        for text in lines.chain([passing, closing]) {
            *text = text.replace("{name}", name).replace("{next}", next);
        }
        Self { settings, output }
    }

    fn process(&self, params: Params, context: &Context) -> Result<Answer, Fault> {
        let (mut message, mut result) = read(params)?;
        let Settings { name, next, next_object, .. } = &self.settings;
        let ends = message.iter().any(|item| item == name);
        let us = context.received.elapsed().as_micros() as u64;
        let hop = json!({"node": name, "us": us});
        let lines = if ends { &self.settings.closing_lines } else { &self.settings.passing_lines };
        for line in lines {
            (self.output)(line);
        }
        let mut event = hop.clone();
        event["next"] = if ends { Value::Null } else { json!(next) };
        event["hop"] = json!(context.trail.len() + 1);
        context.emitter.emit_for(context, "hop", &event)?;
        if ends {
            result.push(self.settings.closing.clone());
            return Answer::value(&result);
        }
        message.push(name.clone());
        result.push(self.settings.passing.clone());
        let method = MethodName::new("process").expect("an identifier");
        let params = vec![json!(message), json!(result)];
        Ok(Answer::Forward(Forward { to: next_object.clone(), method, params, hop }))
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
            once: false,
            time_limit_ms: None,
        };
        Description {
            summary: format!("A link of a chain: {} -> {}", self.settings.name, self.settings.next),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tags: vec!["chain".to_owned()],
            methods: self.settings.methods.iter().map(method).collect(),
            events: vec![Event { name: "hop".to_owned(), schema: json!({"type": "object"}), state: false }],
            ..Description::default()
        }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            let Call { method, params, context } = call;
            if !self.settings.methods.iter().any(|known| known == method.as_str()) {
                let known: Vec<&str> = self.settings.methods.iter().map(|m| &**m).collect();
                return Err(no_such_method(method.as_str(), &known));
            }
            self.process(params, &context)
        })
    }
}

/// The message, and the result so far. A bare text is a list of one, nothing is an empty list.
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
    if size > LARGEST {
        let fault = Fault::new(Code::TOO_LARGE, format!("a message of more than {LARGEST} bytes"));
        return Err(fault.with("limit", LARGEST));
    }
    Ok((message, result))
}
