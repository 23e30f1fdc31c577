//! Actions that must be denied to a client without a login, and to a client of the command's user if they concern another
//! client.
//!
//! Everything is tried on names, ids and topics of the examination itself. The *owner* is the client that these requests,
//! replies and names belong to: it has the login of the command, if there is one.

mod identity;
mod requests;
mod takeover;
mod watching;

use rmqtt_codec::types::QoS;

use super::examination::{Examination, Probe, Stage};
use super::identity::Identity;
use super::item::{Finding, Item, StrangerItems, WITH_LOGIN, WITHOUT_LOGIN};
use super::link::{Link, live, message};
use super::trouble::Trouble;
use super::{Running, running_with};

/// Attempt of one kind of stranger, for one item.
#[derive(Clone, Copy)]
struct Intrusion<'a> {
    probe: Probe<'a>,
    items: &'static StrangerItems,
    /// Whether the stranger logs in as the user of the command.
    logged_in: bool,
}

/// Returns the attempts of a client without a login.
pub(super) fn without_login(examination: &Examination) -> Vec<Running<'_>> {
    let mut attempts = attempts(examination, &WITHOUT_LOGIN, false);
    attempts.push(running_with(examination, WITHOUT_LOGIN.client_id, move |probe| {
        takeover::client_id(Intrusion { probe, items: &WITHOUT_LOGIN, logged_in: false })
    }));
    attempts
}

/// Returns the attempts of a client with the login of the command. The client id is not tried: a user may use its own.
pub(super) fn with_login(examination: &Examination) -> Vec<Running<'_>> {
    attempts(examination, &WITH_LOGIN, true)
}

/// Returns the attempt to read everything. Must not run while other items do: while a client subscribes to everything, no
/// publisher is notified that there are no subscribers.
pub(super) fn everything(examination: &Examination, logged_in: bool) -> Running<'_> {
    let items = if logged_in { &WITH_LOGIN } else { &WITHOUT_LOGIN };
    running_with(examination, items.everything, move |probe| {
        watching::everything(Intrusion { probe, items, logged_in })
    })
}

fn attempts<'a>(
    examination: &'a Examination,
    items: &'static StrangerItems,
    logged_in: bool,
) -> Vec<Running<'a>> {
    let intrusion = move |probe| Intrusion { probe, items, logged_in };
    vec![
        running_with(examination, items.replies, move |probe| watching::replies(intrusion(probe))),
        running_with(examination, items.caller, move |probe| identity::caller(intrusion(probe))),
        running_with(examination, items.answers, move |probe| requests::answers(intrusion(probe))),
        running_with(examination, items.group, move |probe| requests::group(intrusion(probe))),
        running_with(examination, items.registry, move |probe| identity::registry(intrusion(probe))),
        running_with(examination, items.system, move |probe| watching::system(intrusion(probe))),
    ]
}

/// Outcome of an attempt.
enum AttemptOutcome<T> {
    /// The broker allowed it.
    Allowed(T),
    /// The broker denied it because of the stranger's identity; the text is the end of a sentence about the stranger.
    Barred(String),
}

