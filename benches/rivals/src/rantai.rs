//! Rantai: `echo`, and Pyro's circular chain.

use std::time::Duration;

use rantai_client::session::QoS;
use rantai_client::{Client, Proxy};
use rantai_load::failure::Failure;
use serde_json::{Value, json};

use crate::load::{Caller, TEXT};

/// Time limit for a process to serve its objects.
const START: Duration = Duration::from_secs(20);

/// Client of `echo.echo`.
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

/// Waits until the object of [`Echo`] is served: at QoS 0, a caller is not notified if the object does not exist yet.
pub(crate) fn wait_for_echo(url: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failure)?.block_on(async {
        let client = Client::connect(url).await.map_err(failure)?;
        client.registry().wait_for_name("echo", START).await.map(drop).map_err(failure)
    })
}

/// Client of the chain: each call passes all links once.
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
