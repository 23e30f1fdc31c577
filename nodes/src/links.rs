//! Whom requests are passed on to, and whether they are served, by the registry's word.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::wire::name::ObjectName;

use crate::announcer::Announcer;
use crate::connection::{connection, over};
use crate::contenders::Contenders;

/// Names that are followed; of further ones only the broker's word counts.
const MOST: usize = 256;

/// The objects requests are passed on to, each followed from the first such request on.
#[derive(Debug)]
pub(crate) struct Links {
    announcer: Arc<Announcer>,
    /// Whether what the registry says of them has come on this connection.
    known: Mutex<HashMap<ObjectName, bool>>,
}

impl Links {
    pub(crate) fn new(announcer: Arc<Announcer>) -> Arc<Self> {
        Arc::new(Self { announcer, known: Mutex::default() })
    }

    /// Whether somebody serves it now; `None` as long as nothing is known. To be called on the runtime.
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

    /// Follows one of them until the session ends.
    async fn follow(self: Arc<Self>, object: ObjectName) {
        let mut status = self.announcer.bus.status();
        while let Some(connection) = connection(&mut status).await {
            let mut contenders = Contenders::new(self.announcer.clone(), object.clone());
            let followed = async {
                if contenders.look().await.is_ok() {
                    self.known.lock().insert(object.clone(), true);
                    contenders.until::<Infallible>(|_| None).await;
                }
                // Refused, or the connection is gone: nothing is known here.
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
