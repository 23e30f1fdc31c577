//! Configuration file: its keys, their checks, and the places of errors.

mod bus_roots;
mod listeners;

use std::collections::HashSet;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::access::{WrittenRules, WrittenUser, anonymous, rules, users};
use super::complaint::{Complaint, ConfigError};
use super::hardened::Strictness;
use super::http::WrittenHttp;
use super::roles::{PlainRole, RoleSyntax};
use super::source::ConfigSource;
use super::users::join_password_file;
use super::{Config, Engine, Limits, OnDamage, QueueDrops, QueueFull, QueueRule};

/// Maximum packet size of MQTT: a fixed header of five bytes and 268,435,455 more (MQTT 5, 1.5.5).
const MAX_PACKET_BYTES: u32 = 268_435_460;
/// Minimum value of `packet_bytes`: below it not even a CONNECT with an id, a user name and a password fits.
const MIN_PACKET_BYTES: u32 = 256;

impl Config {
    /// Reads and checks the configuration file `path`. Its roles are [`PlainRole`]s.
    ///
    /// # Errors
    /// [`ConfigError::Read`] if it cannot be read, otherwise as [`from_toml`](Self::from_toml).
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_with::<PlainRole>(path)
    }

    /// Does the same as [`load`](Self::load), with roles in the syntax `R`. A broker with this configuration can reread
    /// the file while it runs ([`Broker::reloader`](crate::Broker::reloader)).
    pub fn load_with<R: RoleSyntax>(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = path.as_ref();
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        let config = Self::from_toml_with::<R>(&text, file)?;
        Ok(Self { source: Some(ConfigSource::of::<R>(file, &text)), ..config })
    }

    /// Checks the configuration `text` of the file `file`, which is named in errors; relative paths in the text are
    /// relative to the folder of `file`. An absent key has its default.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first error: syntax, an unknown key, or a value out of range.
    pub fn from_toml(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::from_toml_with::<PlainRole>(text, file)
    }

    /// Does the same as [`from_toml`](Self::from_toml), with roles in the syntax `R`.
    pub fn from_toml_with<R: RoleSyntax>(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let written: WrittenConfig<R> = toml::from_str(text).map_err(|error| {
            Complaint { span: error.span().unwrap_or(0..0), message: in_toml_words(error.message()) }
                .locate(text, file)
        })?;
        written.check((text, file)).map_err(|complaint| complaint.locate(text, file))
    }
}

