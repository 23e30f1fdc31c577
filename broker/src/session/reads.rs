//! Reads of retained messages for a session's subscriptions: all filters of a pass are matched together.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::message::{Message, QoS};
use crate::parted::PartedMap;
use crate::retained::{Cursor, FilterSet, Progress, ReadLimits, Retained, is_before, key_behind};

/// Maximum number of passes that are read in turns; filters added meanwhile are collected in later passes.
const MAX_ACTIVE_PASSES: usize = 4;
/// Maximum number of filter levels in one pass, which bounds the cost of matching one topic.
const MAX_PASS_LEVELS: usize = 4_096;

/// Whether retained messages may be read in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadTurn {
    /// The task serves this session's client or outbox.
    Now,
    /// The task serves another session, which must not be delayed by the read.
    Later,
}

/// Filter whose retained messages are being read.
#[derive(Debug)]
pub(super) struct RetainedRead {
    pub(super) filter: ByteString,
    pub(super) qos: QoS,
    pub(super) identifier: Option<u32>,
    /// Key before which messages are skipped: the one after the last message found. Stored on disk if the session is
    /// stored.
    pub(super) from: ByteString,
}

/// A retained message and the filter that it was found for.
#[derive(Debug)]
pub(super) struct FoundMessage {
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) identifier: Option<u32>,
    read: u32,
}

/// Filters whose retained messages are being read.
#[derive(Debug, Default)]
pub(super) struct Reads(Option<Box<Passes>>);

#[derive(Debug, Default)]
struct Passes {
    /// Passes sorted by number.
    in_order: Vec<Pass>,
    /// Number of the pass that contains a filter.
    by_filter: PartedMap<ByteString, u64>,
    last_number: u64,
    next: usize,
}

/// Filters that are read together in one walk over the topics.
#[derive(Debug, Default)]
pub(super) struct Pass {
    number: u64,
    filters: FilterSet,
    reads: HashMap<u32, RetainedRead>,
    last_read: u32,
    cursor: Cursor,
    begun: bool,
    /// Number of filters at QoS 1 and 2.
    acknowledged: usize,
}

impl Pass {
    /// Returns whether messages found by this pass may have to be acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged > 0
    }

    /// Continues the read, and adds the messages found to `found`.
    pub(super) fn read(
        &mut self,
        retained: &RwLock<Retained>,
        limits: ReadLimits,
        now: u64,
        found: &mut Vec<FoundMessage>,
    ) -> Progress {
        self.begun = true;
        let reads = &self.reads;
        retained.read().read(&self.filters, &mut self.cursor, limits, now, |number, message| {
            if let Some(read) = reads.get(&number)
                && !is_before(&message.topic, &read.from)
            {
                let (message, qos, identifier) = (message.clone(), read.qos, read.identifier);
                found.push(FoundMessage { message, qos, identifier, read: number });
            }
        })
    }

    /// Sets the key at which each filter of `found` continues after a crash. Returns these filters, except for those
    /// at QoS 0.
    pub(super) fn note_found(&mut self, found: &[FoundMessage]) -> Vec<ByteString> {
        let mut seen: Vec<u32> = Vec::new();
        let mut filters = Vec::new();
        for found in found.iter().rev() {
            if found.qos == QoS::AtMostOnce || seen.contains(&found.read) {
                continue;
            }
            seen.push(found.read);
            if let Some(read) = self.reads.get_mut(&found.read) {
                read.from = key_behind(&found.message.topic);
                filters.push(read.filter.clone());
            }
        }
        filters
    }

    fn add(&mut self, read: RetainedRead) {
        if self.reads.is_empty() {
            self.cursor = Cursor::at(&read.from);
        } else {
            self.cursor.back_to(&read.from);
        }
        self.last_read += 1;
        self.filters.insert(&read.filter, self.last_read);
        self.acknowledged += usize::from(read.qos != QoS::AtMostOnce);
        self.reads.insert(self.last_read, read);
    }

    fn remove(&mut self, filter: &str) {
        if let Some(number) = self.filters.remove(filter)
            && let Some(read) = self.reads.remove(&number)
        {
            self.acknowledged -= usize::from(read.qos != QoS::AtMostOnce);
        }
    }
}

impl Passes {
    fn pass_of(&self, filter: &str) -> Option<usize> {
        let number = self.by_filter.get(filter)?;
        self.in_order.binary_search_by_key(number, |pass| pass.number).ok()
    }

    fn remove(&mut self, filter: &str) {
        let Some(index) = self.pass_of(filter) else { return };
        self.by_filter.remove(filter);
        self.in_order[index].remove(filter);
        if self.in_order[index].reads.is_empty() {
            self.remove_pass(index);
        }
    }

    /// Removes a pass; the caller removes its filters from `by_filter`.
    fn remove_pass(&mut self, index: usize) -> Pass {
        if index < self.next {
            self.next -= 1;
        }
        self.in_order.remove(index)
    }

    fn add(&mut self, read: RetainedRead) {
        self.remove(&read.filter);
        let is_open = |pass: &Pass| !pass.begun && pass.filters.nodes() < MAX_PASS_LEVELS;
        if !self.in_order.last().is_some_and(is_open) {
            self.last_number += 1;
            self.in_order.push(Pass { number: self.last_number, ..Pass::default() });
        }
        let pass = self.in_order.last_mut().expect("pushed just before, or open");
        self.by_filter.insert(read.filter.clone(), pass.number);
        pass.add(read);
    }

