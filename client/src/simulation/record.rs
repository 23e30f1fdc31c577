//! Record of the application's requests to the session, their outcome, and the results that are allowed.

use std::collections::BTreeMap;

use rantai_testing::Property;

use super::edge::Agreed;
use super::packet::{self, publish_size};
use super::wishes::Wishes;
use crate::session::Unsent;

/// Number of digits at the start of a payload.
const DIGITS: usize = 8;

/// Receiver of the result of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nobody,
    Token,
    Future,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Requested; the session may have queued it.
    Asked,
    /// Queued; its result follows later, or never.
    Queued,
    /// Its future was dropped: any outcome is allowed.
    Dropped,
    Done(Result<(), Unsent>),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what the application asks for is a row of switches")]
pub(super) struct Published {
    /// Number of the publisher, whose messages are in order.
    pub(super) lane: u32,
    /// Sequence number among the messages of the publisher.
    pub(super) place: u64,
    pub(super) topic: String,
    /// Size of its payload, in bytes.
    pub(super) payload: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) resend: bool,
    /// Whether MQTT cannot express it.
    pub(super) is_bad: bool,
    pub(super) told: Told,
    session: u32,
    pub(super) state: State,
    /// Connection on which it was queued, at QoS 0.
    queued_on: u64,
    /// Last connection on which it was written, and its packet id there.
    written: Option<(u64, u16)>,
    writes: u32,
    /// PUBACK that the session has read: reason code and Reason String.
    answer: Option<(u8, String)>,
    /// Number of times that each broker has received it.
    arrivals: [u32; 2],
    /// Whether a later connection does not accept packets of its size, so that it may have failed without notice.
    is_too_large: bool,
}

impl Published {
    fn size(&self) -> usize {
        publish_size(self.topic.len(), self.payload, self.qos)
    }
}

/// Way in which a session is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Closed,
    Dropped,
    EndedWith(String),
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) publishes: Vec<Published>,
    pub(super) wishes: Wishes,
    /// Number of places in the address.
    pub(super) places: usize,
    pub(super) session_expiry: u32,
    pub(super) keep_alive: u16,
    /// Maximum Packet Size of the client.
    pub(super) max_packet: u32,
    /// Number of sessions so far.
    pub(super) session: u32,
    pub(super) is_online: bool,
    /// Number of connections that a broker has accepted so far.
    pub(super) connection: u64,
    pub(super) max_packet_of_broker: usize,
    pub(super) ending: Option<Ending>,
    pub(super) is_taken_over: bool,
    /// Requests that the application waits for.
    pub(super) waiting: BTreeMap<u64, String>,
    waits: u64,
    places_of_lanes: BTreeMap<u32, u64>,
    /// Last sequence number of each publisher that each broker has received.
    arrived: BTreeMap<(usize, u32, u8), u64>,
}

/// Creates the payload of a publish: its number, and bytes that depend on it.
pub(super) fn payload(which: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("{which:0DIGITS$}").into_bytes();
    bytes.resize(size.max(DIGITS), which as u8);
    bytes
}

/// Returns the result that a PUBACK requires; the text of other refusals is not checked.
fn outcome(code: u8, why: &str, retain: bool) -> Result<(), Unsent> {
    match code {
        0 => Ok(()),
        0x10 if retain => Ok(()),
        0x10 => Err(Unsent::NobodyThere),
        0x87 => Err(Unsent::Denied { why: why.to_owned() }),
        0x97 => Err(Unsent::Busy),
        _ => Err(Unsent::Refused("".into())),
    }
}

impl Record {
    /// Records that the application begins to wait for something.
    pub(super) fn begin(&mut self, text: String) -> u64 {
        self.waits += 1;
        self.waiting.insert(self.waits, text);
        self.waits
    }

    pub(super) fn end(&mut self, wait: u64) {
        self.waiting.remove(&wait);
    }

    pub(super) fn begin_session(&mut self) {
        self.session += 1;
        (self.ending, self.is_taken_over) = (None, false);
        self.wishes = Wishes::default();
    }

    /// Records a publish that the application is about to request. Returns its number.
    pub(super) fn ask(&mut self, lane: u32, topic: &str, payload: usize, told: Told) -> usize {
        let place = self.places_of_lanes.entry(lane).or_default();
        *place += 1;
        self.publishes.push(Published {
            lane,
            place: *place,
            topic: topic.to_owned(),
            payload: payload.max(DIGITS),
            qos: 1,
            retain: false,
            resend: true,
            is_bad: false,
            told,
            session: self.session,
            state: State::Asked,
            queued_on: 0,
            written: None,
            writes: 0,
            answer: None,
            arrivals: [0; 2],
            is_too_large: false,
        });
        self.publishes.len() - 1
    }

