//! Client of the simulated broker: both ends of its link.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rantai_client::session::{Publish, Unsent};
use tokio::time::Instant;

use super::broker::Sender;
use super::statuses::Statuses;
use crate::announcer::Announcer;
use crate::dispatch::Served;

/// Process that is a client of the broker. Another one may have the same id.
#[expect(clippy::struct_excessive_bools, reason = "both ends of the link have a view of their own")]
pub(super) struct FakeClient {
    pub(super) id: String,
    pub(super) announcer: Option<Arc<Announcer>>,
    pub(super) served: Arc<Served>,
    /// Whether its present claim is that of a replica.
    pub(super) is_replica: bool,
    pub(super) status: Statuses,
    pub(super) will: (String, Bytes),
    pub(super) own_topics: Vec<String>,
    /// Number of the present or last connection.
    pub(super) connection: u64,
    /// Time until which it does not reach the broker.
    pub(super) unreachable: Instant,
    /// Whether the link carries messages.
    pub(super) carries: bool,
    /// Whether the client believes that it is connected.
    pub(super) online: bool,
    /// Whether the broker believes that it is.
    pub(super) connected: bool,
    pub(super) filters: BTreeSet<String>,
    /// Filters whose subscription the broker refuses.
    pub(super) refused: BTreeSet<String>,
    /// Arrival of the last message, up and down: none overtakes another.
    pub(super) arrivals: [Instant; 2],
    pub(super) sent: u64,
    pub(super) unacknowledged: BTreeMap<u64, (Publish, Option<Sender<Unsent>>)>,
}

impl FakeClient {
    /// Creates a process without a connection.
    pub(super) fn new(id: &str, served: Arc<Served>, will: (String, Bytes), own_topics: Vec<String>) -> Self {
        Self {
            id: id.to_owned(),
            announcer: None,
            served,
            is_replica: false,
            status: Statuses::default(),
            will,
            own_topics,
            connection: 0,
            unreachable: Instant::now(),
            carries: false,
            online: false,
            connected: false,
            filters: BTreeSet::new(),
            refused: BTreeSet::new(),
            arrivals: [Instant::now(); 2],
            sent: 0,
            unacknowledged: BTreeMap::new(),
        }
    }
}
