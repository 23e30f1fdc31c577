//! Objects that take requests in JSON-RPC form only, such as devices of MQTT 3.1.1.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Request, Response};
use crate::error::CallError;
use crate::registry::FORM;
use crate::session::Publish;
use crate::wire::entry::JSON_RPC_FORM;
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{MethodName, ObjectName};
use crate::wire::request::plain_values;
use crate::wire::topic::Target;

/// Maximum number of objects that are remembered; beyond it, all are forgotten and learned again.
const MAX_REMEMBERED_OBJECTS: usize = 4_096;

/// Objects that are known to take the JSON-RPC form only. A client learns them from requests in plain form that had no
/// receiver.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    /// Whether there are any, so that calls to other objects take no lock.
    any: AtomicBool,
    json_rpc: Mutex<HashSet<ObjectName>>,
}

impl Forms {
    /// Returns whether requests to an object go out in JSON-RPC form.
    pub(crate) fn is_json_rpc(&self, object: &ObjectName) -> bool {
        self.any.load(Ordering::Relaxed) && self.json_rpc.lock().contains(object)
    }

    fn learn(&self, object: &ObjectName) {
        let mut json_rpc = self.json_rpc.lock();
        if json_rpc.len() >= MAX_REMEMBERED_OBJECTS {
            json_rpc.clear();
        }
        json_rpc.insert(object.clone());
        self.any.store(true, Ordering::Relaxed);
    }

    /// Forgets an object, which has refused the form.
    pub(crate) fn forget(&self, object: &ObjectName) {
        self.json_rpc.lock().remove(object);
    }
}

impl Request {
    /// Returns whether the request goes out in JSON-RPC form.
    pub(super) fn is_json_rpc(&self, object: &ObjectName) -> bool {
        let may_be = !self.binary && self.proxy.settings.target == Target::Any;
        may_be && self.proxy.client.forms().is_json_rpc(object)
    }

    /// Returns whether to send the request, which went out in plain form, again in JSON-RPC form, because its object takes no other;
    /// so do all further requests to it.
    pub(super) fn learns_form(&self, fault: &Fault) -> bool {
        let Ok(object) = &self.proxy.object else { return false };
        let names_form = fault.code == Code::LOST_OBJECT
            && !fault.maybe_executed()
            && fault.data.get(FORM).is_some_and(|form| form == JSON_RPC_FORM);
        if names_form {
            self.proxy.client.forms().learn(object);
        }
        names_form && self.is_json_rpc(object)
    }
}

/// Converts a request to JSON-RPC form: its `id` takes the place of Correlation Data.
pub(super) fn to_json_rpc(publish: &mut Publish, key: u128, method: &MethodName, ttl_ms: u64) {
    let mut request = json!({
        "jsonrpc": "2.0", "method": method.as_str(), "params": plain_values(&publish.payload), "ttl_ms": ttl_ms,
    });
    if publish.properties.user("oneway").is_none() {
        request["id"] = Value::from(format!("{key:032x}"));
        request["reply_to"] = Value::from(publish.properties.response_topic.as_deref());
    }
    publish.properties.correlation = None;
    publish.payload = request.to_string().into();
}

/// Returns whether an object has refused the form of a request.
pub(super) fn is_refused(reply: &Result<Response, CallError>) -> bool {
    reply
        .as_ref()
        .is_ok_and(|response| response.outcome.as_ref().is_err_and(|fault| fault.code == Code::NOT_A_REQUEST))
}
