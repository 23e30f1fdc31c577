//! Twenty users perform random permitted and forbidden actions on one broker with rules. Every received message is
//! checked: whether it was for that user, whether its sender is right, and whether it answers a request of that user.
//!
//! `RANTAI_HISTORY_S` is the duration in seconds, 2 by default. `RANTAI_SEED` repeats a run's choices, but not the
//! order in which the packets of different users arrive.

mod forbidden;
mod history;
mod link;
#[path = "../../../broker/tests/support/listen.rs"]
#[allow(dead_code, reason = "no broker starts again here")]
mod listen;
mod site;
mod user;

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use history::Counts;
use site::{Site, USERS};
use user::User;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_isolate_users_under_random_actions() {
    let seconds = number("RANTAI_HISTORY_S", 2);
    let seed = number("RANTAI_SEED", fastrand::u64(..));
    println!("RANTAI_SEED={seed} RANTAI_HISTORY_S={seconds}");
    let site = Arc::new(Site::start().await);
    let connected = Arc::new(Barrier::new(USERS));
    let threads: Vec<_> = (0..USERS)
        .map(|number| {
            let (site, connected) = (site.clone(), connected.clone());
            thread::spawn(move || {
                let user = User::connect(&site, number, seed);
                connected.wait();
                user.run(Instant::now() + Duration::from_secs(seconds))
            })
        })
        .collect();
    let counts: Counts = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(|thread| thread.join().expect("a user found nothing crossed")).sum()
    })
    .await
    .expect("all users end");
    println!("{counts:?}");
    assert!(counts.answered > 0 && counts.refused > 0, "nothing was tried: {counts:?}");
    assert_eq!(counts.asked, counts.answered, "every request is answered once: {counts:?}");
}
