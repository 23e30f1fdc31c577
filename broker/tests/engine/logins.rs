//! Logins: passwords are checked in turns, without delaying other work, and not repeatedly.

use rantai_broker::{Config, Cost, Record, User};
use tokio::task::JoinSet;

use crate::Own;
use crate::support::{Client, Connect, Version, keep_to_addresses, unique, user};
use Version::{V3, V5};

const BUSY: u8 = 0x89;
const WRONG: u8 = 0x86;

fn with_ada(config: &mut Config) {
    config.anonymous = false;
    config.users = vec![user("ada", "right")];
}

/// Configures slow checks on one thread.
fn with_slow_checks(config: &mut Config) {
    let slow = Cost { memory_kib: 16 << 10, ..Cost::LOWEST };
    let record = Record::new(b"right", slow).expect("hashed");
    config.anonymous = false;
    config.users = vec![User::new("ada", Some(record))];
    config.limits.password_threads = 1;
}

fn ada(password: &str) -> Connect {
    Connect::new(V5).user("ada").password(password)
}

/// Number of wrong passwords of unknown users that wait to be checked.
const FLOOD: u64 = 300;

async fn flood(own: &Own) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..FLOOD {
        let mut client = own.open(V5).await;
        let guess = Connect::new(V5).user(&format!("nobody{number}")).password("wrong");
        client.send(&guess.encode()).await;
        clients.push(client);
    }
    clients
}

/// Checked by counters: hardly any password of the flood is checked before the others.
#[tokio::test]
async fn wrong_passwords_from_one_address_do_not_delay_others() {
    let _tcp = keep_to_addresses();
    let own = Own::start(with_slow_checks).await;
    let _flood = flood(&own).await;
    let mut elsewhere = Client::open_from([127, 0, 0, 2].into(), own.place.clone(), V5).await;
    assert_eq!(elsewhere.present(ada("right")).await.code, 0);
    let hashed = own.broker.counts().hashed_passwords;
    assert!(hashed < FLOOD / 2, "{hashed} hashes were before it");
}

/// Once, such passwords and their descriptors were kept until their turn: of 4,000 guesses, 500 were left after a
/// minute.
#[tokio::test]
async fn passwords_of_disconnected_clients_are_not_checked() {
    let _tcp = keep_to_addresses();
    let own = Own::start(with_slow_checks).await;
    drop(flood(&own).await);
    // From the same address, so it waits behind all of them.
    own.connect(ada("right")).await;
    let hashed = own.broker.counts().hashed_passwords;
    assert!(hashed < FLOOD * 2 / 3, "{hashed} hashes were computed for nobody");
}

#[tokio::test]
async fn a_login_refused_by_a_full_queue_is_busy_and_not_a_guess() {
    let own = Own::start(|config| {
        with_slow_checks(config);
        config.limits.password_queue = 1;
    })
    .await;
    let mut attempts = JoinSet::new();
    for number in 0..40 {
        let version = if number % 2 == 0 { V3 } else { V5 };
        let mut client = own.open(version).await;
        attempts.spawn(async move {
            client.present(Connect::new(version).user("ada").password(&unique())).await.code
        });
    }
    let codes = attempts.join_all().await;
    let busy = codes.iter().filter(|code| [3, BUSY].contains(code)).count();
    assert!(codes.contains(&3) && codes.contains(&BUSY), "{codes:02x?}");
    let counts = own.broker.counts();
    assert_eq!((counts.busy_logins, counts.refused_logins), (busy as u64, 0), "{counts:?}");
    // The queue is empty again.
    own.connect(ada("right")).await;
}

#[tokio::test]
async fn the_same_wrong_password_of_a_client_is_checked_once_and_is_one_guess() {
    let own = Own::start(with_ada).await;
    for _ in 0..50 {
        assert_eq!(own.try_connect(ada("old").id("pi")).await.1, WRONG);
    }
    let counts = own.broker.counts();
    assert_eq!((counts.hashed_passwords, counts.repeated_logins, counts.delayed_logins), (1, 49, 0));
    own.connect(ada("right").id("pi")).await;
    assert_eq!(own.broker.counts().delayed_logins, 0);
}

#[tokio::test]
async fn reconnecting_clients_need_no_hash() {
    let own = Own::start(with_ada).await;
    for number in 0..20 {
        own.connect(ada("right").id(&format!("pi-{number}"))).await.disconnect().await;
    }
    let counts = own.broker.counts();
    assert_eq!((counts.hashed_passwords, counts.remembered_passwords), (1, 19));
}

#[tokio::test]
async fn a_user_without_a_record_does_not_log_in_by_a_password() {
    for others in [vec![], vec![user("ada", "right")]] {
        let own = Own::start(|config| {
            config.anonymous = false;
            config.users = [vec![User::new("certified", None)], others].concat();
        })
        .await;
        for password in ["", "right"] {
            let login = Connect::new(V5).user("certified").password(password);
            assert_eq!(own.try_connect(login).await.1, WRONG);
        }
    }
}

/// Also after a restart, when no client has logged in yet.
#[tokio::test]
async fn a_client_id_with_a_session_of_its_user_is_not_delayed_by_guesses_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |config: &mut Config| {
        with_ada(config);
        config.data_dir = Some(folder.path().to_owned());
    };
    let own = Own::start(config).await;
    own.connect(ada("right").id("hers").persistent()).await.disconnect().await;
    own.broker.shutdown().await;

    let own = Own::start(config).await;
    // The delays grow with each wrong password. On a slow machine, the first are over before the next guess arrives.
    let delayed = loop {
        let mut guesses = JoinSet::new();
        for _ in 0..40 {
            let mut client = own.open(V5).await;
            guesses.spawn(async move { client.present(ada(&unique()).id(&unique())).await });
        }
        guesses.join_all().await;
        let delayed = own.broker.counts().delayed_logins;
        if delayed > 0 {
            break delayed;
        }
    };
    own.connect(ada("right").id("hers").persistent().resume()).await;
    assert_eq!(own.broker.counts().delayed_logins, delayed, "it has not waited");
}
