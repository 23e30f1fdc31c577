//! HTTP in, calls out: every object on the bus for whoever speaks REST or SOAP.
//!
//! | Room | What |
//! |---|---|
//! | [`settings`] | What stands of it in nodes.toml |
//! | `server` | Connections, up to a number, each with a time |
//! | `guard`, `users`, `proxies` | Who may call, by which password, from where, and how often |
//! | `pages` | Which web pages may call |
//! | `catalog` | What the objects say of themselves, kept current |
//! | `rest`, `arguments`, `status` | Methods as paths: a query or a body in, a status out |
//! | `mapping` | Paths of one's own |
//! | `events` | Server-sent events and WebSockets |
//! | `openapi`, `ui` | All of it described, and a page to try it |
//! | [`soap`] | The same for SOAP 1.1 |

mod arguments;
mod catalog;
mod events;
mod guard;
mod mapping;
mod openapi;
mod pages;
mod proxies;
mod rest;
mod schema;
mod server;
pub mod settings;
pub mod soap;
mod status;
mod ui;
mod users;
mod waiting;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rantai_client::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::catalog::Catalog;
use self::guard::Guard;
use self::settings::{Limits, Rest, Soap};
use self::users::Users;
pub use self::waiting::WaitingCalls;

/// A gateway that listens. Dropped it ends at once; [`shutdown`](Self::shutdown) lets what runs end first.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    following: JoinHandle<()>,
}

impl Gateway {
    /// REST. `waiting` is that of all gateways that call by `client`: to the objects they are one caller.
    ///
    /// # Errors
    ///
    /// Where its address cannot be listened on, and where its password file cannot be read.
    pub async fn rest(settings: &Rest, client: Client, waiting: Arc<WaitingCalls>) -> io::Result<Self> {
        let catalog = Arc::new(Catalog::new(client.clone(), settings.objects.clone()));
        let users = Users::new(&settings.users, settings.password_file.as_deref())?;
        warn_of_missing_rights(&users, &client);
        let guard = Arc::new(Guard::new(users, &settings.trusted_proxies, settings.limits.rate_per_s));
        let stop = watch::Sender::new(false);
        let router =
            rest::router(settings, client, catalog.clone(), guard.clone(), waiting, stop.subscribe());
        Self::start(settings.listen, settings.limits, router, guard, catalog, stop).await
    }

    /// SOAP; `waiting` as for [`rest`](Self::rest).
    ///
    /// # Errors
    ///
    /// Where its address cannot be listened on, and where its password file cannot be read.
    pub async fn soap(settings: &Soap, client: Client, waiting: Arc<WaitingCalls>) -> io::Result<Self> {
        let catalog = Arc::new(Catalog::new(client.clone(), settings.objects.clone()));
        let users = Users::new(&settings.users, settings.password_file.as_deref())?;
        warn_of_missing_rights(&users, &client);
        let guard = Arc::new(Guard::new(users, &settings.trusted_proxies, settings.limits.rate_per_s));
        let stop = watch::Sender::new(false);
        let router = soap::router(settings, client, catalog.clone(), guard.clone(), waiting);
        Self::start(settings.listen, settings.limits, router, guard, catalog, stop).await
    }

    async fn start(
        listen: SocketAddr,
        limits: Limits,
        router: Router,
        guard: Arc<Guard>,
        catalog: Arc<Catalog>,
        stop: watch::Sender<bool>,
    ) -> io::Result<Self> {
        let (listener, address) = server::bind(listen).await?;
        if guard.is_open() && !address.ip().is_loopback() {
            tracing::warn!(
                "everybody who reaches {address} may call; `users` and `password_file` say who may"
            );
        }
        let stopped = stop.subscribe();
        let following = tokio::spawn(catalog.follow());
        let serving = tokio::spawn(server::serve(listener, router, guard, limits, stopped));
        Ok(Self { address, stop, serving, following })
    }

    /// Takes nothing new, and lets what runs end within five seconds.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.serving).await;
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
    }
}
