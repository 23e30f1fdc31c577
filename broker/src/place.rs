//! The place of a connection among those of its address.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;

use crate::addresses::Entered;
use crate::shared::Shared;

/// The place of a connection until its CONNECT is accepted; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    number: u64,
    accepted: bool,
}

impl Place {
    /// Takes a place for a new connection, and returns with it what is ready when others need the place; none where the
    /// address has too many connections.
    pub(crate) fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<(Self, Receiver<()>)> {
        let Entered { number, evicted } = shared.addresses.enter(address, &shared.config.limits)?;
        Some((Self { shared: shared.clone(), address, number, accepted: false }, evicted))
    }

    /// The CONNECT has been accepted: the connection gives its place back itself, by
    /// [`Addresses::leave`](crate::addresses::Addresses::leave).
    pub(crate) fn hand_over(mut self) {
        self.accepted = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.addresses.answered(self.address, self.number);
        if !self.accepted {
            self.shared.addresses.leave(self.address);
        }
    }
}
