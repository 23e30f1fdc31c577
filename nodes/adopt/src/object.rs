//! The object of an adopted device.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Environment;
use rantai_client::object::{
    Answer, Answering, Call, Calls, Context, Description, Doing, Emitter, Method, Object, no_such_method,
};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json;
use rantai_client::wire::name::ObjectName;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use crate::device::Device;
use crate::events::Events;
use crate::link::Link;
use crate::parameters::by_position;
use crate::table::{Asked, Table, TableLimits};

/// Maximum time by which a call ends before its caller's deadline, so that the caller hears of it.
const MARGIN: Duration = Duration::from_millis(200);

/// Limits of an adopted device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptLimits {
    /// Maximum number of calls that the device has at one time.
    pub in_flight: usize,
    /// Maximum size of all requests that wait or are with the device, in bytes; callers have shares of them.
    pub waiting_bytes: u64,
    /// Maximum size of one request to the device, in bytes of its parameters.
    pub request_bytes: usize,
    /// Maximum size of an answer or an event of the device, in bytes.
    pub answer_bytes: usize,
    /// Maximum number of events that are passed on per second.
    pub events_per_s: u64,
}

/// Object of a device that speaks MQTT 3.1.1 and JSON-RPC.
///
/// Each call becomes a request to the device, now or when the device says that it is awake. The session with the device begins
/// when the object is served, and ends with the object.
pub struct Adopted {
    device: Arc<Device>,
    link: Link,
    description: Description,
    calls: Calls,
    request_bytes: usize,
}

impl std::fmt::Debug for Adopted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Adopted({})", self.device.object)
    }
}

impl Adopted {
    /// Creates the object `object` of a device with this description; its node connects by the address of `calls`.
    pub fn new(object: ObjectName, description: Description, limits: AdoptLimits, calls: Calls) -> Self {
        let AdoptLimits { in_flight, waiting_bytes, request_bytes, answer_bytes, events_per_s } = limits;
        let limits = TableLimits { in_flight, bytes: waiting_bytes, answer: answer_bytes };
        let table = Table::new(object.clone(), limits, Environment::default().random());
        let events = Events::new(description.events.clone(), answer_bytes, events_per_s);
        let device = Device::new(object, table, events);
        Self { device, link: Link::default(), description, calls, request_bytes }
    }

    /// Converts a call to a request of the device.
    fn asked(&self, method: &Method, call: Call) -> Result<Asked, Fault> {
        let params = json::to_bytes(&by_position(method, call.params)?).expect("JSON values are JSON");
        if params.len() > self.request_bytes {
            return Err(Fault::too_large(self.request_bytes));
        }
        Ok(Asked {
            method: method.name.clone(),
            params: String::from_utf8(params.to_vec()).expect("JSON is UTF-8"),
            until: until(&call.context, method.time_limit_ms),
            is_repeatable: method.idempotent || method.read_only,
            caller: call.context.share_of,
        })
    }
}

impl Object for Adopted {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        Box::pin(async move {
            let Some(method) = self.description.method(call.method.as_str()) else {
                let names: Vec<&str> = self.description.methods.iter().map(|method| &*method.name).collect();
                return Err(no_such_method(call.method.as_str(), &names));
            };
            let asked = self.asked(method, call)?;
            let until = asked.until;
            let (ticket, said) = self.device.begin(asked)?;
            tokio::select! {
                biased;
                said = said => said.unwrap_or_else(|_| Err(Fault::busy(500))).map(Answer::Value),
                () = sleep_until(until) => Err(ticket.run_out()),
            }
        })
    }

    fn stats(&self) -> Map<String, Value> {
        [("device".to_owned(), self.device.report())].into_iter().collect()
    }

    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        Box::pin(async move {
            let _emitting = self.device.emit_by(emitter);
            self.link.keep(&self.device, &self.calls).await;
        })
    }
}

/// Returns when a call ends, a little before its caller's deadline and the method's own limit.
fn until(context: &Context, limit_ms: Option<u64>) -> Instant {
    let limit = limit_ms.map(|ms| context.received + Duration::from_millis(ms));
    let end = limit.map_or(context.deadline, |limit| limit.min(context.deadline));
    let time = end.saturating_duration_since(context.received);
    end - MARGIN.min(time / 10)
}
