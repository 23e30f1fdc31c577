//! Calls of clients: to objects of the bus, and to the gateway's own objects.

use std::sync::Arc;

use rantai_client::object::Description;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json;
use rantai_client::{Content, Opened, Request};
use uuid::Uuid;

use crate::arguments::{Parameters, parameters};
use crate::exception::Raised;
use crate::frame::{CORRELATION, Flags, Frame};
use crate::gateway::{Counts, GatewayState, Origin};
use crate::serializer::{PyArguments, Serializer, batch};
use crate::value::PyValue;
use crate::{daemon, nameserver};

/// Result of a message of a client.
#[derive(Debug)]
pub(crate) enum Done {
    Value(PyValue),
    /// Results of a batch; the last one may be an exception.
    Batch(PyValue),
    /// Id of a stream.
    Stream(String),
}

/// What is called.
struct Target<'a> {
    object: &'a str,
    method: &'a str,
}

impl Target<'_> {
    /// Returns the place that tracebacks name.
    fn text(&self) -> String {
        format!("object {:?}, method {:?}", self.object, self.method)
    }
}

/// Error of a message, with the place that its traceback names.
pub(crate) type Failed = (Raised, String);

impl GatewayState {
    /// Carries out the call, or the calls, of a message.
    ///
    /// # Errors
    ///
    /// The exception that the client is to raise.
    pub(crate) async fn carry_out(
        &self,
        origin: &Origin,
        serializer: Serializer,
        frame: &Frame,
    ) -> Result<Done, Failed> {
        let here = |raised: Raised| (raised, "the Pyro gateway".to_owned());
        if frame.flags.has(Flags::KEEP_SERIALIZED) {
            let text = "a SerializedBlob cannot be sent on the bus; send the arguments themselves";
            return Err(here(Raised::pyro("SerializeError", text)));
        }
        let call = serializer.read_call(&frame.data).map_err(|error| here(error.into()))?;
        let oneway = frame.flags.has(Flags::ONEWAY);
        if !frame.flags.has(Flags::BATCH) {
            let target = Target { object: &call.object, method: &call.method };
            let done =
                self.call(origin, &target, (call.args, call.kwargs), oneway, true, frame.correlation).await;
            return done.map_err(|raised| (raised, target.text()));
        }
        let mut results = Vec::new();
        for (method, arguments) in batch(call.args).map_err(|error| here(error.into()))? {
            let target = Target { object: &call.object, method: &method };
            match self.call(origin, &target, arguments, oneway, false, frame.correlation).await {
                Ok(Done::Value(value) | Done::Batch(value)) => results.push(value),
                Ok(Done::Stream(id)) => self.streams.close(&id),
                Err(raised) => {
                    results.push(raised.wrapped(origin.version, &target.text()));
                    break;
                }
            }
        }
        Ok(Done::Batch(PyValue::List(results)))
    }

    async fn call(
        &self,
        origin: &Origin,
        target: &Target<'_>,
        arguments: PyArguments,
        oneway: bool,
        may_stream: bool,
        correlation: Option<[u8; CORRELATION]>,
    ) -> Result<Done, Raised> {
        Counts::one(&self.counts.calls);
        let done = match target.object {
            daemon::NAME => daemon::call(self, origin, target.method, arguments).await.map(Done::Value),
            nameserver::NAME => {
                nameserver::call(self, origin, target.method, arguments).await.map(Done::Value)
            }
            _ => self.call_bus(origin, target, arguments, oneway, may_stream, correlation).await,
        };
        if done.is_err() {
            Counts::one(&self.counts.failed);
        }
        done
    }