    fn turn(&mut self) -> usize {
        if self.next >= self.in_order.len().min(MAX_ACTIVE_PASSES) {
            self.next = 0;
        }
        self.next
    }
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Begins to read a filter, from the beginning even if it is being read already.
    pub(super) fn begin(&mut self, read: RetainedRead) {
        self.0.get_or_insert_default().add(read);
    }

    pub(super) fn end(&mut self, filter: &ByteString) {
        if let Some(passes) = &mut self.0 {
            passes.remove(filter);
        }
        self.release_memory();
    }

    /// Ends the reads at QoS 0, because messages at QoS 0 are not kept for an absent client.
    pub(super) fn keep_acknowledged(&mut self) {
        if let Some(passes) = &mut self.0 {
            let reads = passes.in_order.iter().flat_map(|pass| pass.reads.values());
            let gone: Vec<ByteString> =
                reads.filter(|read| read.qos == QoS::AtMostOnce).map(|read| read.filter.clone()).collect();
            for filter in gone {
                passes.remove(&filter);
            }
        }
        self.release_memory();
    }

    /// Returns the pass whose turn it is.
    pub(super) fn current(&mut self) -> Option<&mut Pass> {
        let passes = self.0.as_mut()?;
        let turn = passes.turn();
        passes.in_order.get_mut(turn)
    }

    /// Ends the turn of the current pass.
    pub(super) fn advance(&mut self) {
        if let Some(passes) = &mut self.0 {
            passes.next += 1;
        }
    }

    /// Removes the current pass, which is complete. Returns its filters, except for those at QoS 0.
    pub(super) fn finish(&mut self) -> Vec<ByteString> {
        let Some(passes) = &mut self.0 else { return Vec::new() };
        let turn = passes.turn();
        let pass = passes.remove_pass(turn);
        let mut filters = Vec::new();
        for read in pass.reads.into_values() {
            passes.by_filter.remove(&read.filter);
            if read.qos != QoS::AtMostOnce {
                filters.push(read.filter);
            }
        }
        self.release_memory();
        // Sorted, so that the order does not depend on a hash.
        filters.sort_unstable();
        filters
    }

    pub(super) fn get(&self, filter: &ByteString) -> Option<&RetainedRead> {
        let passes = self.0.as_ref()?;
        let pass = &passes.in_order[passes.pass_of(filter)?];
        pass.reads.get(&pass.filters.number(filter)?)
    }

    fn release_memory(&mut self) {
        if self.0.as_ref().is_some_and(|passes| passes.in_order.is_empty()) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(filter: &str, qos: QoS) -> RetainedRead {
        RetainedRead { filter: filter.into(), qos, identifier: None, from: ByteString::new() }
    }

    /// Begins to read the current pass and returns its filters.
    fn take_turn(reads: &mut Reads) -> Vec<String> {
        let pass = reads.current().expect("some are left");
        pass.begun = true;
        let mut filters: Vec<_> = pass.reads.values().map(|read| read.filter.to_string()).collect();
        filters.sort();
        filters
    }

    #[test]
    fn filters_of_one_packet_are_read_together_in_few_active_passes() {
        let mut reads = Reads::default();
        for number in 0..20 {
            for part in ["a", "b"] {
                reads.begin(read(&format!("{part}{number}"), QoS::AtMostOnce));
            }
            take_turn(&mut reads);
            reads.advance();
        }
        assert_eq!(reads.0.as_ref().expect("some").in_order.len(), MAX_ACTIVE_PASSES + 1);
        let mut turns = Vec::new();
        for turn in 0..5 {
            turns.push(take_turn(&mut reads).len());
            if turn == 1 {
                assert_eq!(reads.finish().len(), 0, "at QoS 0 nothing is to be kept");
            } else {
                reads.advance();
            }
        }
        assert_eq!(turns.iter().filter(|&&filters| filters == 32).count(), 1, "{turns:?}");
        for number in 0..20 {
            for part in ["a", "b"] {
                reads.end(&format!("{part}{number}").into());
            }
        }
        assert!(reads.current().is_none() && reads.is_empty());
    }

    #[test]
    fn a_filter_is_read_once_and_at_qos_0_for_one_connection() {
        let mut reads = Reads::default();
        for (filter, qos) in
            [("a", QoS::AtMostOnce), ("b", QoS::AtLeastOnce), ("a", QoS::ExactlyOnce), ("c", QoS::AtMostOnce)]
        {
            reads.begin(read(filter, qos));
        }
        assert_eq!(take_turn(&mut reads), ["a", "b", "c"]);
        reads.keep_acknowledged();
        assert_eq!(take_turn(&mut reads), ["a", "b"]);
        reads.begin(read("b", QoS::AtLeastOnce));
        assert_eq!(take_turn(&mut reads), ["a"], "it begins again, with a pass of its own");
        assert_eq!(reads.finish(), ["a"]);
        assert_eq!(take_turn(&mut reads), ["b"]);
        assert_eq!(reads.finish(), ["b"]);
        assert!(reads.is_empty());
    }

    /// The number of filter levels in a pass bounds the cost of matching one topic.
    #[test]
    fn deep_filters_are_read_in_several_passes() {
        let mut reads = Reads::default();
        for number in 0..100 {
            reads.begin(read(&format!("{number}{}", "/x".repeat(99)), QoS::AtLeastOnce));
        }
        let passes = &reads.0.as_ref().expect("some").in_order;
        assert_eq!(passes.iter().map(|pass| pass.filters.nodes()).collect::<Vec<_>>(), [4_100, 4_100, 1_800]);
    }
}
