//! Implementation of the object `broker`, and the check that its caller is an admin.

use rantai_broker::{Administration, AdministrationError, EndResult, Listed, Page, ReloadError, Reloader};
use rantai_client::object::Context;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::user::User;
use serde::Serialize;

use super::answers::{Deleted, Levels, Limit, Listing, Reload, Retained, Session, Subscription};
use super::interface::BrokerAdministration;
use super::width::is_wide;
use crate::logging;

/// Default number of items of a page.
const DEFAULT_PAGE_ITEMS: u32 = 100;
/// Maximum number of items of a page, and of retained messages that a call deletes.
const MAX_PAGE_ITEMS: u32 = 1_000;
/// Maximum size of a page as JSON, in bytes.
const PAGE_BYTES: usize = 512 << 10;
/// Suggested delay before a busy broker is asked again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// Maximum length of the levels of the log, in bytes.
const MAX_LEVELS_BYTES: usize = 1_024;

/// Administrator of the broker in this process.
#[derive(Clone, Debug)]
pub(super) struct Administrator {
    pub(super) administration: Administration,
    pub(super) reloader: Option<Reloader>,
    /// Roots of the buses on the broker.
    pub(super) roots: Vec<String>,
}

impl Administrator {
    /// Checks whether the caller is an admin. The broker has checked it before, with the client id and the address, which are
    /// not known here.
    fn admit(&self, context: &Context) -> Result<(), Fault> {
        let is_direct = context.via().is_none() && context.trail.is_empty();
        if is_direct && self.administration.may_administer(context.caller().map(User::as_str)) {
            return Ok(());
        }
        Err(Fault::new(Code::DENIED, "only admins administer the broker, by connections of their own"))
    }

    /// Returns a page of a list, with fewer items than requested if they are too long.
    async fn page<T, U, F>(
        &self,
        (after, most): (Option<String>, Option<u32>),
        context: &Context,
        list: impl Fn(Administration, Page) -> F + Send,
    ) -> Result<Listing<T>, Fault>
    where
        T: Serialize,
        U: Into<T>,
        F: Future<Output = Result<Listed<U>, AdministrationError>> + Send,
    {
        self.admit(context)?;
        let mut most = most.unwrap_or(DEFAULT_PAGE_ITEMS);
        if !(1..=MAX_PAGE_ITEMS).contains(&most) {
            return Err(Fault::wrong_parameter("most", "a number from 1 to 1000"));
        }
        loop {
            let page = Page { after: after.clone(), most: most as usize };
            let listed = list(self.administration.clone(), page).await.map_err(refused)?;
            let listing = Listing::of(listed);
            if most == 1 || is_short(&listing) {
                return Ok(listing);
            }
            most /= 2;
        }
    }

    /// Checks that a client is not the caller itself.
    fn admit_for(&self, client_id: &str, context: &Context) -> Result<(), Fault> {
        self.admit(context)?;
        if context.client.as_ref().is_some_and(|own| own.as_str() == client_id) {
            return Err(Fault::failed(
                "own_connection",
                "that is the connection of this call, which then could not be answered",
            ));
        }
        Ok(())
    }
}

