//! Interface of the object `broker`.

use rantai_client::interface;
use rantai_client::object::Context;
use rantai_client::wire::fault::Fault;

use super::answers::{Deleted, Levels, Limit, Listing, Reload, Retained, Session, Subscription};

/// Administration of the broker, for admins.
///
/// Lists are returned in pages of `most` items (default 100, maximum 1,000), or fewer if the items are long; `next` of
/// a page is `after` for the next one.
#[interface(version = "1.0.0", tags("administration"))]
pub(crate) trait BrokerAdministration {
    /// Lists the connected clients, in the order in which their sessions began.
    #[method(read_only)]
    async fn clients(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault>;

    /// Returns one client, connected or not; fails with kind `no_such_client`.
    #[method(read_only)]
    async fn client(&self, client_id: String, context: Context) -> Result<Session, Fault>;

    /// Ends the connection of a client. Its session is kept, its will is published, and it may connect again. Fails
    /// with kind `no_such_client`, or `own_connection` for the caller's own connection.
    async fn disconnect(&self, client_id: String, context: Context) -> Result<(), Fault>;

    /// Lists all sessions, connected or not, in the order in which they began.
    #[method(read_only)]
    async fn sessions(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault>;

    /// Ends a session with its subscriptions and queued messages, and its connection if there is one. Fails like
    /// `disconnect`.
    async fn drop_session(&self, client_id: String, context: Context) -> Result<(), Fault>;

    /// Lists the subscriptions that match some of the topics of `filter`; all of them without a filter.
    #[method(read_only)]
    async fn subscriptions(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Subscription>, Fault>;

    /// Lists the retained messages whose topics match `filter`, without their payloads; all but `$SYS` without a
    /// filter.
    #[method(read_only)]
    async fn retained(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Retained>, Fault>;

    /// Deletes retained messages whose topics match `filter`, 1,000 at most, and sends subscribers an empty message for
    /// each. A filter that begins with a wildcard, or that has a wildcard and matches the registry of a bus, requires
    /// `wide`; otherwise the method fails with kind `too_wide`.
    #[method(idempotent)]
    async fn delete_retained(
        &self,
        filter: String,
        wide: Option<bool>,
        context: Context,
    ) -> Result<Deleted, Fault>;

    /// Returns the limits in effect, and the present use of some of them.
    #[method(read_only)]
    async fn limits(&self, context: Context) -> Result<Vec<Limit>, Fault>;

    /// Returns the log levels, or sets new `levels`, as for `--log`: `rantai_broker=debug,info`. New levels last until
    /// the process ends.
    #[method(idempotent)]
    async fn log_level(&self, levels: Option<String>, context: Context) -> Result<Levels, Fault>;

    /// Reads the configuration file, and the files that it names, again. If that fails, nothing is changed, and the
    /// error has kind `not_reloaded`.
    #[method(idempotent)]
    async fn reload(&self, context: Context) -> Result<Reload, Fault>;
}
