//! Place of a connection among those of its address.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;

use crate::handshakes::Evicted;
use crate::shared::Shared;

/// Number of new bytes of a CONNECT after which they are counted again.
const COUNTED_BYTES: usize = 4 << 10;

/// Place of a connection until its CONNECT is accepted; released when it is dropped.
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
    /// Takes a place for a new connection, and returns it with a receiver that is ready once the handshake is evicted.
    /// `None` if the address has too many connections.
    pub(crate) fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<(Self, Receiver<Evicted>)> {
        let (number, evicted) = shared.addresses.enter(address, shared.limits())?;
        Some((Self { shared: shared.clone(), address, number, held: 0, accepted: false }, evicted))
    }

    /// Counts the `bytes` of its CONNECT that have arrived so far.
    pub(crate) fn hold(&mut self, bytes: usize) {
        // Few CONNECTs are longer.
        if bytes >= self.held + COUNTED_BYTES {
            self.held = bytes;
            self.shared.addresses.hold(self.address, self.number, bytes, self.shared.limits());
        }
    }

    /// Ends the handshake of an accepted CONNECT: the connection releases its place itself, by
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
