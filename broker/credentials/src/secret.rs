//! Password in memory, from the request to the check.

use std::fmt;

/// Password whose memory is overwritten on drop, and whose `Debug` output does not show it.
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
        // Prevents the compiler from removing the write as dead.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
