//! The session by which a node talks with one device: its own, so that a flood of the device holds up nothing else.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_client::object::Calls;
use rantai_client::session::{ConnectError, Filter, Options, Session, Status};
use rantai_client::wire::device::DeviceTopic;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use crate::device::{Device, Inbound};

/// Prefix of the client id.
const KIND: &str = "adopt";
/// Time after the connection within which the retained state of the device comes.
const STATE: Duration = Duration::from_secs(1);
/// Time between attempts to talk with the device, where the broker does not allow it.
const AGAIN: Duration = Duration::from_secs(10);

/// Session with one device, which stays when the node's own connection is lost.
#[derive(Debug, Default)]
pub(crate) struct Link {
    session: Mutex<Option<Session>>,
}

impl Link {
    /// Connects, and keeps the session for as long as this is polled; afterwards it goes on by itself.
    pub(crate) async fn keep(&self, device: &Arc<Device>, calls: &Calls) {
        let mut is_known = false;
        loop {
            match self.status(device, calls).await {
                Ok(status) => {
                    is_known = false;
                    let reason = follow(device, status).await;
                    tracing::warn!("{}: the session with the device has ended: {reason}", device.object);
                    device.unlinked("its node has lost the connection; the log of the node says why");
                }
                Err(error) => {
                    let text = error_chain(&error);
                    if !std::mem::replace(&mut is_known, true) {
                        tracing::warn!(
                            "{}: cannot talk with the device: {text}; tried again every 10 s",
                            device.object
                        );
                    }
                    device.unlinked("its node cannot talk with it; the log of the node says why");
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Returns the status of the session, which is made where there is none.
    async fn status(
        &self,
        device: &Arc<Device>,
        calls: &Calls,
    ) -> Result<watch::Receiver<Status>, ConnectError> {
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            let status = session.status();
            if !matches!(*status.borrow(), Status::Ended(_)) {
                return Ok(status);
            }
        }
        let (options, root) = calls.further_session(KIND).expect("a node binds its calls before it serves");
        let options = Options { patient: true, is_secondary: true, ..options };
        let object = &device.object;
        let filters = vec![
            Filter::new(DeviceTopic::State.format(&root, object)),
            Filter::new(DeviceTopic::Reply.format(&root, object)).live(),
            Filter::new(DeviceTopic::events(&root, object)),
        ];
        let inbound = Inbound { device: device.clone(), root: root.clone() };
        let session = Session::connect(options, |_| inbound).await?;
        session.begin(filters).await?;
        device.linked(session.outlet(), &root);
        Ok(kept.insert(session).status())
    }
}

/// Waits for the end of a session, and returns its reason. A device whose state does not come within a second of a connection is
/// taken to be offline.
async fn follow(device: &Arc<Device>, mut status: watch::Receiver<Status>) -> String {
    loop {
        let now = status.borrow_and_update().clone();
        let changed = match now {
            Status::Ended(reason) => return reason,
            Status::Online(_) => {
                if let Ok(changed) = timeout(STATE, status.changed()).await {
                    changed
                } else {
                    device.assume_offline();
                    status.changed().await
                }
            }
            _ => status.changed().await,
        };
        if changed.is_err() {
            return "it was closed".to_owned();
        }
    }
}
