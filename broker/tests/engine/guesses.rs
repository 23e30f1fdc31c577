//! Delays against password guessing, which affect only the guessing client.

use rantai_broker::Config;

use crate::Own;
use crate::support::{Client, Connect, Version, keep_to_addresses, unique};
use Version::{V3, V5};

const BUSY: u8 = 0x89;
const WRONG: u8 = 0x86;

fn with_a_user(config: &mut Config) {
    config.anonymous = false;
    config.users = vec![crate::support::user("ada", "right")];
}

fn login(version: Version, password: &str) -> Connect {
    Connect::new(version).user("ada").password(password)
}

/// Sends many wrong passwords at once from 127.0.0.1. Returns the codes of their refusals.
async fn guess(own: &Own, count: usize) -> Vec<u8> {
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut client = own.open(V5).await;
        // Each is a new one, because a repetition does not count as a guess.
        let password = unique();
        guesses.spawn(async move { client.present(login(V5, &password)).await.code });
    }
    guesses.join_all().await
}

#[tokio::test]
async fn guesses_wait_in_turn_and_logins_from_other_addresses_do_not() {
    let _tcp = keep_to_addresses();
    let own = Own::start(with_a_user).await;
    let known = login(V5, "right").id("hers");
    own.connect(known.clone()).await.disconnect().await;
    // Enough wrong passwords for the delays to begin, and then more than may wait.
    let codes = [guess(&own, 25).await, guess(&own, 40).await].concat();
    let counts = own.broker.counts();
    assert!(codes.iter().all(|code| [BUSY, WRONG].contains(code)), "{codes:02x?}");
    assert!(codes.contains(&BUSY), "{codes:02x?}");
    assert!(counts.delayed_logins > 0 && counts.refused_logins > 0, "{counts:?}");

    let mut elsewhere = Client::open_from([127, 0, 0, 2].into(), own.place.clone(), V3).await;
    assert_eq!(elsewhere.present(login(V3, "right")).await.code, 0);
    own.connect(known).await;
    assert_eq!(own.broker.counts().delayed_logins, counts.delayed_logins, "neither has waited");
    // From the same address, the right password waits for its turn and is accepted.
    own.connect(login(V5, "right")).await;
}

#[tokio::test]
async fn no_guess_waits_if_delays_are_disabled() {
    let own = Own::start(|config| {
        with_a_user(config);
        config.limits.guess_delay = std::time::Duration::ZERO;
    })
    .await;
    assert_eq!(guess(&own, 50).await, [WRONG; 50]);
    assert_eq!(own.broker.counts().delayed_logins, 0);
}
