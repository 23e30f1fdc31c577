//! The `Object` trait: its description and its calls.
//!
//! [`interface`](crate::interface) writes the implementation for a trait; an object whose methods are known only
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
pub use emitter::Emitter;
/// Results of methods that come one after the other.
pub use futures_util::Stream;
pub use streaming::{Delivery, Parts};
pub use unasked::{Doing, Unasked};

use crate::shares::ShareReport;
use crate::wire::fault::Fault;
use crate::wire::name::MethodName;
use crate::wire::request::Params;

/// A call being carried out. Dropping it cancels the method where it waits.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// An object in the form in which a node serves it.
pub trait Object: Send + Sync + 'static {
    /// Returns the description. Called once, when the object is served.
    fn description(&self) -> Description;

    /// Carries out a method. A name that is none of its own is -32601. Must not block the thread.
    fn call(self: Arc<Self>, call: Call) -> Answering;

    /// The way by which it may say something unasked, once it is served.
    fn attach(&self, emitter: Emitter) {
        let _ = emitter;
    }

    /// Reports its shared tables, besides the waiting calls, for `rpc.stats`. Must not block.
    fn shares(&self) -> Vec<ShareReport> {
        Vec::new()
    }

    /// What it does of its own accord while it holds its name: begun anew on every connection, and dropped where
    /// the name or the connection is lost or the node ends. So of two nodes that contest a name only one does it;
    /// of replicas each does.
    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        let _ = emitter;
        Box::pin(std::future::ready(()))
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Method name.
    pub method: MethodName,
    /// Parameters.
    pub params: Params,
    /// And what stands around it.
    pub context: Context,
}

/// -32601, with the methods that might have been meant.
pub fn no_such_method(method: &str, known: &[&str]) -> Fault {
    let similar: Vec<String> =
        crate::registry::similar(method, known.iter().copied()).into_iter().map(ToOwned::to_owned).collect();
    Fault::no_such_method(method, &similar)
}
