//! Readings of a broker: every value published below `$SYS/broker/`, with its name and description as a metric.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::counters::Counted;
use crate::hub::Hub;
use crate::memory::Stage;
use crate::store::Health;

/// All readings of a broker at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Readings {
    /// Every reading; the names are unique.
    pub all: Vec<Reading>,
    /// Reasons why the broker does not serve everything at the moment, as texts; empty if it is ready.
    pub not_ready: Vec<&'static str>,
}

/// A value of a broker at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reading {
    /// Name as a metric, without the prefix of the program and the suffix `_total` of counters.
    pub name: &'static str,
    /// Description in one line.
    pub help: &'static str,
    /// Unit, which is also the last part of `name`.
    pub unit: Option<Unit>,
    /// Value at that moment.
    pub value: ReadingValue,
    /// Topics below `$SYS/broker/` on which it is published; none for settings.
    pub topics: &'static [&'static str],
}

/// Value of a [`Reading`]. Displayed as in its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadingValue {
    /// Number that only increases while the broker runs.
    Counter(u64),
    /// Number that may increase and decrease.
    Gauge(u64),
    /// Seconds since the start.
    Uptime(u64),
    /// State in effect, and all possible states.
    State(&'static str, &'static [&'static str]),
    /// Version of the broker.
    Version(&'static str),
}

/// Base unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Returns the name of the unit, which is the last part of a metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

impl fmt::Display for ReadingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) | Self::Gauge(value) => write!(f, "{value}"),
            Self::Uptime(seconds) => write!(f, "{seconds} seconds"),
            Self::State(state, _) => f.write_str(state),
            Self::Version(version) => write!(f, "rantai version {version}"),
        }
    }
}

/// Counters whose names as metrics differ from those of the fields, or that are published on further topics: field, name,
/// unit, topics.
const RENAMED: [(&str, &str, Option<Unit>, &[&str]); 5] = [
    (
        "messages_received",
        "messages_received",
        None,
        &["messages/received", "publish/messages/received", "counters/messages_received"],
    ),
    (
        "messages_sent",
        "messages_sent",
        None,
        &["messages/sent", "publish/messages/sent", "counters/messages_sent"],
    ),
    ("bytes_received", "received_bytes", Some(Unit::Bytes), &["bytes/received", "counters/bytes_received"]),
    ("bytes_sent", "sent_bytes", Some(Unit::Bytes), &["bytes/sent", "counters/bytes_sent"]),
    ("expired_sessions", "expired_sessions", None, &["clients/expired", "counters/expired_sessions"]),
];

/// Fields among the counters that are gauges: field, name, topics.
const GAUGES: [(&str, &str, &[&str]); 2] = [
    ("connected", "clients_connected", &["clients/connected", "clients/active", "counters/connected"]),
    ("connected_maximum", "clients_maximum", &["clients/maximum", "counters/connected_maximum"]),
];

impl Reading {
    fn counter(counted: &Counted) -> Self {
        let Counted { name: field, topics, help, value } = *counted;
        let help = help.trim_start();
        if let Some((_, name, topics)) = GAUGES.iter().find(|(gauge, ..)| *gauge == field) {
            return Self { name, help, unit: None, value: ReadingValue::Gauge(value), topics };
        }
        let value = ReadingValue::Counter(value);
        match RENAMED.iter().find(|(renamed, ..)| *renamed == field) {
            Some((_, name, unit, topics)) => Self { name, help, unit: *unit, value, topics },
            None => Self { name: field, help, unit: None, value, topics },
        }
    }

    fn gauge(name: &'static str, help: &'static str, topics: &'static [&'static str], value: u64) -> Self {
        let unit = name.ends_with("_bytes").then_some(Unit::Bytes);
        Self { name, help, unit, value: ReadingValue::Gauge(value), topics }
    }
}

