//! Flushing the links that a batch has appended to.

use super::Dirty;

/// Number of bytes written to sockets before the task yields: a fraction of a millisecond.
pub(super) const FLUSH_BYTES: usize = 1 << 20;
/// Minimum number of bytes that a write counts as, because a system call costs as much as writing this many bytes.
pub(super) const WRITE_BYTES: usize = 16 << 10;

/// Writes listed links until [`FLUSH_BYTES`] are written. The other links stay listed.
pub(crate) fn flush_some(dirty: &mut Dirty) {
    let (mut bytes, mut links) = (0, 0);
    while bytes < FLUSH_BYTES
        && let Some(link) = dirty.get(links)
    {
        bytes += link.flush().max(WRITE_BYTES);
        links += 1;
    }
    dirty.drain(..links);
}

/// Writes every listed link once.
pub(crate) fn flush_all(dirty: &mut Dirty) {
    for link in dirty.drain(..) {
        link.flush();
    }
}
