//! Buffer for blocks that arrive before those they follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Maximum number of buffered blocks of one upload.
const MAX_BLOCKS: usize = 16;
/// Maximum size of the buffered blocks of all uploads, in bytes. When it is reached, blocks in order are still accepted.
const MAX_BYTES: usize = 64 << 20;

/// Number of bytes buffered by all uploads.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBytes(Arc<AtomicUsize>);

/// Blocks buffered by one upload, by offset.
#[derive(Debug)]
pub(super) struct Ahead {
    blocks: BTreeMap<u64, Bytes>,
    held: HeldBytes,
}

impl Ahead {
    pub(super) fn new(held: &HeldBytes) -> Self {
        Self { blocks: BTreeMap::new(), held: held.clone() }
    }

    /// Buffers a block until those before it have arrived; returns `false` if there is no room for it.
    pub(super) fn keep(&mut self, offset: u64, bytes: &Bytes) -> bool {
        let known = self.blocks.get(&offset).map(Bytes::len);
        let Some(more) = bytes.len().checked_sub(known.unwrap_or(0)) else { return true };
        let room = |held| Some(held + more).filter(|held| *held <= MAX_BYTES);
        if known.is_none() && self.blocks.len() >= MAX_BLOCKS
            || self.held.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err()
        {
            return false;
        }
        self.blocks.insert(offset, bytes.clone());
        true
    }

    /// Removes the next block that begins at or before the offset `written`.
    pub(super) fn next(&mut self, written: u64) -> Option<(u64, Bytes)> {
        let next = self.blocks.first_entry().filter(|next| *next.key() <= written)?.remove_entry();
        self.held.0.fetch_sub(next.1.len(), Ordering::Relaxed);
        Some(next)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let held: usize = self.blocks.values().map(Bytes::len).sum();
        self.held.0.fetch_sub(held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: sixty-four uploads could buffer 512 MiB.
    #[test]
    fn buffered_blocks_of_all_uploads_are_bounded_and_released() {
        let held = HeldBytes::default();
        let block = Bytes::from(vec![0; 512 << 10]);
        let mut uploads: Vec<Ahead> = (0..64).map(|_| Ahead::new(&held)).collect();
        let bytes = || held.0.load(Ordering::Relaxed);
        for offset in 1..=MAX_BLOCKS as u64 {
            assert!(uploads[0].keep(offset, &block) && uploads[0].keep(offset, &block), "twice is once");
        }
        assert!(!uploads[0].keep(1_000, &block), "as many as one may hold");
        assert_eq!(bytes(), MAX_BLOCKS * block.len());
        let mut refused = 0;
        for upload in &mut uploads[1..] {
            refused += (1..=MAX_BLOCKS as u64).filter(|offset| !upload.keep(*offset, &block)).count();
        }
        assert_eq!((bytes(), refused), (MAX_BYTES, 63 * MAX_BLOCKS - (MAX_BYTES / block.len() - MAX_BLOCKS)));
        assert_eq!(uploads[0].next(0), None);
        assert_eq!(uploads[0].next(1).map(|(offset, block)| (offset, block.len())), Some((1, block.len())));
        assert_eq!(bytes(), MAX_BYTES - block.len());
        assert!(
            uploads[0].keep(1, &block.slice(1..)) && uploads[0].keep(1, &block),
            "the longer one is kept"
        );
        assert_eq!(bytes(), MAX_BYTES);
        drop(uploads);
        assert_eq!(bytes(), 0);
    }
}