impl Hub {
    /// Reads every value.
    pub(crate) fn readings(&self) -> Readings {
        let shared = &self.shared;
        let counts = shared.counters.read();
        let sessions = self.sessions.lock().by_client.len() as u64;
        let retained = shared.retained.read().held();
        let absent = shared.absent.held();
        let away = sessions.saturating_sub(counts.connected);
        let (limits, memory) = (shared.limits(), &shared.memory);
        let dropped = counts.dropped_qos0
            + counts.dropped_queue_full
            + counts.dropped_absent
            + counts.too_large
            + counts.expired;
        let mut all = vec![
            Reading {
                name: "build_info",
                help: "Version of the broker.",
                unit: None,
                value: ReadingValue::Version(env!("CARGO_PKG_VERSION")),
                topics: &["version"],
            },
            Reading {
                name: "uptime_seconds",
                help: "Time since the start of the broker.",
                unit: Some(Unit::Seconds),
                value: ReadingValue::Uptime(shared.clock.uptime().as_secs()),
                topics: &["uptime"],
            },
            Reading {
                name: "messages_dropped",
                help: "Messages dropped for single sessions: queues, absent sessions, expiry or packet size.",
                unit: None,
                value: ReadingValue::Counter(dropped),
                topics: &["publish/messages/dropped"],
            },
        ];
        let gauges: [(&str, &str, &[&str], u64); _] = [
            ("sessions", "Sessions, whether connected or not.", &["clients/total"], sessions),
            (
                "sessions_absent",
                "Sessions whose clients are not connected.",
                &["clients/disconnected", "clients/inactive"],
                away,
            ),
            (
                "absent_messages",
                "Messages queued for absent sessions.",
                &["absent/messages"],
                absent.messages as u64,
            ),
            (
                "absent_bytes",
                "Bytes of messages queued for absent sessions.",
                &["absent/bytes"],
                absent.bytes as u64,
            ),
            (
                "in_flight_bytes",
                "Bytes of QoS 1 and 2 messages in flight to all clients.",
                &["in_flight/bytes"],
                shared.in_flight.bytes() as u64,
            ),
            (
                "retained_messages",
                "Retained messages, without the broker's own.",
                &["retained messages/count"],
                retained.count as u64,
            ),
            (
                "retained_bytes",
                "Bytes of retained messages, without the broker's own.",
                &["retained messages/bytes"],
                retained.bytes as u64,
            ),
            (
                "subscriptions",
                "Subscriptions of all sessions.",
                &["subscriptions/count"],
                self.router.subscription_count() as u64,
            ),
            (
                "subscriptions_bytes",
                "Bytes of the subscriptions of all sessions.",
                &["subscriptions/bytes"],
                shared.filters.bytes() as u64,
            ),
            ("wills_bytes", "Bytes of all wills.", &["wills/bytes"], shared.wills.bytes() as u64),
            (
                "grants",
                "Requests on buses that may still be replied to.",
                &["grants/count"],
                shared.grants.count() as u64,
            ),
            (
                "memory_resident_bytes",
                "Resident memory of the process.",
                &["memory/resident"],
                memory.resident() as u64,
            ),
            (
                "memory_ceiling_bytes",
                "Resident memory at which the clients that hold most are disconnected.",
                &["memory/ceiling"],
                memory.ceiling() as u64,
            ),
            (
                "memory_stage",
                "What is refused or given up because memory is short: 0 nothing, 1 connections, 2 filters and \
                 retained messages, 3 queues at QoS 0, 4 queues of absent sessions, 5 the clients that hold most.",
                &["memory/stage"],
                memory.stage() as u64,
            ),
            (
                "listeners_failing",
                "Listeners whose last attempt to accept a connection failed.",
                &["listeners/failing"],
                shared.not_accepting.load(Ordering::Relaxed) as u64,
            ),
            ("limit_clients", "Setting `limits.connections`.", &[], limits.connections as u64),
            ("limit_sessions", "Setting `limits.sessions`.", &[], limits.sessions as u64),
            ("limit_absent_bytes", "Setting `limits.absent_bytes`.", &[], limits.absent_bytes as u64),
            ("limit_retained_messages", "Setting `limits.retained`.", &[], limits.retained as u64),
            (
                "limit_retained_bytes",
                "Setting `limits.retained_bytes`, or what it is by default.",
                &[],
                memory.retained_bytes as u64,
            ),
        ];
        all.extend(gauges.map(|(name, help, topics, value)| Reading::gauge(name, help, topics, value)));
        if let Some(store) = &shared.store {
            let ((free, floor), salvaged) = (store.space(), store.salvaged());
            all.push(Reading {
                name: "disk_state",
                help: "Whether everything can be kept on the disk of `data_dir`.",
                unit: None,
                value: ReadingValue::State(store.health().name(), &Health::NAMES),
                topics: &["disk/state"],
            });
            let gauges: [(&str, &str, &[&str], u64); _] = [
                ("disk_free_bytes", "Bytes free on the disk of `data_dir`.", &["disk/free"], free),
                (
                    "disk_floor_bytes",
                    "Free bytes below which nothing new is kept on the disk.",
                    &["disk/floor"],
                    floor,
                ),
                (
                    "disk_salvaged_rows",
                    "Rows recovered from a damaged file at the start.",
                    &["disk/salvaged"],
                    salvaged.rows,
                ),
                (
                    "disk_lost_rows",
                    "Rows of a damaged file lost at the start.",
                    &["disk/lost"],
                    salvaged.lost,
                ),
            ];
            all.extend(gauges.map(|(name, help, topics, value)| Reading::gauge(name, help, topics, value)));
        }
        all.extend(counts.each().map(|counted| Reading::counter(&counted)));
        Readings { all, not_ready: self.not_ready(counts.connected) }
    }

