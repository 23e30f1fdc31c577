//! The trait of objects, with the types of descriptions and calls.
//!
//! [`interface`](crate::interface) generates the implementation for a trait; an object whose methods are known only
//! at run time implements [`Object`] itself.

mod answer;
mod arguments;
mod calls;
mod context;
mod description;
mod emitter;
mod streaming;
mod unasked;

use std::pin::Pin;
use std::sync::Arc;

pub use answer::{Answer, Binary, Forward};
pub use arguments::{Arguments, in_json_words};
pub use calls::{Calls, passed_on};
pub use context::{Canceller, Context, Progress};
pub use description::{Description, Event, Method, Parameter, Schemas};
pub use emitter::{Emitter, EventEmitter, StateEmitter};
/// Stream of the items of a result.
pub use futures_util::Stream;
pub use streaming::{Delivery, Parts};
pub use unasked::{Doing, Unasked};

use serde_json::{Map, Value};

use crate::shares::ShareReport;
use crate::wire::fault::Fault;
use crate::wire::name::MethodName;
use crate::wire::request::Params;

/// Future of a method. Dropping it cancels the method at its current await.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// Object that a node can serve.
pub trait Object: Send + Sync + 'static {
    /// Returns the description. Called once, when the object is served.
    fn description(&self) -> Description;

    /// Executes a method. Returns -32601 for an unknown name. Must not block the thread.
    fn call(self: Arc<Self>, call: Call) -> Answering;

    /// Called once at registration, with a handle for publishing events.
    fn attach(&self, emitter: Emitter) {
        let _ = emitter;
    }

    /// Reports the object's shared tables for `rpc.stats`; that of running calls is added by the node. Must not block.
    fn shares(&self) -> Vec<ShareReport> {
        Vec::new()
    }

    /// Returns members of `rpc.stats` that only this object has. Those that every object has take precedence. Must not block.
    fn stats(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Runs the object's background task while it holds its name. Called anew on every connection; the future is dropped when
    /// the name or the connection is lost or the node ends. Thus of two nodes that contest a name only one runs it; of
    /// replicas, each does.
    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        let _ = emitter;
        Box::pin(std::future::ready(()))
    }
}

/// Call of a method.
#[derive(Debug)]
pub struct Call {
    /// Method name.
    pub method: MethodName,
    /// Parameters.
    pub params: Params,
    /// Context of the call: caller, deadline, trace.
    pub context: Context,
}

/// Creates the error of an unknown method (-32601), with similar names of known methods.
pub fn no_such_method(method: &str, known: &[&str]) -> Fault {
    let similar: Vec<String> =
        crate::registry::similar(method, known.iter().copied()).into_iter().map(ToOwned::to_owned).collect();
    Fault::no_such_method(method, &similar)
}
