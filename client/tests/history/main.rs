//! Twenty users do at random what they may and what they may not, on one broker with rules. Every message that anybody is
//! sent is looked at: whether it was for that user, from whom it says, and whether it answers what that user asked.
//!
//! For two seconds, or as many as `RANTAI_HISTORY_S` says; `RANTAI_SEED` repeats a run's choices, though not the order in
//! which the users' packets meet.

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
async fn nothing_of_one_user_reaches_or_changes_anothers() {
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
