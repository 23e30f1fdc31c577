//! The broker's settings: TOML in, checked settings out.

mod access;
mod complaint;
mod file;
mod hardened;
mod hidden;
mod listeners;
mod roles;
mod source;
mod users;

pub use complaint::ConfigError;
pub use listeners::{
    CertificateFiles, ClientCertificates, Endpoint, Listener, Origins, TlsSettings, UserFrom, WebSettings,
};
pub use roles::{PlainRole, RoleMistake, RoleSyntax};
pub use source::ConfigSource;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_access::Table;
use rantai_credentials::Record;

use crate::unserved::UnservedHandler;

/// Everything that can be set. `Config::default()` listens on 127.0.0.1:1883 and keeps all in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to accept MQTT over TCP; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Further listeners: over TLS, WebSocket or a unix socket, or with users and limits of their own. Default: none.
    pub listeners: Vec<Listener>,
    /// Where to keep sessions and retained messages; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Which engine runs this configuration.
    pub engine: Engine,
    /// Whether clients without a user name are let in. Default: true while `users` is empty.
    pub anonymous: bool,
    /// Users that may log in.
    pub users: Vec<User>,
    /// Roots of buses (PROTOCOL.md), each of levels of 1 to 64 characters of `A-Z a-z 0-9 . _ -`, none below another. Below
    /// them the broker sets the user properties `caller` and `via`, and removes any that a client sent. Default: `rantai`.
    pub bus_roots: Vec<String>,
    /// Exceptions from `limits.queue_full`; the first whose filter matches a message's topic holds. Default: none.
    pub queues: Vec<QueueRule>,
    /// How often `$SYS/broker/…` is published; zero switches it off. Default: 10 s.
    pub sys_interval: Duration,
    /// Limits.
    pub limits: Limits,
    /// What is done where the file in `data_dir` is damaged. Default: [`OnDamage::Salvage`].
    pub on_damage: OnDamage,
    /// Who may do what. `None`: whoever is let in may do everything, and any user name is taken for what it says where there
    /// are no `users`. A file has rules where it has users or an ACL file.
    pub access: Option<Arc<Table>>,
    /// Whether to listen beyond this machine without users. Default: false, a listener that is not loopback is then an error.
    pub open: bool,
    /// Whether every strict choice is made at once: see [`strict_choices`](Self::strict_choices). Default: false.
    pub hardened: bool,
    /// The file that these settings were read from, to be read again.
    pub source: Option<ConfigSource>,
    /// Answers requests on the topics of a bus that nobody takes. Default: nobody does, and a client of MQTT 5 is told
    /// so by PUBACK 0x10 alone.
    pub unserved: Option<UnservedHandler>,
}

/// Which engine runs a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Our own.
    #[default]
    Rantai,
    /// rumqttd 0.20, for comparison; needs the feature `rumqttd`.
    Rumqttd,
}

/// One user who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user name.
    pub name: String,
    /// What is kept instead of the password; a user without one cannot log in by a password.
    pub password: Option<Record>,
}

impl User {
    /// A user who logs in with the password of this record.
    pub fn new(name: impl Into<String>, password: Option<Record>) -> Self {
        Self { name: name.into(), password }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What happens to a message at QoS 1 or 2 for a session whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueFull {
    /// The message is dropped for that session alone, and counted; all other sessions get it. While the session's
    /// client is connected and taking messages, the publisher waits for room first, for at most `publish_wait`.
    #[default]
    Drop,
    /// As [`Drop`](Self::Drop), and the session's client is disconnected if it is connected (0x97 in MQTT 5). The session
    /// keeps what it holds.
    Disconnect,
    /// The publisher waits for at most `publish_wait`, then the message is refused for everybody: reason code 0x97
    /// in MQTT 5, end of the connection in 3.1.1.
    Refuse,
}

/// Which message is dropped where a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueDrops {
    /// The one that comes: what is queued stays.
    #[default]
    Newest,
    /// Those that have waited longest make room for it.
    Oldest,
}

/// What happens at full queues to messages on some topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRule {
    /// The topic filter that a message's topic has to match.
    pub filter: String,
    /// In place of `limits.queue_full`.
    pub full: QueueFull,
}

/// What a start does about a damaged file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// What can be read of it is kept; the damaged file gets another name.
    #[default]
    Salvage,
    /// The start fails, and the file stays as it is.
    Stop,
}

