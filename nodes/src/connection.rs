//! Waiting for the connections of a session, which are numbered.

use rantai_client::session::Status;
use tokio::sync::watch;

/// Waits until the session is connected, and returns the connection's number; `None` if the session has ended.
pub(crate) async fn connection(status: &mut watch::Receiver<Status>) -> Option<u64> {
    match *status.wait_for(|s| *s != Status::Offline).await.ok()? {
        Status::Online(connection) => Some(connection),
        _ => None,
    }
}

/// Waits until the connection with this number, or the session, has ended.
pub(crate) async fn over(mut status: watch::Receiver<Status>, connection: u64) {
    let _ = status.wait_for(|s| *s != Status::Online(connection)).await;
}
