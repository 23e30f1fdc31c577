//! Objects of small systems, one per module: a calculator, an echo, an e-library, insult services, a sensor and upcalls.

pub mod calculator;
pub mod clock;
pub mod echo;
pub mod insult;
pub mod lending;
pub mod pages;
pub mod sensor;
pub mod upcall;
pub mod welcome;
