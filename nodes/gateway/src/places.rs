//! Fair shares of connections by address: no address gets all of them.

use std::net::IpAddr;
use std::sync::Arc;

use rantai_client::shares::{HeldPlace, ShareLimits, ShareLog, Shares};

use super::guard::{Caller, Counts, Guard};
use super::proxies;
use super::settings::Limits;

/// Numbers of connections and handshakes of each address.
#[derive(Debug)]
pub(super) struct Places {
    connections: Arc<Shares<IpAddr>>,
    handshakes: Arc<Shares<IpAddr>>,
    log: ShareLog,
}

/// Place held by one address, released on drop; `None` for a trusted proxy, which forwards for many clients.
pub(super) type AddressPlace = Option<HeldPlace<IpAddr>>;

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        let table = |most: usize| Shares::new(ShareLimits { limit: u64::MAX, per_caller: Some(most as u64) });
        Self {
            connections: table(limits.connections_of_address()),
            handshakes: table(limits.handshakes_of_address()),
            log: ShareLog::default(),
        }
    }

    /// Takes a place for a connection of `peer`; fails if its address has too many.
    pub(super) fn connection(&self, guard: &Guard, peer: IpAddr) -> Result<AddressPlace, ()> {
        self.take(&self.connections, "connections_per_address", guard, peer)
    }

    /// Takes a place for a handshake of `peer`; fails if its address has too many.
    pub(super) fn handshake(&self, guard: &Guard, peer: IpAddr) -> Result<AddressPlace, ()> {
        self.take(&self.handshakes, "handshakes_per_address", guard, peer)
    }

    fn take(
        &self,
        table: &Arc<Shares<IpAddr>>,
        limit: &str,
        guard: &Guard,
        peer: IpAddr,
    ) -> Result<AddressPlace, ()> {
        if guard.is_trusted_proxy(peer) {
            return Ok(None);
        }
        let address = proxies::network(peer);
        let place = table.take(&address);
        if place.is_none() {
            Counts::one(&guard.counts.crowded_addresses);
            let caller = Caller::Address(address);
            if self.log.may_log(caller.to_string()) {
                tracing::warn!("connections of {caller} are closed: it has as many as `{limit}` allows");
            }
        }
        place.map(Some).ok_or(())
    }
}
