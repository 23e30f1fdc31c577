//! What a user has asked and been sent.

use std::collections::{HashMap, VecDeque};
use std::iter::Sum;

use rantai_testing::{Property, Publish};

use crate::site::{USERS, client_id, may_call, name, object, reply_topic};

/// Replies that are known again when they come a second time: more than are in flight to a client.
const REMEMBERED: usize = 10_000;

/// What was done in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Requests that were taken.
    pub(crate) asked: u64,
    /// Replies to them.
    pub(crate) answered: u64,
    /// Requests that this user carried out.
    pub(crate) served: u64,
    /// Messages of its own topics.
    pub(crate) own: u64,
    /// What was tried in vain.
    pub(crate) refused: u64,
    /// Connections that were lost on purpose.
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

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request, to be answered.
    Request,
    /// A reply to one of this user's requests.
    Reply,
    /// A message of its own topics.
    Own,
    /// A message that comes a second time, as it may after a lost connection.
    Repeated,
}

/// What one user has asked, and which objects have to answer.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) user: usize,
    pub(crate) counts: Counts,
    /// Who has to answer, by Correlation Data.
    waiting: HashMap<Vec<u8>, usize>,
    /// The Correlation Data of the last replies.
    answered: VecDeque<Vec<u8>>,
}

impl History {
    pub(crate) fn new(user: usize) -> Self {
        Self { user, counts: Counts::default(), waiting: HashMap::new(), answered: VecDeque::new() }
    }

    /// A request is on its way.
    pub(crate) fn asks(&mut self, correlation: Vec<u8>, server: usize) {
        self.waiting.insert(correlation, server);
        self.counts.asked += 1;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Looks at a message that this user was sent.
    ///
    /// # Panics
    ///
    /// It was not for this user, or is not from whom it says.
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

/// What an object says to a request that it was sent again.
pub(crate) fn again(server: usize) -> String {
    format!("{} again", object(server))
}

fn is_again(message: &Publish) -> bool {
    message.text().ends_with(" again")
}

/// Another user than this one.
pub(crate) fn stranger(random: &mut fastrand::Rng, user: usize) -> usize {
    (user + random.usize(1..USERS)) % USERS
}
