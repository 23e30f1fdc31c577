//! Random ids and passwords.

use uuid::Uuid;

/// Source of random ids.
#[derive(Debug)]
pub(crate) enum Random {
    /// Unpredictable numbers from the operating system.
    System,
    /// The same numbers in each run, for tests.
    #[cfg(test)]
    Seeded(parking_lot::Mutex<Seeded>),
}

impl Random {
    /// Returns a UUID with 122 random bits, as 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        let id = match self {
            Self::System => Uuid::new_v4(),
            #[cfg(test)]
            Self::Seeded(numbers) => {
                let mut numbers = numbers.lock();
                Uuid::from_u64_pair(numbers.next(), numbers.next())
            }
        };
        id.simple().to_string()
    }
}

/// Seeded numbers (xorshift64*), so that a failure can be reproduced.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Seeded(u64);

#[cfg(test)]
impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
