//! The place of a connection among those of its address.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;

use crate::handshakes::Evicted;
use crate::shared::Shared;

/// Bytes of a CONNECT between two times that they are counted.
const COUNTED_BYTES: usize = 4 << 10;

/// The place of a connection until its CONNECT is accepted; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
    number: u64,
    /// Bytes of its CONNECT that are counted.
    held: usize,
    accepted: bool,
}

impl Place {
    /// Takes a place for a new connection, and returns with it what is ready when others need the place; none where the
    /// address has too many connections.
    pub(crate) fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<(Self, Receiver<Evicted>)> {
        let (number, evicted) = shared.addresses.enter(address, &shared.config.limits)?;
        Some((Self { shared: shared.clone(), address, number, held: 0, accepted: false }, evicted))
    }

    /// Counts the `bytes` of its CONNECT that have come so far.
    pub(crate) fn hold(&mut self, bytes: usize) {
        // Few are longer than that.
        if bytes >= self.held + COUNTED_BYTES {
            self.held = bytes;
            self.shared.addresses.hold(self.address, self.number, bytes, &self.shared.config.limits);
        }
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
