//! Sizes of reads and writes, and a pool of buffers for outboxes.

use std::cell::RefCell;

/// Number of bytes of one read from a client. Larger reads save nothing, and let a flood of one client delay all
/// others.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// Size in bytes from which payloads are shared between outboxes instead of being copied into each.
pub(crate) const SHARED_PAYLOAD_BYTES: usize = 4096;
/// Maximum size of a buffer that is pooled, in bytes.
pub(crate) const POOLED_BUFFER_BYTES: usize = 64 << 10;
/// Maximum number of buffers pooled by each thread.
const POOLED_BUFFERS: usize = 128;

thread_local! {
    /// Buffers for outboxes, so that an idle connection needs none.
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer, with capacity if the pool has one.
pub(crate) fn take_buffer() -> Vec<u8> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Returns a buffer to the pool, unless it is too large or the pool is full.
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
