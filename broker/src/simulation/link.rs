//! A client's end of a connection: a stream whose bytes arrive in order, or are lost with it.

use std::io;

use crate::random::Seeded;
use crate::transport::Transport;

/// Bytes that a wide link takes before writes would block: more than a run sends.
const WIDE: usize = 4 << 20;
/// The same of a narrow one, which makes the broker wait in the middle of a packet.
const NARROW: usize = 100;

/// How much a link takes before writes would block.
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
    /// Returns a client's end and the broker's.
    pub(super) fn pair(width: Width) -> (Self, Transport) {
        let (ours, theirs) = Transport::pair(match width {
            Width::Wide => WIDE,
            Width::Narrow => NARROW,
        });
        (Self { end: theirs, width }, ours)
    }

    /// Whether nothing that the broker has written ever waits in its outbox.
    pub(super) fn is_wide(&self) -> bool {
        self.width == Width::Wide
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.end.try_write(bytes)
    }

    pub(super) fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.end.try_read(buffer)
    }

    /// Whether the broker has read everything that was written.
    pub(super) fn is_read(&self) -> bool {
        self.end.unread() == 0
    }

    /// Breaks: of what the broker has not read nothing arrives.
    pub(super) fn lose_all(self) {
        self.end.lose(0);
    }

    /// Breaks: of what the broker has not read the first bytes arrive, as many as `random` says.
    pub(super) fn cut(self, random: &mut Seeded) {
        let unread = self.end.unread() as u64;
        self.end.lose(random.below(unread + 1) as usize);
    }
}
