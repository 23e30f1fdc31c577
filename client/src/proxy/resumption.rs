//! Resumption of a stream after the connection of its caller or of its node was lost.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::reader::{Reader, ReceivedPart};
use crate::client::Client;
use crate::error::CallError;
use crate::registry::lost;
use crate::wire::fault::{Code, Fault};
use crate::wire::name::ClientId;

/// Delay before missing items are requested again. Constant while the node is not reachable; otherwise doubled after
/// each further request, as a request may be lost with a connection of the node.
const RESUME_DELAY: Duration = Duration::from_millis(250);
/// Maximum time that the node may be unreachable, unless it may still be reconnecting to a broker that was away.
const AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// State of a stream whose missing items are requested again.
#[derive(Debug)]
pub(super) struct Resumption {
    /// Time at which they are requested next.
    at: Option<Instant>,
    /// Time at which the connection was lost last.
    lost: Instant,
    /// Times of the first and the last request that did not reach the node, while it is not reachable.
    away: Option<(Instant, Instant)>,
    /// Delay after the request that is sent next.
    pause: Duration,
}

impl Resumption {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: None, lost: now, away: None, pause: RESUME_DELAY }
    }

    /// Records that the connection was lost.
    pub(super) fn disconnected(&mut self) {
        self.lost = Instant::now();
        self.at = Some(self.lost);
    }

    /// Records that the next part has arrived.
    pub(super) fn settled(&mut self) {
        (self.at, self.away, self.pause) = (None, None, RESUME_DELAY);
    }

    /// Records that missing items were requested, and schedules the next request.
    fn requested(&mut self) {
        self.at = Some(Instant::now() + self.pause);
        self.pause *= 2;
    }

    /// Waits until the missing items are to be requested, and for a connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// There was no connection for `deadline`, or the session has ended.
    pub(super) async fn is_due(&self, client: &Client, deadline: Duration) -> Result<(), CallError> {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
        let connected = timeout_at(self.lost + deadline, client.outlet().room());
        Ok(connected.await.map_err(|_| CallError::Lost)??)
    }
}

impl Reader {
    /// Requests the retransmission of missing items, once.
    ///
    /// # Errors
    ///
    /// The items have not arrived within the deadline.
    pub(super) fn fill_gap(&mut self) -> Result<(), CallError> {
        match self.gap {
            None => {
                self.gap = Some(Instant::now());
                if let Some(more) = self.more(true) {
                    let _ = self.request.proxy.client.outlet().send_now(more, 0);
                }
                self.resumption.requested();
                Ok(())
            }
            Some(since) if since.elapsed() < self.settings().deadline => Ok(()),
            Some(_) => Err(Fault::new(Code::BROKEN_OBJECT, "items of a stream are missing").into()),
        }
    }

    /// Requests the retransmission of missing items.
    pub(super) fn resume(&mut self) {
        self.send_more(true, self.key);
        self.gap.get_or_insert(self.told);
        self.resumption.requested();
    }

    /// Retries a resume, as the node has not received the last `rpc.more`.
    ///
    /// # Errors
    ///
    /// The node was not reachable for too long.
    pub(super) fn unreached(&mut self, node: &ClientId) -> Result<ReceivedPart, CallError> {
        let now = Instant::now();
        let since = match self.resumption.away {
            Some((since, last)) if last + RESUME_DELAY * 4 > now => since,
            _ => now,
        };
        self.resumption.away = Some((since, now));
        let reunion = self.request.proxy.client.presence().reunion();
        if now >= reunion.unwrap_or(now).max(since + AWAY_TIMEOUT) {
            return Err(lost(&self.object, node).into());
        }
        let at = self.resumption.at.unwrap_or(now + RESUME_DELAY);
        self.resumption.at = Some(at.min(now + RESUME_DELAY));
        Ok(ReceivedPart::Again)
    }
}
