//! What has become of calls that hear nothing: whether anybody is there to answer, and whether the node that carries a call
//! out still is.
//!
//! A call that has waited for [`SILENCE`] follows the registry's word on its object, together with all others of the same
//! client that wait for this object. It ends early where its node is gone, and where nobody serves the object. `seen` decides,
//! `watch` reads the registry.

mod seen;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::session::{QoS, SubscribeError};
use crate::wire::features::BrokerFeatures;
use crate::wire::name::{ClientId, ObjectName};
use crate::wire::topic::Target;
use seen::{Seen, Suspicion};
use watch::Watch;

/// A call that has heard nothing for this long subscribes to the word of the node that accepts it, which comes later.
pub(crate) const EARLY: Duration = Duration::from_millis(100);
/// A call that has heard nothing for this long asks the registry.
pub(crate) const SILENCE: Duration = Duration::from_millis(250);
/// A call that no node says to carry out for this long was taken by one that says nothing, or by none.
const UNACCEPTED: Duration = Duration::from_millis(750);
/// A node that is gone for this long is taken for lost: it may have lost no more than its connection, and its reply may be on
/// its way.
const GRACE: Duration = Duration::from_millis(400);
/// The same of a node that has accepted the call, whose end is noticed at once.
const LONGER_GRACE: Duration = Duration::from_millis(600);
/// An object that changes its node is looked for again after this time.
const HANDOVER: Duration = Duration::from_millis(1_500);

/// What is known of the objects that are called.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Whether this broker has ever said that nobody subscribes to a topic.
    tells: AtomicBool,
    /// Whether this connection is subscribed to the word of nodes that accept calls.
    hears: AtomicBool,
    /// What is read of objects while calls of them wait. Held while a reading begins, so that there is one for each.
    watches: Mutex<HashMap<ObjectName, Weak<Watch>>>,
}

/// A call that has heard nothing yet.
#[derive(Debug)]
pub(crate) struct Silent<'a> {
    pub(crate) key: u128,
    pub(crate) object: &'a ObjectName,
    pub(crate) target: &'a Target,
    pub(crate) qos: QoS,
    pub(crate) sent: Instant,
}

/// Why no reply will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody serves the object.
    Absent,
    /// This node had the call, or may have had it, and is gone.
    Lost(ClientId),
}

impl Presence {
    /// Notes that the broker has said that nobody subscribes to a topic.
    pub(crate) fn told(&self) {
        self.tells.store(true, Ordering::Relaxed);
    }

    /// Whether the subscription to the word of nodes that accept calls is to be made now.
    pub(crate) fn begins_to_hear(&self) -> bool {
        !self.hears.load(Ordering::Relaxed) && !self.hears.swap(true, Ordering::Relaxed)
    }

    /// The connection is gone, and with it its subscription.
    pub(crate) fn disconnected(&self) {
        self.hears.store(false, Ordering::Relaxed);
    }

    /// Waits until a call will get no reply, by the registry's word; never returns where somebody carries it out, nor where the
    /// registry cannot be read. Cancelling is safe.
    pub(crate) async fn fate(&self, client: &Client, call: &Silent<'_>) -> Fate {
        let Ok(watch) = self.watch(client, call.object).await else { return std::future::pending().await };
        let acceptance = client.pending().told_of_acceptance(call.key);
        let mut changes = watch.changes();
        let mut seen = Seen::default();
        // What is suspected, and since when.
        let mut suspected: Option<(Suspicion, Instant)> = None;
        loop {
            let accepted = client.pending().accepted_by(call.key);
            let node = accepted.as_ref().map(|accepted| &accepted.node);
            if watch.follow_nodes(client, node).await.is_err() {
                // Another connection begins, and with it every call.
                return std::future::pending().await;
            }
            changes.borrow_and_update();
            let now = Instant::now();
            let suspicion = watch.look(|view| seen.suspicion(view, call, accepted.as_deref(), now));
            suspected = match (suspicion, suspected) {
                (None, _) => None,
                (Some(again), Some((before, since))) if again == before => Some((before, since)),
                (Some(new), _) => Some((new, now)),
            };
            let decided = suspected.as_ref().and_then(|(suspicion, since)| {
                Some(*since + self.patience(client, &watch, call, suspicion)?)
            });
            if let Some((suspicion, _)) = &suspected
                && decided.is_some_and(|decided| decided <= now)
            {
                return suspicion.clone().into();
            }
            let unaccepted =
                (accepted.is_none() && now < call.sent + UNACCEPTED).then(|| call.sent + UNACCEPTED);
            let wake = [decided, unaccepted].into_iter().flatten().min();
            let woken = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = acceptance.notified() => {}
                told = changes.changed() => if told.is_err() { return std::future::pending().await },
                () = woken => {}
            }
        }
    }

    /// How long something is to be suspected until it is taken for true, if ever.
    fn patience(
        &self,
        client: &Client,
        watch: &Watch,
        call: &Silent<'_>,
        suspicion: &Suspicion,
    ) -> Option<Duration> {
        let has_accepted = client.pending().accepted_by(call.key).is_some();
        let grace = if has_accepted { LONGER_GRACE } else { GRACE };
        match suspicion {
            Suspicion::Lost(_) | Suspicion::Restarted(_) => Some(grace),
            Suspicion::Cleared(_) => Some(grace.max(watch.quiet())),
            Suspicion::Unknown if self.would_have_told(client, call) => None,
            Suspicion::NotServed | Suspicion::Unknown => Some(HANDOVER.max(watch.quiet())),
        }
    }

    /// Whether the broker would have said that nobody is there, and an empty registry may be one that this client may not read.
    /// A broker of `rantai` refuses the subscription then.
    fn would_have_told(&self, client: &Client, call: &Silent<'_>) -> bool {
        let is_ours = client.outlet().features() != BrokerFeatures::default();
        !is_ours && self.tells.load(Ordering::Relaxed) && call.qos == QoS::AtLeastOnce
    }

    /// What is read of an object, by whoever waits for it.
    async fn watch(&self, client: &Client, object: &ObjectName) -> Result<Arc<Watch>, SubscribeError> {
        let mut watches = self.watches.lock().await;
        if let Some(watch) = watches.get(object).and_then(Weak::upgrade) {
            return Ok(watch);
        }
        watches.retain(|_, watch| watch.strong_count() > 0);
        let watch = Watch::begin(client, object).await?;
        watches.insert(object.clone(), Arc::downgrade(&watch));
        Ok(watch)
    }
}

impl From<Suspicion> for Fate {
    fn from(suspicion: Suspicion) -> Self {
        match suspicion {
            Suspicion::Lost(node) | Suspicion::Cleared(node) | Suspicion::Restarted(node) => Self::Lost(node),
            Suspicion::NotServed | Suspicion::Unknown => Self::Absent,
        }
    }
}
