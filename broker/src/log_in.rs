//! Login by the user name and password of a CONNECT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rantai_credentials::Busy;
use tokio::time::sleep;

use crate::access::Principal;
use crate::codec::{Connect, DecodeError, Reason};
use crate::counters::Counters;
use crate::guesses::{Attempt, TooMany};
use crate::hub::Hub;
use crate::listener_rules::ListenerRules;
use crate::log::ClientText;

/// Authenticates a client and returns its principal. Waits for a turn if earlier passwords were wrong, and for the
/// check of the password. Dropping the future cancels the check.
///
/// # Errors
///
/// The refusal of the CONNECT.
pub(crate) async fn log_in(
    hub: &Hub,
    address: SocketAddr,
    rules: &ListenerRules,
    connect: &Connect,
) -> Result<Arc<Principal>, DecodeError> {
    let refused = |reason, text| Err(DecodeError { reason, text });
    let shared = &hub.shared;
    let password = connect.password.as_deref().unwrap_or_default();
    let Some(user) = &connect.user_name else {
        let text = "only users are let in; connect with a user name and password";
        return shared
            .access
            .anonymous(rules.anonymous())
            .map_or_else(|| refused(Reason::NOT_AUTHORIZED, text), Ok);
    };
    if !rules.is_for(user) {
        let text = "this listener is not for that user; connect by another one";
        return refused(Reason::NOT_AUTHORIZED, text);
    }
    let wrong = || refused(Reason::BAD_USER_NAME_OR_PASSWORD, Reason::BAD_USER_NAME_OR_PASSWORD.text());
    match shared.access.without_record(user, password) {
        Some(Ok(principal)) => return Ok(principal),
        Some(Err(_)) => return wrong(),
        None => {}
    }
    let attempt = Attempt {
        user,
        address: address.ip(),
        client_id: &connect.client_id,
        is_user: shared.access.user(user).is_some(),
        has_session: hub.has_session(&connect.client_id, user),
    };
    let guess = shared.guesses.fingerprint(shared.logins.generation(), password);
    if shared.guesses.is_repeated(attempt, guess) {
        Counters::add(&shared.counters.repeated_logins, 1);
        return wrong();
    }
    wait_for_turn(hub, attempt).await?;
    match verify(hub, attempt, password).await {
        Ok(Some(principal)) => {
            shared.guesses.succeeded(attempt);
            Ok(principal)
        }
        Ok(None) => {
            if shared.guesses.failed(attempt, guess, shared.clock.now_ms())
                && shared.may_log(&shared.log_lines.refused)
            {
                let (client, user) = (ClientText(attempt.client_id), ClientText(attempt.user));
                tracing::warn!(%client, %user, peer = %address, "wrong passwords: the next ones wait for their turn");
            }
            wrong()
        }
        Err(Busy) => {
            Counters::add(&shared.counters.busy_logins, 1);
            refused(Reason::SERVER_BUSY, "too many passwords wait to be checked; try again later")
        }
    }
}

/// Verifies a password and returns the user's principal; `None` if the password is wrong. The principal is read before
/// the check, so that the password is checked against its record or a later one. If the record is replaced meanwhile,
/// the password is checked again.
async fn verify(hub: &Hub, attempt: Attempt<'_>, password: &[u8]) -> Result<Option<Arc<Principal>>, Busy> {
    let shared = &hub.shared;
    loop {
        let principal = shared.access.user(attempt.user);
        if !shared.logins.verify(attempt, password, &shared.counters).await? {
            return Ok(None);
        }
        match principal {
            Some(principal) if shared.access.is_logged_in(&principal) => return Ok(Some(principal)),
            // Users and records were replaced meanwhile: the password is checked against the current ones.
            _ if shared.access.user(attempt.user).is_some() => {}
            _ => return Ok(None),
        }
    }
}

/// Waits for the turn of an attempt, if earlier passwords were wrong.
async fn wait_for_turn(hub: &Hub, attempt: Attempt<'_>) -> Result<(), DecodeError> {
    let (shared, now) = (&hub.shared, hub.shared.clock.now_ms());
    match shared.guesses.take_turn(attempt, now) {
        Ok(0) => Ok(()),
        Ok(wait) => {
            Counters::add(&shared.counters.delayed_logins, 1);
            sleep(Duration::from_millis(wait)).await;
            Ok(())
        }
        Err(TooMany) => {
            Counters::add(&shared.counters.refused_logins, 1);
            let text = "too many wrong passwords for this user from this address; try again later";
            Err(DecodeError { reason: Reason::SERVER_BUSY, text })
        }
    }
}
