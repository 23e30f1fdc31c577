//! Objects that requests are forwarded to, and whether the registry says that they are served.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::wire::name::ObjectName;

use crate::announcer::Announcer;
use crate::connection::{connection, over};
use crate::contenders::Contenders;

/// Maximum number of names that are followed; for further ones only the broker's answer to a publish counts.
const MOST: usize = 256;

/// Objects that requests are forwarded to, each followed in the registry from its first request on.
#[derive(Debug)]
pub(crate) struct Links {
    announcer: Arc<Announcer>,
    /// Whether the registry's entries of each object have arrived on this connection.
    known: Mutex<HashMap<ObjectName, bool>>,
}

impl Links {
    pub(crate) fn new(announcer: Arc<Announcer>) -> Arc<Self> {
        Arc::new(Self { announcer, known: Mutex::default() })
    }

    /// Returns whether a node serves the object now; `None` as long as that is not known. Begins to follow a new object, for
    /// which it needs a Tokio runtime.
    pub(crate) fn served(self: &Arc<Self>, object: &ObjectName) -> Option<bool> {
        let mut known = self.known.lock();
        match known.get(object) {
            Some(true) => Some(self.announcer.is_served(object)),
            Some(false) => None,
            None => {
                if known.len() < MOST {
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
                    contenders.until::<Infallible>(|_| None).await;
                }
                // Subscribing was refused, or the connection is lost: nothing is known on this connection.
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
}
