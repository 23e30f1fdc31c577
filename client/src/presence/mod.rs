//! Detects lost calls: no server for the object, or the node that carries the call out has gone.
//!
//! A call without a reply for [`WATCH_AFTER`] follows the registry entries of its object and the state of the node that
//! accepted it. All such calls of one client to one object share one subscription. `seen` decides without I/O; `watch` reads
//! the registry.

mod instances;
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
pub(crate) use instances::Instances;
use seen::{Seen, Suspicion};
use watch::ObjectWatch;

/// Time without a reply after which the client subscribes to `accepted` events. Nodes publish them later than this.
pub(crate) const SUBSCRIBE_AFTER: Duration = Duration::from_millis(100);
/// Time without a reply after which a call follows the registry.
pub(crate) const WATCH_AFTER: Duration = Duration::from_millis(250);
/// Time after sending by which a node that supports `accepted` events has published one.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(750);
/// Time that a node stays lost before the call ends: the node may only have lost its connection, and its reply may still
/// arrive.
const LOST_GRACE: Duration = Duration::from_millis(400);
/// Same as `LOST_GRACE`, for a node that has accepted the call, whose loss is seen immediately.
const ACCEPTED_GRACE: Duration = Duration::from_millis(600);
/// Time that an object stays unserved before the call ends: it may be moving to another node.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Time after a reconnect within which the registry does not prove that a node is lost: the node may reconnect later
/// than this client, and its claim of a name takes a second.
const REUNION: Duration = Duration::from_secs(2);
/// Maximum of [`REUNION`] for a connection that was lost for long, because nodes then wait longer between attempts to
/// connect.
const MAX_REUNION: Duration = Duration::from_secs(10);

/// Loss detection of one client.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    reconnects: parking_lot::Mutex<Reconnects>,
    /// Whether this broker has sent PUBACK 0x10 before.
    reports_unreceived: AtomicBool,
    /// Whether this connection has subscribed to `accepted` events.
    has_subscribed: AtomicBool,
    /// Registry subscriptions by object. Locked while one is made, so that each object has at most one.
    watches: Mutex<HashMap<ObjectName, Weak<ObjectWatch>>>,
}

/// Connections of one client.
#[derive(Debug, Default)]
struct Reconnects {
    /// Time at which the connection was lost, while there is none.
    lost: Option<Instant>,
    /// Time until which the registry does not prove that a node is lost.
    reunion: Option<Instant>,
}

/// A call without a reply so far.
#[derive(Debug)]
pub(crate) struct PendingCall<'a> {
    pub(crate) key: u128,
    pub(crate) object: &'a ObjectName,
    pub(crate) target: &'a Target,
    /// Node that has sent parts of a stream.
    pub(crate) sender: Option<&'a ClientId>,
    pub(crate) qos: QoS,
    pub(crate) sent: Instant,
    /// Whether the request is in plain form, which not every object understands.
    pub(crate) is_plain: bool,
}

/// Reason why a call gets no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallLoss {
    /// No node serves the object.
    Absent,
    /// This node has, or may have, received the call, and is lost.
    Lost(ClientId),
}

impl Presence {
    /// Records that the broker has sent PUBACK 0x10.
    pub(crate) fn unreceived(&self) {
        self.reports_unreceived.store(true, Ordering::Relaxed);
    }

    /// Returns true once per connection: the caller then subscribes to `accepted` events.
    pub(crate) fn claim_accepted_subscription(&self) -> bool {
        !self.has_subscribed.load(Ordering::Relaxed) && !self.has_subscribed.swap(true, Ordering::Relaxed)
    }

    /// Resets the state that belongs to the connection.
    pub(crate) fn disconnected(&self) {
        self.has_subscribed.store(false, Ordering::Relaxed);
        self.reconnects.lock().lost = Some(Instant::now());
    }

    /// Records a connection.
    pub(crate) fn connected(&self) {
        let mut reconnects = self.reconnects.lock();
        if let Some(lost) = reconnects.lost.take() {
            // Nodes wait at random for up to about twice the time that the broker was away.
            let patience = REUNION + lost.elapsed() * 2;
            reconnects.reunion = Some(Instant::now() + patience.min(MAX_REUNION));
        }
    }

    /// Returns until when a node may still be reconnecting, if the connection was lost a short time ago.
    pub(crate) fn reunion(&self) -> Option<Instant> {
        self.reconnects.lock().reunion.filter(|until| *until > Instant::now())
    }

