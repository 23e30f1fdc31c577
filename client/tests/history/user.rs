//! A user that serves its object, calls others, and tries forbidden actions.

use std::time::{Duration, Instant};

use rantai_testing::{Property, Publish};

use crate::forbidden::{self, request};
use crate::history::{Counts, History, Kind, again, stranger};
use crate::link::{Link, connect};
use crate::site::{Site, USERS, client_id, name, object, reply_topic};

/// Time limit for the last replies.
const PATIENCE: Duration = Duration::from_secs(30);

/// User with its only session.
pub(crate) struct User<'a> {
    site: &'a Site,
    number: usize,
    random: fastrand::Rng,
    link: Link,
    history: History,
}

impl<'a> User<'a> {
    pub(crate) fn connect(site: &'a Site, number: usize, seed: u64) -> Self {
        let (mut link, connack) = Link::open(site, &connect(number, &client_id(number)).persistent());
        assert_eq!(connack.code, 0, "{connack:?}");
        let own = object(number);
        for filter in [
            format!("$share/{own}/rantai/call/{own}/#"),
            format!("rantai/reply/+/{}", client_id(number)),
            format!("home/{}/#", name(number)),
        ] {
            assert_eq!(link.subscribe(&filter), 1, "{filter}");
        }
        let random = fastrand::Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { site, number, random, link, history: History::new(number) }
    }

    /// Performs random actions until this time, and then only waits for the remaining replies.
    pub(crate) fn run(mut self, until: Instant) -> Counts {
        while Instant::now() < until {
            self.step();
            self.take(Duration::from_millis(1));
        }
        // The other users may still send requests for this long.
        let deadline = until + PATIENCE;
        let mut quiet = Instant::now();
        while self.history.is_waiting() || quiet.elapsed() < Duration::from_secs(2) {
            assert!(
                Instant::now() < deadline,
                "{} waits for replies: {:?}",
                self.number,
                self.history.counts
            );
            if self.take(Duration::from_millis(50)) {
                quiet = Instant::now();
            }
        }
        self.history.counts
    }

    fn step(&mut self) {
        let number = self.number;
        match self.random.u8(0..8) {
            0..=2 => {
                let server = (number + self.random.usize(1..=2)) % USERS;
                let correlation = self.random.u64(..).to_be_bytes();
                let mut message = request(server, number, &reply_topic(server, number), &correlation);
                if self.random.bool() {
                    // With a forged caller: the server must see the true one.
                    let other = stranger(&mut self.random, number);
                    message = message.property(Property::user("caller", &name(other)));
                }
                self.history.asks(correlation.to_vec(), server);
                let code = self.link.publish(message);
                assert_eq!(code, 0, "{number} calls {server}");
            }
            3 => {
                let own = Publish::new(&format!("home/{}/lamp", name(number)), &name(number));
                assert_eq!(self.link.publish(own), 0);
            }
            4 if self.random.u8(0..32) == 0 => self.reconnect(),
            _ => {
                forbidden::attempt(self.site, &mut self.link, number, &mut self.random);
                self.history.counts.refused += 1;
            }
        }
    }

    /// Closes its connection, and resumes its session.
    fn reconnect(&mut self) {
        // Reads everything first, so that no acknowledged message is lost with the old connection.
        while self.take(Duration::from_millis(1)) {}
        let (link, connack) =
            Link::open(self.site, &connect(self.number, &client_id(self.number)).persistent().resume());
        assert_eq!((connack.code, connack.session_present), (0, true), "{connack:?}");
        let old = std::mem::replace(&mut self.link, link);
        for message in old.received {
            self.receive(&message);
        }
        self.history.counts.reconnects += 1;
    }

    /// Handles one message, if one arrives within this time.
    fn take(&mut self, wait: Duration) -> bool {
        let Some(message) = self.link.message(wait) else { return false };
        self.receive(&message);
        true
    }

    fn receive(&mut self, message: &Publish) {
        if self.history.received(message) != Kind::Request {
            return;
        }
        let topic = message.response_topic().expect("a request has a Response Topic");
        let correlation = message.correlation().expect("a request has Correlation Data");
        // Its acknowledgement was lost with a connection: it may have been answered before or after it was sent again.
        let sent_again = message.dup;
        let text = if sent_again { again(self.number) } else { object(self.number) };
        let reply = Publish::new(topic, &text).property(Property::CorrelationData(correlation.to_vec()));
        let code = self.link.publish(reply.clone());
        assert!(code == 0 || sent_again && code == 0x87, "{} answers on {topic}: {code:#x}", self.number);
        if self.random.u8(0..8) == 0 {
            assert_eq!(self.link.publish(reply), 0x87, "{} answers {topic} twice", self.number);
            self.history.counts.refused += 1;
        }
    }
}
