//! Objects of small systems: a calculator, an echo, an e-library, insult services, a sensor and upcalls. One per file;
//! this is only the list.

pub mod calculator;
pub mod clock;
pub mod echo;
pub mod insult;
pub mod lending;
pub mod pages;
pub mod sensor;
pub mod upcall;
pub mod welcome;