/// Limits, each of them counted when it is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time. Default: 100,000.
    pub connections: usize,
    /// Time a client has for its CONNECT. Default: 10 s.
    pub connect_timeout: Duration,
    /// The largest packet accepted, in bytes, header included. Default: 2 MiB.
    pub packet_bytes: u32,
    /// Longest keep-alive granted; a client that asks for more (or for none) is given this. Zero: any.
    pub keep_alive: u16,
    /// QoS 1 and 2 messages a client may have unacknowledged towards the broker. Default: 1,024.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight towards one client; its own Receive Maximum may lower it. Default: 1,024.
    pub in_flight: u16,
    /// Topic aliases a client may set. Default: 64.
    pub topic_aliases: u16,
    /// Longest time a session outlives its connection, for 3.1.1 with clean session 0 too. Default: 7 days.
    pub session_expiry: Duration,
    /// Bytes encoded and not yet taken by a client's socket before messages wait in its queue. Default: 256 KiB.
    pub outbox_bytes: usize,
    /// Messages queued for one session. Default: 100,000.
    pub queue_messages: usize,
    /// Bytes queued for one session at QoS 1 and 2, with about 450 for each message beside its texts and payload, as
    /// wherever messages are counted in bytes. Default: 64 MiB.
    pub queue_bytes: usize,
    /// Bytes queued for one session at QoS 0; the oldest are dropped. Default: 4 MiB.
    pub queue_qos0_bytes: usize,
    /// What happens when a queue is full. Default: [`QueueFull::Drop`].
    pub queue_full: QueueFull,
    /// Which message is dropped where a queue is full. Default: [`QueueDrops::Newest`].
    pub queue_drops: QueueDrops,
    /// Bytes in flight towards one client at QoS 1 and 2 before further messages wait in its queue. Default: 64 MiB.
    pub in_flight_bytes: usize,
    /// Bytes in flight to all clients together, whether connected or not. Default: 0, a quarter of `memory_bytes`.
    pub total_in_flight_bytes: usize,
    /// Messages queued for all sessions together whose clients are away. Default: 1,000,000.
    pub absent_messages: usize,
    /// Bytes queued for all sessions together whose clients are away; a message counts for each of them. Default: 256 MiB.
    pub absent_bytes: usize,
    /// How long a connected client whose queue overflows may take no message before it is disconnected; and how long one
    /// that is not read because of `answer_bytes` may take no byte. Default: 30 s; zero: for ever.
    pub slow_reader: Duration,
    /// How long a publisher waits for room in a full queue. Default: 1 s; zero: not at all.
    pub publish_wait: Duration,
    /// Subscriptions of one session. Default: 10,000.
    pub subscriptions: usize,
    /// Retained messages. Default: 2,000,000.
    pub retained: usize,
    /// Levels of a topic or filter. Default: 128.
    pub topic_levels: usize,
    /// Connections at one time from one address, or from one IPv6 network of 64 bits. Default: 50,000.
    pub connections_per_address: usize,
    /// Connections of one address whose CONNECT has not been answered yet; one more ends the oldest. Default: 5,000.
    pub handshakes_per_address: usize,
    /// Connections whose CONNECT has not been answered yet, of all addresses: one more ends the oldest of the address that
    /// has most. Each 4 KiB of a CONNECT that has not ended counts as one more. Default: 10,000.
    pub handshakes: usize,
    /// How far a packet that has begun may be behind `packet_bytes_per_s`. Default: 10 s.
    pub packet_grace: Duration,
    /// The least a client has to send of a packet that has begun, in bytes a second; bytes that do so keep its
    /// connection alive, others do not. Default: 1,024; zero: no time limit, and only whole packets keep it alive.
    pub packet_bytes_per_s: u32,
    /// Bytes of answers (acknowledgements, SUBACK, PINGRESP) that a client has not taken before it is not read any
    /// more; as many may wait for the disk. Default: 256 KiB.
    pub answer_bytes: usize,
    /// Topic aliases towards one client; its own Topic Alias Maximum may lower it. Default: 65,535; zero: none.
    pub send_topic_aliases: u16,
    /// Bytes of topics that have aliases, for one client and in each direction. Default: 256 KiB.
    pub topic_alias_bytes: usize,
    /// Longest time between two passwords that are tried for one user from one address, once some were wrong.
    /// Default: 2 s; zero: no wait.
    pub guess_delay: Duration,
    /// Threads that check passwords. Default: 0, half of the cores, from one to four.
    pub password_threads: usize,
    /// Passwords that wait to be checked; an address (an IPv6 network of 64 bits) has a place only while it holds fewer
    /// than twice as many as are free. Default: 4,096.
    pub password_queue: usize,
    /// Log lines of each kind that clients can cause, a second; further ones are counted. Default: 100.
    pub log_lines_per_s: u32,
    /// Bytes to leave free on the file system of `data_dir`: below them nothing new is kept, and what needs that is refused.
    /// `Some(0)`: none. Default: 64 MiB or a hundredth of the file system, whichever is less.
    pub free_space_bytes: Option<u64>,
    /// How long a write to the disk of `data_dir` may take before the disk counts as one that does not work. Default: 10 s;
    /// zero: for ever.
    pub disk_stall: Duration,
    /// How long acknowledgements may wait for a disk that does not work before the connection of their client is ended
    /// (0x97), so that it can send again what it is then refused. Default: 10 s; zero: for ever.
    pub disk_wait: Duration,
    /// User properties of one PUBLISH or will. Default: 1,000.
    pub user_properties: usize,
    /// Bytes that the subscriptions of one session take, about 400 for each level of a filter. Default: 32 MiB.
    pub subscription_bytes: usize,
    /// Bytes that the subscriptions of all sessions take. Default: 0, a quarter of `memory_bytes`.
    pub total_subscription_bytes: usize,
    /// Shared groups (`$share/{group}/{filter}`) on one filter: each gets a copy of a message. Default: 1,024.
    pub share_groups: usize,
    /// Shared groups on one filter that one session is a member of. Default: 16.
    pub share_groups_session: usize,
    /// Bytes that all retained messages take. Default: 0, a quarter of `memory_bytes`.
    pub retained_bytes: usize,
    /// Bytes a second by which the retained messages of one user or address may grow once they take a quarter of
    /// `retained_bytes`; what is faster waits. Default: 64 MiB; zero: no limit.
    pub retained_bytes_per_s: usize,
    /// Bytes that all wills take; one that is below an equal share of them always has room. Default: 64 MiB.
    pub will_bytes: usize,
    /// Sessions of all clients, whether connected or not. Default: 200,000.
    pub sessions: usize,
    /// Sessions of one user, or begun from one address (one IPv6 network of 64 bits) where clients are nobody. Default:
    /// 100,000.
    pub sessions_per_user: usize,
    /// Resident memory of the process, in bytes, near which the broker sheds load. Default: 0, three quarters of what its
    /// control group or the machine has.
    pub memory_bytes: usize,
    /// Requests on buses that may be replied to at one time, where there are access rules: each counts for whoever asked, until
    /// it is replied to or expires. A user (where nobody logged in: an address) asks for more only while it has asked for less
    /// than twice as many as are free, and is told 0x97 otherwise. Default: 65,536.
    pub grants: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connect_timeout: Duration::from_secs(10),
            packet_bytes: 2 << 20,
            keep_alive: 0,
            receive_maximum: 1_024,
            in_flight: 1_024,
            topic_aliases: 64,
            session_expiry: Duration::from_hours(7 * 24),
            outbox_bytes: 256 << 10,
            queue_messages: 100_000,
            queue_bytes: 64 << 20,
            queue_qos0_bytes: 4 << 20,
            queue_full: QueueFull::Drop,
            queue_drops: QueueDrops::Newest,
            in_flight_bytes: 64 << 20,
            total_in_flight_bytes: 0,
            absent_messages: 1_000_000,
            absent_bytes: 256 << 20,
            slow_reader: Duration::from_secs(30),
            publish_wait: Duration::from_secs(1),
            subscriptions: 10_000,
            retained: 2_000_000,
            topic_levels: 128,
            connections_per_address: 50_000,
            handshakes_per_address: 5_000,
            handshakes: 10_000,
            packet_grace: Duration::from_secs(10),
            packet_bytes_per_s: 1_024,
            answer_bytes: 256 << 10,
            send_topic_aliases: u16::MAX,
            topic_alias_bytes: 256 << 10,
            guess_delay: Duration::from_secs(2),
            password_threads: 0,
            password_queue: 4_096,
            log_lines_per_s: 100,
            free_space_bytes: None,
            disk_stall: Duration::from_secs(10),
            disk_wait: Duration::from_secs(10),
            user_properties: 1_000,
            subscription_bytes: 32 << 20,
            total_subscription_bytes: 0,
            share_groups: 1_024,
            share_groups_session: 16,
            retained_bytes: 0,
            retained_bytes_per_s: 64 << 20,
            will_bytes: 64 << 20,
            sessions: 200_000,
            sessions_per_user: 100_000,
            memory_bytes: 0,
            grants: 65_536,
        }
    }
}

