//! Addresses of clients behind trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;
use serde::Deserialize;

/// Address, or network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a network such as 10.0.0.0/8"))
    }
}

/// Returns the address of the client that sent a request on the connection of `peer`: behind trusted proxies, the last
/// address in `X-Forwarded-For` that is not that of a trusted proxy. Earlier addresses may be forged. IPv6 addresses are
/// reduced to their network of 64 bits.
pub(super) fn client(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut address = peer.to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").iter().rev();
    let mut told = forwarded.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    while is_trusted(trusted, address) {
        let Some(next) = told.next().and_then(read) else { break };
        address = next;
    }
    network(address)
}

/// Checks whether an address is that of a trusted proxy.
pub(super) fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.0.contains(&address.to_canonical()))
}

/// Normalizes an address: IPv6 addresses to their network of 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Parses an address of `X-Forwarded-For`; some proxies append the port.
fn read(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::try_from(text.to_owned()).expect(text)
    }

    #[test]
    fn networks_are_read_and_contain_their_addresses() {
        for (text, address, expected) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fdff::1", true),
            ("::/0", "2001:db8::1", true),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(network(text).0.contains(&address), expected, "{text} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "example.org", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8"] {
            assert!(Network::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forwarded_addresses_are_trusted_from_proxies_only() {
        let trusted = [network("127.0.0.1"), network("10.0.0.0/8")];
        let of = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            client(&trusted, peer.parse().expect("an address"), &headers).to_string()
        };
        for (peer, forwarded, expected) in [
            ("9.9.9.9", &["1.1.1.1"][..], "9.9.9.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6", "1.1.1.1, 10.1.2.3"], "1.1.1.1"),
            ("127.0.0.1", &["1.1.1.1:80"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, nonsense"], "127.0.0.1"),
            ("::ffff:127.0.0.1", &["2001:db8:1:2:3::4"], "2001:db8:1:2::"),
        ] {
            assert_eq!(of(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
