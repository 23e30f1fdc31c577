//! Detects callers that are gone, and frees the places of their waiting calls.
//!
//! A node is not notified of the end of a caller. It detects that when it refuses a caller that is over its share, and
//! the broker reports for that reply that nobody subscribes to its topic (PUBACK 0x10): all other calls with the same
//! reply topic then have no caller either.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rantai_client::session::{QoS, Unsent};
use rantai_client::wire::request::ReplyTo;
use rantai_client::wire::topic::ReplyTopic;

use super::replies::Route;
use super::served::Served;

/// Maximum number of unacknowledged refusals that are tracked.
const MAX_REFUSALS: usize = 1_024;
/// First token of refusals; those below belong to forwarded requests.
const FIRST_TOKEN: u128 = 1 << 127;

/// Tracks refusals that the broker has not acknowledged yet.
#[derive(Default)]
pub(super) struct Departed {
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    number: u128,
    sent: HashMap<u128, (Weak<Served>, ReplyTopic)>,
}

impl Departed {
    /// Returns a token for the refusal of a request; 0 if no other call waits for its reply topic, if too many refusals
    /// are unacknowledged, and at QoS 0, which has no acknowledgements.
    pub(super) fn token(&self, served: &Arc<Served>, route: &Route) -> u128 {
        let ReplyTo::Topic(topic) = &route.reply_to else { return 0 };
        if route.qos == QoS::AtMostOnce {
            return 0;
        }
        if served.unheard(topic).is_empty() {
            return 0;
        }
        let mut refusals = self.refusals.lock();
        if refusals.sent.len() >= MAX_REFUSALS {
            return 0;
        }
        refusals.number += 1;
        let token = FIRST_TOKEN + refusals.number;
        refusals.sent.insert(token, (Arc::downgrade(served), topic.clone()));
        token
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.refusals.lock().sent.is_empty()
    }

    /// Forgets a refusal that was not sent.
    pub(super) fn forget(&self, token: u128) {
        self.refusals.lock().sent.remove(&token);
    }

    /// Handles the result of a publish; returns false if its token does not belong to a refusal.
    pub(super) fn settled(&self, token: u128, result: &Result<(), Unsent>) -> bool {
        if token < FIRST_TOKEN {
            return false;
        }
        let refused = self.refusals.lock().sent.remove(&token);
        if let Some((served, topic)) = refused
            && *result == Err(Unsent::NobodyThere)
            && let Some(served) = served.upgrade()
        {
            for call in served.unheard(&topic) {
                call.unheard();
            }
        }
        true
    }
}
