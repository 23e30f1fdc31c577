//! Answers of the object `broker`. Times are in milliseconds since 1970.

use rantai_broker::{LimitInfo, Listed, Reloaded, RetainedInfo, SessionInfo, SubscriptionInfo};
use rantai_client::schemars;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of changes that an answer names.
const MAX_CHANGES: usize = 1_000;

/// Page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Listing<T> {
    /// Items of the page.
    pub(crate) items: Vec<T>,
    /// Value of `after` for the next page; null on the last one.
    pub(crate) next: Option<String>,
}

/// Session, of a connected or disconnected client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Session {
    /// Client id.
    pub(crate) client_id: String,
    /// User that the session belongs to; null for a client that did not log in.
    pub(crate) user: Option<String>,
    /// Whether the session belongs to the broker's own process.
    pub(crate) own: bool,
    /// Connection of the client; null while it is disconnected.
    pub(crate) connection: Option<Connected>,
    /// Time at which the client disconnected; null while it is connected.
    pub(crate) away_since_ms: Option<u64>,
    /// Time that the session outlives its connection, in seconds; null without a limit.
    pub(crate) expiry_s: Option<u32>,
    /// Whether the session is kept on disk.
    pub(crate) on_disk: bool,
    /// Number of subscriptions.
    pub(crate) subscriptions: u64,
    /// Number of messages queued at QoS 1 and 2.
    pub(crate) queued: u64,
    /// Size of these messages in bytes, as counted by the limits.
    pub(crate) queued_bytes: u64,
    /// Number of messages sent and not acknowledged.
    pub(crate) in_flight: u64,
    /// Topic of the will; null without one.
    pub(crate) will: Option<String>,
}

/// Connection of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Connected {
    /// Address with port, `unix`, or `process` for the broker's own process.
    pub(crate) address: String,
    /// Version of MQTT: `3.1`, `3.1.1` or `5`.
    pub(crate) protocol: String,
    /// Time of CONNECT.
    pub(crate) since_ms: u64,
}

/// Subscription of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Subscription {
    /// Client id of the session.
    pub(crate) client_id: String,
    /// Topic filter, with `$share/GROUP/` for a shared one.
    pub(crate) filter: String,
    /// Maximum QoS.
    pub(crate) qos: u8,
    /// Whether the client is not sent its own messages.
    pub(crate) no_local: bool,
}

/// Retained message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Retained {
    /// Topic.
    pub(crate) topic: String,
    /// `QoS`.
    pub(crate) qos: u8,
    /// Bytes of the payload.
    pub(crate) bytes: u64,
    /// Time of expiry; null if it does not expire.
    pub(crate) expires_ms: Option<u64>,
}

/// Result of deleting retained messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Deleted {
    /// Number of deleted messages.
    pub(crate) deleted: u64,
    /// Whether more messages may match, so that another call is needed.
    pub(crate) more: bool,
}

/// Limit of the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Limit {
    /// Key in `[limits]` of the configuration file.
    pub(crate) key: String,
    /// Value, in the unit of the key.
    pub(crate) value: String,
    /// Present use; null if the broker does not count it.
    pub(crate) used: Option<u64>,
    /// Whether a reload applies changes of it; otherwise a restart is needed.
    pub(crate) live: bool,
}

/// Log levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Levels {
    /// Present levels, in the form of `--log`.
    pub(crate) levels: String,
    /// Levels at the start.
    pub(crate) at_start: String,
}

/// Result of a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Reload {
    /// Summary in one line.
    pub(crate) summary: String,
    /// Users who may log in now.
    pub(crate) users: u64,
    /// Users who were added.
    pub(crate) new_users: u64,
    /// Users who were removed.
    pub(crate) removed_users: u64,
    /// Connections that were ended.
    pub(crate) connections: u64,
    /// Subscriptions that were ended.
    pub(crate) subscriptions: u64,
    /// Listeners with new certificates.
    pub(crate) certificates: u64,
    /// Keys of the file, users and certificates whose changes are in effect; 1,000 at most.
    pub(crate) changed: Vec<Change>,
    /// Keys whose changes need a restart; 1,000 at most.
    pub(crate) needs_restart: Vec<Change>,
}

/// Changed key of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rantai_client::schemars")]
pub(crate) struct Change {
    /// Key, such as `limits.connections`.
    pub(crate) key: String,
    /// Previous value; null if there was none, or if it is secret.
    pub(crate) old: Option<String>,
    /// New value; null if there is none any more, or if it is secret.
    pub(crate) new: Option<String>,
    /// Key and values in one line.
    pub(crate) text: String,
}

impl<T> Listing<T> {
    pub(super) fn of<U: Into<T>>(listed: Listed<U>) -> Self {
        Self { items: listed.items.into_iter().map(Into::into).collect(), next: listed.next }
    }
}

impl From<SessionInfo> for Session {
    fn from(info: SessionInfo) -> Self {
        Self {
            client_id: info.client_id,
            user: info.user,
            own: info.is_own,
            connection: info.connection.map(|connection| Connected {
                address: connection.address,
                protocol: connection.protocol.to_owned(),
                since_ms: connection.since,
            }),
            away_since_ms: info.away_since,
            expiry_s: info.expiry_s,
            on_disk: info.is_on_disk,
            subscriptions: info.subscriptions as u64,
            queued: info.queued as u64,
            queued_bytes: info.queued_bytes as u64,
            in_flight: info.in_flight as u64,
            will: info.will,
        }
    }
}

impl From<SubscriptionInfo> for Subscription {
    fn from(info: SubscriptionInfo) -> Self {
        let SubscriptionInfo { client_id, filter, qos, no_local, .. } = info;
        Self { client_id, filter, qos, no_local }
    }
}

impl From<RetainedInfo> for Retained {
    fn from(info: RetainedInfo) -> Self {
        Self { topic: info.topic, qos: info.qos, bytes: info.bytes as u64, expires_ms: info.expires_at }
    }
}

impl From<LimitInfo> for Limit {
    fn from(info: LimitInfo) -> Self {
        Self { key: info.key.to_owned(), value: info.value, used: info.used, live: info.is_live }
    }
}

impl From<Reloaded> for Reload {
    fn from(reloaded: Reloaded) -> Self {
        let changes =
            |changes: &[rantai_broker::Change]| changes.iter().take(MAX_CHANGES).map(Change::of).collect();
        Self {
            summary: reloaded.to_string(),
            users: reloaded.users as u64,
            new_users: reloaded.new_users as u64,
            removed_users: reloaded.removed_users as u64,
            connections: reloaded.connections as u64,
            subscriptions: reloaded.subscriptions as u64,
            certificates: reloaded.certificates as u64,
            changed: changes(&reloaded.changed),
            needs_restart: changes(&reloaded.needs_restart),
        }
    }
}

impl Change {
    fn of(change: &rantai_broker::Change) -> Self {
        Self {
            key: change.key.clone(),
            old: change.old.clone(),
            new: change.new.clone(),
            text: change.to_string(),
        }
    }
}
