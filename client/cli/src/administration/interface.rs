//! Interface of the object `broker`.

use rantai_client::interface;
use rantai_client::object::Context;
use rantai_client::wire::fault::Fault;

use super::answers::{Deleted, Levels, Limit, Listing, Reload, Retained, Session, Subscription};

/// Administration of the broker, for admins.
///
/// Lists come in pages of `most` items, 100 unless it is given and 1,000 at most, or fewer if they are long; `next` of a page is
/// `after` for the next one.
#[interface(version = "1.0.0", tags("administration"))]
pub(crate) trait BrokerAdministration {
    /// The connected clients, in the order in which their sessions began.
    #[method(read_only)]
    async fn clients(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault>;

    /// One client, connected or away; fails with kind `no_such_client`.
    #[method(read_only)]
    async fn client(&self, client_id: String, context: Context) -> Result<Session, Fault>;

    /// Ends the connection of a client; its session stays, its will is published, and it may connect again. Fails with kind
    /// `no_such_client`, or `own_connection` for the caller's own.
    async fn disconnect(&self, client_id: String, context: Context) -> Result<(), Fault>;

    /// All sessions, connected or not, in the order in which they began.
    #[method(read_only)]
    async fn sessions(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault>;

    /// Ends a session with its subscriptions and what is queued for it, and its connection if there is one. Fails as `disconnect`.
    async fn drop_session(&self, client_id: String, context: Context) -> Result<(), Fault>;

    /// The subscriptions that get messages on some of the topics of `filter`; all of them without one.
    #[method(read_only)]
    async fn subscriptions(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Subscription>, Fault>;

    /// The retained messages whose topics `filter` matches, without their payloads; all but `$SYS` without one.
    #[method(read_only)]
    async fn retained(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Retained>, Fault>;

    /// Deletes retained messages whose topics `filter` matches, 1,000 at most, and tells subscribers by an empty message. A filter
    /// that begins with a wildcard, or that has a wildcard and matches the registry of a bus, needs `wide`: otherwise it
    /// fails with kind `too_wide`.
    #[method(idempotent)]
    async fn delete_retained(
        &self,
        filter: String,
        wide: Option<bool>,
        context: Context,
    ) -> Result<Deleted, Fault>;

    /// The limits in effect, and how far some of them are used.
    #[method(read_only)]
    async fn limits(&self, context: Context) -> Result<Vec<Limit>, Fault>;

    /// The levels of the log, or with `levels` new ones in their place, as for `--log`: `rantai_broker=debug,info`. They last until
    /// the process ends.
    #[method(idempotent)]
    async fn log_level(&self, levels: Option<String>, context: Context) -> Result<Levels, Fault>;

    /// Reads the configuration file again, and what it names. Fails with kind `not_reloaded`, and has changed nothing then.
    #[method(idempotent)]
    async fn reload(&self, context: Context) -> Result<Reload, Fault>;
}