impl Config {
    /// The first listener that other machines reach, though nobody would have to log in and no rule holds; none where that
    /// is meant (`open`).
    pub(crate) fn open_listener(&self) -> Option<SocketAddr> {
        let is_open = self.users.is_empty() && self.access.is_none() && !self.open;
        let asks = |listener: &&Listener| {
            let tls = listener.tls.as_ref();
            tls.is_some_and(|tls| tls.client_certificates == ClientCertificates::Required)
        };
        let open = self.listeners.iter().filter(|listener| !asks(listener));
        let addresses = self.listen.iter().copied().chain(open.filter_map(Listener::address));
        let mut beyond = addresses.filter(|address| !address.ip().to_canonical().is_loopback());
        beyond.next().filter(|_| is_open)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 1883))],
            listeners: Vec::new(),
            data_dir: None,
            engine: Engine::default(),
            anonymous: true,
            users: Vec::new(),
            bus_roots: vec!["rantai".to_owned()],
            queues: Vec::new(),
            sys_interval: Duration::from_secs(10),
            limits: Limits::default(),
            on_damage: OnDamage::default(),
            access: None,
            open: false,
            hardened: false,
            source: None,
            unserved: None,
        }
    }
}

impl Config {
    /// The defaults on a free port of 127.0.0.1: what a test or an example wants.
    pub fn on_free_port() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..Self::default() }
    }
}
