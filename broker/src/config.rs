//! Configuration of the broker: parsed from TOML and checked.

mod access;
mod complaint;
mod file;
mod hardened;
mod hidden;
mod http;
mod listeners;
mod roles;
mod source;
mod users;
mod written;

pub use complaint::ConfigError;
pub use http::HttpSettings;
pub use listeners::{
    CertificateFiles, ClientCertificates, Endpoint, Listener, Origins, TlsSettings, UserFrom, WebSettings,
};
pub use roles::{PlainRole, RoleMistake, RoleSyntax};
pub use source::ConfigSource;
pub use written::Change;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_access::Table;
use rantai_credentials::Record;

use crate::unserved::UnservedHandler;

/// Settings of a broker. `Config::default()` listens on 127.0.0.1:1883 and keeps everything in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses on which to accept MQTT over TCP; port 0 picks a free port.
    pub listen: Vec<SocketAddr>,
    /// Further listeners: over TLS, WebSocket or a Unix socket, or with their own users and limits. Default: none.
    pub listeners: Vec<Listener>,
    /// Directory for sessions and retained messages; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Directory for backups; `None`: `backups` in `data_dir`. [`Broker::start`](crate::Broker::start) makes no
    /// backups: the program that embeds the broker does. Default: `None`.
    pub backup_dir: Option<PathBuf>,
    /// Number of backups to keep there; the oldest are removed. Default: 7.
    pub backups_kept: usize,
    /// Engine that runs this configuration.
    pub engine: Engine,
    /// Number of threads that serve connections; 0 is one for each core, up to 4. Ignored with rumqttd. Default: 1.
    pub threads: usize,
    /// Whether clients without a user name are admitted. Default: true while `users` is empty.
    pub anonymous: bool,
    /// Users that may log in.
    pub users: Vec<User>,
    /// Roots of buses (PROTOCOL.md), each of levels of 1 to 64 characters of `A-Z a-z 0-9 . _ -`, none below another.
    /// Below them the broker sets the user properties `caller` and `via`, and removes those sent by clients. Default:
    /// `rantai`.
    pub bus_roots: Vec<String>,
    /// Exceptions from `limits.queue_full`; the first one whose filter matches a message's topic applies. Default:
    /// none.
    pub queues: Vec<QueueRule>,
    /// Interval at which `$SYS/broker/…` is published; zero disables it. Default: 10 s.
    pub sys_interval: Duration,
    /// HTTP listener for metrics and health. [`Broker::start`](crate::Broker::start) does not open it: the crate
    /// `rantai-monitoring` does, with a [`Monitor`](crate::Monitor). Default: none.
    pub http: Option<HttpSettings>,
    /// Limits.
    pub limits: Limits,
    /// Action for a damaged file in `data_dir`. Default: [`OnDamage::Salvage`].
    pub on_damage: OnDamage,
    /// Access rules. `None`: admitted clients may do everything, and without `users` any user name is accepted
    /// unverified. A configuration file with users or an ACL file has rules.
    pub access: Option<Arc<Table>>,
    /// Whether other machines may connect although there are no users. Default: false; a listener that is not loopback
    /// is then an error.
    pub open: bool,
    /// Whether to require every strict choice: see [`strict_choices`](Self::strict_choices). Default: false.
    pub hardened: bool,
    /// File from which these settings were read, for reloading.
    pub source: Option<ConfigSource>,
    /// Handler that answers requests on bus topics that no subscriber serves. Default: none; a client of MQTT 5 then
    /// only gets PUBACK 0x10.
    pub unserved: Option<UnservedHandler>,
    /// Name of the object on the buses that administers this broker, served by its own process. No client may claim
    /// the name or send its events, and only admins may call its methods: see
    /// [`Administration`](crate::Administration). Default: none.
    pub administrative_object: Option<String>,
}

/// Engine that runs a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The engine of this crate.
    #[default]
    Rantai,
    /// rumqttd 0.20, for comparison; needs the feature `rumqttd`.
    Rumqttd,
}

/// A user who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Record of the password; a user without one cannot log in by a password.
    pub password: Option<Record>,
}

impl User {
    /// Creates a user who logs in with the password of this record.
    pub fn new(name: impl Into<String>, password: Option<Record>) -> Self {
        Self { name: name.into(), password }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Action for a message at QoS 1 or 2 when the queue of a session is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueFull {
    /// The message is dropped for this session only, and counted; all other sessions receive it. While the session's
    /// client is connected and reading, the publisher first waits for room, for at most `publish_wait`.
    #[default]
    Drop,
    /// Like [`Drop`](Self::Drop), and the session's client is disconnected if it is connected (0x97 in MQTT 5). The
    /// session keeps its queue.
    Disconnect,
    /// The publisher waits for at most `publish_wait`, then the message is refused for all sessions: reason code 0x97
    /// in MQTT 5, end of the connection in MQTT 3.1.1.
    Refuse,
}

/// Message that is dropped if a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueDrops {
    /// The new message: queued messages stay.
    #[default]
    Newest,
    /// The oldest messages, to make room for the new one.
    Oldest,
}

/// Rule for full queues, for messages on some topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRule {
    /// Topic filter that a message's topic has to match.
    pub filter: String,
    /// Rule that applies instead of `limits.queue_full`.
    pub full: QueueFull,
}

