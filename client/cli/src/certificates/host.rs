//! Names that a server's certificate is valid for: host names and addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

/// Maximum length of a host name, in bytes (RFC 1035, 2.3.4).
const MAX_HOST_NAME: usize = 253;

/// Host name in lower case, or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains("://") || text.parse::<SocketAddr>().is_ok() || has_port(text) {
            return Err(format!(
                "{text:?} is no host; write its name or address alone, as in pi.local or 192.168.1.5"
            ));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        // Other programs parse a name whose last label consists of digits as an address.
        let is_address =
            labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if labels.split('.').all(is_label) && name.len() <= MAX_HOST_NAME && !is_address {
            Ok(Self::Name(name))
        } else {
            Err(format!("{text:?} is neither a host name (letters, digits, '-' and '.') nor an IP address"))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

fn has_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Returns the names and addresses of this machine: its name, that with `.local` (mDNS), and the addresses that its packets
/// are sent from. Those that only this machine can reach come last.
pub(crate) fn of_this_machine() -> Vec<Host> {
    let name = host_name();
    let local = name.as_ref().filter(|name| !name.contains('.')).map(|name| format!("{name}.local"));
    // Connects to documentation networks (RFC 5737, RFC 3849): the system selects the source address, and nothing is sent.
    let elsewhere = [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([192, 0, 2, 1])),
        (Ipv6Addr::UNSPECIFIED.into(), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
    ];
    let leaving = elsewhere.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    });
    let names = [name, local].into_iter().flatten().filter_map(|name| name.parse().ok());
    let here = ["localhost", "127.0.0.1", "::1"].map(|here| here.parse().expect("a host"));
    let mut hosts: Vec<Host> = Vec::new();
    for host in names.chain(leaving.map(Host::Address)).filter(|host| !here.contains(host)) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.extend(here);
    hosts
}

fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    Some(name.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_addresses_are_parsed_and_invalid_ones_refused() {
        for (text, read) in [
            ("PI.local", "pi.local"),
            ("pi", "pi"),
            ("*.lab.example.", "*.lab.example"),
            ("192.168.1.5", "192.168.1.5"),
            ("[fd00::1]", "fd00::1"),
        ] {
            assert_eq!(text.parse::<Host>().map(|host| host.to_string()), Ok(read.to_owned()), "{text}");
        }
        for (text, told) in [
            ("mqtts://pi.local", "alone"),
            ("pi.local:8883", "alone"),
            ("[::1]:8883", "alone"),
            ("", "neither"),
            ("a..b", "neither"),
            ("-a", "neither"),
            ("a b", "neither"),
            ("1.2.3.400", "neither"),
            ("a.*", "neither"),
            (&"a.".repeat(130), "neither"),
        ] {
            let error = text.parse::<Host>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_this_machine_include_localhost_without_duplicates() {
        let hosts = of_this_machine();
        assert!(
            hosts.ends_with(&["localhost", "127.0.0.1", "::1"].map(|host| host.parse().expect("a host")))
        );
        for (at, host) in hosts.iter().enumerate() {
            assert!(!hosts[..at].contains(host), "{host} twice");
        }
    }
}
