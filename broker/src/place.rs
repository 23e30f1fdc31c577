//! Place of a connection within the limits of its address.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;

use crate::handshakes::Evicted;
use crate::shared::BrokerState;

/// Number of additional bytes of a CONNECT after which the count is updated.
const COUNTED_BYTES: usize = 4 << 10;

/// Place of a connection until its CONNECT is accepted; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<BrokerState>,
    address: IpAddr,
    number: u64,
    /// Number of bytes of its CONNECT counted so far.
    held: usize,
    accepted: bool,
}

impl Place {
    /// Reserves a place for a new connection, and returns it with a receiver that is ready when the handshake is
    /// evicted. `None` if the address has too many connections.
    pub(crate) fn take(shared: &Arc<BrokerState>, address: IpAddr) -> Option<(Self, Receiver<Evicted>)> {
        let (number, evicted) = shared.addresses.enter(address, shared.limits())?;
        Some((Self { shared: shared.clone(), address, number, held: 0, accepted: false }, evicted))
    }

    /// Updates the count of a CONNECT, of which `bytes` have arrived so far.
    pub(crate) fn hold(&mut self, bytes: usize) {
        // Most CONNECTs are shorter.
        if bytes >= self.held + COUNTED_BYTES {
            self.held = bytes;
            self.shared.addresses.hold(self.address, self.number, bytes, self.shared.limits());
        }
    }

    /// Ends the handshake of an accepted CONNECT. The connection then releases its place itself, with
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
