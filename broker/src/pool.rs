//! Sizes of reads and writes, and buffers that outboxes share.

use std::cell::RefCell;

/// Bytes read from a client at once. Larger reads save nothing and let a flood delay everyone else.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// Payloads from this size on are shared between outboxes instead of being copied into each.
pub(crate) const SHARED_PAYLOAD_BYTES: usize = 4096;
/// The largest buffer that is kept for the next use.
pub(crate) const POOLED_BUFFER_BYTES: usize = 64 << 10;
/// Buffers kept by each thread.
const POOLED_BUFFERS: usize = 128;

thread_local! {
    /// Buffers for outboxes, so that an idle connection needs none.
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, with capacity where a used one is at hand.
pub(crate) fn take_buffer() -> Vec<u8> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer for the next use, unless it is too large or there are enough.
pub(crate) fn return_buffer(mut buffer: Vec<u8>) {
    if (1..=POOLED_BUFFER_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED_BUFFERS {
                pool.push(buffer);
            }
        });
    }
}
