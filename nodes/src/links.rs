//! Objects that requests are forwarded to, and whether the registry says that they are served.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rantai_client::wire::name::{ClientId, ObjectName};

use crate::announcer::{Announcer, Servers};
use crate::connection::{connection, over};
use crate::contenders::Contenders;

/// Maximum number of names that are followed; for further ones only the broker's answer to a publish counts.
const MAX_FOLLOWED: usize = 256;

/// A node that served an object which requests are forwarded to, and is lost, or runs with another epoch.
#[derive(Clone, Debug)]
pub(crate) struct ServerLoss {
    pub(crate) object: ObjectName,
    pub(crate) node: ClientId,
    /// Its epoch before.
    pub(crate) epoch: String,
    /// Whether no other node served the object.
    pub(crate) was_alone: bool,
}

/// Called for each loss, without anything locked.
type OnLoss = Box<dyn Fn(ServerLoss) + Send + Sync>;

/// Objects that requests are forwarded to, each followed in the registry from its first request on.
pub(crate) struct Links {
    announcer: Arc<Announcer>,
    on_loss: OnceLock<OnLoss>,
    /// Whether the registry's entries of each object have arrived on this connection.
    known: Mutex<HashMap<ObjectName, bool>>,
}

impl Links {
    pub(crate) fn new(announcer: Arc<Announcer>) -> Arc<Self> {
        Arc::new(Self { announcer, on_loss: OnceLock::new(), known: Mutex::default() })
    }

    /// Sets the callback for the loss of a node that serves a followed object.
    pub(crate) fn tell_of_losses(&self, on_loss: impl Fn(ServerLoss) + Send + Sync + 'static) {
        let _ = self.on_loss.set(Box::new(on_loss));
    }

    /// Returns whether a node serves the object now; `None` as long as that is not known. Begins to follow a new object, for
    /// which it needs a Tokio runtime.
    pub(crate) fn served(self: &Arc<Self>, object: &ObjectName) -> Option<bool> {
        let mut known = self.known.lock();
        match known.get(object) {
            Some(true) => Some(self.announcer.is_served(object)),
            Some(false) => None,
            None => {
                if known.len() < MAX_FOLLOWED {
                    known.insert(object.clone(), false);
                    tokio::spawn(self.clone().follow(object.clone()));
                }
                None
            }
        }
    }

    /// Follows one object in the registry until the session ends.
    async fn follow(self: Arc<Self>, object: ObjectName) {
        let mut status = self.announcer.bus.status();
        while let Some(connection) = connection(&mut status).await {
            let mut contenders = Contenders::new(self.announcer.clone(), object.clone());
            let followed = async {
                if contenders.look().await.is_ok() {
                    self.known.lock().insert(object.clone(), true);
                    let mut before = self.announcer.servers(&object);
                    contenders
                        .until::<Infallible>(|announcer| {
                            let now = announcer.servers(&object);
                            self.compare(&object, &before, &now);
                            before = now;
                            None
                        })
                        .await;
                }
                // The subscription was refused, or the connection is lost: nothing is known on this connection.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = followed => {}
                () = over(status.clone(), connection) => {}
            }
            self.known.lock().insert(object.clone(), false);
        }
    }

    /// Reports the servers that are lost.
    fn compare(&self, object: &ObjectName, before: &Servers, now: &Servers) {
        let Some(on_loss) = self.on_loss.get() else { return };
        for (node, epoch) in before.iter().filter(|(node, epoch)| now.get(*node) != Some(*epoch)) {
            let (node, epoch, was_alone) = (node.clone(), epoch.clone(), before.len() == 1);
            on_loss(ServerLoss { object: object.clone(), node, epoch, was_alone });
        }
    }
}