    /// Records that a broker has accepted a connection with this Maximum Packet Size.
    pub(super) fn begin_connection(&mut self, max_packet: usize) -> u64 {
        self.connection += 1;
        self.max_packet_of_broker = max_packet;
        for published in &mut self.publishes {
            published.is_too_large |= published.size() > max_packet;
        }
        self.connection
    }

    /// Records that the session has queued the message.
    pub(super) fn queued(&mut self, which: usize) {
        let connection = self.connection;
        let published = &mut self.publishes[which];
        (published.state, published.queued_on) = (State::Queued, connection);
    }

    pub(super) fn drop_future(&mut self, which: usize) {
        self.publishes[which].state = State::Dropped;
    }

    pub(super) fn check_connect(&self, connect: &packet::Connect) -> Result<(), String> {
        let is_right = connect.client_id == "simulated"
            && connect.is_clean_start == (self.session_expiry == 0)
            && connect.session_expiry == self.session_expiry
            && connect.keep_alive == self.keep_alive
            && connect.max_packet == self.max_packet;
        if is_right { Ok(()) } else { Err(format!("{connect:?}")) }
    }

    pub(super) fn check_farewell(&self, code: u8) -> Result<(), String> {
        let expected = match &self.ending {
            Some(Ending::Dropped) => 4,
            Some(_) => 0,
            None => return Err("DISCONNECT of a session that nobody has ended".to_owned()),
        };
        if code == expected { Ok(()) } else { Err(format!("DISCONNECT {code:#04x}, not {expected:#04x}")) }
    }

    /// Returns the number of the publish that a PUBLISH packet belongs to.
    pub(super) fn find(&self, publish: &packet::Publish) -> Result<usize, String> {
        let digits = publish.payload.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        let which = digits.and_then(|digits| digits.parse::<usize>().ok());
        let Some((which, published)) = which.and_then(|which| Some((which, self.publishes.get(which)?)))
        else {
            return Err(format!("{publish:?}, which nobody asked for"));
        };
        let is_same = published.topic == publish.topic
            && published.qos == publish.qos
            && published.retain == publish.is_retained
            && payload(which, published.payload) == publish.payload;
        if is_same { Ok(which) } else { Err(format!("{published:?} as {publish:?}")) }
    }

