//! `echo`: what comes back is what was sent.

use std::time::Duration;

use rantai_client::interface;
use rantai_client::object::Binary;
use rantai_client::wire::fault::Fault;
use serde_json::Value;

/// Answers with what it is given.
#[interface(version = "1.0.0", tags("test"))]
pub trait Echo {
    /// The same value again.
    #[method(idempotent)]
    async fn echo(&self, message: Value) -> Result<Value, Fault>;

    /// The same bytes again.
    #[method(idempotent)]
    async fn bytes(&self, data: Binary) -> Result<Binary, Fault>;

    /// The same value again, after `ms` milliseconds.
    #[method(idempotent, time_limit_ms = 60_000)]
    async fn delay(&self, ms: u64, message: Option<Value>) -> Result<Value, Fault>;
}

/// The echo that is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Echo for Plain {
    async fn echo(&self, message: Value) -> Result<Value, Fault> {
        Ok(message)
    }

    async fn bytes(&self, data: Binary) -> Result<Binary, Fault> {
        Ok(data)
    }

    async fn delay(&self, ms: u64, message: Option<Value>) -> Result<Value, Fault> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(message.unwrap_or_default())
    }
}
