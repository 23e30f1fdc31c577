//! Memory of all wills, and its limit.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::codec::Will;
use crate::owner::Owner;

/// Number and size of all wills.
#[derive(Debug, Default)]
pub(crate) struct Wills(Arc<WillTotal>);

#[derive(Debug, Default)]
struct WillTotal {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// Will that is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldWill {
    will: Will,
    bytes: usize,
    /// Owner that the message counts against when it is published, if it is retained.
    owner: Option<Arc<Owner>>,
    total: Arc<WillTotal>,
}

impl Wills {
    /// Returns whether a will that replaces one of `replaced` bytes would exceed `limit`. A will below an equal share
    /// of `limit` never does: the wills of others cannot keep a well-behaved client from connecting.
    pub(crate) fn are_full_for(&self, will: &Will, replaced: Option<usize>, limit: usize) -> bool {
        let (size, total) = (size(will), &*self.0);
        let count = total.count.load(Ordering::Relaxed) + usize::from(replaced.is_none());
        let others = total.bytes.load(Ordering::Relaxed).saturating_sub(replaced.unwrap_or(0));
        others + size > limit && size > limit / count.max(1)
    }

    pub(crate) fn hold(&self, will: Will, owner: Option<Arc<Owner>>) -> Box<HeldWill> {
        let bytes = size(&will);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Box::new(HeldWill { will, bytes, owner, total: self.0.clone() })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl HeldWill {
    /// Returns the number of bytes that count for the will.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn owner(&self) -> Option<&Arc<Owner>> {
        self.owner.as_ref()
    }
}

impl Deref for HeldWill {
    type Target = Will;

    fn deref(&self) -> &Will {
        &self.will
    }
}

impl Drop for HeldWill {
    fn drop(&mut self) {
        self.total.count.fetch_sub(1, Ordering::Relaxed);
        self.total.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn size(will: &Will) -> usize {
    size_of::<HeldWill>() + will.message.bytes_beside()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn will(bytes: usize) -> Will {
        let message = Message { payload: vec![0; bytes].into(), ..Message::default() };
        Will { message, expiry: None, delay: 0 }
    }

    #[test]
    fn small_wills_have_room_when_large_ones_fill_the_budget() {
        let (wills, limit) = (Wills::default(), 100_000);
        let mut held = Vec::new();
        while !wills.are_full_for(&will(20_000), None, limit) {
            held.push(wills.hold(will(20_000), None));
        }
        assert_eq!(held.len(), 4);
        assert!(!wills.are_full_for(&will(10_000), None, limit));
        held.push(wills.hold(will(10_000), None));
        assert_eq!(wills.bytes(), held.iter().map(|will| will.bytes()).sum::<usize>());
        held.clear();
        assert_eq!((wills.bytes(), wills.0.count.load(Ordering::Relaxed)), (0, 0));
    }
}
