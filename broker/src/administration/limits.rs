//! The limits in effect, by the keys of the configuration file.

use crate::config::{Limits, QueueDrops, QueueFull};
use crate::hub::Hub;
use crate::live_limits::RESTART_KEYS;

/// Limit with its value and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitInfo {
    /// Key in `[limits]` of the configuration file.
    pub key: &'static str,
    /// Value, in the unit of the key.
    pub value: String,
    /// Amount in use now; `None` if the broker does not count it.
    pub used: Option<u64>,
    /// Whether a reload applies a change; otherwise the change needs a restart.
    pub is_live: bool,
}

pub(super) fn list(hub: &Hub) -> Vec<LimitInfo> {
    let limits = keys(hub.shared.limits(), hub);
    let used = used(hub);
    let info = |(key, value): (&'static str, String)| LimitInfo {
        key,
        value,
        used: used.iter().find(|(of, _)| *of == key).map(|(_, used)| *used as u64),
        is_live: !RESTART_KEYS.contains(&key),
    };
    limits.into_iter().map(info).collect()
}

fn used(hub: &Hub) -> Vec<(&'static str, usize)> {
    let shared = &hub.shared;
    let (absent, retained) = (shared.absent.held(), shared.retained.read().held());
    vec![
        ("absent_bytes", absent.bytes),
        ("absent_messages", absent.messages),
        ("connections", shared.counters.read().connected as usize),
        ("grants", shared.grants.count()),
        ("memory_bytes", shared.memory.resident()),
        ("retained", retained.count),
        ("retained_bytes", retained.bytes),
        ("sessions", hub.sessions.lock().by_client.len()),
        ("total_in_flight_bytes", shared.in_flight.bytes()),
        ("total_subscription_bytes", shared.filters.bytes()),
        ("will_bytes", shared.wills.bytes()),
    ]
}

/// Returns every key with its value. A limit of 0 that stands for a part of the memory is returned as that part.
fn keys(limits: &Limits, hub: &Hub) -> Vec<(&'static str, String)> {
    macro_rules! keys {
        ($($key:literal: $value:expr),* $(,)?) => { vec![$(($key, $value.to_string())),*] };
    }
    let memory = &hub.shared.memory;
    let free_space = limits.free_space_bytes.map_or_else(|| "default".to_owned(), |bytes| bytes.to_string());
    keys! {
        "absent_bytes": limits.absent_bytes,
        "absent_messages": limits.absent_messages,
        "answer_bytes": limits.answer_bytes,
        "connect_timeout_ms": limits.connect_timeout.as_millis(),
        "connections": limits.connections,
        "connections_per_address": limits.connections_per_address,
        "disk_stall_s": limits.disk_stall.as_secs(),
        "disk_wait_s": limits.disk_wait.as_secs(),
        "free_space_bytes": free_space,
        "grants": limits.grants,
        "guess_delay_ms": limits.guess_delay.as_millis(),
        "handshakes": limits.handshakes,
        "handshakes_per_address": limits.handshakes_per_address,
        "in_flight": limits.in_flight,
        "in_flight_bytes": limits.in_flight_bytes,
        "keep_alive_s": limits.keep_alive,
        "log_lines_per_s": limits.log_lines_per_s,
        "memory_bytes": memory.ceiling(),
        "outbox_bytes": limits.outbox_bytes,
        "packet_bytes": limits.packet_bytes,
        "packet_bytes_per_s": limits.packet_bytes_per_s,
        "packet_grace_ms": limits.packet_grace.as_millis(),
        "password_queue": limits.password_queue,
        "password_threads": limits.password_threads,
        "publish_wait_ms": limits.publish_wait.as_millis(),
        "queue_bytes": limits.queue_bytes,
        "queue_drops": match limits.queue_drops {
            QueueDrops::Newest => "newest",
            QueueDrops::Oldest => "oldest",
        },
        "queue_full": match limits.queue_full {
            QueueFull::Drop => "drop",
            QueueFull::Disconnect => "disconnect",
            QueueFull::Refuse => "refuse",
        },
        "queue_messages": limits.queue_messages,
        "queue_qos0_bytes": limits.queue_qos0_bytes,
        "receive_maximum": limits.receive_maximum,
        "retained": limits.retained,
        "retained_bytes": memory.retained_bytes,
        "retained_bytes_per_s": limits.retained_bytes_per_s,
        "send_topic_aliases": limits.send_topic_aliases,
        "session_expiry_s": limits.session_expiry.as_secs(),
        "sessions": limits.sessions,
        "sessions_per_user": limits.sessions_per_user,
        "share_groups": limits.share_groups,
        "share_groups_session": limits.share_groups_session,
        "slow_reader_s": limits.slow_reader.as_secs(),
        "subscription_bytes": limits.subscription_bytes,
        "subscriptions": limits.subscriptions,
        "topic_alias_bytes": limits.topic_alias_bytes,
        "topic_aliases": limits.topic_aliases,
        "topic_levels": limits.topic_levels,
        "total_in_flight_bytes": memory.in_flight_bytes,
        "total_subscription_bytes": memory.subscription_bytes,
        "user_properties": limits.user_properties,
        "will_bytes": limits.will_bytes,
    }
}
