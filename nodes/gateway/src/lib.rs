//! HTTP gateways: REST and SOAP clients call the objects on the bus.
//!
//! | Module | Content |
//! |---|---|
//! | [`settings`], `limits` | Settings in nodes.toml |
//! | `server`, `places` | Connections, with limits in total, per address, and in time |
//! | `head`, `unread` | Checks of RFC 9112 that hyper does not make, and the end of refused uploads |
//! | `handshake`, `tls` | TLS, if there is a certificate, and reloading the certificate |
//! | `guard`, `users`, `proxies` | Authentication, addresses behind proxies, and rate limits |
//! | `pages` | Web pages that may call |
//! | `catalog` | Descriptions of the objects, kept up to date |
//! | `rest`, `arguments`, `status` | Methods as paths: query or body in, status out |
//! | `mapping` | Configured paths |
//! | `events` | Server-sent events and WebSockets |
//! | `openapi`, `ui` | `OpenAPI` document, and a page to try it |
//! | `location` | Public URL of the gateway, for the documents |
//! | [`soap`] | SOAP 1.1 |

mod answer;
mod arguments;
mod catalog;
mod error;
mod events;
mod guard;
mod handshake;
mod head;
mod items;
mod limits;
mod location;
mod mapping;
mod openapi;
mod pages;
mod places;
mod proxies;
mod rest;
mod schema;
mod server;
pub mod settings;
pub mod soap;
mod status;
mod tls;
mod ui;
mod unread;
mod users;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;

use rantai_client::Client;
use rantai_tls::ServerFiles;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::catalog::Catalog;
pub use self::error::GatewayError;
use self::guard::Guard;
use self::location::Location;
use self::server::Serving;
use self::settings::{Rest, Soap};
use self::tls::Tls;
use self::users::Users;
pub use self::waiting::WaitingCalls;

/// Gateway that listens. Dropping it ends it at once; [`shutdown`](Self::shutdown) lets running requests end first.
#[derive(Debug)]
pub struct Gateway {
    /// Address that the gateway listens on.
    pub address: SocketAddr,
    /// Whether the gateway uses TLS: `https`.
    pub secure: bool,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    following: JoinHandle<()>,
    certificate: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a REST gateway. `waiting` is shared by all gateways that call by `client`, as they are one caller to the objects.
    ///
    /// # Errors
    ///
    /// The gateway cannot listen on its address, or cannot read its password file or certificate.
    pub async fn rest(
        settings: &Rest,
        client: Client,
        waiting: Arc<WaitingCalls>,
    ) -> Result<Self, GatewayError> {
        let catalog = Arc::new(Catalog::new(client.clone(), settings.objects.clone()));
        let users = Users::new(&settings.users, settings.password_file.as_deref());
        let users = users.map_err(GatewayError::Users)?;
        warn_of_missing_rights(&users, &client);
        let guard = Arc::new(Guard::new(users, &settings.trusted_proxies, settings.limits.rate_per_s));
        let stop = watch::Sender::new(false);
        let tls = open(settings.tls())?;
        let location = Location::new(settings.address.as_deref(), tls.is_some());
        let router = rest::router(
            settings,
            client,
            catalog.clone(),
            guard.clone(),
            waiting,
            location,
            stop.subscribe(),
        );
        let serving = Serving::new(router, guard, settings.limits, tls);
        Self::start(settings.listen, serving, catalog, stop).await
    }

    /// Starts a SOAP gateway; `waiting` as for [`rest`](Self::rest).
    ///
    /// # Errors
    ///
    /// The gateway cannot listen on its address, or cannot read its password file or certificate.
    pub async fn soap(
        settings: &Soap,
        client: Client,
        waiting: Arc<WaitingCalls>,
    ) -> Result<Self, GatewayError> {
        let catalog = Arc::new(Catalog::new(client.clone(), settings.objects.clone()));
        let users = Users::new(&settings.users, settings.password_file.as_deref());
        let users = users.map_err(GatewayError::Users)?;
        warn_of_missing_rights(&users, &client);
        let guard = Arc::new(Guard::new(users, &settings.trusted_proxies, settings.limits.rate_per_s));
        let stop = watch::Sender::new(false);
        let tls = open(settings.tls())?;
        let location = Location::new(settings.address.as_deref(), tls.is_some());
        let router = soap::router(settings, client, catalog.clone(), guard.clone(), waiting, location);
        let serving = Serving::new(router, guard, settings.limits, tls);
        Self::start(settings.listen, serving, catalog, stop).await
    }

    async fn start(
        listen: SocketAddr,
        serving: Serving,
        catalog: Arc<Catalog>,
        stop: watch::Sender<bool>,
    ) -> Result<Self, GatewayError> {
        let (listener, address) = server::bind(listen).await.map_err(GatewayError::Listen)?;
        if !address.ip().is_loopback() {
            warn_of_strangers(address, &serving);
        }
        let stopped = stop.subscribe();
        let following = tokio::spawn(catalog.follow());
        let certificate = serving.tls.clone().map(|tls| tokio::spawn(tls.follow()));
        let secure = certificate.is_some();
        let serving = tokio::spawn(serving.serve(listener, stopped));
        Ok(Self { address, secure, stop, serving, following, certificate })
    }

    /// Stops accepting requests, and waits up to five seconds for running ones to end.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.serving).await;
    }
}

fn open(files: Result<Option<ServerFiles>, String>) -> Result<Option<Arc<Tls>>, GatewayError> {
    let files = files.map_err(GatewayError::Incomplete)?;
    files.map(Tls::open).transpose().map_err(|error| GatewayError::Tls(Box::new(error)))
}

/// Warns about a gateway without users, or with users but without TLS, if other hosts may reach it.
fn warn_of_strangers(address: SocketAddr, serving: &Serving) {
    if serving.guard.is_open() {
        tracing::warn!("everybody who reaches {address} may call; `users` and `password_file` say who may");
    } else if serving.tls.is_none() {
        tracing::warn!(
            "passwords and keys of users reach {address} readable for everybody on the way, unless a proxy in front of it \
             speaks TLS; `certificate` and `key` are the files of a certificate to do so here"
        );
    }
}

fn warn_of_missing_rights(users: &Users, client: &Client) {
    if !users.is_empty() && client.may_act_for_others() == Some(false) {
        tracing::warn!(
            "the gateway may not call for its users: the broker refuses their calls; give the gateway's user acts_for = \
             [\"*\"] in broker.toml"
        );
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
        self.following.abort();
        self.certificate.iter().for_each(JoinHandle::abort);
    }
}
