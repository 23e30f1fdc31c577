//! Streamed results on the caller's side.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::Request;
use super::patience::{Patience, undelivered};
use super::reader::{First, Reader, WINDOW};
use super::response::{Content, Response};
use crate::error::CallError;
use crate::wire::json::typed;
use crate::wire::name::ClientId;
use crate::wire::stream::STREAM_PROPERTY;

/// Items of a streamed result, in order.
///
/// Buffers about 256 KiB; reading slowly slows the method down. The stream has no overall deadline while items are read,
/// except [`until`](super::Proxy::until); not reading for the [`deadline`](super::Proxy::deadline) of the call ends it with
/// -32002. After a lost connection the missing items are retransmitted. Dropping it cancels the call.
pub struct Items<T> {
    state: ItemsState,
    part: std::vec::IntoIter<Value>,
    node: Option<ClientId>,
    of: PhantomData<fn() -> T>,
}

/// Result of [`Request::open`].
#[derive(Debug)]
pub enum Opened {
    /// A single result: the method does not stream, or its node does not support streams.
    Whole(Response),
    /// A stream.
    Items(Items<Value>),
}

enum ItemsState {
    Idle(Box<Reader>),
    Reading(PartFuture),
    Over,
}

/// Future of the next part; returns the reader with it.
type PartFuture = Pin<Box<dyn Future<Output = (Box<Reader>, Result<Vec<Value>, CallError>)> + Send>>;

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("waiting", &self.part.len()).finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    fn new(state: ItemsState, node: Option<ClientId>, items: Vec<Value>) -> Self {
        Self { state, part: items.into_iter(), node, of: PhantomData }
    }

    /// Returns the node that sends the items, if known.
    pub fn node(&self) -> Option<&ClientId> {
        self.node.as_ref()
    }

    /// Changes the item type.
    fn of_type<U>(self) -> Items<U> {
        Items { state: self.state, part: self.part, node: self.node, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Items<T> {
    /// Returns the next item, or `None` after the last. After an error there are no more items. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let items = self.get_mut();
        loop {
            if let Some(item) = items.part.next() {
                if let ItemsState::Idle(reader) = &mut items.state {
                    reader.keep();
                }
                let read = typed(item).map_err(|error| CallError::Result(error.to_string()));
                if read.is_err() {
                    items.part = Vec::new().into_iter();
                    items.state = ItemsState::Over;
                }
                return Poll::Ready(Some(read));
            }
            match &mut items.state {
                ItemsState::Over => return Poll::Ready(None),
                ItemsState::Reading(reading) => {
                    let (reader, read) = ready!(reading.as_mut().poll(context));
                    match read {
                        Ok(part) => {
                            items.part = part.into_iter();
                            items.state =
                                if reader.is_over { ItemsState::Over } else { ItemsState::Idle(reader) };
                        }
                        Err(error) => {
                            items.state = ItemsState::Over;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                ItemsState::Idle(_) => {
                    let ItemsState::Idle(mut reader) = std::mem::replace(&mut items.state, ItemsState::Over)
                    else {
                        unreachable!("looked at just before")
                    };
                    items.state = ItemsState::Reading(Box::pin(async move {
                        let part = reader.next_part().await;
                        (reader, part)
                    }));
                }
            }
        }
    }
}

impl Request {
    /// Sends the request and asks for a stream.
    ///
    /// # Errors
    ///
    /// No reply was received. Errors of the object are in the response.
    pub async fn open(mut self) -> Result<Opened, CallError> {
        self.user.push((STREAM_PROPERTY, WINDOW.to_string()));
        let key = self.key();
        let deadline = self.deadline();
        let mut patience = Patience::new(deadline);
        loop {
            let was_plain = !self.proxy.object.as_ref().is_ok_and(|object| self.is_json_rpc(object));
            let (request, error) = match self.open_once(key, deadline).await {
                Ok(opened) => return Ok(opened),
                Err((request, error)) => (*request, error),
            };
            let waited = match error.fault() {
                Some(fault) => {
                    was_plain && request.learns_form(fault) || patience.allows(&request, fault).await
                }
                None => false,
            };
            if !waited && !request.goes_again(&error) {
                return Err(error);
            }
            self = request;
        }
    }

    /// Sends the request and returns its result as a stream. A list result is returned as a stream of its elements.
    ///
    /// # Errors
    ///
    /// No reply was received, the object returned an error before the first item, or the result is not a list.
    pub async fn stream<T: DeserializeOwned>(self) -> Result<Items<T>, CallError> {
        match self.open().await? {
            Opened::Items(items) => Ok(items.of_type()),
            Opened::Whole(response) => {
                let node = response.node.as_deref().and_then(|node| ClientId::new(node).ok());
                match response.outcome.map_err(CallError::Fault)? {
                    Content::Value(Value::Array(items)) => Ok(Items::new(ItemsState::Over, node, items)),
                    _ => Err(CallError::Result("it is no list".to_owned())),
                }
            }
        }
    }

    async fn open_once(self, key: u128, deadline: Instant) -> Result<Opened, (Box<Self>, CallError)> {
        let (object, publish) = match self.ready(key, deadline, false).await {
            Ok(ready) => ready,
            Err(error) => return Err((Box::new(self), error)),
        };
        let client = &self.proxy.client;
        let (ticket, arrived) = client.pending().many(key, object.clone());
        let is_plain = publish.properties.correlation.is_some();
        if let Err(error) = client.outlet().send_now(publish, key) {
            return Err((Box::new(self), error.into()));
        }
        let mut reader = Box::new(Reader::new(self, object, (key, ticket, arrived), deadline));
        reader.is_plain = is_plain;
        match reader.first().await {
            Ok(First::Whole(response)) => match undelivered(&response, reader.target()).cloned() {
                Some(fault) => Err((Box::new(reader.request.clone()), fault.into())),
                None => Ok(Opened::Whole(response)),
            },
            Ok(First::Items(items)) => {
                let node = reader.node.clone();
                let state = if reader.is_over { ItemsState::Over } else { ItemsState::Idle(reader) };
                Ok(Opened::Items(Items::new(state, node, items)))
            }
            Err(error) => {
                reader.is_over = true;
                Err((Box::new(reader.request.clone()), error))
            }
        }
    }
}
