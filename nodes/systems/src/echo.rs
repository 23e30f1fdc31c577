//! `echo`: returns what it is sent.

use std::time::Duration;

use rantai_client::interface;
use rantai_client::object::{Binary, Context};
use rantai_client::wire::fault::Fault;
use serde::Deserialize;
use serde_json::Value;

use rantai_nodes::kind::{Building, Configured, Kind, Simple};

/// Interval of `delay`'s progress events.
const STEP_MS: u64 = 250;

/// Returns its parameters.
#[interface(version = "1.0.0", tags("test"))]
pub trait Echo {
    /// Returns the value.
    #[method(read_only)]
    async fn echo(&self, message: Value) -> Result<Value, Fault>;

    /// Returns the bytes.
    #[method(read_only)]
    async fn bytes(&self, data: Binary) -> Result<Binary, Fault>;

    /// Returns the value after `ms` milliseconds; reports progress every quarter of a second.
    #[method(read_only, time_limit_ms = 60_000)]
    async fn delay(&self, ms: u64, message: Option<Value>, context: Context) -> Result<Value, Fault>;
}

/// Implementation of [`Echo`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Echo for Plain {
    async fn echo(&self, message: Value) -> Result<Value, Fault> {
        Ok(message)
    }

    async fn bytes(&self, data: Binary) -> Result<Binary, Fault> {
        Ok(data)
    }

    async fn delay(&self, ms: u64, message: Option<Value>, context: Context) -> Result<Value, Fault> {
        let mut done = 0;
        while done < ms {
            let step = (ms - done).min(STEP_MS);
            tokio::time::sleep(Duration::from_millis(step)).await;
            done += step;
            if done < ms {
                context.progress(done, ms, "");
            }
        }
        Ok(message.unwrap_or_default())
    }
}

/// Settings of an echo.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct EchoSettings(pub Simple);

impl Kind for EchoSettings {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        Ok(self.0.serve(building, EchoObject(Plain)))
    }
}
