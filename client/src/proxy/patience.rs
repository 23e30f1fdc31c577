//! Repeats requests that reached nobody because a node is about to serve the object.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Request, Response};
use crate::registry::{BROKER_NODE, STARTING};
use crate::wire::fault::{Code, Fault};
use crate::wire::topic::Target;

/// Maximum time for a node to finish starting: a claim of a name takes a second, and counts for no longer than this.
const STARTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of times that a request is sent again because a node asks for that.
const MAX_REFUSED: u32 = 3;
/// Minimum delay between two requests.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Decides whether a call waits for a node after its request reached nobody. State of one call.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    /// End of waiting for a node that is starting.
    starting: Option<Instant>,
    /// Number of requests that a node has refused with the request to repeat them at once.
    refused: u32,
}

impl Patience {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, starting: None, refused: 0 }
    }

    /// Returns whether to send the request again after this fault, once a node serves the object. That is the case if
    /// the call waits for one ([`Proxy::patient`](super::Proxy::patient)), if a node is starting or may still be
    /// reconnecting, or if a node that did not run for a while has refused requests from that time.
    pub(super) async fn allows(&mut self, request: &Request, fault: &Fault) -> bool {
        if is_to_be_repeated(fault) {
            self.refused += 1;
            return self.refused <= MAX_REFUSED && Instant::now() < self.deadline;
        }
        let settings = &request.proxy.settings;
        let may_repeat = reached_nobody(fault) || settings.idempotent && is_of_lost_node(fault);
        let Ok(object) = &request.proxy.object else { return false };
        let node = match &settings.target {
            Target::Node(node) => Some(node),
            Target::Any | Target::All => None,
        };
        let registry = request.proxy.client.registry();
        let again = Instant::now() + MIN_RETRY_DELAY;
        // The connection may be lost meanwhile, and nodes reconnect later.
        while may_repeat && let Some(until) = self.until(request, fault) {
            let until = until.min(self.deadline);
            if Instant::now() >= until {
                return false;
            }
            sleep_until(until.min(again)).await;
            match registry.served(object, node, until).await {
                Ok(Ok(_)) => return true,
                Ok(Err(_)) => {}
                // The registry is not readable.
                Err(_) => {
                    sleep_until(until.min(Instant::now() + MIN_RETRY_DELAY * 5)).await;
                    return Instant::now() < until;
                }
            }
        }
        false
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

/// Returns whether the fault says that the node has not executed the request, and asks to repeat it at once.
fn is_to_be_repeated(fault: &Fault) -> bool {
    fault.code == Code::BUSY && fault.data.get("retry_after_ms") == Some(&0.into())
}

/// Returns the fault of a response that the broker made because no node has received the request.
pub(super) fn unserved(response: &Response) -> Option<&Fault> {
    let fault = response.outcome.as_ref().err()?;
    (response.node.as_deref() == Some(BROKER_NODE) && reached_nobody(fault)).then_some(&**fault)
}

/// Returns the fault of a response that means that no node has started the method: the broker's, that of the called
/// node if it does not have the object yet, or one that asks to repeat the request.
pub(super) fn undelivered<'a>(response: &'a Response, target: &Target) -> Option<&'a Fault> {
    let fault = response.outcome.as_ref().err()?;
    let is_asked = matches!(target, Target::Node(node) if response.node.as_deref() == Some(node.as_str()));
    let is_absent = is_asked && fault.code == Code::UNKNOWN_OBJECT;
    unserved(response).or((is_absent || is_to_be_repeated(fault)).then_some(&**fault))
}

/// Returns the fault of a response after which a call may be repeated: the method was not started, or its node has ended.
pub(super) fn repeatable<'a>(response: &'a Response, target: &Target) -> Option<&'a Fault> {
    let fault = response.outcome.as_ref().err()?;
    undelivered(response, target).or(is_of_lost_node(fault).then_some(&**fault))
}

/// Returns whether the node has ended, as opposed to an error of the object itself.
pub(super) fn is_of_lost_node(fault: &Fault) -> bool {
    fault.code == Code::LOST_OBJECT && fault.maybe_executed()
}
