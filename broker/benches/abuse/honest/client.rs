//! Connections of honest clients.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rantai_load::packet::{CONNACK, SUBACK, granted};
use rantai_testing::{Connect, Version, subscribe};

use crate::wire::{Wire, wait};

/// Source address and user of honest clients. Attackers have others, so that limits per address and user distinguish
/// them.
const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "honest";

/// Maximum time to wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns a client after its CONNACK, and after its SUBACK if it has a filter.
pub(super) fn client(broker: SocketAddr, id: &str, filter: Option<&str>) -> io::Result<Wire> {
    let mut wire = Wire::open(ADDRESS, broker, None)?;
    let connect = Connect::new(Version::V5).id(id).user(USER).password(PASSWORD);
    wire.out().extend(connect.encode());
    if let Some(filter) = filter {
        wire.out().extend(subscribe(Version::V5, 1, &[(filter, 1)]));
    }
    let awaited = if filter.is_some() { SUBACK } else { CONNACK };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        wire.flush()?;
        wait(&[&wire], deadline)?;
        wire.fill(usize::MAX)?;
        while let Some(frame) = wire.next_frame() {
            match frame.kind() {
                CONNACK if frame.reason() != 0 => {
                    return Err(io::Error::other(format!(
                        "CONNECT was refused with {:#04x}",
                        frame.reason()
                    )));
                }
                SUBACK => {
                    granted(frame.body(), 1).map_err(|failure| io::Error::other(failure.to_string()))?;
                }
                _ => {}
            }
            if frame.kind() == awaited {
                return Ok(wire);
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{id} got no answer")));
        }
    }
}