impl<'a> Intrusion<'a> {
    fn examination(self) -> &'a Examination {
        self.probe.examination
    }

    /// Returns an identity of this kind that is not the owner's.
    fn stranger(self) -> Identity {
        if self.logged_in { self.examination().client() } else { self.examination().anonymous() }
    }

    /// Connects as a stranger.
    ///
    /// # Errors
    ///
    /// The connection is refused for another reason than the identity: limits of connections, a ban, a busy broker.
    async fn enter(self, stranger: &Identity) -> Result<AttemptOutcome<Link>, Trouble> {
        let connected = self.probe.link(stranger).await;
        // Users are let in elsewhere in the examination.
        if self.logged_in {
            return connected.map(AttemptOutcome::Allowed);
        }
        if !matches!(connected, Err(Trouble::Closed { code: None, .. })) || !self.examination().is_known() {
            return barred(connected);
        }
        // Some brokers close the connection instead of refusing it. Then the user has to be let in at the same time.
        let (_, owner) = self.probe.client().await?;
        owner.close().await;
        match self.probe.link(stranger).await {
            Err(Trouble::Closed { code: None, .. }) => Ok(AttemptOutcome::Barred(format!(
                "is disconnected without an answer, and {} is let in",
                self.examination().who()
            ))),
            connected => barred(connected),
        }
    }

    /// Connects as a stranger, and subscribes to a filter.
    async fn listen(self, filter: &str, qos: QoS) -> Result<AttemptOutcome<Link>, Trouble> {
        let mut link = match self.enter(&self.stranger()).await? {
            AttemptOutcome::Allowed(link) => link,
            barred @ AttemptOutcome::Barred(_) => return Ok(barred),
        };
        Ok(match barred(link.subscribe(filter, live(qos)).await)? {
            AttemptOutcome::Allowed(()) => AttemptOutcome::Allowed(link),
            AttemptOutcome::Barred(why) => AttemptOutcome::Barred(why),
        })
    }

    /// Returns the finding if a stranger received nothing although its subscription was granted. If the broker counts the
    /// stranger as a subscriber, it checks rules on delivery. Otherwise the owner subscribes: if messages come to the owner,
    /// they are withheld from the stranger.
    async fn nothing_came(
        self,
        item: Item,
        is_counted: bool,
        owner: (&mut Link, &str),
        topic: &str,
        stranger: &mut Link,
    ) -> Result<Finding, Trouble> {
        if is_counted {
            return Ok(
                item.ok("the subscription is granted and counted (PUBACK 0x10 before it), and nothing comes")
            );
        }
        let (owner, filter) = owner;
        owner.subscribe(filter, live(QoS::AtLeastOnce)).await?;
        owner.publish(message(topic, "control")).await?;
        if owner.receive_within(topic, self.probe.patience()).await?.is_none() {
            if self.may_not_serve() {
                return Ok(item.untested(
                    "the subscription is granted; whether requests come could not be tried, as the user of this command may \
                     not serve",
                ));
            }
            return Ok(item.unknown(
                "the subscription is granted, and nothing comes, to the user of this command neither",
            ));
        }
        if stranger.receive_within(topic, self.probe.doubt()).await?.is_some() {
            return Ok(item.unknown("the subscription is granted, and one of two messages came"));
        }
        Ok(item.ok(format!(
            "the subscription is granted, and nothing comes to it, but to {}",
            self.examination().who()
        )))
    }

    /// Checks whether access rules keep requests from the owner.
    fn may_not_serve(self) -> bool {
        matches!(self.examination().stage.get(), Some(Stage::Denied))
    }

    /// Creates the finding of the good outcome.
    fn refused(self, item: Item, refusal: &str) -> Finding {
        item.ok(format!("{} {refusal}", self.who()))
    }

    /// Returns a description of the stranger, for the beginning of a sentence.
    fn who(self) -> String {
        if self.logged_in {
            format!("{}, with another client id,", self.examination().who())
        } else {
            "a client without a login".to_owned()
        }
    }
}

/// Converts a refusal because of the client's identity to the good outcome of an attempt.
fn barred<T>(attempt: Result<T, Trouble>) -> Result<AttemptOutcome<T>, Trouble> {
    let trouble = match attempt {
        Ok(allowed) => return Ok(AttemptOutcome::Allowed(allowed)),
        Err(trouble) if trouble.keeps_out() => trouble,
        Err(trouble) => return Err(trouble),
    };
    Ok(AttemptOutcome::Barred(match trouble {
        Trouble::Denied { action, .. } => format!("may not {action}"),
        Trouble::Refused { code, .. } => format!("is refused the connection ({code:#04x})"),
        Trouble::Unreachable(_) => "is not let in without a certificate".to_owned(),
        _ => "is disconnected as not authorized (0x87)".to_owned(),
    }))
}
