//! Whether anybody is there to answer, for callers that the broker does not tell: at QoS 0, and on brokers that send no
//! PUBACK 0x10.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::session::QoS;
use crate::wire::features::BrokerFeatures;
use crate::wire::name::ObjectName;
use crate::wire::topic::Target;

/// A call that has heard nothing for this long asks the registry.
pub(crate) const SILENCE: Duration = Duration::from_millis(250);
/// How long the registry's word that an object is served is not asked for again.
const KNOWN: Duration = Duration::from_secs(5);
/// An object that changes its node is looked for again after this time.
const HANDOVER: Duration = Duration::from_millis(1_500);

/// What is known of the objects that are called.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Whether this broker has ever said that nobody subscribes to a topic.
    tells: AtomicBool,
    /// When objects were last seen served. Held while the registry is asked, so that calls of one client ask in turn.
    served: Mutex<HashMap<ObjectName, Instant>>,
}

impl Presence {
    /// Notes that the broker has said that nobody subscribes to a topic.
    pub(crate) fn told(&self) {
        self.tells.store(true, Ordering::Relaxed);
    }

    /// Whether a silent call has to ask the registry.
    pub(crate) fn is_asked(&self, qos: QoS, target: &Target, features: BrokerFeatures) -> bool {
        let tells = features != BrokerFeatures::default() || self.tells.load(Ordering::Relaxed);
        *target != Target::All && !(tells && qos == QoS::AtLeastOnce)
    }

    /// Waits until the registry has said twice that nobody serves an object; never returns where somebody does, and where
    /// the registry cannot be read. Cancelling is safe.
    pub(crate) async fn absence(&self, client: &Client, object: &ObjectName) {
        if self.is_absent(client, object).await {
            sleep(HANDOVER).await;
            if self.is_absent(client, object).await {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn is_absent(&self, client: &Client, object: &ObjectName) -> bool {
        let mut served = self.served.lock().await;
        let now = Instant::now();
        served.retain(|_, seen| now.duration_since(*seen) < KNOWN);
        if served.contains_key(object) {
            return false;
        }
        let Ok(view) = client.registry().find(object).await else { return false };
        let absent = !view.is_served(object);
        if !absent {
            served.insert(object.clone(), Instant::now());
        }
        absent
    }
}
