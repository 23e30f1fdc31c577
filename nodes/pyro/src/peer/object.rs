//! Object on the bus whose methods a Pyro server carries out.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::try_unfold;
use rantai_client::object::{Answer, Answering, Call, Context, Description, Method, Object, no_such_method};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json;
use rantai_client::wire::name::MethodName;
use rantai_client::wire::request::Params;
use serde_json::{Value, json};

use super::connection::{DAEMON, Metadata, PeerError, PyroReply};
use super::server::{Held, PyroServer};
use crate::exception;
use crate::frame::CORRELATION;
use crate::serializer::PyArguments;
use crate::value::PyValue;

/// Object of a Pyro server.
pub(super) struct PyroObject {
    server: Arc<PyroServer>,
    name: String,
    methods: BTreeMap<String, Target>,
}

/// What a method of the object does at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Method {
        oneway: bool,
    },
    /// Reads an attribute.
    Get(String),
    /// Writes an attribute.
    Set(String),
}

impl PyroObject {
    /// Creates the object of a registration named `name`. Attributes become the methods `get_NAME` and `set_NAME`; names that are
    /// not valid on the bus are left out.
    pub(super) fn new(server: Arc<PyroServer>, name: String, metadata: &Metadata) -> Self {
        let mut methods = BTreeMap::new();
        for attribute in &metadata.attributes {
            methods.insert(format!("get_{attribute}"), Target::Get(attribute.clone()));
            methods.insert(format!("set_{attribute}"), Target::Set(attribute.clone()));
        }
        for method in &metadata.methods {
            methods.insert(method.clone(), Target::Method { oneway: metadata.oneway.contains(method) });
        }
        methods.retain(|name, _| {
            !name.starts_with(['_', '.']) && !name.contains('.') && MethodName::is_valid(name)
        });
        Self { server, name, methods }
    }

    async fn carry_out(&self, call: Call) -> Result<Answer, Fault> {
        let method = call.method.as_str();
        let Some(target) = self.methods.get(method) else {
            let known: Vec<&str> = self.methods.keys().map(String::as_str).collect();
            return Err(no_such_method(method, &known));
        };
        let given = arguments(call.params);
        let (method, arguments, oneway) = match target {
            Target::Method { oneway } => (method, given, *oneway),
            Target::Get(attribute) => ("__getattr__", (vec![PyValue::text(attribute)], Vec::new()), false),
            Target::Set(attribute) => {
                let (args, kwargs) = given;
                let values = args.into_iter().chain(kwargs.into_iter().map(|(_, value)| value));
                let [value] = <[_; 1]>::try_from(values.collect::<Vec<_>>()).map_err(|values| {
                    let text = format!("expected 1 parameter (value), got {}", values.len());
                    Fault::new(Code::WRONG_PARAMETERS, text)
                })?;
                ("__setattr__", (vec![PyValue::text(attribute), value], Vec::new()), false)
            }
        };
        let correlation = call.context.traceparent.as_deref().and_then(trace_id);
        let mut held = self.server.take().await?;
        let object = &self.server.uri.object;
        match held.connection.invoke(object, method, arguments, oneway, correlation).await {
            Ok(PyroReply::Value(value)) => {
                held.give_back();
                self.answer(&value)
            }
            Ok(PyroReply::Exception(exception)) => {
                held.give_back();
                Err(exception::fault(&exception))
            }
            Ok(PyroReply::Stream(id)) => self.stream(held, id, &call.context).await,
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn answer(&self, value: &PyValue) -> Result<Answer, Fault> {
        match value.as_bytes() {
            Some(bytes) => Ok(Answer::Binary(bytes.into())),
            None => self.json(value).map(Answer::Value),
        }
    }

    fn json(&self, value: &PyValue) -> Result<Value, Fault> {
        let value = value.to_json().map_err(|error| {
            Fault::new(
                Code::BROKEN_OBJECT,
                format!("a result of the Pyro server {}: {error}", self.server.uri),
            )
        })?;
        Ok(json::portable(value))
    }

    async fn stream(&self, held: Held, id: String, context: &Context) -> Result<Answer, Fault> {
        let items = try_unfold(held, |mut held| {
            let arguments = (vec![PyValue::text(&id)], Vec::new());
            async move {
                match held.connection.invoke(DAEMON, "get_next_stream_item", arguments, false, None).await {
                    Ok(PyroReply::Value(item)) => Ok(Some((self.json(&item)?, held))),
                    Ok(PyroReply::Exception(exception)) => {
                        held.give_back();
                        let fault = exception::fault(&exception);
                        if fault.data["kind"] == "StopIteration" { Ok(None) } else { Err(fault) }
                    }
                    Ok(PyroReply::Stream(_)) => Err(self.lost(&PeerError::Unexpected)),
                    Err(error) => Err(self.lost(&error)),
                }
            }
        });
        context.try_stream(items).await
    }

    /// Creates the error of a call whose connection was lost after it was sent.
    fn lost(&self, error: &PeerError) -> Fault {
        let uri = &self.server.uri;
        let text = format!("the connection to the Pyro server {uri} was lost during the call: {error}");
        Fault::failed("outcome_unknown", text).with_maybe_executed()
    }
}

impl Object for PyroObject {
    fn description(&self) -> Description {
        let method = |name: &String| Method {
            name: name.clone(),
            summary: "Carried out by the Pyro server, which does not describe its parameters.".to_owned(),
            result: Some(json!({})),
            ..Method::default()
        };
        Description {
            summary: format!("Pyro object {} at {}", self.name, self.server.uri),
            tags: vec!["pyro".to_owned()],
            methods: self.methods.keys().map(method).collect(),
            ..Description::default()
        }
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move { self.carry_out(call).await })
    }
}

fn arguments(params: Params) -> PyArguments {
    match params {
        Params::None => (Vec::new(), Vec::new()),
        Params::Positional(values) => (values.into_iter().map(PyValue::from_json).collect(), Vec::new()),
        Params::Named(values) => {
            let values = values.into_iter().map(|(name, value)| (name, PyValue::from_json(value)));
            (Vec::new(), values.collect())
        }
        Params::One { value, .. } => (vec![PyValue::from_json(value)], Vec::new()),
        Params::Binary(bytes) => (vec![PyValue::Bytes(bytes.to_vec())], Vec::new()),
    }
}

/// Returns the trace id of a `traceparent`, which has the size of a correlation id.
fn trace_id(traceparent: &str) -> Option<[u8; CORRELATION]> {
    let text = traceparent.split('-').nth(1)?;
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 2 * CORRELATION)?;
    Some(id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_id_is_the_correlation_id() {
        let id = trace_id("00-00112233445566778899aabbccddeeff-b7ad6b7169203331-01").expect("an id");
        assert_eq!((id[0], id[15]), (0x00, 0xff));
        for none in ["", "00", "00-0011-b7ad6b7169203331-01", "00-zz112233445566778899aabbccddeeff-b7-01"] {
            assert_eq!(trace_id(none), None, "{none}");
        }
    }

    #[test]
    fn parameters_are_arguments() {
        let one = Params::One { value: json!("x"), text: "x".to_owned() };
        assert_eq!(arguments(one), (vec![PyValue::text("x")], vec![]));
        let named = Params::Named(json!({"a": [1]}).as_object().expect("a map").clone());
        let expected = vec![("a".to_owned(), PyValue::List(vec![PyValue::Int(1)]))];
        assert_eq!(arguments(named), (vec![], expected));
        assert_eq!(arguments(Params::None), (vec![], vec![]));
    }
}
