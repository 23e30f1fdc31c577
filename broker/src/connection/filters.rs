//! SUBSCRIBE and UNSUBSCRIBE, worked through in parts: one packet may hold a hundred thousand filters.

use std::sync::Arc;

use bytestring::ByteString;

use super::{Connection, Failure, Step, Work};
use crate::access::Denial;
use crate::codec::{self, DecodeError, Options, Reason, Subscribe};
use crate::message::QoS;
use crate::session::Scratch;
use crate::store::Ticket;
use crate::topic;

/// Levels of filters before the others get their turn, each a node of the tree of subscriptions.
const LEVELS_AT_ONCE: usize = 256;

/// Steps of routing that one of those counts for: a node is made or taken away, and not only looked at.
const STEPS_A_LEVEL: usize = 8;

/// A packet of filters that is being worked through.
#[derive(Debug)]
pub(super) struct Change {
    id: u16,
    filters: Filters,
    reasons: Vec<Reason>,
    /// What has to be on disk before the packet is acknowledged.
    ticket: Ticket,
    /// Filters whose retained messages are to be read.
    reads: Vec<(ByteString, QoS)>,
    /// Why the first filter that was not allowed was not.
    denied: Option<Arc<str>>,
}

#[derive(Debug)]
enum Filters {
    Subscribe { identifier: Option<u32>, left: std::vec::IntoIter<(ByteString, Options)> },
    Unsubscribe { left: std::vec::IntoIter<ByteString> },
}

impl Change {
    pub(super) fn subscribe(packet: Subscribe) -> Self {
        let Subscribe { id, identifier, filters } = packet;
        Self::new(id, Filters::Subscribe { identifier, left: filters.into_iter() })
    }

    pub(super) fn unsubscribe(id: u16, filters: Vec<ByteString>) -> Self {
        Self::new(id, Filters::Unsubscribe { left: filters.into_iter() })
    }

    fn new(id: u16, filters: Filters) -> Self {
        Self { id, filters, reasons: Vec::new(), ticket: 0, reads: Vec::new(), denied: None }
    }
}

impl Connection {
    /// Works through a packet of filters as far as one turn goes.
    pub(super) fn change_filters(&self, mut change: Change, scratch: &mut Scratch) -> Result<Step, Failure> {
        let mut levels = 0;
        let done = match &mut change.filters {
            Filters::Subscribe { identifier, left } => {
                while levels < LEVELS_AT_ONCE
                    && let Some((filter, options)) = left.next()
                {
                    levels += topic::levels(&filter);
                    let subscribed =
                        self.subscribe(&filter, options, *identifier, &mut change.reads, scratch)?;
                    change.reasons.push(subscribed.unwrap_or_else(|denial| {
                        if denial.reason == Reason::NOT_AUTHORIZED {
                            change.denied.get_or_insert(denial.text);
                        }
                        denial.reason
                    }));
                }
                left.len() == 0
            }
            Filters::Unsubscribe { left } => {
                while levels < LEVELS_AT_ONCE
                    && let Some(filter) = left.next()
                {
                    levels += topic::levels(&filter);
                    let known = self.hub.router.unsubscribe(&self.session, &filter, scratch);
                    change.reasons.push(if known {
                        Reason::SUCCESS
                    } else {
                        Reason::NO_SUBSCRIPTION_EXISTED
                    });
                }
                left.len() == 0
            }
        };
        // Many small packets of a batch are as much work as a large one.
        scratch.route_steps += levels * STEPS_A_LEVEL;
        let (session, shared) = (&self.session, &self.hub.shared);
        // Tickets rise, but a part that changes nothing has none.
        change.ticket = change.ticket.max(scratch.settle_for(shared, Some(session.key)));
        if !done {
            return Ok(Step::Change(Box::new(change)));
        }
        let (peer, id, reasons) = (self.link.peer, change.id, &change.reasons);
        let version = peer.version;
        let text = change.denied.as_deref().filter(|text| {
            let length = text.len() + codec::AROUND_REASON_STRING + reasons.len();
            peer.problem_information && length <= peer.packet_maximum as usize
        });
        match change.filters {
            Filters::Subscribe { identifier, .. } => {
                if change.ticket == 0 && shared.disk_refusal().is_some() {
                    // Not behind what waits for the disk; there is no order between SUBACK and acknowledgements.
                    self.link.append_with(&mut scratch.dirty, |out| {
                        codec::suback(version, id, reasons, text, out);
                    });
                } else {
                    session.acknowledge(shared, &self.link, change.ticket, scratch, |out| {
                        codec::suback(version, id, reasons, text, out);
                    });
                }
                if !change.reads.is_empty() {
                    session.begin_reads(&self.link, change.reads, identifier, scratch);
                }
            }
            Filters::Unsubscribe { .. } => {
                session.acknowledge(shared, &self.link, change.ticket, scratch, |out| {
                    codec::unsuback(version, id, reasons, out);
                });
            }
        }
        Ok(Step::Next)
    }

    /// Works through the rest of a packet of filters, with a turn for the others between its parts.
    pub(super) async fn change_in_turns(&self, mut change: Box<Change>) -> Result<(), Failure> {
        loop {
            tokio::task::yield_now().await;
            if self.link.is_closing() {
                return Ok(());
            }
            let mut work = Work::take(self.hub.shared.clock.now_ms());
            let step = self.change_filters(*change, &mut work.scratch);
            work.scratch.settle(&self.hub.shared);
            crate::link::flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                Step::Change(rest) => change = rest,
                _ => return Ok(()),
            }
        }
    }

    fn subscribe(
        &self,
        filter: &ByteString,
        mut options: Options,
        identifier: Option<u32>,
        reads: &mut Vec<(ByteString, QoS)>,
        scratch: &mut Scratch,
    ) -> Result<Result<Reason, Denial>, Failure> {
        let shared = topic::shared(filter);
        let plain = match shared {
            None => Some(&**filter),
            Some(shared) => shared.map(|s| s.filter),
        };
        let levels = self.hub.shared.config.limits.topic_levels;
        if !plain.is_some_and(|f| topic::valid_filter(f, levels)) {
            return Ok(Err(Reason::TOPIC_FILTER_INVALID.into()));
        }
        if shared.is_some() && options.no_local {
            return Err(DecodeError::protocol("No Local on a shared subscription"));
        }
        if self.link.peer.bridge {
            // It is not sent what it brought, and passes retained messages on as such.
            options.no_local = shared.is_none();
            options.retain_as_published = true;
        }
        // Copied out of the packet, all of which it would keep in memory: megabytes of user properties, perhaps.
        let filter = ByteString::from(&**filter);
        let subscribed = self.hub.router.subscribe(&self.session, &filter, options, identifier, scratch);
        Ok(subscribed.map(|reads_retained| {
            if reads_retained {
                reads.push((filter, options.qos));
            }
            Reason(options.qos as u8)
        }))
    }
}
