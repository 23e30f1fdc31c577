//! Callers that are gone: their waiting calls give their places back.
//!
//! A node is not told that a caller has ended. It learns so where a caller is refused for its share and the broker says of
//! that reply that nobody subscribes to it (PUBACK 0x10): whatever else waits for the same reply topic waits for nobody.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rantai_client::session::{QoS, Unsent};
use rantai_client::wire::request::ReplyTo;
use rantai_client::wire::topic::ReplyTopic;

use super::replies::Route;
use super::served::Served;

/// Refusals whose acknowledgement is waited for at the same time.
const MOST_REFUSALS: usize = 1_024;
/// Tokens from here on are of refusals; those below are of requests that were passed on.
const FIRST_TOKEN: u128 = 1 << 127;

/// Refusals that the broker has not acknowledged yet.
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
    /// A token for the refusal of a request; 0 where nothing else waits for its reply topic, where too many refusals are not
    /// acknowledged yet, and at QoS 0, where none is.
    pub(super) fn token(&self, served: &Arc<Served>, route: &Route) -> u128 {
        let ReplyTo::Topic(topic) = &route.reply_to else { return 0 };
        if route.qos == QoS::AtMostOnce {
            return 0;
        }
        if served.unheard(topic).is_empty() {
            return 0;
        }
        let mut refusals = self.refusals.lock();
        if refusals.sent.len() >= MOST_REFUSALS {
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

    /// What became of a message; false where its token is not of a refusal.
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
