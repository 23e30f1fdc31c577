//! Gateways of a site: REST, SOAP and Pyro, if the configuration contains them.

use rantai_client::session::Status;
use tokio::sync::watch;
#[cfg(feature = "gateway")]
use {
    super::SiteEvent,
    crate::config::Config,
    crate::error::SiteError,
    rantai_client::client::Builder,
    rantai_gateway::{Gateway, GatewayError, WaitingCalls},
    rantai_nodes::Node,
    rantai_pyro::{PyroGateway, PyroGatewayError},
    std::net::SocketAddr,
    std::sync::Arc,
};

/// Gateways that listen; empty until they are started.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    #[cfg(feature = "gateway")]
    listening: Vec<Gateway>,
    #[cfg(feature = "gateway")]
    pyro: Option<PyroGateway>,
    /// Status of the gateways' connection to the broker.
    status: Option<watch::Receiver<Status>>,
}

impl Gateways {
    /// Starts the configured gateways, which share one connection to the broker. Pyro servers become objects of `node`.
    #[cfg(feature = "gateway")]
    pub(super) async fn start(
        config: &Config,
        client: Builder,
        node: Arc<Node>,
        report: impl Fn(SiteEvent),
    ) -> Result<Self, SiteError> {
        if config.rest.is_none() && config.soap.is_none() && config.pyro.is_none() {
            return Ok(Self::default());
        }
        let client = client.patient().connect().await?;
        let limits =
            config.rest.iter().map(|rest| &rest.limits).chain(config.soap.iter().map(|soap| &soap.limits));
        let waiting = Arc::new(WaitingCalls::new(limits));
        let mut listening = Vec::new();
        if let Some(rest) = &config.rest {
            let gateway = Gateway::rest(rest, client.clone(), waiting.clone())
                .await
                .map_err(not_started("rest", rest.listen))?;
            report(listening_event("REST", &gateway));
            listening.push(gateway);
        }
        if let Some(soap) = &config.soap {
            let gateway = Gateway::soap(soap, client.clone(), waiting)
                .await
                .map_err(not_started("soap", soap.listen))?;
            report(listening_event("SOAP", &gateway));
            listening.push(gateway);
        }
        let mut pyro = None;
        if let Some(settings) = &config.pyro {
            // On the heap, as the future is large.
            let gateway = Box::pin(PyroGateway::start(settings, client.clone(), node)).await;
            let gateway = gateway.map_err(|error| match error {
                PyroGatewayError::Listen(source) => {
                    SiteError::Listen { section: "pyro", address: settings.listen, source }
                }
                error => SiteError::Pyro(error),
            })?;
            let (address, secure) = (gateway.address, gateway.secure);
            report(SiteEvent::Listening { protocol: "Pyro", address, secure });
            pyro = Some(gateway);
        }
        Ok(Self { listening, pyro, status: Some(client.status()) })
    }

    /// Waits until the gateways' connection to the broker has ended permanently; returns the reason. Never completes without
    /// gateways.
    pub(super) async fn ended(&mut self) -> String {
        match &mut self.status {
            Some(status) => super::ended(status).await,
            None => std::future::pending().await,
        }
    }

    /// Stops accepting requests, and waits until running ones have ended.
    #[cfg(feature = "gateway")]
    pub(super) async fn shutdown(self) {
        for gateway in self.listening {
            gateway.shutdown().await;
        }
        if let Some(pyro) = self.pyro {
            pyro.shutdown().await;
        }
    }
}

#[cfg(feature = "gateway")]
fn not_started(section: &'static str, address: SocketAddr) -> impl FnOnce(GatewayError) -> SiteError {
    move |error| match error {
        GatewayError::Listen(source) => SiteError::Listen { section, address, source },
        source => SiteError::Gateway { section, source },
    }
}

#[cfg(feature = "gateway")]
fn listening_event(protocol: &'static str, gateway: &Gateway) -> SiteEvent {
    SiteEvent::Listening { protocol, address: gateway.address, secure: gateway.secure }
}