    /// Returns the reasons why a new client, or a message to be kept, would be refused now.
    fn not_ready(&self, connected: u64) -> Vec<&'static str> {
        let shared = &self.shared;
        let mut reasons = Vec::new();
        if *shared.stopping.borrow() {
            reasons.push("the broker stops");
        }
        if shared.not_accepting.load(Ordering::Relaxed) > 0 {
            reasons.push("connections cannot be accepted, most likely for lack of file descriptors");
        }
        if connected >= shared.limits().connections as u64 {
            reasons.push("there are as many connections as limits.connections allows");
        }
        if shared.memory.at(Stage::Connections) {
            reasons.push("memory is short: connections are refused");
        }
        reasons.extend(shared.disk_refusal());
        reasons
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Broker, Config};

    #[tokio::test]
    async fn names_and_topics_are_unique_and_units_end_the_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let data_dir = Some(directory.path().to_owned());
        let broker = Broker::start(Config { data_dir, ..Config::on_free_port() }).await.expect("started");
        let readings = broker.monitor().expect("the engine has one").readings().await.expect("it runs");
        assert_eq!(readings.not_ready, [""; 0]);
        let (mut names, mut topics) = (HashSet::new(), HashSet::new());
        for reading in &readings.all {
            assert!(names.insert(reading.name), "{} is there twice", reading.name);
            for topic in reading.topics {
                assert!(topics.insert(*topic), "{topic} is there twice");
            }
            assert_eq!(reading.name.ends_with("_bytes"), reading.unit == Some(Unit::Bytes), "{reading:?}");
            let help = reading.help;
            assert!(help.ends_with('.') && help.trim() == help && !help.contains("  "), "{help:?}");
        }
        for topic in ["clients/connected", "publish/messages/dropped", "disk/state", "counters/expired"] {
            assert!(topics.contains(topic), "no {topic}");
        }
        for (field, ..) in RENAMED {
            assert!(topics.contains(&*format!("counters/{field}")), "{field}");
        }
        for (field, ..) in GAUGES {
            assert!(topics.contains(&*format!("counters/{field}")), "{field}");
        }
        broker.shutdown().await;
    }
}