    async fn call_bus(
        &self,
        origin: &Origin,
        Target { object, method }: &Target<'_>,
        arguments: PyArguments,
        oneway: bool,
        may_stream: bool,
        correlation: Option<[u8; CORRELATION]>,
    ) -> Result<Done, Raised> {
        if matches!(*method, "__getattr__" | "__setattr__") {
            let text = format!("object {object:?} has no attributes; its methods are what can be used");
            return Err(Raised::builtin("AttributeError", text));
        }
        let place = self.calls.take(&origin.peer).ok_or_else(|| {
            self.refused.refused("the calls of the Pyro gateway", origin.peer);
            Raised::from(Fault::busy(500))
        })?;
        let description = self.catalog.of(object).await?;
        let known = description.methods.iter().filter(|known| is_method(&known.name));
        let Some(known) = known.clone().find(|known| known.name == *method) else {
            let names: Vec<&str> = known.map(|known| &*known.name).collect();
            return Err(rantai_client::object::no_such_method(method, &names).into());
        };
        let mut request = self.proxy(object).request(method);
        if let Some(correlation) = correlation {
            request = request.property("traceparent", &traceparent(correlation));
        }
        let request = match parameters(known, arguments)? {
            Parameters::None => request,
            Parameters::Json(params) => request.params(params),
            Parameters::Binary(bytes) => request.binary(bytes),
        };
        if oneway {
            request.oneway().await?;
            return Ok(Done::Value(PyValue::None));
        }
        let result = known.result.as_ref();
        if known.stream && may_stream {
            match request.open().await? {
                Opened::Items(items) => {
                    drop(place);
                    return self.streams.open(origin.connection, origin.peer, items).map(Done::Stream);
                }
                Opened::Whole(response) => return value(response.outcome, result).map(Done::Value),
            }
        }
        send(request, result).await
    }

    /// Returns the metadata of an object: what a proxy asks for when it connects.
    ///
    /// # Errors
    ///
    /// The object is not served, or does not describe itself.
    pub(crate) async fn metadata(&self, object: &str) -> Result<PyValue, Raised> {
        let names = |names: &[&str]| PyValue::List(names.iter().map(|name| PyValue::text(*name)).collect());
        let description: Arc<Description>;
        let methods: Vec<&str> = match object {
            daemon::NAME => daemon::METHODS.to_vec(),
            nameserver::NAME => nameserver::METHODS.to_vec(),
            _ => {
                description = self.catalog.of(object).await?;
                let methods = description.methods.iter().map(|method| &*method.name);
                methods.filter(|method| is_method(method)).collect()
            }
        };
        Ok(PyValue::dict([("methods", names(&methods)), ("oneway", names(&[])), ("attrs", names(&[]))]))
    }
}

async fn send(request: Request, result: Option<&serde_json::Value>) -> Result<Done, Raised> {
    let response = request.send().await?;
    value(response.outcome, result).map(Done::Value)
}

fn value(
    outcome: Result<Content, Box<Fault>>,
    schema: Option<&serde_json::Value>,
) -> Result<PyValue, Raised> {
    match outcome {
        Ok(Content::Value(value)) => Ok(PyValue::from_result(json::portable(value), schema)),
        Ok(Content::Binary(bytes)) => Ok(PyValue::Bytes(bytes.to_vec())),
        Err(fault) => Err(Raised::from(*fault)),
    }
}

/// Returns whether clients may call a method: neither a built-in one nor one that is private.
fn is_method(name: &str) -> bool {
    !name.contains('.') && !name.starts_with('_')
}

/// Returns a `traceparent` whose trace id is the correlation id.
fn traceparent(correlation: [u8; CORRELATION]) -> String {
    let span = Uuid::new_v4().as_u64_pair().0;
    format!("00-{:032x}-{span:016x}-00", u128::from_be_bytes(correlation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correlation_id_is_the_trace_id() {
        let text = traceparent(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes());
        assert!(text.starts_with("00-00112233445566778899aabbccddeeff-") && text.len() == 55, "{text}");
    }

    #[test]
    fn built_in_and_private_methods_are_not_called() {
        for (name, expected) in [("add", true), ("rpc.ping", false), ("_secret", false), ("__len__", false)] {
            assert_eq!(is_method(name), expected, "{name}");
        }
    }
}
