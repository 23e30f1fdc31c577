//! Repeats requests that reached nobody because a node is about to serve the object.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Request, Response, is_of_lost_node};
use crate::registry::{BROKER_NODE, STARTING};
use crate::wire::fault::{Code, Fault};
use crate::wire::topic::Target;

/// Maximum time for a node to finish starting: its claim of a name takes a second.
const STARTING_TIMEOUT: Duration = Duration::from_secs(3);
/// Minimum time between two requests.
const AGAIN: Duration = Duration::from_millis(50);

/// Decides whether a call waits for a node after its request reached nobody. State of one call.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    /// End of waiting for a node that is starting.
    starting: Option<Instant>,
}

impl Patience {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, starting: None }
    }

    /// Returns whether to send the request again after this fault, once a node serves the object: the call waits for one
    /// ([`Proxy::patient`](super::Proxy::patient)), or a node is starting or may still be reconnecting.
    pub(super) async fn allows(&mut self, request: &Request, fault: &Fault) -> bool {
        let settings = &request.proxy.settings;
        let may_repeat = reached_nobody(fault) || settings.idempotent && is_of_lost_node(fault);
        let Some(until) = may_repeat.then(|| self.until(request, fault)).flatten() else { return false };
        let (now, until) = (Instant::now(), until.min(self.deadline));
        if now >= until {
            return false;
        }
        sleep_until(until.min(now + AGAIN)).await;
        let node = match &settings.target {
            Target::Node(node) => Some(node),
            Target::Any | Target::All => None,
        };
        let Ok(object) = &request.proxy.object else { return false };
        let registry = request.proxy.client.registry();
        match registry.served(object, node, until).await {
            Ok(Ok(_)) => true,
            Ok(Err(_)) => false,
            // The registry is not readable.
            Err(_) => {
                sleep_until(until.min(Instant::now() + AGAIN * 5)).await;
                Instant::now() < until
            }
        }
    }

    /// Returns how long the call waits.
    fn until(&mut self, request: &Request, fault: &Fault) -> Option<Instant> {
        let proxy = &request.proxy;
        if proxy.settings.patient {
            return Some(self.deadline);
        }
        if !reached_nobody(fault) {
            return None;
        }
        let is_starting = fault.data.get(STARTING).is_some_and(|starting| starting == true);
        if is_starting && self.starting.is_none() {
            self.starting = Some(Instant::now() + STARTING_TIMEOUT);
        }
        let starting = self.starting.filter(|_| is_starting);
        starting.max(proxy.client.presence().reunion())
    }
}

/// Returns whether the fault says that no node has received the request.
fn reached_nobody(fault: &Fault) -> bool {
    matches!(fault.code, Code::UNKNOWN_OBJECT | Code::LOST_OBJECT) && !fault.maybe_executed()
}

/// Returns the fault of a response that the broker made because no node has received the request.
pub(super) fn unserved(response: &Response) -> Option<&Fault> {
    let fault = response.outcome.as_ref().err()?;
    (response.node.as_deref() == Some(BROKER_NODE) && reached_nobody(fault)).then_some(&**fault)
}

/// Returns the fault of a response that means that no node has started the method: the broker's, or that of the called node if it
/// does not have the object yet.
pub(super) fn undelivered<'a>(response: &'a Response, target: &Target) -> Option<&'a Fault> {
    let fault = response.outcome.as_ref().err()?;
    let is_asked = matches!(target, Target::Node(node) if response.node.as_deref() == Some(node.as_str()));
    unserved(response).or((is_asked && fault.code == Code::UNKNOWN_OBJECT).then_some(&**fault))
}

/// Returns the fault of a response after which a call may be repeated: the method was not started, or its node has ended.
pub(super) fn repeatable<'a>(response: &'a Response, target: &Target) -> Option<&'a Fault> {
    let fault = response.outcome.as_ref().err()?;
    undelivered(response, target).or(is_of_lost_node(fault).then_some(&**fault))
}