    /// Records that the session has written a publish. Returns the kind of transmission.
    pub(super) fn written(
        &mut self,
        which: usize,
        agreed: Agreed,
        publish: &packet::Publish,
    ) -> Result<&'static str, String> {
        let session = self.session;
        let published = &mut self.publishes[which];
        let what = |published: &Published| format!("publish {which} is written on {agreed:?}: {published:?}");
        if published.session != session || published.is_bad {
            return Err(what(published));
        }
        if let State::Done(result) = &published.state
            && (published.qos > 0 || result.is_err())
        {
            return Err(format!("it has ended, {}", what(published)));
        }
        if published.writes > 0 && (!published.resend || published.qos == 0) {
            return Err(format!("it is not to be sent again, {}", what(published)));
        }
        if published.qos == 0 && published.queued_on != agreed.connection {
            return Err(format!("its connection is over, {}", what(published)));
        }
        if publish.is_repeated && !agreed.is_resumed {
            return Err(format!("DUP without a session, {}", what(published)));
        }
        let before = published.written.filter(|(connection, _)| connection + 1 == agreed.connection);
        let state = match before {
            Some((_, id)) if agreed.is_resumed => {
                if id != publish.id || !publish.is_repeated {
                    return Err(format!("as {} with the session, {}", publish.id, what(published)));
                }
                "publish sent again by its packet id"
            }
            Some(_) => "publish sent again without a session",
            None if published.writes > 0 => "publish sent again after several connections",
            None => "publish sent for the first time",
        };
        published.written = Some((agreed.connection, publish.id));
        published.writes += 1;
        Ok(state)
    }

    /// Records that the session has read a PUBACK.
    pub(super) fn acknowledged(&mut self, which: usize, code: u8, properties: &[Property]) {
        let why = properties.iter().find_map(|property| match property {
            Property::ReasonString(why) => Some(why.clone()),
            _ => None,
        });
        self.publishes[which].answer = Some((code, why.unwrap_or_default()));
    }

    /// Records that a broker has received a publish.
    pub(super) fn arrived(&mut self, broker: usize, which: usize) -> Result<(), String> {
        let published = &mut self.publishes[which];
        published.arrivals[broker] += 1;
        let count: u32 = published.arrivals.iter().sum();
        if count > 1 && (published.qos == 0 || !published.resend) {
            return Err(format!("publish {which} has arrived {count} times: {published:?}"));
        }
        if published.arrivals[broker] > 1 {
            return Ok(());
        }
        let key = (broker, published.lane, published.qos);
        match self.arrived.insert(key, published.place) {
            Some(last) if last > published.place => {
                Err(format!("publish {which} arrives as {} behind {last} of {key:?}", published.place))
            }
            _ => Ok(()),
        }
    }

    /// Checks the result of a publish that the session has reported. Returns its kind.
    pub(super) fn settle(
        &mut self,
        which: usize,
        result: Result<(), Unsent>,
        said: Option<&str>,
    ) -> Result<&'static str, String> {
        let connection = self.connection;
        let is_ending = self.ending.is_some() || self.is_taken_over;
        let published = &mut self.publishes[which];
        let why = format!("publish {which} ends with {result:?}: {published:?}");
        if let State::Done(_) = published.state {
            return Err(format!("twice, {why}"));
        }
        let was_sent = published.writes > 0 || published.arrivals != [0; 2];
        let (code, reason) = published.answer.clone().unzip();
        let reason = reason.unwrap_or_default();
        let answer = code.map(|code| outcome(code, &reason, published.retain));
        let (is_allowed, name) = match &result {
            Ok(()) if published.qos == 0 => (true, "publish at QoS 0 queued"),
            Ok(()) => {
                let has_arrived = published.arrivals != [0; 2];
                (
                    answer == Some(Ok(())) && has_arrived && said.is_none_or(|said| said == reason),
                    "publish acknowledged",
                )
            }
            Err(Unsent::Lost) => (!published.resend && published.qos > 0, "publish lost"),
            Err(Unsent::Offline) => {
                (!was_sent && (!published.resend || published.qos == 0), "publish offline")
            }
            Err(Unsent::Ended) => (is_ending, "publish ended with the session"),
            Err(Unsent::TooLarge { size, limit }) => {
                let is_right =
                    *size == published.size() && size > limit && *limit == self.max_packet_of_broker;
                let name = if was_sent || published.state == State::Queued {
                    "publish too large for a later connection"
                } else {
                    "publish too large"
                };
                (is_right, name)
            }
            Err(Unsent::BadTopic(_)) => (published.is_bad && !was_sent, "publish to no topic"),
            Err(Unsent::Refused(_)) if published.is_bad => (!was_sent, "publish that MQTT cannot express"),
            Err(Unsent::Refused(_)) => (matches!(answer, Some(Err(Unsent::Refused(_)))), "publish refused"),
            Err(Unsent::NobodyThere) => {
                (answer == Some(Err(Unsent::NobodyThere)), "publish without subscriber")
            }
            Err(Unsent::Busy) => (answer == Some(Err(Unsent::Busy)), "publish to busy subscribers"),
            Err(error @ Unsent::Denied { .. }) => (answer == Some(Err(error.clone())), "publish denied"),
        };
        published.state = State::Done(result);
        if published.qos == 0 {
            published.queued_on = connection;
        }
        if is_allowed { Ok(name) } else { Err(why) }
    }

    /// Returns the queued publishes that still need a result, or at least a PUBACK.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (usize, &Published)> {
        let open = |published: &Published| {
            published.session == self.session
                && published.state == State::Queued
                && published.qos > 0
                && published.answer.is_none()
                && (published.told != Told::Nobody || (published.resend && !published.is_too_large))
        };
        self.publishes.iter().enumerate().filter(move |(_, published)| open(published))
    }

    /// Returns the publishes of the session whose token has got no result.
    pub(super) fn without_result(&self, is_once: bool) -> Option<(usize, &Published)> {
        self.publishes.iter().enumerate().rev().find(|(_, published)| {
            published.session == self.session
                && published.state == State::Queued
                && published.told == Told::Token
                && (!is_once || !published.resend || published.qos == 0)
        })
    }
}
