//! Callbacks of the connection task.

use super::error::Unsent;
use super::message::Message;

/// Callbacks of the connection task. Must not block: they run on the task that reads the socket.
pub trait Receiver: Send + 'static {
    /// Called when the connection is up and persistent subscriptions have been requested again.
    fn connected(&mut self) {}

    /// Called when the connection is lost, after [`settled`](Self::settled) was called for every message published
    /// with [`Publish::once`](super::Publish::once). The session reconnects unless it has ended.
    fn disconnected(&mut self) {}

    /// Called for every received message.
    fn message(&mut self, message: Message);

    /// Called with the result of a publish that was given a token.
    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        let _ = (token, result);
    }
}
