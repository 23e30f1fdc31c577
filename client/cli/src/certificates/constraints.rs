//! Name constraints of an authority (RFC 5280, 4.2.1.10): the names and networks that it is restricted to.

use std::net::IpAddr;
use std::str::FromStr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::extensions::{GeneralName, NameConstraints as ReadConstraints};

use super::host::Host;

/// Constraint of an authority: a host name with all names below it, or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Names(String),
    Network { address: IpAddr, bits: u8 },
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is neither a host name nor a network, as in lab.example or 192.168.0.0/16");
        let Some((address, bits)) = text.split_once('/') else {
            return match text.strip_prefix('.').unwrap_or(text).parse()? {
                Host::Name(name) if !name.starts_with('*') => Ok(Self::Names(name)),
                Host::Name(_) => Err(wrong()),
                Host::Address(address) => Ok(Self::Network { bits: longest(&address), address }),
            };
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = bits.parse().ok().filter(|bits| *bits <= longest(&address)).ok_or_else(wrong)?;
        Ok(Self::Network { address: first_of(address, bits), bits })
    }
}

/// Returns the constraints of an authority that is restricted to `only`; `None` if that is empty.
pub(super) fn constraints(only: &[Only]) -> Option<NameConstraints> {
    if only.is_empty() {
        return None;
    }
    let permitted_subtrees = only.iter().map(|only| match only {
        Only::Names(name) => GeneralSubtree::DnsName(name.clone()),
        Only::Network { address, bits } => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, *bits))
        }
    });
    // A kind of name without constraints would be unrestricted.
    let mut excluded_subtrees = Vec::new();
    if !only.iter().any(|only| matches!(only, Only::Names(_))) {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    if !only.iter().any(|only| matches!(only, Only::Network { .. })) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    }
    Some(NameConstraints { permitted_subtrees: permitted_subtrees.collect(), excluded_subtrees })
}

/// Checks whether an authority with these constraints may sign for a host.
pub(super) fn allow(constraints: &ReadConstraints<'_>, host: &Host) -> bool {
    let covers = |base: &GeneralName<'_>| match (base, host) {
        (GeneralName::DNSName(base), Host::Name(name)) => is_below(name, base),
        (GeneralName::IPAddress(base), Host::Address(address)) => is_in(address, base),
        _ => false,
    };
    let is_of_kind = |base: &GeneralName<'_>| {
        matches!(
            (base, host),
            (GeneralName::DNSName(_), Host::Name(_)) | (GeneralName::IPAddress(_), Host::Address(_))
        )
    };
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    let of_kind = permitted.iter().any(|subtree| is_of_kind(&subtree.base));
    (!of_kind || permitted.iter().any(|subtree| covers(&subtree.base)))
        && !excluded.iter().any(|subtree| covers(&subtree.base))
}

/// Formats what the constraints permit, for messages.
pub(super) fn permitted(constraints: &ReadConstraints<'_>) -> String {
    let shown = constraints.permitted_subtrees.iter().flatten().map(|subtree| match &subtree.base {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(base) => network(base).map_or_else(
            || "a network".to_owned(),
            |(address, mask)| {
                let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                format!("{address}/{bits}")
            },
        ),
        other => other.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn is_below(name: &str, base: &str) -> bool {
    let base = base.strip_prefix('.').unwrap_or(base).to_ascii_lowercase();
    base.is_empty() || name.strip_suffix(&*base).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_in(address: &IpAddr, base: &[u8]) -> bool {
    let Some((network, mask)) = network(base) else { return false };
    let (octets, base) = (octets(address), octets(&network));
    octets.len() == base.len() && (0..mask.len()).all(|at| octets[at] & mask[at] == base[at] & mask[at])
}

/// Splits a constraint into address and mask, which have the same length.
fn network(base: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (address, mask) = base.split_at(base.len() / 2);
    let address = match base.len() {
        8 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        32 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some((address, mask))
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn longest(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the address with all bits after the network's set to zero.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_parsed_as_names_or_networks() {
        for (text, expected) in [
            ("lab.example", Only::Names("lab.example".to_owned())),
            (".LOCAL", Only::Names("local".to_owned())),
            ("192.168.77.5/16", Only::Network { address: [192, 168, 0, 0].into(), bits: 16 }),
            ("10.0.0.9", Only::Network { address: [10, 0, 0, 9].into(), bits: 32 }),
            ("0.0.0.0/0", Only::Network { address: [0, 0, 0, 0].into(), bits: 0 }),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["10.0.0.0/33", "a/8", "*.lab", "10.0.0.0/", ""] {
            assert!(text.parse::<Only>().is_err(), "{text}");
        }
    }
}
