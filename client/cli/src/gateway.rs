//! The gateways of `rantai up` and `rantai serve`: REST and SOAP, where the configuration has them.

use rantai_client::client::Builder;
use rantai_nodes::config::Config;

use crate::exit::Failure;

#[cfg(not(feature = "gateway"))]
pub(crate) use without::*;

#[cfg(feature = "gateway")]
pub(crate) use with::*;

#[cfg(feature = "gateway")]
mod with {
    use std::io;
    use std::net::SocketAddr;

    use rantai_client::session::Status;
    use rantai_nodes::gateway::Gateway;
    use tokio::sync::watch;

    use super::{Builder, Config, Failure};
    use crate::connection::{ended, note};
    use crate::exit::Exit;

    /// What they are called among the names of `rantai serve`.
    const NAMES: [&str; 2] = ["rest", "soap"];

    /// Those that listen.
    pub(crate) struct Gateways {
        gateways: Vec<Gateway>,
        /// How their connection to the bus is.
        status: Option<watch::Receiver<Status>>,
    }

    impl Gateways {
        pub(crate) async fn start(config: &Config, client: Builder) -> Result<Self, Failure> {
            let mut gateways = Vec::new();
            if !is_any(config) {
                return Ok(Self { gateways, status: None });
            }
            let client = client.patient().connect().await?;
            let listen = |address: SocketAddr| {
                move |error: io::Error| {
                    let text = format!("cannot listen on {address}: {error}");
                    Failure::new(Exit::Failed, text)
                }
            };
            if let Some(rest) = &config.rest {
                let gateway = Gateway::rest(rest, client.clone()).await.map_err(listen(rest.listen))?;
                note(&format!("REST on http://{}", gateway.address));
                gateways.push(gateway);
            }
            if let Some(soap) = &config.soap {
                let gateway = Gateway::soap(soap, client.clone()).await.map_err(listen(soap.listen))?;
                note(&format!("SOAP on http://{}", gateway.address));
                gateways.push(gateway);
            }
            Ok(Self { gateways, status: Some(client.status()) })
        }

        /// Ends when their connection to the bus has for good; why.
        pub(crate) async fn ended(&mut self) -> String {
            match &mut self.status {
                Some(status) => ended(status).await,
                None => std::future::pending().await,
            }
        }

        /// Takes nothing new, and lets what runs end.
        pub(crate) async fn shutdown(self) {
            for gateway in self.gateways {
                gateway.shutdown().await;
            }
        }
    }

    pub(crate) fn is_any(config: &Config) -> bool {
        config.rest.is_some() || config.soap.is_some()
    }

    /// Whether this is the name of one of them.
    pub(crate) fn is_there(config: &Config, name: &str) -> bool {
        match name {
            "rest" => config.rest.is_some(),
            "soap" => config.soap.is_some(),
            _ => false,
        }
    }

    /// Keeps those that are named.
    pub(crate) fn keep(config: &mut Config, names: &[String]) {
        let [rest, soap] = NAMES.map(|kind| names.iter().any(|name| name == kind));
        config.rest = config.rest.take().filter(|_| rest);
        config.soap = config.soap.take().filter(|_| soap);
    }
}

#[cfg(not(feature = "gateway"))]
mod without {
    use super::{Builder, Config, Failure};

    /// There are none.
    pub(crate) struct Gateways;

    impl Gateways {
        #[expect(clippy::unused_async, reason = "as it is where there are some")]
        pub(crate) async fn start(_: &Config, _: Builder) -> Result<Self, Failure> {
            Ok(Self)
        }

        pub(crate) async fn ended(&mut self) -> String {
            std::future::pending().await
        }

        #[expect(clippy::unused_async, reason = "as it is where there are some")]
        pub(crate) async fn shutdown(self) {}
    }

    pub(crate) fn is_any(_: &Config) -> bool {
        false
    }

    pub(crate) fn is_there(_: &Config, _: &str) -> bool {
        false
    }

    pub(crate) fn keep(_: &mut Config, _: &[String]) {}
}