/// Action for a damaged file at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// Readable records are kept in a new file, and the damaged file is renamed.
    #[default]
    Salvage,
    /// The start fails, and the file is not changed.
    Stop,
}

/// Limits of a broker. Reaching a limit is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of simultaneous connections. Default: 100,000.
    pub connections: usize,
    /// Time limit for a client's CONNECT. Default: 10 s.
    pub connect_timeout: Duration,
    /// Maximum size of an accepted packet, in bytes, including its header. Default: 2 MiB.
    pub packet_bytes: u32,
    /// Maximum keep-alive, in seconds; a client that asks for more, or for none, gets this one. Zero: no maximum.
    pub keep_alive: u16,
    /// Maximum number of unacknowledged QoS 1 and 2 messages from a client. Default: 1,024.
    pub receive_maximum: u16,
    /// Maximum number of QoS 1 and 2 messages in flight to one client; its own Receive Maximum may lower it. Default:
    /// 1,024.
    pub in_flight: u16,
    /// Maximum number of topic aliases that a client may set. Default: 64.
    pub topic_aliases: u16,
    /// Maximum time that a session outlives its connection, also for MQTT 3.1.1 with clean session 0. Default: 7 days.
    pub session_expiry: Duration,
    /// Number of bytes encoded and not yet accepted by a client's socket above which messages wait in its queue.
    /// Default: 256 KiB.
    pub outbox_bytes: usize,
    /// Maximum number of messages queued for one session. Default: 100,000.
    pub queue_messages: usize,
    /// Maximum number of bytes queued for one session at QoS 1 and 2. As everywhere that messages are counted in bytes,
    /// each message counts for about 450 bytes besides its texts and payload. Default: 64 MiB.
    pub queue_bytes: usize,
    /// Maximum number of bytes queued for one session at QoS 0; the oldest messages are dropped. Default: 4 MiB.
    pub queue_qos0_bytes: usize,
    /// Action for a message when a queue is full. Default: [`QueueFull::Drop`].
    pub queue_full: QueueFull,
    /// Message that is dropped if a queue is full. Default: [`QueueDrops::Newest`].
    pub queue_drops: QueueDrops,
    /// Bytes in flight to one client at QoS 1 and 2 above which messages wait in its queue. Default: 64 MiB.
    pub in_flight_bytes: usize,
    /// Maximum number of bytes in flight to all clients together, connected or not. Default: 0, a quarter of
    /// `memory_bytes`.
    pub total_in_flight_bytes: usize,
    /// Maximum number of messages queued for all absent sessions together. Default: 1,000,000.
    pub absent_messages: usize,
    /// Maximum number of bytes queued for all absent sessions together; a message counts for each of them. Default: 256
    /// MiB.
    pub absent_bytes: usize,
    /// Time after which a client that reads nothing is disconnected: a client whose queue overflows and that takes no
    /// message, and a client that is not read because of `answer_bytes` and that takes no byte. Default: 30 s; zero:
    /// never.
    pub slow_reader: Duration,
    /// Maximum time that a publisher waits for room in a full queue. Default: 1 s; zero: not at all.
    pub publish_wait: Duration,
    /// Maximum number of subscriptions of one session. Default: 10,000.
    pub subscriptions: usize,
    /// Maximum number of retained messages. Default: 2,000,000.
    pub retained: usize,
    /// Maximum number of levels of a topic or filter. Default: 128.
    pub topic_levels: usize,
    /// Maximum number of simultaneous connections from one address, or from one IPv6 network of 64 bits. Default:
    /// 50,000.
    pub connections_per_address: usize,
    /// Maximum number of connections from one address whose CONNECT has not been answered; one more evicts the oldest.
    /// Default: 5,000.
    pub handshakes_per_address: usize,
    /// Maximum number of connections from all addresses whose CONNECT has not been answered: one more evicts the oldest
    /// of the address that has most. Each 4 KiB of an unfinished CONNECT count as another one. Default: 10,000.
    pub handshakes: usize,
    /// Time by which an unfinished packet may be later than at `packet_bytes_per_s`. Default: 10 s.
    pub packet_grace: Duration,
    /// Minimum rate of an unfinished packet, in bytes per second. Only bytes at this rate or faster keep the
    /// connection alive. Default: 1,024; zero: no time limit, and only whole packets keep the connection alive.
    pub packet_bytes_per_s: u32,
    /// Number of bytes of answers (acknowledgements, SUBACK, PINGRESP) not yet taken by a client above which its
    /// socket is no longer read. The same number of bytes may wait for the disk. Default: 256 KiB.
    pub answer_bytes: usize,
    /// Maximum number of topic aliases set towards one client; its own Topic Alias Maximum may lower it. Default:
    /// 65,535; zero: none.
    pub send_topic_aliases: u16,
    /// Maximum number of bytes of topics that have aliases, for one client and in each direction. Default: 256 KiB.
    pub topic_alias_bytes: usize,
    /// Maximum delay between two attempts to log in as one user from one address, after some passwords were wrong.
    /// Default: 2 s; zero: no delay.
    pub guess_delay: Duration,
    /// Number of threads that check passwords. Default: 0, half of the cores, from one to four.
    pub password_threads: usize,
    /// Maximum number of passwords that wait to be checked; an address (an IPv6 network of 64 bits) gets a place only
    /// while it holds fewer than twice as many as are free. Default: 4,096.
    pub password_queue: usize,
    /// Maximum number of log lines per second of each kind that clients can cause; further ones are only counted.
    /// Default: 100.
    pub log_lines_per_s: u32,
    /// Number of bytes to leave free on the file system of `data_dir`. With less free space nothing new is stored, and
    /// packets that require storage are refused. `Some(0)`: none. Default: 64 MiB or a hundredth of the file system,
    /// whichever is less.
    pub free_space_bytes: Option<u64>,
    /// Time after which an unfinished write to the disk of `data_dir` counts as a failed disk. Default: 10 s; zero:
    /// never.
    pub disk_stall: Duration,
    /// Maximum time that acknowledgements, or a CONNACK, wait for a failed disk. The connection is then ended (0x97),
    /// so that the client can connect again and resend its messages, which are refused until the disk works. Default:
    /// 10 s; zero: no limit.
    pub disk_wait: Duration,
    /// Maximum number of user properties of one PUBLISH or will. Default: 1,000.
    pub user_properties: usize,
    /// Maximum number of bytes of one session's subscriptions, about 400 per level of a filter. Default: 32 MiB.
    pub subscription_bytes: usize,
    /// Maximum number of bytes of all sessions' subscriptions. Default: 0, a quarter of `memory_bytes`.
    pub total_subscription_bytes: usize,
    /// Maximum number of shared groups (`$share/{group}/{filter}`) on one filter: each gets a copy of a message.
    /// Default: 1,024.
    pub share_groups: usize,
    /// Maximum number of shared groups on one filter that one session is a member of. Default: 16.
    pub share_groups_session: usize,
    /// Maximum number of bytes of all retained messages. Default: 0, a quarter of `memory_bytes`.
    pub retained_bytes: usize,
    /// Rate at which the retained messages of one user or address may grow once all retained messages take a quarter
    /// of `retained_bytes`, in bytes per second; faster publishers wait. Default: 64 MiB; zero: no limit.
    pub retained_bytes_per_s: usize,
    /// Maximum number of bytes of all wills; a will below an equal share of them always has room. Default: 64 MiB.
    pub will_bytes: usize,
    /// Maximum number of sessions of all clients, connected or not. Default: 200,000.
    pub sessions: usize,
    /// Maximum number of sessions of one user or, for clients without a user, begun from one address (an IPv6 network
    /// of 64 bits). Default: 100,000.
    pub sessions_per_user: usize,
    /// Resident memory of the process, in bytes, near which the broker sheds load. Default: 0, three quarters of the
    /// memory of its control group or of the machine.
    pub memory_bytes: usize,
    /// Maximum number of bus requests that may be replied to at the same time, if there are access rules. Each request
    /// counts for its caller until it is answered or expires. A user (for clients without a user: an address) may send
    /// another request only while it has fewer than twice as many open requests as there are free places; otherwise
    /// the request is refused with 0x97. Default: 65,536.
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
    /// Returns the first listener that other machines can reach without a login and without access rules; `None` if
    /// there is none, or if that is intended (`open`).
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
            backup_dir: None,
            backups_kept: 7,
            engine: Engine::default(),
            threads: 1,
            anonymous: true,
            users: Vec::new(),
            bus_roots: vec!["rantai".to_owned()],
            queues: Vec::new(),
            sys_interval: Duration::from_secs(10),
            http: None,
            limits: Limits::default(),
            on_damage: OnDamage::default(),
            access: None,
            open: false,
            hardened: false,
            source: None,
            unserved: None,
            administrative_object: None,
        }
    }
}

impl Config {
    /// Returns the defaults with a free port of 127.0.0.1, for tests and examples.
    pub fn on_free_port() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..Self::default() }
    }
}
