//! Claimants of a name: the registry entries of the name and the states of the nodes that published them, followed on one
//! connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::session::{Filter, SubscribeError};
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::RegistryTopic;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::announcer::{Announcer, Tenure};
use crate::stamps::CLAIM_LIFETIME;

/// Time without a message after which all retained messages are taken to have arrived.
const QUIET: Duration = Duration::from_millis(100);

/// Time limit for the successor to a name that was given up to claim it.
const SUCCESSION_TIMEOUT: Duration = CLAIM_LIFETIME;

/// Nodes that claim a name, kept up to date in the announcer's view.
pub(crate) struct Contenders {
    announcer: Arc<Announcer>,
    object: ObjectName,
    /// Nodes whose states are followed.
    watched: BTreeSet<ClientId>,
}

impl Contenders {
    pub(crate) fn new(announcer: Arc<Announcer>, object: ObjectName) -> Self {
        Self { announcer, object, watched: BTreeSet::new() }
    }

    /// Subscribes to the entries of the name and the states of the nodes that claim it, and waits until the retained messages
    /// have arrived.
    pub(crate) async fn look(&mut self) -> Result<(), SubscribeError> {
        let entries = RegistryTopic::entries_of(&self.announcer.root, &self.object);
        let mut seen = self.announcer.seen();
        self.announcer.bus.subscribe(vec![Filter::new(entries).passing()]).await?;
        loop {
            quiet(&mut seen).await;
            if !self.watch_states().await? {
                return Ok(());
            }
        }
    }

    /// Waits until `found` returns a value; calls it again after every change of the view.
    pub(crate) async fn until<T>(&mut self, mut found: impl FnMut(&Announcer) -> Option<T>) -> T {
        let mut seen = self.announcer.seen();
        loop {
            if self.watch_states().await.is_err() {
                // The connection is lost: the caller notices that too, and cancels this future.
                std::future::pending::<()>().await;
            }
            if let Some(found) = found(&self.announcer) {
                return found;
            }
            let _ = seen.changed().await;
        }
    }

    /// Waits until no other node holds the name, as seen by a node that claims it in `mode`. Waits for a claim to settle for at
    /// most [`CLAIM_LIFETIME`]: which of two claims wins is decided by claiming.
    pub(crate) async fn vacancy(&mut self, mode: Mode) {
        let object = self.object.clone();
        let mut seen = self.announcer.seen();
        loop {
            self.until(|others| (others.tenure(&object, mode) != Tenure::Held).then_some(())).await;
            // A successor counts once the state of its node, which may be followed only since now, has arrived.
            quiet(&mut seen).await;
            let settled = self.until(|others| {
                let tenure = others.tenure(&object, mode);
                (tenure != Tenure::Claimed).then_some(tenure)
            });
            if timeout(CLAIM_LIFETIME, settled).await != Ok(Tenure::Held) {
                return;
            }
        }
    }

    /// Waits until a successor claims a name that was given up, for at most [`SUCCESSION_TIMEOUT`]; returns whether there is one.
    pub(crate) async fn succession(&mut self, mode: Mode) -> bool {
        let object = self.object.clone();
        let claimed = self.until(|others| (others.tenure(&object, mode) != Tenure::Vacant).then_some(()));
        timeout(SUCCESSION_TIMEOUT, claimed).await.is_ok()
    }

    /// Subscribes to the states of claimants that are not followed yet; returns whether there were any.
    async fn watch_states(&mut self) -> Result<bool, SubscribeError> {
        let claimants = self.announcer.claimants(&self.object);
        let new = claimants.into_iter().filter(|node| self.watched.insert(node.clone()));
        let state = |node| Filter::new(RegistryTopic::Node(node).format(&self.announcer.root)).passing();
        let states: Vec<Filter> = new.map(state).collect();
        if states.is_empty() {
            return Ok(false);
        }
        self.announcer.bus.subscribe(states).await?;
        Ok(true)
    }
}

/// Waits until the view has not changed for [`QUIET`].
async fn quiet(seen: &mut watch::Receiver<u64>) {
    while timeout(QUIET, seen.changed()).await.is_ok() {}
}
