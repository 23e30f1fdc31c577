//! The objects there are. One per file; this is only the list.

pub mod calculator;
pub mod clock;
pub mod echo;
pub mod files;
pub mod insult;
pub mod lending;
pub mod pages;
pub mod sensor;
pub mod upcall;
pub mod welcome;

use std::sync::Arc;

/// Where an object prints what its system prints.
pub type Output = Arc<dyn Fn(&str) + Send + Sync>;
