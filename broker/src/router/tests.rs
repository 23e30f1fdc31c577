use std::thread;

use super::*;
use crate::clock::Clock;
use crate::codec::Options;
use crate::config::Config;
use crate::random::Random;
use crate::subscriptions::Subscription;

/// Once, such a message was missed: it was matched before the subscription existed, and stored after the subscriber
/// had read the retained messages.
#[test]
fn a_retained_message_reaches_a_client_that_subscribes_during_its_publish() {
    let shared = BrokerState::new(Config::default(), None, Clock::starting_at(1), Random::System);
    let router = Router::new(shared.clone());
    let message = Message {
        topic: "a".into(),
        payload: "x".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        ..Message::default()
    };
    let publish = || {
        router.route(&message, Origin::default(), &mut Scratch::at(1), &mut Targets::new());
    };
    let subscriber = Session::new(1, "subscriber".into());
    thread::scope(|scope| {
        let looking = shared.retained.read();
        scope.spawn(publish);
        // Once the publisher waits for the write lock, no other reader gets the lock.
        while shared.retained.try_read().is_some() {
            thread::yield_now();
        }
        let options = Options { qos: QoS::AtLeastOnce, ..Options::default() };
        let subscription = Subscription { subscriber: subscriber.clone(), options, identifier: None };
        router.restore(&"a".into(), subscription);
        assert_eq!(looking.held().count, 0, "the subscriber finds nothing");
    });
    assert_eq!(subscriber.state.lock().held().messages, 1);
}
