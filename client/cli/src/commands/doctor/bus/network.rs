//! Who can listen on the way to the broker.

use std::net::IpAddr;

use super::{Examination, Finding, item};

/// Whether messages and passwords can be read on the network.
pub(in super::super) fn encryption(examination: &Examination) -> Finding {
    let address = examination.address.to_string();
    let host = address.split_once("://").map_or(&*address, |(_, rest)| rest);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if local {
        return item::ENCRYPTION.ok("not encrypted, within this machine");
    }
    item::ENCRYPTION.bad("not encrypted: whoever can listen on the network reads passwords and messages")
}