impl BrokerAdministration for Administrator {
    async fn clients(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault> {
        let list = |broker: Administration, page| async move { broker.clients(page).await };
        self.page((after, most), &context, list).await
    }

    async fn client(&self, client_id: String, context: Context) -> Result<Session, Fault> {
        self.admit(&context)?;
        let session = self.administration.session(client_id.clone()).await.map_err(refused)?;
        session.map(Into::into).ok_or_else(|| unknown(&client_id, "session"))
    }

    async fn disconnect(&self, client_id: String, context: Context) -> Result<(), Fault> {
        self.admit_for(&client_id, &context)?;
        let found = self.administration.disconnect(client_id.clone()).await.map_err(refused)?;
        ended(found, &client_id, "connection")?;
        tracing::info!(by = context.caller_text(), client = ?client_id, "an admin has ended a connection");
        Ok(())
    }

    async fn sessions(
        &self,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Session>, Fault> {
        let list = |broker: Administration, page| async move { broker.sessions(page).await };
        self.page((after, most), &context, list).await
    }

    async fn drop_session(&self, client_id: String, context: Context) -> Result<(), Fault> {
        self.admit_for(&client_id, &context)?;
        let found = self.administration.drop_session(client_id.clone()).await.map_err(refused)?;
        ended(found, &client_id, "session")?;
        tracing::info!(by = context.caller_text(), client = ?client_id, "an admin has ended a session");
        Ok(())
    }

    async fn subscriptions(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Subscription>, Fault> {
        let filter = filter.unwrap_or_else(|| "#".to_owned());
        let list = |broker: Administration, page| {
            let filter = filter.clone();
            async move { broker.subscriptions(filter, page).await }
        };
        self.page((after, most), &context, list).await
    }

    async fn retained(
        &self,
        filter: Option<String>,
        after: Option<String>,
        most: Option<u32>,
        context: Context,
    ) -> Result<Listing<Retained>, Fault> {
        let filter = filter.unwrap_or_else(|| "#".to_owned());
        let list = |broker: Administration, page| {
            let filter = filter.clone();
            async move { broker.retained(filter, page).await }
        };
        self.page((after, most), &context, list).await
    }

    async fn delete_retained(
        &self,
        filter: String,
        wide: Option<bool>,
        context: Context,
    ) -> Result<Deleted, Fault> {
        self.admit(&context)?;
        if wide != Some(true) && is_wide(&filter, &self.roots) {
            let text = format!(
                "{filter:?} matches what belongs to everybody, or the registry of a bus; name less, or set `wide`"
            );
            return Err(Fault::failed("too_wide", text));
        }
        let deleted = self
            .administration
            .delete_retained(filter.clone(), MAX_PAGE_ITEMS as usize)
            .await
            .map_err(refused)?;
        if deleted.count > 0 {
            let (by, count) = (context.caller_text(), deleted.count);
            tracing::info!(by, filter = ?filter, count, "an admin has deleted retained messages");
        }
        Ok(Deleted { deleted: deleted.count as u64, more: deleted.more })
    }

    async fn limits(&self, context: Context) -> Result<Vec<Limit>, Fault> {
        self.admit(&context)?;
        let limits = self.administration.limits().await.map_err(refused)?;
        Ok(limits.into_iter().map(Into::into).collect())
    }

    async fn log_level(&self, levels: Option<String>, context: Context) -> Result<Levels, Fault> {
        self.admit(&context)?;
        if let Some(levels) = levels {
            if levels.len() > MAX_LEVELS_BYTES {
                return Err(Fault::wrong_parameter("levels", "at most 1024 bytes"));
            }
            let change = logging::parse_levels(&levels).map_err(|wrong| Fault::failed("no_levels", wrong))?;
            // Logged before, because the new levels may suppress the line.
            tracing::warn!(by = context.caller_text(), levels = ?levels, "an admin sets the levels of the log");
            change.apply();
        }
        let (levels, at_start) = logging::levels_in_effect();
        Ok(Levels { levels, at_start })
    }

    async fn reload(&self, context: Context) -> Result<Reload, Fault> {
        self.admit(&context)?;
        let reloader = self.reloader.as_ref().ok_or_else(|| not_reloaded(&ReloadError::NoFile))?;
        tracing::info!(by = context.caller_text(), "an admin has the configuration read again");
        reloader.reload().await.map(Into::into).map_err(|error| not_reloaded(&error))
    }
}

fn is_short(page: &impl Serialize) -> bool {
    serde_json::to_vec(page).is_ok_and(|json| json.len() <= PAGE_BYTES)
}

fn refused(error: AdministrationError) -> Fault {
    match error {
        AdministrationError::Busy => Fault::busy(RETRY_AFTER_MS),
        AdministrationError::NoSuchPage => Fault::wrong_parameter("after", "`next` of an earlier page"),
        AdministrationError::NoFilter => {
            Fault::wrong_parameter("filter", "a topic filter that is not a shared one")
        }
        error => Fault::failed("stopped", error.to_string()),
    }
}

/// Returns an error unless something was ended.
fn ended(found: EndResult, client_id: &str, what: &str) -> Result<(), Fault> {
    match found {
        EndResult::Ended => Ok(()),
        EndResult::None => Err(unknown(client_id, what)),
        EndResult::Own => {
            let text = format!("{client_id:?} belongs to the broker's own process; stop the process instead");
            Err(Fault::failed("own_process", text))
        }
    }
}

fn unknown(client_id: &str, what: &str) -> Fault {
    Fault::failed("no_such_client", format!("there is no {what} of a client {client_id:?}"))
}

fn not_reloaded(error: &ReloadError) -> Fault {
    Fault::failed("not_reloaded", error.line())
}
