//! SUBSCRIBE and UNSUBSCRIBE, handled in parts: one packet may contain a hundred thousand filters.

use std::sync::Arc;

use bytestring::ByteString;

use super::{BatchBuffers, Connection, ConnectionError, NextStep};
use crate::access::Denial;
use crate::codec::{self, DecodeError, Options, PacketFilters, Reason, Subscribe};
use crate::message::QoS;
use crate::session::Scratch;
use crate::store::Ticket;
use crate::topic;

/// Maximum number of filter levels handled before the task yields. Each is a node of the subscription trie.
const LEVELS_PER_TURN: usize = 64;

/// Maximum number of filter levels whose retained messages are requested before the task yields.
const READ_LEVELS_PER_TURN: usize = 1_024;

/// Routing steps charged per filter level: a node is created or removed, not only visited.
const STEPS_PER_LEVEL: usize = 8;

/// SUBSCRIBE or UNSUBSCRIBE in progress.
#[derive(Debug)]
pub(super) struct FilterChange {
    id: u16,
    filters: Filters,
    reasons: Vec<Reason>,
    /// Ticket that must be on disk before the packet is acknowledged.
    ticket: Ticket,
    /// Filters whose retained messages are to be read.
    reads: Vec<(ByteString, QoS)>,
    /// Whether SUBACK or UNSUBACK was sent, so that only reads may be left.
    answered: bool,
    /// Reason why the first denied filter was denied.
    denied: Option<Arc<str>>,
}

#[derive(Debug)]
enum Filters {
    Subscribe { identifier: Option<u32>, left: PacketFilters },
    Unsubscribe { left: PacketFilters },
}

impl FilterChange {
    pub(super) fn subscribe(packet: Subscribe) -> Self {
        let Subscribe { id, identifier, filters } = packet;
        Self::new(id, Filters::Subscribe { identifier, left: filters })
    }

    pub(super) fn unsubscribe(id: u16, filters: PacketFilters) -> Self {
        Self::new(id, Filters::Unsubscribe { left: filters })
    }

    fn new(id: u16, filters: Filters) -> Self {
        Self { id, filters, reasons: Vec::new(), ticket: 0, reads: Vec::new(), answered: false, denied: None }
    }
}

impl Connection {
    /// Handles a packet of filters as far as one turn allows: checks all filters, then subscribes or unsubscribes, then
    /// acknowledges, then begins to read the retained messages.
    pub(super) fn change_filters(
        &self,
        mut change: FilterChange,
        scratch: &mut Scratch,
    ) -> Result<NextStep, ConnectionError> {
        let (Filters::Subscribe { left, .. } | Filters::Unsubscribe { left }) = &mut change.filters;
        if !left.are_checked() {
            left.check_some()?;
            return Ok(NextStep::FilterChange(Box::new(change)));
        }
        if !change.answered && !self.change_some(&mut change, scratch)? {
            return Ok(NextStep::FilterChange(Box::new(change)));
        }
        if !change.answered {
            change.answered = true;
            self.acknowledge_change(&change, scratch);
        }
        if change.reads.is_empty() {
            return Ok(NextStep::Next);
        }
        let Filters::Subscribe { identifier, .. } = change.filters else { return Ok(NextStep::Next) };
        let mut levels = 0;
        let fits = |(filter, _): &&(ByteString, QoS)| {
            levels += topic::levels(filter);
            levels <= READ_LEVELS_PER_TURN
        };
        let count = change.reads.iter().rev().take_while(fits).count().max(1);
        let some = change.reads.split_off(change.reads.len() - count);
        self.session.begin_reads(&self.link, some, identifier, change.reads.is_empty(), scratch);
        Ok(if change.reads.is_empty() { NextStep::Next } else { NextStep::FilterChange(Box::new(change)) })
    }

