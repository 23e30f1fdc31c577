//! Client's end of a connection: a stream whose bytes arrive in order, until the connection breaks and the rest is
//! lost.

use std::io;

use crate::random::Seeded;
use crate::transport::Transport;

/// Capacity of a wide link, in bytes: more than a run sends, so that writes never block.
const WIDE: usize = 4 << 20;
/// Capacity of a narrow link, in bytes, which makes the broker wait in the middle of a packet.
const NARROW: usize = 100;

/// Capacity of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Wide,
    Narrow,
}

#[derive(Debug)]
pub(super) struct Link {
    end: Transport,
    width: Width,
}

impl Link {
    /// Returns the client's end and the broker's end.
    pub(super) fn pair(width: Width) -> (Self, Transport) {
        let (ours, theirs) = Transport::pair(match width {
            Width::Wide => WIDE,
            Width::Narrow => NARROW,
        });
        (Self { end: theirs, width }, ours)
    }

    /// Returns whether the link accepts everything the broker writes, so that nothing waits in the outbox.
    pub(super) fn is_wide(&self) -> bool {
        self.width == Width::Wide
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.end.try_write(bytes)
    }

    pub(super) fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.end.try_read(buffer)
    }

    /// Returns whether the broker has read everything that was written.
    pub(super) fn is_read(&self) -> bool {
        self.end.unread() == 0
    }

    /// Breaks the connection: bytes that the broker has not read are lost.
    pub(super) fn lose_all(self) {
        self.end.lose(0);
    }

    /// Breaks the connection: of the bytes that the broker has not read, a random number arrives, and the rest is
    /// lost.
    pub(super) fn cut(self, random: &mut Seeded) {
        let unread = self.end.unread() as u64;
        self.end.lose(random.below(unread + 1) as usize);
    }
}
