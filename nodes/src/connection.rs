//! The connections of a session, one after the other: each has a number.

use rantai_client::session::Status;
use tokio::sync::watch;

/// Waits for a connection, and returns its number; `None` when the session has ended.
pub(crate) async fn connection(status: &mut watch::Receiver<Status>) -> Option<u64> {
    match *status.wait_for(|s| *s != Status::Offline).await.ok()? {
        Status::Online(connection) => Some(connection),
        _ => None,
    }
}

/// Waits until a connection is no more.
pub(crate) async fn over(mut status: watch::Receiver<Status>, connection: u64) {
    let _ = status.wait_for(|s| *s != Status::Online(connection)).await;
}
