//! Information from `/proc` about a process: its identity, and the addresses where it listens.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Unique identity of a process: process ids are reused, but not with the same start tick in the same boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Start time, in ticks since boot.
    started: u64,
    /// Id of the boot.
    boot: String,
}

impl Identity {
    /// Returns the identity of the process that has this id now, including a zombie.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::look(pid).map(|(identity, _)| identity)
    }

    /// Also returns whether the process has threads left. Threads end one by one, and the last one closes the sockets.
    fn look(pid: i32) -> Option<(Self, bool)> {
        let stat = Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let runs = !matches!(stat.state, 'Z' | 'X') || stat.threads > 1;
        Some((Self { pid, started: stat.started, boot }, runs))
    }

    /// Parses a line of [`to_line`](Self::to_line).
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let identity = Self {
            pid: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            boot: words.next()?.into(),
        };
        words.next().is_none().then_some(identity)
    }

    pub(super) fn to_line(&self) -> String {
        format!("{} {} {}\n", self.pid, self.started, self.boot)
    }

    /// Returns whether exactly this process is still running.
    pub(super) fn runs(&self) -> bool {
        Self::look(self.pid).is_some_and(|(identity, runs)| runs && identity == *self)
    }

    /// Returns whether the executable has this name, regardless of the name that the process gives itself.
    pub(super) fn is_program(&self, name: &str) -> bool {
        let Ok(program) = fs::read_link(format!("/proc/{}/exe", self.pid)) else { return false };
        let program = program.to_string_lossy();
        // If the package was upgraded, the executable of the running process is deleted.
        let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
        Path::new(program).file_name().is_some_and(|file| file == name)
    }
}

/// Returns the addresses at which a process listens for TCP connections.
pub(super) fn listening(pid: u32) -> io::Result<Vec<SocketAddr>> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // The file descriptor may have been closed since.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        inodes.extend(socket(&link.to_string_lossy()));
    }
    let mut found = listeners(&fs::read_to_string(format!("/proc/{pid}/net/tcp"))?, &inodes);
    // The file does not exist on machines without IPv6.
    if let Ok(table) = fs::read_to_string(format!("/proc/{pid}/net/tcp6")) {
        found.extend(listeners(&table, &inodes));
    }
    Ok(found)
}

/// Fields of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// State of the main thread.
    state: char,
    threads: u32,
    /// Start time, in ticks since boot.
    started: u64,
}

impl Stat {
    /// Parses the fields after the last `)`, because the process name may contain parentheses and spaces.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let threads = fields.nth(16)?.parse().ok()?;
        Some(Self { state, threads, started: fields.nth(1)?.parse().ok()? })
    }
}

/// Returns the inode of `socket:[123]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Returns the listening addresses with one of these inodes, from a table like `/proc/net/tcp`.
fn listeners(table: &str, inodes: &HashSet<u64>) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?.parse().ok()?);
        (*state == LISTEN && inodes.contains(&inode)).then(|| address(local)).flatten()
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Parses `0100007F:0CBC`: 32-bit words of the address in native byte order, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..host.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let host = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_for_any_process_name() {
        let stat = "3268 (tgtd) (a) b) S 1 3263 28242 0 -1 4194304 310 0 6 0 0 0 0 0 20 0 17 0 3903233 141778944 1029";
        assert_eq!(Stat::parse(stat), Some(Stat { state: 'S', threads: 17, started: 3_903_233 }));
        assert_eq!(Stat::parse("3268 (tgtd"), None);
    }

    #[test]
    fn an_identity_is_written_and_read() {
        let own = Identity::of(std::process::id().cast_signed()).expect("this process runs");
        assert_eq!(Identity::parse(&own.to_line()), Some(own.clone()));
        assert!(own.runs());
        assert!(!Identity { started: own.started + 1, ..own.clone() }.runs());
        assert!(!Identity { boot: "another".to_owned(), ..own.clone() }.runs());
        assert!(!own.is_program("tgtd"));
        for broken in ["", "12", "12 13", "twelve 13 boot", "12 13 boot more"] {
            assert_eq!(Identity::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_what_listens_at_its_own_sockets_is_found() {
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:33CC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0
   1: 0100007F:33CC 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 8 1 0 100 0 0 10 0
   2: 00000000:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0
";
        let here = "127.0.0.1:13260".parse().expect("an address");
        assert_eq!(listeners(table, &HashSet::from([7, 8])), [here]);
        assert_eq!(address("00000000000000000000000001000000:0CBC"), "[::1]:3260".parse().ok());
        assert_eq!(address("0100007F"), None);
        assert_eq!(socket("socket:[10803554]"), Some(10_803_554));
        assert_eq!(socket("/dev/null"), None);
    }

    #[test]
    fn this_process_is_seen_listening() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            // Skips IPv6 on machines without it.
            let Ok(listener) = std::net::TcpListener::bind(host) else { continue };
            let address = listener.local_addr().expect("it is bound");
            assert!(listening(std::process::id()).expect("its own entries").contains(&address));
        }
    }
}
