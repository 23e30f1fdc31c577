//! Flushing of the links that a batch has appended to.

use super::Dirty;

/// Bytes written to sockets before the task yields: a fraction of a millisecond.
pub(super) const FLUSH_BYTES: usize = 1 << 20;
/// Bytes that a write counts at least: a system call costs as much as this many bytes, however few it writes.
pub(super) const WRITE_BYTES: usize = 16 << 10;

/// Writes listed links until [`FLUSH_BYTES`] are reached. The other links stay listed.
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
