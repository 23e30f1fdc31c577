//! A password on its way to a check.

use std::fmt;

/// A password whose memory is overwritten when it is dropped, and which no log can show.
pub(crate) struct Secret(Box<[u8]>);

impl Secret {
    pub(crate) fn new(password: &[u8]) -> Self {
        Self(password.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Otherwise the compiler may leave out what nobody reads.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
