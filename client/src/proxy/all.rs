//! Calls to every instance of an object.

use std::collections::BTreeSet;
use std::fmt;

use tokio::time::{Instant, timeout_at};

use super::patience::Patience;
use super::response::{Response, response};
use super::unheard::cancellation;
use super::{CallError, Request};
use crate::pending::{Arrived, Collected, Ticket};
use crate::presence::Instances;
use crate::session::Unsent;
use crate::wire::name::ObjectName;
use crate::wire::topic::Target;

/// Responses of all instances of an object, in order of arrival.
///
/// They end when every node that serves the object has responded, as far as the registry shows, else at the deadline. Queues
/// 4,096 responses and 16 MiB at most. Dropping it before the end cancels the call.
pub struct Answers {
    request: Request,
    object: ObjectName,
    key: u128,
    deadline: Instant,
    _ticket: Ticket,
    arrived: Collected,
    instances: Instances,
    /// Nodes that have responded.
    nodes: BTreeSet<String>,
    patience: Patience,
    is_over: bool,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("object", &self.object).finish_non_exhaustive()
    }
}

impl Request {
    /// Sends the request to every instance and collects the responses ([`Answers`]). Dropping the future cancels the call, as with
    /// [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// The request was not delivered to any instance, or the connection was lost.
    pub async fn all(self) -> Result<Vec<Response>, CallError> {
        let mut answers = self.answers().await?;
        let mut responses = Vec::new();
        while let Some(answer) = answers.next().await {
            responses.push(answer?);
        }
        Ok(responses)
    }

    /// Sends the request to every instance and returns the responses as they arrive.
    ///
    /// # Errors
    ///
    /// The request was not sent.
    pub async fn answers(mut self) -> Result<Answers, CallError> {
        let key = self.key();
        self.proxy.settings.target = Target::All;
        let deadline = self.deadline();
        let (object, publish) = self.ready(key, deadline, false).await?;
        let client = &self.proxy.client;
        let (ticket, arrived) = client.pending().many(key, object.clone());
        client.outlet().send_now(publish, key)?;
        Ok(Answers {
            request: self,
            object,
            key,
            deadline,
            _ticket: ticket,
            arrived,
            instances: Instances::default(),
            nodes: BTreeSet::new(),
            patience: Patience::new(deadline),
            is_over: false,
        })
    }
}

impl Answers {
    /// Returns the next response, or `None` after the last. After an error there are no more. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Response, CallError>> {
        if self.is_over {
            return None;
        }
        let next = self.receive().await;
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }

    async fn receive(&mut self) -> Option<Result<Response, CallError>> {
        loop {
            let client = &self.request.proxy.client;
            let arrived = tokio::select! {
                biased;
                arrived = timeout_at(self.deadline, self.arrived.recv()) => arrived.ok()??,
                () = self.instances.have_answered(client, &self.object, &self.nodes) => return None,
            };
            let error = match arrived {
                Arrived::Reply(message) => {
                    let response = response(&message.payload, &message.properties);
                    self.nodes.extend(response.node.as_deref().map(ToOwned::to_owned));
                    return Some(Ok(response));
                }
                Arrived::Failed(Unsent::NobodyThere) => {
                    self.request.missing(&self.object, self.deadline).await
                }
                Arrived::Failed(error) => return Some(Err(error.into())),
            };
            let waited = match error.fault() {
                Some(fault) => self.patience.allows(&self.request, fault).await,
                None => false,
            };
            if !waited {
                return Some(Err(error));
            }
            match self.request.ready(self.key, self.deadline, false).await {
                Ok((_, publish)) => {
                    if let Err(error) = self.request.proxy.client.outlet().send_now(publish, self.key) {
                        return Some(Err(error.into()));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let Self { request, object, key, deadline, .. } = self;
        if !self.is_over
            && request.identity.is_none()
            && let Some(cancellation) = cancellation(&request.proxy, &Target::All, object, *key, *deadline)
        {
            let _ = request.proxy.client.outlet().send_now(cancellation, 0);
        }
    }
}