/// Returns the parser's message with names of Rust types replaced by descriptions of the allowed values.
fn in_toml_words(message: &str) -> String {
    if let Some(advice) = bus_roots::instead_of(message) {
        return advice.to_owned();
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "usize" | "u64" => "an integer that is not negative",
        "a sequence" => "an array",
        "path string" => "a string with a path",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// Contents of the file. Keys that are checked later keep their span.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "R: RoleSyntax")]
struct WrittenConfig<R> {
    listen: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    listeners: Vec<listeners::WrittenListener>,
    data_dir: Option<Spanned<PathBuf>>,
    backup_dir: Option<Spanned<PathBuf>>,
    backups_kept: Option<Spanned<usize>>,
    engine: Option<Engine>,
    threads: Option<Spanned<usize>>,
    anonymous: Option<Spanned<bool>>,
    bus_roots: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    queues: Vec<WrittenQueueRule>,
    sys_interval_s: Option<u32>,
    on_damage: Option<OnDamage>,
    #[serde(default)]
    open: bool,
    anonymous_roles: Option<Spanned<Vec<Spanned<String>>>>,
    acl_file: Option<Spanned<String>>,
    hardened: Option<Spanned<bool>>,
    #[serde(default = "Vec::new")]
    roles: Vec<Spanned<R>>,
    #[serde(default)]
    users: Vec<WrittenUser>,
    password_file: Option<Spanned<PathBuf>>,
    http: Option<WrittenHttp>,
    #[serde(default)]
    limits: WrittenLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQueueRule {
    filter: Spanned<String>,
    full: QueueFull,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    connections: Option<Spanned<usize>>,
    connect_timeout_ms: Option<Spanned<u32>>,
    packet_bytes: Option<Spanned<u32>>,
    keep_alive_s: Option<u16>,
    receive_maximum: Option<Spanned<u16>>,
    in_flight: Option<Spanned<u16>>,
    topic_aliases: Option<u16>,
    session_expiry_s: Option<u32>,
    outbox_bytes: Option<Spanned<usize>>,
    queue_messages: Option<Spanned<usize>>,
    queue_bytes: Option<Spanned<usize>>,
    queue_qos0_bytes: Option<Spanned<usize>>,
    queue_full: Option<QueueFull>,
    queue_drops: Option<QueueDrops>,
    in_flight_bytes: Option<Spanned<usize>>,
    total_in_flight_bytes: Option<usize>,
    absent_messages: Option<Spanned<usize>>,
    absent_bytes: Option<Spanned<usize>>,
    slow_reader_s: Option<u32>,
    publish_wait_ms: Option<u32>,
    subscriptions: Option<Spanned<usize>>,
    retained: Option<Spanned<usize>>,
    topic_levels: Option<Spanned<usize>>,
    connections_per_address: Option<Spanned<usize>>,
    handshakes_per_address: Option<Spanned<usize>>,
    handshakes: Option<Spanned<usize>>,
    packet_grace_ms: Option<Spanned<u32>>,
    packet_bytes_per_s: Option<u32>,
    answer_bytes: Option<Spanned<usize>>,
    send_topic_aliases: Option<u16>,
    topic_alias_bytes: Option<usize>,
    guess_delay_ms: Option<u32>,
    password_threads: Option<usize>,
    password_queue: Option<Spanned<usize>>,
    log_lines_per_s: Option<Spanned<u32>>,
    free_space_bytes: Option<u64>,
    disk_stall_s: Option<u32>,
    disk_wait_s: Option<u32>,
    user_properties: Option<usize>,
    subscription_bytes: Option<Spanned<usize>>,
    total_subscription_bytes: Option<usize>,
    share_groups: Option<Spanned<usize>>,
    share_groups_session: Option<Spanned<usize>>,
    retained_bytes: Option<usize>,
    retained_bytes_per_s: Option<usize>,
    will_bytes: Option<Spanned<usize>>,
    sessions: Option<Spanned<usize>>,
    sessions_per_user: Option<Spanned<usize>>,
    memory_bytes: Option<usize>,
    grants: Option<Spanned<usize>>,
}

impl<R: RoleSyntax> WrittenConfig<R> {
    /// Checks the keys. `of` is the text and the path of the configuration; relative paths start in its folder.
    fn check(self, of: (&str, &Path)) -> Result<Config, Complaint> {
        let default = Config::default();
        let mut users = users(&self.users)?;
        let has_records = users.iter().any(|user| user.password.is_some());
        if let Some(written) = &self.password_file {
            join_password_file(&mut users, written, of.1)?;
        }
        let written = WrittenRules {
            anonymous_roles: self.anonymous_roles,
            acl_file: self.acl_file,
            hardened: self.hardened.as_ref().is_some_and(|written| *written.as_ref()),
            roles: self.roles,
            users: self.users,
        };
        let bus_roots = self.bus_roots.map_or(Ok(default.bus_roots), bus_roots::check)?;
        let access = rules(written, &users, &bus_roots, of)?;
        let listen = match self.listen {
            Some(written) => listen(written)?,
            None if self.listeners.is_empty() => default.listen,
            None => Vec::new(),
        };
        let strictness = Strictness {
            hardened: &self.hardened,
            anonymous: &self.anonymous,
            has_users: !users.is_empty(),
            has_records,
            password_file: self.password_file.as_ref().map(|written| written.as_ref().as_path()),
            file: of.1,
        };
        let mut config = Config {
            listeners: listeners::check(self.listeners, &listen, &users, of.1)?,
            listen,
            data_dir: self.data_dir.map(|written| directory(written, NO_DATA_DIR)).transpose()?,
            backup_dir: self.backup_dir.map(|written| directory(written, NO_BACKUP_DIR)).transpose()?,
            backups_kept: within(self.backups_kept, &(1..=10_000), default.backups_kept)?,
            engine: self.engine.unwrap_or_default(),
            threads: self.threads.map_or(Ok(default.threads), threads)?,
            anonymous: anonymous(self.anonymous.clone(), &users)?,
            users,
            bus_roots,
            queues: self.queues.into_iter().map(WrittenQueueRule::check).collect::<Result<_, _>>()?,
            sys_interval: self.sys_interval_s.map_or(default.sys_interval, seconds),
            http: self.http.map(WrittenHttp::check).transpose()?,
            limits: self.limits.check()?,
            on_damage: self.on_damage.unwrap_or_default(),
            access,
            open: self.open,
            hardened: false,
            source: None,
            unserved: None,
            administrative_object: None,
        };
        config.hardened = strictness.check(&config)?;
        Ok(config)
    }
}

impl WrittenQueueRule {
    fn check(self) -> Result<QueueRule, Complaint> {
        Ok(QueueRule { filter: filter(self.filter)?, full: self.full })
    }
}

impl WrittenLimits {
    fn check(self) -> Result<Limits, Complaint> {
        let default = Limits::default();
        let count = 1..=usize::MAX;
        Ok(Limits {
            connections: within(self.connections, &count, default.connections)?,
            connect_timeout: milliseconds(within(
                self.connect_timeout_ms,
                &(1..=u32::MAX),
                default.connect_timeout.as_millis() as u32,
            )?),
            packet_bytes: within(
                self.packet_bytes,
                &(MIN_PACKET_BYTES..=MAX_PACKET_BYTES),
                default.packet_bytes,
            )?,
            keep_alive: self.keep_alive_s.unwrap_or(default.keep_alive),
            receive_maximum: within(self.receive_maximum, &(1..=u16::MAX), default.receive_maximum)?,
            in_flight: within(self.in_flight, &(1..=u16::MAX), default.in_flight)?,
            topic_aliases: self.topic_aliases.unwrap_or(default.topic_aliases),
            session_expiry: self.session_expiry_s.map_or(default.session_expiry, seconds),
            outbox_bytes: within(self.outbox_bytes, &count, default.outbox_bytes)?,
            queue_messages: within(self.queue_messages, &count, default.queue_messages)?,
            queue_bytes: within(self.queue_bytes, &count, default.queue_bytes)?,
            queue_qos0_bytes: within(self.queue_qos0_bytes, &count, default.queue_qos0_bytes)?,
            queue_full: self.queue_full.unwrap_or_default(),
            queue_drops: self.queue_drops.unwrap_or_default(),
            in_flight_bytes: within(self.in_flight_bytes, &count, default.in_flight_bytes)?,
            total_in_flight_bytes: self.total_in_flight_bytes.unwrap_or(default.total_in_flight_bytes),
            absent_messages: within(self.absent_messages, &count, default.absent_messages)?,
            absent_bytes: within(self.absent_bytes, &count, default.absent_bytes)?,
            slow_reader: self.slow_reader_s.map_or(default.slow_reader, seconds),
            publish_wait: self.publish_wait_ms.map_or(default.publish_wait, milliseconds),
            subscriptions: within(self.subscriptions, &count, default.subscriptions)?,
            retained: within(self.retained, &count, default.retained)?,
            topic_levels: within(self.topic_levels, &count, default.topic_levels)?,
            connections_per_address: within(
                self.connections_per_address,
                &count,
                default.connections_per_address,
            )?,
            handshakes_per_address: within(
                self.handshakes_per_address,
                &count,
                default.handshakes_per_address,
            )?,
            handshakes: within(self.handshakes, &count, default.handshakes)?,
            packet_grace: milliseconds(within(
                self.packet_grace_ms,
                &(1..=u32::MAX),
                default.packet_grace.as_millis() as u32,
            )?),
            packet_bytes_per_s: self.packet_bytes_per_s.unwrap_or(default.packet_bytes_per_s),
            answer_bytes: within(self.answer_bytes, &count, default.answer_bytes)?,
            send_topic_aliases: self.send_topic_aliases.unwrap_or(default.send_topic_aliases),
            topic_alias_bytes: self.topic_alias_bytes.unwrap_or(default.topic_alias_bytes),
            guess_delay: self.guess_delay_ms.map_or(default.guess_delay, milliseconds),
            password_threads: self.password_threads.unwrap_or(default.password_threads),
            password_queue: within(self.password_queue, &count, default.password_queue)?,
            log_lines_per_s: within(self.log_lines_per_s, &(1..=u32::MAX), default.log_lines_per_s)?,
            free_space_bytes: self.free_space_bytes,
            disk_stall: self.disk_stall_s.map_or(default.disk_stall, seconds),
            disk_wait: self.disk_wait_s.map_or(default.disk_wait, seconds),
            user_properties: self.user_properties.unwrap_or(default.user_properties),
            subscription_bytes: within(self.subscription_bytes, &count, default.subscription_bytes)?,
            total_subscription_bytes: self
                .total_subscription_bytes
                .unwrap_or(default.total_subscription_bytes),
            share_groups: within(self.share_groups, &count, default.share_groups)?,
            share_groups_session: within(self.share_groups_session, &count, default.share_groups_session)?,
            retained_bytes: self.retained_bytes.unwrap_or(default.retained_bytes),
            retained_bytes_per_s: self.retained_bytes_per_s.unwrap_or(default.retained_bytes_per_s),
            will_bytes: within(self.will_bytes, &count, default.will_bytes)?,
            sessions: within(self.sessions, &count, default.sessions)?,
            sessions_per_user: within(self.sessions_per_user, &count, default.sessions_per_user)?,
            memory_bytes: self.memory_bytes.unwrap_or(default.memory_bytes),
            grants: within(self.grants, &count, default.grants)?,
        })
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn milliseconds(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}

/// Returns `value` if it is in `range`, and `default` if it is absent.
pub(super) fn within<T: Copy + PartialOrd + fmt::Display>(
    value: Option<Spanned<T>>,
    range: &RangeInclusive<T>,
    default: T,
) -> Result<T, Complaint> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(value.as_ref()) => Ok(*value.as_ref()),
        Some(value) => {
            let (least, most) = (range.start(), range.end());
            let too_small = value.as_ref() < least;
            let bound = if too_small { format!("at least {least}") } else { format!("at most {most}") };
            Err(Complaint::at(&value, format!("must be {bound}; leave the key out for {default}")))
        }
    }
}

fn listen(addresses: Spanned<Vec<Spanned<String>>>) -> Result<Vec<SocketAddr>, Complaint> {
    if addresses.as_ref().is_empty() {
        let message = "no address to listen on; write at least one, as in [\"127.0.0.1:1883\"]";
        return Err(Complaint::at(&addresses, message));
    }
    let mut seen = HashSet::new();
    let addresses = addresses.into_inner().into_iter().map(|written| {
        let address = address(&written)?;
        // Port 0 selects a different free port for each listener.
        if address.port() != 0 && !seen.insert(address) {
            return Err(Complaint::at(&written, format!("{address} is listed twice; remove one")));
        }
        Ok(address)
    });
    addresses.collect()
}

/// Parses an address, or returns the first address of a host name.
pub(super) fn address(written: &Spanned<String>) -> Result<SocketAddr, Complaint> {
    let text = written.as_ref();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let message = format!("no port; write \"host:port\", as in \"{text}:1883\"");
        return Err(Complaint::at(written, message));
    };
    let Ok(port) = port.parse::<u16>() else {
        let message = format!("`{port}` is not a port; use 1 to 65535, or 0 for a free one");
        return Err(Complaint::at(written, message));
    };
    let resolved = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| {
        let message =
            format!("`{host}` is not a host of this machine's; use an IP address, as in \"0.0.0.0:{port}\"");
        Complaint::at(written, message)
    })
}

fn threads(written: Spanned<usize>) -> Result<usize, Complaint> {
    const MAX_THREADS: usize = 64;
    if *written.as_ref() > MAX_THREADS {
        return Err(Complaint::at(
            &written,
            format!("at most {MAX_THREADS}; 0 is one for each core, up to 4"),
        ));
    }
    Ok(written.into_inner())
}

const NO_DATA_DIR: &str = "no directory; leave the key out to keep everything in memory";
const NO_BACKUP_DIR: &str = "no directory; leave the key out for `backups` in data_dir";

fn directory(written: Spanned<PathBuf>, message: &str) -> Result<PathBuf, Complaint> {
    if written.as_ref().as_os_str().is_empty() {
        return Err(Complaint::at(&written, message));
    }
    Ok(written.into_inner())
}

/// Checks a topic filter (MQTT 5, 4.7), which must not be a shared subscription.
fn filter(written: Spanned<String>) -> Result<String, Complaint> {
    let text = written.as_ref();
    let last = text.split('/').count() - 1;
    let mut levels = text.split('/').enumerate();
    let message = if text.is_empty() {
        "an empty filter matches nothing; remove it"
    } else if text.contains('\0') || text.len() > usize::from(u16::MAX) {
        "not a topic filter: no NUL, and at most 65,535 bytes"
    } else if text.starts_with("$share/") {
        "a shared subscription is not a set of topics; write only what follows `$share/NAME/`"
    } else if levels.clone().any(|(at, level)| level.contains('#') && (level != "#" || at != last)) {
        "`#` must be the whole last level, as in \"call/#\""
    } else if levels.any(|(_, level)| level.contains('+') && level != "+") {
        "`+` must be a whole level, as in \"call/+/request\""
    } else {
        return Ok(written.into_inner());
    };
    Err(Complaint::at(&written, message))
}