    /// Subscribes to or unsubscribes from some of the filters of a packet. Returns whether all are done.
    fn change_some(&self, change: &mut FilterChange, scratch: &mut Scratch) -> Result<bool, ConnectionError> {
        let mut levels = 0;
        let done = match &mut change.filters {
            Filters::Subscribe { identifier, left } => {
                while levels < LEVELS_PER_TURN
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
                left.is_empty()
            }
            Filters::Unsubscribe { left } => {
                while levels < LEVELS_PER_TURN
                    && let Some((filter, _)) = left.next()
                {
                    levels += topic::levels(&filter);
                    let known = self.hub.router.unsubscribe(&self.session, &filter, scratch);
                    if known {
                        self.log_filter("unsubscribed", &filter);
                    }
                    change.reasons.push(if known {
                        Reason::SUCCESS
                    } else {
                        Reason::NO_SUBSCRIPTION_EXISTED
                    });
                }
                left.is_empty()
            }
        };
        // A batch of many small packets is charged like one large packet.
        scratch.route_steps += levels * STEPS_PER_LEVEL;
        let ticket = scratch.settle_for(&self.hub.shared, Some(self.session.key));
        change.ticket = self.hub.router.note_filters_changed(&self.session, change.ticket.max(ticket));
        if done {
            // Reversed, because reads are taken from the end.
            change.reads.reverse();
        }
        Ok(done)
    }

    fn acknowledge_change(&self, change: &FilterChange, scratch: &mut Scratch) {
        let (session, shared) = (&self.session, &self.hub.shared);
        let (peer, id, reasons) = (self.link.peer, change.id, &change.reasons);
        let version = peer.version;
        let text = change.denied.as_deref().filter(|text| {
            let length = text.len() + codec::AROUND_REASON_STRING + reasons.len();
            peer.problem_information && length <= peer.packet_maximum as usize
        });
        let subscribes = matches!(change.filters, Filters::Subscribe { .. });
        if subscribes && change.ticket <= shared.durable() && shared.disk_refusal().is_some() {
            // Does not wait for the disk; SUBACK needs no order among other acknowledgements.
            self.link.append_with(&mut scratch.dirty, |out| codec::suback(version, id, reasons, text, out));
            return;
        }
        session.acknowledge(shared, &self.link, change.ticket, scratch, |out| {
            if subscribes {
                codec::suback(version, id, reasons, text, out);
            } else {
                codec::unsuback(version, id, reasons, out);
            }
        });
    }

    /// Handles the rest of a packet of filters, yielding between its parts.
    pub(super) async fn change_in_turns(&self, mut change: Box<FilterChange>) -> Result<(), ConnectionError> {
        loop {
            self.next_turn().await;
            // Once the packet is acknowledged, its reads are begun even on a closing connection, because the session
            // may keep them for the next one.
            if self.link.is_closing() && !change.answered {
                return Ok(());
            }
            let mut work = BatchBuffers::take(self.hub.shared.clock.now_ms());
            let step = self.change_filters(*change, &mut work.scratch);
            work.scratch.settle(&self.hub.shared);
            crate::link::flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                NextStep::FilterChange(rest) => change = rest,
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
    ) -> Result<Result<Reason, Denial>, ConnectionError> {
        let shared = topic::shared(filter);
        let plain = match shared {
            None => Some(&**filter),
            Some(shared) => shared.map(|s| s.filter),
        };
        let levels = self.hub.shared.limits().topic_levels;
        if !plain.is_some_and(|f| topic::valid_filter(f, levels)) {
            return Ok(Err(Reason::TOPIC_FILTER_INVALID.into()));
        }
        if shared.is_some() && options.no_local {
            return Err(DecodeError::protocol("No Local on a shared subscription"));
        }
        if self.link.peer.bridge {
            // A bridge does not receive its own messages, and forwards retained messages as retained.
            options.no_local = shared.is_none();
            options.retain_as_published = true;
        }
        // Copied, because the filter would otherwise keep the whole packet in memory, which may have megabytes of user
        // properties.
        let filter = ByteString::from(&**filter);
        let subscribed = self.hub.router.subscribe(&self.session, &filter, options, identifier, scratch);
        Ok(subscribed.map(|reads_retained| {
            self.log_filter("subscribed", &filter);
            if reads_retained {
                reads.push((filter, options.qos));
            }
            Reason(options.qos as u8)
        }))
    }
}
