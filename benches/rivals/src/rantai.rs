//! Ours: `echo`, and Pyro's circular chain.

use rantai_client::session::QoS;
use rantai_client::{Client, Proxy};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::load::{Caller, TEXT};

/// Calls `echo.echo`.
#[derive(Clone)]
pub(crate) struct Echo {
    proxy: Proxy,
    text: Value,
}

impl Echo {
    pub(crate) async fn connect(url: &str, qos: QoS) -> Result<Self, Failure> {
        let proxy = proxy(url, "echo", qos).await?;
        Ok(Self { proxy, text: Value::String("x".repeat(TEXT)) })
    }
}

impl Caller for Echo {
    async fn call(&self) -> Result<(), Failure> {
        let answer: Value = self.proxy.call("echo", &self.text).await.map_err(failure)?;
        if answer == self.text { Ok(()) } else { Err(Failure::new("another text came back")) }
    }
}

/// Sends a trip all the way round.
#[derive(Clone)]
pub(crate) struct Trip(Proxy);

impl Trip {
    pub(crate) async fn connect(url: &str, qos: QoS) -> Result<Self, Failure> {
        Ok(Self(proxy(url, "example.chainTopology.A", qos).await?))
    }
}

impl Caller for Trip {
    async fn call(&self) -> Result<(), Failure> {
        let passed: Vec<String> = self.0.call("process", (json!(["hello"]),)).await.map_err(failure)?;
        if passed == ["passed on from A", "passed on from B", "passed on from C", "complete at A"] {
            Ok(())
        } else {
            Err(Failure::new(format!("the trip went {passed:?}")))
        }
    }
}

async fn proxy(url: &str, object: &str, qos: QoS) -> Result<Proxy, Failure> {
    Ok(Client::connect(url).await.map_err(failure)?.object(object).qos(qos))
}

fn failure(error: impl std::error::Error) -> Failure {
    Failure::new(error.to_string())
}
