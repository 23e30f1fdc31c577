//! Messages that a user has sent and received.

use std::collections::{HashMap, VecDeque};
use std::iter::Sum;

use rantai_testing::{Property, Publish};

use crate::site::{USERS, client_id, may_call, name, object, reply_topic};

/// Number of replies that are recognized as repeated: more than are in flight to a client.
const REMEMBERED: usize = 10_000;

/// Totals of all actions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Number of accepted requests.
    pub(crate) asked: u64,
    /// Number of replies to them.
    pub(crate) answered: u64,
    /// Number of requests that this user's object has answered.
    pub(crate) served: u64,
    /// Number of messages on its own topics.
    pub(crate) own: u64,
    /// Number of refused attempts.
    pub(crate) refused: u64,
    /// Number of intentional reconnects.
    pub(crate) reconnects: u64,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            asked: sum.asked + one.asked,
            answered: sum.answered + one.answered,
            served: sum.served + one.served,
            own: sum.own + one.own,
            refused: sum.refused + one.refused,
            reconnects: sum.reconnects + one.reconnects,
        })
    }
}

/// Kind of a received message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Request, which must be answered.
    Request,
    /// Reply to one of this user's requests.
    Reply,
    /// Message on one of its own topics.
    Own,
    /// Repeated message, as may arrive after a lost connection.
    Repeated,
}

/// Requests of one user, and the objects that must answer them.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) user: usize,
    pub(crate) counts: Counts,
    /// Server of each request without a reply, by Correlation Data.
    waiting: HashMap<Vec<u8>, usize>,
    /// Correlation Data of the latest replies.
    answered: VecDeque<Vec<u8>>,
}

impl History {
    pub(crate) fn new(user: usize) -> Self {
        Self { user, counts: Counts::default(), waiting: HashMap::new(), answered: VecDeque::new() }
    }

    /// Records that a request was sent.
    pub(crate) fn asks(&mut self, correlation: Vec<u8>, server: usize) {
        self.waiting.insert(correlation, server);
        self.counts.asked += 1;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Checks a message that this user received.
    ///
    /// # Panics
    ///
    /// The message was not for this user, or has a wrong sender.
    pub(crate) fn received(&mut self, message: &Publish) -> Kind {
        let user = self.user;
        let topic = message.topic.as_str();
        let caller = caller(message);
        if topic.starts_with("home/") {
            assert!(topic.starts_with(&format!("home/{}/", name(user))), "{} was sent {topic}", name(user));
            assert_eq!(message.text(), name(user), "somebody else wrote to {topic}");
            self.counts.own += 1;
            return Kind::Own;
        }
        if topic.starts_with("rantai/call/") {
            assert_eq!(topic, format!("rantai/call/{}/run", object(user)), "{} was sent {topic}", name(user));
            let from = message.text().parse::<usize>().expect("requests say who sent them");
            assert!(may_call(from, user), "user {from} called {topic}");
            assert_eq!(caller, Some(name(from).as_str()), "`caller` of a request on {topic}");
            assert_eq!(
                message.response_topic(),
                Some(reply_topic(user, from).as_str()),
                "of {from}'s request"
            );
            self.counts.served += 1;
            return Kind::Request;
        }
        assert!(topic.ends_with(&format!("/{}", client_id(user))), "{} was sent {topic}", name(user));
        let correlation = message.correlation().expect("replies are correlated").to_vec();
        if self.answered.contains(&correlation) && (message.dup || is_again(message)) {
            return Kind::Repeated;
        }
        let server = self
            .waiting
            .remove(&correlation)
            .unwrap_or_else(|| panic!("{} was sent a reply it did not ask for: {message:?}", name(user)));
        assert_eq!(topic, reply_topic(server, user));
        let of_server = message.text() == object(server) || message.text() == again(server);
        assert!(of_server, "the reply to {}'s request is another's: {message:?}", name(user));
        assert_eq!(caller, Some(name(server).as_str()), "`caller` of a reply on {topic}");
        self.answered.push_back(correlation);
        if self.answered.len() > REMEMBERED {
            self.answered.pop_front();
        }
        self.counts.answered += 1;
        Kind::Reply
    }
}

fn caller(message: &Publish) -> Option<&str> {
    let mut callers = message.properties.iter().filter_map(|property| match property {
        Property::User(key, value) if key == "caller" => Some(value.as_str()),
        _ => None,
    });
    let caller = callers.next();
    assert_eq!(callers.next(), None, "one `caller` at most: {message:?}");
    caller
}

/// Returns the answer of an object to a repeated request.
pub(crate) fn again(server: usize) -> String {
    format!("{} again", object(server))
}

fn is_again(message: &Publish) -> bool {
    message.text().ends_with(" again")
}

/// Draws another user than this one.
pub(crate) fn stranger(random: &mut fastrand::Rng, user: usize) -> usize {
    (user + random.usize(1..USERS)) % USERS
}
