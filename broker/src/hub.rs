//! What all connections of a broker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::access::Access;
use crate::config::Config;
use crate::counters::Counters;
use crate::message::Message;
use crate::retained::Retained;
use crate::session::{Scratch, Session};
use crate::store::{Op, Store, Ticket};
use crate::subscriptions::Subscriptions;
use crate::topic::FilterList;

/// The shared heart of a broker. Locks are taken in the order of the fields, and a session's own lock after
/// `sessions` and before the others.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) caller_topics: FilterList,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) subscriptions: RwLock<Subscriptions>,
    pub(crate) retained: RwLock<Retained>,
    pub(crate) store: Option<Store>,
    pub(crate) counters: Counters,
    pub(crate) started: Instant,
    /// Becomes true when the broker stops.
    pub(crate) stopping: watch::Sender<bool>,
    next_key: AtomicU64,
}

/// Every session there is.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_client: HashMap<ByteString, Arc<Session>>,
    /// Only where something is kept on disk: who waits for it.
    pub(crate) by_key: HashMap<u64, Arc<Session>>,
}

impl Hub {
    pub(crate) fn new(config: Config, store: Option<Store>, next_key: u64) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(&config),
            caller_topics: FilterList::new(&config.caller_topics),
            config,
            sessions: Mutex::default(),
            subscriptions: RwLock::default(),
            retained: RwLock::default(),
            store,
            counters: Counters::default(),
            started: Instant::now(),
            stopping: watch::Sender::new(false),
            next_key: AtomicU64::new(next_key.max(1)),
        })
    }

    /// Sets the user property `caller` of a message on one of `caller_topics` to its publisher's user name (the client
    /// id without one), and removes any that the client sent.
    pub(crate) fn stamp_caller(
        &self,
        message: &mut Message,
        user_name: Option<&ByteString>,
        client_id: &ByteString,
    ) {
        if self.caller_topics.matches(&message.topic) {
            let caller = user_name.unwrap_or(client_id).clone();
            message.properties.user.retain(|(key, _)| key != "caller");
            message.properties.user.push((ByteString::from_static("caller"), caller));
        }
    }

    /// A key for a new session.
    pub(crate) fn new_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands operations to the store; 0 where nothing is kept.
    pub(crate) fn put(&self, ops: impl IntoIterator<Item = Op>, wake: Option<u64>) -> Ticket {
        self.store.as_ref().map_or(0, |store| store.put(ops, wake))
    }

    /// The last ticket that is on disk.
    pub(crate) fn durable(&self) -> Ticket {
        self.store.as_ref().map_or(Ticket::MAX, Store::durable)
    }

    /// Hands what has gathered in `scratch` to the store, and what waited for that to its sessions.
    pub(crate) fn settle(&self, scratch: &mut Scratch) {
        while !scratch.ops.is_empty() {
            self.settle_for(scratch, None);
        }
    }

    /// [`settle`](Self::settle) once, and wakes the session `wake` when it is on disk.
    pub(crate) fn settle_for(&self, scratch: &mut Scratch, wake: Option<u64>) -> Ticket {
        if scratch.ops.is_empty() {
            return 0;
        }
        let ticket = self.put(scratch.ops.drain(..), wake);
        for (session, seq) in std::mem::take(&mut scratch.stored) {
            session.stored(seq, ticket, scratch);
        }
        ticket
    }
}
