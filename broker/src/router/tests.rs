use std::thread;

use super::*;
use crate::clock::Clock;
use crate::codec::Options;
use crate::config::Config;
use crate::random::Random;
use crate::subscriptions::Subscription;

/// It was matched before the subscription was there, and kept after the subscriber had looked for it.
#[test]
fn a_retained_message_reaches_whoever_subscribes_while_it_is_published() {
    let shared = Shared::new(Config::default(), None, Clock::starting_at(1), Random::System);
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
        // No other reader is let in once the publisher waits to keep it.
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
