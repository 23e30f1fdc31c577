//! Objects with a background task.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Answering, Call, Description, Emitter, Object};
use crate::shares::ShareReport;

/// Background task of an object. Dropping it ends the task.
pub type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Object with a background task, which runs while the object is served.
///
/// An [`interface`](crate::interface) defines the methods of an object; this adds a task, such as one that publishes events.
pub struct Unasked<O> {
    object: Arc<O>,
    begin: Box<dyn Fn(Emitter) -> Doing + Send + Sync>,
}

impl<O: Object> Unasked<O> {
    /// Adds a task to an object; `begin` is called like [`Object::run`].
    pub fn new<F>(object: O, begin: impl Fn(Emitter) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { object: Arc::new(object), begin: Box::new(move |emitter| Box::pin(begin(emitter))) }
    }
}

impl<O> fmt::Debug for Unasked<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unasked").finish_non_exhaustive()
    }
}

impl<O: Object> Object for Unasked<O> {
    fn description(&self) -> Description {
        self.object.description()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        self.object.clone().call(call)
    }

    fn shares(&self) -> Vec<ShareReport> {
        self.object.shares()
    }

    fn stats(&self) -> Map<String, Value> {
        self.object.stats()
    }

    fn attach(&self, emitter: Emitter) {
        self.object.attach(emitter);
    }

    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        (self.begin)(emitter)
    }
}
