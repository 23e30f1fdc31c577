//! The session list of a broker, and its shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::by_client::ByClient;
use super::late_wills::LateWills;
use super::takeover::WaitingConnects;
use crate::codec::Reason;
use crate::config::ConfigSource;
use crate::owner::Accounts;
use crate::router::Router;
use crate::session::Session;
use crate::shared::BrokerState;
use crate::store::Uncommitted;

/// Time for clients to read their last bytes when the broker stops.
const SHUTDOWN_TIME: Duration = Duration::from_millis(1_200);

/// All sessions of a broker. Locks are acquired in this order: the session list, a session's state, then the router's
/// subscriptions, the retained messages or an outbox.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) shared: Arc<BrokerState>,
    pub(crate) router: Router,
    pub(crate) sessions: Mutex<Sessions>,
    next_key: AtomicU64,
    /// Number of CONNECT packets received.
    connects: AtomicU64,
    pub(super) owners: Mutex<Accounts>,
    pub(super) taking_over: TakingOver,
    pub(super) late_wills: LateWills,
    /// Locked during a reload. Contains the configuration file as last applied; `None` before the first reload.
    pub(crate) reloading: tokio::sync::Mutex<Option<ConfigSource>>,
}

/// CONNECTs that wait for the earlier connection of their client, by client id.
pub(super) type TakingOver = Mutex<HashMap<ByteString, WaitingConnects>>;

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_client: ByClient,
    /// Sessions in the order in which they began.
    pub(crate) by_key: BTreeMap<u64, Arc<Session>>,
    /// Clients whose stored session has ended, and whose deletion is not on disk yet.
    pub(crate) ended: Uncommitted,
}

impl Hub {
    pub(crate) fn new(shared: Arc<BrokerState>, next_key: u64) -> Arc<Self> {
        Arc::new(Self {
            router: Router::new(shared.clone()),
            shared,
            sessions: Mutex::default(),
            next_key: AtomicU64::new(next_key.max(1)),
            connects: AtomicU64::new(0),
            owners: Mutex::default(),
            taking_over: TakingOver::default(),
            late_wills: LateWills::default(),
            reloading: tokio::sync::Mutex::default(),
        })
    }

    /// Returns a key for a new session.
    pub(super) fn new_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the number of a new CONNECT. Numbers increase in the order in which the packets arrive.
    pub(crate) fn number_connect(&self) -> u64 {
        self.connects.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) async fn stop(self: &Arc<Self>) {
        self.shared.stopping.send_replace(true);
        let mut links: Vec<_> = {
            let sessions = self.sessions.lock();
            let connected =
                sessions.by_client.values().filter_map(|s| Some((s.key, s.state.lock().link.clone()?)));
            connected.collect()
        };
        // Sorted, so that the order does not depend on a hash.
        links.sort_unstable_by_key(|(key, _)| *key);
        for (_, link) in &links {
            link.close(Some(Reason::SERVER_SHUTTING_DOWN));
        }
        let drained = async {
            while links.iter().any(|(_, link)| !link.is_drained()) {
                sleep(Duration::from_millis(5)).await;
            }
            while self.shared.counters.read().connected > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(SHUTDOWN_TIME, drained).await;
        self.publish_late_wills();
        self.forget_sessions();
        if let Some(store) = self.shared.store.clone() {
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
        }
    }

    /// Stops immediately, without sending anything to clients.
    pub(crate) fn abandon(&self) {
        if self.shared.stopping.send_replace(true) {
            return;
        }
        self.forget_sessions();
    }

    /// Drops every session and closes its connection, so that no task of a stopped broker keeps running.
    fn forget_sessions(&self) {
        let mut sessions = self.sessions.lock();
        for session in sessions.by_client.values() {
            let mut state = session.state.lock();
            if let Some(timer) = state.timer.take() {
                timer.abort();
            }
            if let Some(link) = state.link.clone() {
                link.cut();
            }
        }
        sessions.by_client.clear();
        sessions.by_key.clear();
    }
}
