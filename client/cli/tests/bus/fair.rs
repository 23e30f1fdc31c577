//! Other clients fill the registry, or publish without end: commands still end, and new objects are still found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rantai_client::session::Publish;

use super::process::bus;

/// Regression: 50 invalid entries per second kept the list from ending, because each restarted the wait for quiet.
#[tokio::test]
async fn ls_ends_while_others_publish_names_without_end() {
    let bus = bus();
    let mut served = bus.serve(&["calculator"]);
    served.wait_for("calculator");
    let (client, stop) = (bus.client().await, Arc::new(AtomicBool::new(false)));
    let publishing = {
        let (topic, stop) = (format!("{}/name/junk/nobody", bus.root), stop.clone());
        tokio::spawn(async move {
            // Enough messages for a minute: by then the command has ended, or the test fails.
            for _ in 0..6_000 {
                if stop.load(Ordering::Relaxed) {
                    return true;
                }
                // The error that nobody subscribes is ignored.
                let _ = client.publish(Publish::new(&*topic, "no entry")).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        })
    };
    // The broker runs until the publisher has ended.
    let listing = tokio::task::spawn_blocking(move || (bus.ok(&["ls", "--timeout", "20"]), bus));
    let (listed, _bus) = listing.await.expect("no panic");
    stop.store(true, Ordering::Relaxed);
    assert!(listed.contains("calculator"), "{listed}");
    assert!(publishing.await.expect("no panic"), "it ended only when nothing was published any more");
}

#[cfg(feature = "gateway")]
mod gateway {
    use rantai_client::session::Filter;

    use super::super::gateway::{ask, connect, gateway, receive, send};
    use super::super::process::{PATIENCE, bus};
    use rantai_client::session::Publish;
    use std::io::BufReader;
    use std::time::Instant;

    /// Regression: 400 to 3,000 retained names with silent nodes kept a new object out of the list for minutes.
    #[tokio::test]
    async fn silent_names_do_not_keep_a_new_object_out_of_the_list() {
        let bus = bus();
        let client = bus.admin().await;
        let silent = Filter::new(format!("{}/at/+/#", bus.root));
        let _listens = client.subscribe(vec![silent]).await.expect("granted");
        for number in 0..600 {
            let (name, node) = (format!("a.mute.{number}"), format!("mute{number}"));
            let state = r#"{"v":1,"state":"ready","epoch":"1"}"#;
            let state = Publish::new(format!("{}/node/{node}", bus.root), state).retain();
            client.publish(state).await.expect("taken");
            let entry = format!(r#"{{"v":1,"object":"{name}","node":"{node}","epoch":"1","settled":true}}"#);
            let entry = Publish::new(format!("{}/name/{name}/{node}", bus.root), entry).retain();
            client.publish(entry).await.expect("taken");
        }
        let looking = tokio::task::spawn_blocking(move || {
            let gateway = gateway(&bus, "");
            let began = Instant::now();
            while !ask(&gateway.rest, "GET", "/objects", &[], b"").body.contains("\"echo\"") {
                assert!(began.elapsed() < PATIENCE, "the new object is not seen");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        looking.await.expect("it is seen");
    }

    #[test]
    fn events_of_tasks_are_followed_over_http_only_if_configured() {
        let user = "[[rest.users]]\nname = 'bob'\nkey = 'b'\n";
        let bob = "Authorization: Bearer b";
        let document = |rest: &str| {
            let began = Instant::now();
            loop {
                let document = ask(rest, "GET", "/openapi.json", &[bob], b"").body;
                if document.contains("/objects/tasks/submit") {
                    return document;
                }
                assert!(began.elapsed() < PATIENCE, "the ledger is not seen: {document}");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        let (first, second) = (bus(), bus());
        let closed = gateway(&first, user);
        assert_eq!(ask(&closed.rest, "GET", "/events/tasks", &[bob], b"").status, 403);
        assert!(!document(&closed.rest).contains("/events/tasks"));
        let told = gateway(&second, &format!("events = ['tasks']\n{user}"));
        assert!(document(&told.rest).contains("/events/tasks"));
    }

    #[test]
    fn one_user_does_not_take_all_streams() {
        let bus = bus();
        let users = "events = ['*']\n[rest.limits]\nstreams = 4\n[[rest.users]]\nname = 'ada'\nkey = 'a'\n\
                     [[rest.users]]\nname = 'bob'\nkey = 'b'\n";
        let gateway = gateway(&bus, users);
        let open = |key: &str| {
            let mut stream = connect(&gateway.rest);
            let key = format!("Authorization: Bearer {key}");
            send(&mut stream, &gateway.rest, "GET", "/events/tasks?event=state", &[&key], b"");
            let mut reader = BufReader::new(stream);
            (receive(&mut reader).status, reader)
        };
        let held: Vec<_> = (0..3).map(|_| open("a")).collect();
        assert_eq!(held.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200; 3]);
        assert_eq!(open("a").0, 429, "ada has her share");
        assert_eq!(open("b").0, 200, "bob is served");
    }
}
