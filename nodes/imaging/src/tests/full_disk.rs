//! Regression: when the disk of the state was full, the server replied 500 from then on, and kept its locks until a restart.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::reply::Status;
use rantai_commit::faulty;

async fn ask_again(
    server: &Server,
    line: &str,
    key: Uuid,
) -> Result<Reply, rantai_client::wire::fault::Fault> {
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let method = words.next().expect("a method");
    server.command(method, words.collect(), context("ada", Some(key))).await
}

/// Repeats a request until it is neither busy nor refused as busy.
async fn ask_at_last(server: &Server, line: &str, key: Uuid) -> Reply {
    loop {
        match ask_again(server, line, key).await {
            Ok(reply) if reply.status_code != Status::Busy as u16 => return reply,
            Ok(_) => {}
            Err(fault) => assert!(fault.is_retryable(), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn requests_on_a_full_disk_are_busy_and_succeed_once_there_is_room() {
    let (directory, failing) = folder();
    let (opener, switch) = faulty::file(&directory.path().join("state.redb"));
    let server = Server::new(settings(directory.path(), Vec::new()));
    server.open_on(opener, failing.clone(), Arc::new(Handing(failing.clone()))).expect("opened");
    // The first write to fail is before the operation begins, between two steps, or at its end.
    for (number, writes) in (0..40).step_by(3).enumerate() {
        let (line, key) = (format!("provision node-{number}"), Uuid::new_v4());
        switch.writes.store(writes, Ordering::Relaxed);
        switch.full.store(true, Ordering::Relaxed);
        let mut asked = tokio::spawn({
            let (server, line) = (server.clone(), line.clone());
            async move { ask_again(&server, &line, key).await }
        });
        let within = timeout(Duration::from_millis(100), &mut asked).await;
        switch.full.store(false, Ordering::Relaxed);
        let first = match within {
            Ok(first) => first.expect("no panic"),
            // Completed steps are stored once there is space.
            Err(_) => asked.await.expect("no panic"),
        };
        match first {
            Ok(reply) => assert!([200, 409].contains(&reply.status_code), "{writes} writes: {reply:?}"),
            Err(fault) => assert!(fault.is_retryable(), "{writes} writes: {fault}"),
        }
        let reply = ask_at_last(&server, &line, key).await;
        assert_eq!(status(&reply), (200, ""), "{writes} writes");
        assert!(failing.folder.disk(&format!("node-{number}")).exists());
    }
    for number in 0..14 {
        let reply = ask_at_last(&server, &format!("detach_node node-{number}"), Uuid::new_v4()).await;
        assert_eq!(status(&reply), (200, ""), "nothing is held");
    }
    assert_eq!(nodes(&server).await, []);
}
