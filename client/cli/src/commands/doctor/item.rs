//! Items of the examination, which have stable ids, and findings.

use std::fmt;

use rantai_client::printable;

use super::trouble::{Trouble, Verdict};

/// Area that an item belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// Features that objects and callers need of a broker.
    Bus,
    /// Actions that clients without permission must not be able to do.
    Strangers,
    /// Protection against eavesdropping on the network.
    Network,
}

impl Area {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Strangers => "strangers",
            Self::Network => "network",
        }
    }
}

/// Importance of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Without it objects and callers do not work, or strangers have access: [`State::Fails`].
    Must,
    /// Without it a feature is missing that objects and callers can do without: [`State::Warning`].
    Should,
}

/// Item of the examination. Its id is used in `--json` and in docs/doctor.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: &'static str,
    pub(super) area: Area,
    pub(super) need: Need,
}

const fn bus(id: &'static str, need: Need) -> Item {
    Item { id, area: Area::Bus, need }
}

const fn network(id: &'static str) -> Item {
    Item { id, area: Area::Network, need: Need::Should }
}

const fn strangers(id: &'static str, need: Need) -> Item {
    Item { id, area: Area::Strangers, need }
}

pub(super) const REACHABLE: Item = bus("reachable", Need::Must);
pub(super) const VERSIONS: Item = bus("versions", Need::Must);
pub(super) const RETAINED: Item = bus("retained", Need::Must);
pub(super) const RETAINED_LOAD: Item = bus("retained-load", Need::Must);
pub(super) const WILL: Item = bus("will", Need::Must);
pub(super) const RESPONSE_TOPIC: Item = bus("response-topic", Need::Must);
pub(super) const CORRELATION: Item = bus("correlation-data", Need::Must);
pub(super) const USER_PROPERTIES: Item = bus("user-properties", Need::Must);
pub(super) const SHARED: Item = bus("shared-subscriptions", Need::Must);
pub(super) const NO_SUBSCRIBERS: Item = bus("no-subscribers", Need::Should);
pub(super) const PACKET_SIZE: Item = bus("packet-size", Need::Must);
pub(super) const EXPIRY: Item = bus("message-expiry", Need::Should);
pub(super) const ORDER: Item = bus("order", Need::Must);
pub(super) const RECEIVE_MAXIMUM: Item = bus("receive-maximum", Need::Should);
pub(super) const SESSION: Item = bus("session", Need::Should);
pub(super) const QOS_2: Item = bus("qos-2", Need::Should);
pub(super) const ENCRYPTION: Item = network("encryption");
pub(super) const CERTIFICATE: Item = network("certificate");
pub(super) const PLAIN_PORT: Item = network("plain-port");

/// Items of one kind of stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StrangerItems {
    pub(super) replies: Item,
    pub(super) caller: Item,
    pub(super) client_id: Item,
    pub(super) answers: Item,
    pub(super) group: Item,
    pub(super) registry: Item,
    pub(super) everything: Item,
    pub(super) system: Item,
}

/// Items of a client that did not log in.
pub(super) const WITHOUT_LOGIN: StrangerItems = StrangerItems {
    replies: strangers("stranger-replies", Need::Must),
    caller: strangers("stranger-caller", Need::Must),
    client_id: strangers("stranger-client-id", Need::Must),
    answers: strangers("stranger-answers", Need::Must),
    group: strangers("stranger-group", Need::Must),
    registry: strangers("stranger-registry", Need::Must),
    everything: strangers("stranger-everything", Need::Must),
    system: strangers("stranger-sys", Need::Should),
};

/// Items of a client that logged in as the user of the command, and tries to access what belongs to another client. The
/// client id is not tried: a user may use its own.
pub(super) const WITH_LOGIN: StrangerItems = StrangerItems {
    replies: strangers("user-replies", Need::Must),
    caller: strangers("user-caller", Need::Must),
    client_id: strangers("user-client-id", Need::Must),
    answers: strangers("user-answers", Need::Must),
    group: strangers("user-group", Need::Must),
    registry: strangers("user-registry", Need::Must),
    everything: strangers("user-everything", Need::Must),
    system: strangers("user-sys", Need::Should),
};

/// State of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    /// A feature is missing that objects and callers can do without.
    Warning,
    /// Objects and callers do not work, or strangers have access.
    Fails,
    /// The user may not try it.
    Untested,
    /// It was tried, with an unclear result.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fails => "fails",
            Self::Untested => "untested",
            Self::Unknown => "unknown",
        })
    }
}

/// Item, its state, and one sentence about it.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) item: Item,
    pub(super) state: State,
    pub(super) text: String,
    /// What to do, if it depends on more than the item and the broker.
    pub(super) advice: Option<&'static str>,
}

impl Item {
    /// Returns the position in the report; items with the same rank stay in the order in which they were examined.
    pub(super) fn rank(self) -> u8 {
        match self.area {
            Area::Bus => 0,
            Area::Network => 1,
            Area::Strangers if self.id.starts_with("stranger-") => 2,
            Area::Strangers => 3,
        }
    }

