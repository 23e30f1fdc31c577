//! Delay of CONNACK until the end of the client's earlier session is on disk. A broker that is killed before that
//! would have the earlier session again, with the QoS 2 packet ids it had received.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::Link;
use super::outbox::Outbox;
use crate::codec::{self, ConnAck, Reason, Version};
use crate::store::Ticket;

impl Link {
    /// Holds back all packets until [`release`](Self::release), which is called when `ticket` is on disk. Must be
    /// called before the first flush; may be called again with another ticket.
    pub(crate) fn hold(&self, ticket: Ticket) {
        let mut outbox = self.outbox.lock();
        if !outbox.closing {
            outbox.held = ticket;
        }
    }

    /// Returns the ticket for which CONNACK is held back; `None` if it is not.
    pub(crate) fn held(&self) -> Option<Ticket> {
        Some(self.outbox.lock().held).filter(|ticket| *ticket > 0)
    }

    /// Sends the CONNACK that was held back, and the packets appended after it.
    pub(crate) fn release(self: &Arc<Self>) {
        self.outbox.lock().held = 0;
        self.flush();
    }

    /// Replaces a CONNACK that was held back with a refusal for `reason`. If no CONNACK can carry the reason, the
    /// connection ends without an answer.
    pub(super) fn refuse_held(&self, outbox: &mut Outbox, reason: Option<Reason>) {
        drop(outbox.take());
        (outbox.held, outbox.writing, outbox.answers) = (0, 0, 0);
        let Some(reason) = reason.filter(|reason| {
            [Reason::QUOTA_EXCEEDED, Reason::SERVER_BUSY, Reason::NOT_AUTHORIZED].contains(reason)
        }) else {
            return;
        };
        let mut refusal = ConnAck::refused(reason, reason.text());
        let mut encoded = Vec::new();
        codec::connack(self.peer.version, refusal.clone(), &mut encoded);
        if self.peer.version == Version::V5 && encoded.len() > self.peer.packet_maximum as usize {
            encoded.clear();
            refusal.reason_string = None;
            codec::connack(self.peer.version, refusal, &mut encoded);
        }
        outbox.buffered = encoded.len();
        outbox.tail = encoded;
    }

    /// Waits for the end of the connection. Wakes the last task that polled this or
    /// [`poll_readable`](Self::poll_readable).
    pub(crate) fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.listen(cx);
        if self.is_closing() { Poll::Ready(()) } else { Poll::Pending }
    }
}