    /// Waits until the registry shows that a call gets no reply. Never completes while a node executes the call, or if the
    /// registry is not readable. Cancel safe.
    pub(crate) async fn wait_for_loss(&self, client: &Client, call: &PendingCall<'_>) -> CallLoss {
        let Ok(watch) = self.watch(client, call.object).await else { return std::future::pending().await };
        let acceptance = client.pending().on_accepted(call.key);
        let mut changes = watch.changes();
        let mut seen = Seen::default();
        // The current suspicion, and the time since which it holds.
        let mut suspected: Option<(Suspicion, Instant)> = None;
        loop {
            let accepted = client.pending().accepted_by(call.key);
            let node = accepted.as_ref().map(|accepted| &accepted.node).or(call.sender);
            if watch.follow_nodes(client, node).await.is_err() {
                // The connection was lost, which fails the call elsewhere.
                return std::future::pending().await;
            }
            changes.borrow_and_update();
            let now = Instant::now();
            if call.is_plain
                && *call.target == Target::Any
                && watch.look(|seen| seen.takes_json_rpc_only(call.object))
            {
                // The object does not understand requests in plain form, so no node executes this one.
                return CallLoss::Absent;
            }
            let suspicion = watch.look(|view| seen.suspicion(view, call, accepted.as_deref(), now));
            suspected = match (suspicion, suspected) {
                (None, _) => None,
                (Some(again), Some((before, since))) if again == before => Some((before, since)),
                (Some(new), _) => Some((new, now)),
            };
            let decided = suspected.as_ref().and_then(|(suspicion, since)| {
                let decided = *since + self.patience(client, &watch, call, suspicion)?;
                Some(self.reunion().map_or(decided, |reunion| decided.max(reunion)))
            });
            if let Some((suspicion, _)) = &suspected
                && decided.is_some_and(|decided| decided <= now)
            {
                return suspicion.clone().into();
            }
            let unaccepted =
                (accepted.is_none() && now < call.sent + ACCEPT_TIMEOUT).then(|| call.sent + ACCEPT_TIMEOUT);
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

    /// Returns how long a suspicion must hold before the call ends; `None` if the call never ends because of it.
    fn patience(
        &self,
        client: &Client,
        watch: &ObjectWatch,
        call: &PendingCall<'_>,
        suspicion: &Suspicion,
    ) -> Option<Duration> {
        let has_accepted = client.pending().accepted_by(call.key).is_some();
        let grace = if has_accepted { ACCEPTED_GRACE } else { LOST_GRACE };
        match suspicion {
            Suspicion::Lost(_) | Suspicion::Restarted(_) => Some(grace),
            Suspicion::Cleared(_) => Some(grace.max(watch.quiet())),
            Suspicion::Unknown if self.would_have_told(client, call) => None,
            Suspicion::NotServed | Suspicion::Unknown => Some(HANDOVER_TIMEOUT.max(watch.quiet())),
        }
    }

    /// Returns whether an empty registry proves nothing: this broker sends PUBACK 0x10 for topics without a subscriber, and may
    /// hide the registry from this client. `rantai`'s broker refuses such a subscription instead.
    fn would_have_told(&self, client: &Client, call: &PendingCall<'_>) -> bool {
        let is_ours = client.outlet().features() != BrokerFeatures::default();
        !is_ours && self.reports_unreceived.load(Ordering::Relaxed) && call.qos == QoS::AtLeastOnce
    }

    /// Returns the shared subscription to an object's registry entries.
    async fn watch(&self, client: &Client, object: &ObjectName) -> Result<Arc<ObjectWatch>, SubscribeError> {
        let mut watches = self.watches.lock().await;
        if let Some(watch) = watches.get(object).and_then(Weak::upgrade) {
            return Ok(watch);
        }
        watches.retain(|_, watch| watch.strong_count() > 0);
        let watch = ObjectWatch::begin(client, object).await?;
        watches.insert(object.clone(), Arc::downgrade(&watch));
        Ok(watch)
    }
}

impl From<Suspicion> for CallLoss {
    fn from(suspicion: Suspicion) -> Self {
        match suspicion {
            Suspicion::Lost(node) | Suspicion::Cleared(node) | Suspicion::Restarted(node) => Self::Lost(node),
            Suspicion::NotServed | Suspicion::Unknown => Self::Absent,
        }
    }
}