    /// Returns the finding of an attempt. For strangers an error proves nothing: neither that one may do something, nor that
    /// none may.
    pub(super) fn conclude(self, attempt: Result<Finding, Trouble>) -> Finding {
        let trouble = match attempt {
            Ok(finding) => return finding,
            Err(trouble) => trouble,
        };
        let verdict = match (self.area, trouble.verdict()) {
            (Area::Strangers, Verdict::Bad) => Verdict::Unknown,
            (_, verdict) => verdict,
        };
        let finding = match verdict {
            Verdict::Bad => self.bad(trouble.to_string()),
            Verdict::Untested => self.untested(trouble.to_string()),
            Verdict::Unknown => self.unknown(trouble.to_string()),
        };
        Finding { advice: trouble.advice(), ..finding }
    }

    pub(super) fn ok(self, text: impl Into<String>) -> Finding {
        self.found(State::Ok, &text.into())
    }

    /// Not good: the state depends on how much the item is needed.
    pub(super) fn bad(self, text: impl Into<String>) -> Finding {
        let state = match self.need {
            Need::Must => State::Fails,
            Need::Should => State::Warning,
        };
        self.found(state, &text.into())
    }

    /// Not good, but no reason to use another broker.
    pub(super) fn warning(self, text: impl Into<String>) -> Finding {
        self.found(State::Warning, &text.into())
    }

    pub(super) fn untested(self, text: impl Into<String>) -> Finding {
        self.found(State::Untested, &text.into())
    }

    /// Neither good nor bad; `why` is the reason.
    pub(super) fn unknown(self, why: impl fmt::Display) -> Finding {
        self.found(State::Unknown, &format!("could not be told: {why}"))
    }

    /// Escapes the text, as it may contain texts of the broker, which must not control the terminal.
    fn found(self, state: State, text: &str) -> Finding {
        Finding { item: self, state, text: printable(text), advice: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::advice::advice;
    use super::super::product::Product;
    use super::*;

    const STRANGERS: [StrangerItems; 2] = [WITHOUT_LOGIN, WITH_LOGIN];

    fn all() -> Vec<Item> {
        let bus = [
            REACHABLE,
            VERSIONS,
            RETAINED,
            RETAINED_LOAD,
            WILL,
            RESPONSE_TOPIC,
            CORRELATION,
            USER_PROPERTIES,
            SHARED,
            NO_SUBSCRIBERS,
            PACKET_SIZE,
            EXPIRY,
            ORDER,
            RECEIVE_MAXIMUM,
            SESSION,
            QOS_2,
            ENCRYPTION,
            CERTIFICATE,
            PLAIN_PORT,
        ];
        let strangers = STRANGERS.iter().flat_map(|items| {
            let StrangerItems { replies, caller, client_id, answers, group, registry, everything, system } =
                *items;
            [replies, caller, client_id, answers, group, registry, everything, system]
        });
        bus.into_iter().chain(strangers).collect()
    }

    #[test]
    fn every_item_has_a_unique_id_that_is_documented() {
        let document = include_str!("../../../../../docs/doctor.md");
        let mut seen = HashSet::new();
        for Item { id, .. } in all() {
            assert!(seen.insert(id), "{id}");
            assert!(document.contains(&format!("`{id}`")), "{id}");
        }
    }

    #[test]
    fn error_proves_nothing_about_the_rights_of_strangers() {
        let closed = |code| Trouble::Closed { code: Some(code), why: String::new(), instead_of: "a PUBACK" };
        let refused = |code| Trouble::Refused { code, why: String::new() };
        let troubles = || {
            [
                (Trouble::Missing("a PUBACK"), State::Fails),
                (Trouble::wrong("twice"), State::Fails),
                (Trouble::Malformed("no packet".to_owned()), State::Fails),
                (closed(0x95), State::Fails),
                (Trouble::Silent("a PUBACK"), State::Unknown),
                (Trouble::cut("a PUBACK"), State::Unknown),
                (closed(0x89), State::Unknown),
                (refused(0x97), State::Unknown),
                (refused(0x87), State::Unknown),
            ]
        };
        for (trouble, state) in troubles() {
            let finding = RETAINED.conclude(Err(trouble));
            assert_eq!(finding.state, state, "{finding:?}");
        }
        for (trouble, _) in troubles() {
            let finding = WITHOUT_LOGIN.replies.conclude(Err(trouble));
            assert_eq!(finding.state, State::Unknown, "{finding:?}");
            assert!(finding.text.starts_with("could not be told: "), "{finding:?}");
        }
    }

    #[test]
    fn every_bad_finding_has_advice_for_every_broker() {
        for item in all() {
            assert!(advice(&item.unknown("silence"), Product::Other, false).is_some());
            for product in [Product::Rantai, Product::Mosquitto, Product::Other] {
                for logged_in in [false, true] {
                    assert_eq!(advice(&item.ok("good"), product, logged_in), None);
                    let told = advice(&item.bad("bad"), product, logged_in);
                    assert!(told.is_some_and(|told| !told.ends_with('.')), "{}: {told:?}", item.id);
                }
            }
        }
    }
}
