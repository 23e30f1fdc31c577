//! What a client may do that ought not to: one without a login, and one of the user of the command with what is another
//! client's.
//!
//! Everything is tried on names, ids and topics of the examination itself. The *owner* is the client whose requests, replies
//! and names these are: it has the login of the command, if there is one.

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

/// One kind of stranger, for one item.
#[derive(Clone, Copy)]
struct Intrusion<'a> {
    probe: Probe<'a>,
    items: &'static StrangerItems,
    /// As the user of the command.
    logged_in: bool,
}

/// Attempts of a client without a login.
pub(super) fn without_login(examination: &Examination) -> Vec<Running<'_>> {
    let mut attempts = attempts(examination, &WITHOUT_LOGIN, false);
    attempts.push(running_with(examination, WITHOUT_LOGIN.client_id, move |probe| {
        takeover::client_id(Intrusion { probe, items: &WITHOUT_LOGIN, logged_in: false })
    }));
    attempts
}

/// Attempts of a client with the login of the command. Client ids are left out: a user may take its own.
pub(super) fn with_login(examination: &Examination) -> Vec<Running<'_>> {
    attempts(examination, &WITH_LOGIN, true)
}

/// Attempts to read everything. Not at the same time as any others: while somebody reads everything, nobody is told that nobody
/// is subscribed.
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

/// How the broker took an attempt.
enum Taken<T> {
    /// It let it pass.
    Allowed(T),
    /// It refused it because of who tried: what the stranger may not do, as the end of a sentence.
    Barred(String),
}

impl<'a> Intrusion<'a> {
    fn examination(self) -> &'a Examination {
        self.probe.examination
    }

    /// A client of this kind that is not the owner.
    fn stranger(self) -> Identity {
        if self.logged_in { self.examination().client() } else { self.examination().anonymous() }
    }

    /// A connection of a stranger.
    ///
    /// # Errors
    ///
    /// It is refused for another reason than who the stranger is: limits of connections, a ban, a broker that is busy.
    async fn enter(self, stranger: &Identity) -> Result<Taken<Link>, Trouble> {
        let connected = self.probe.link(stranger).await;
        // A user is let in at other times.
        if self.logged_in {
            return connected.map(Taken::Allowed);
        }
        if !matches!(connected, Err(Trouble::Closed { code: None, .. })) || !self.examination().is_known() {
            return barred(connected);
        }
        // Some brokers end the connection instead of refusing it. Then users are let in at the same time.
        let (_, owner) = self.probe.client().await?;
        owner.close().await;
        match self.probe.link(stranger).await {
            Err(Trouble::Closed { code: None, .. }) => Ok(Taken::Barred(format!(
                "is disconnected without an answer, and {} is let in",
                self.examination().who()
            ))),
            connected => barred(connected),
        }
    }

    /// A connection of a stranger, which subscribes to a filter.
    async fn listen(self, filter: &str, qos: QoS) -> Result<Taken<Link>, Trouble> {
        let mut link = match self.enter(&self.stranger()).await? {
            Taken::Allowed(link) => link,
            barred @ Taken::Barred(_) => return Ok(barred),
        };
        Ok(match barred(link.subscribe(filter, live(qos)).await)? {
            Taken::Allowed(()) => Taken::Allowed(link),
            Taken::Barred(why) => Taken::Barred(why),
        })
    }

    /// What it means that nothing came to a stranger whose subscription was granted. Where the broker counts it as a subscriber,
    /// it looks at rules when it delivers. Otherwise the owner subscribes: what comes to it is kept from the stranger.
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

    /// Whether the owner receives no requests, as far as rules go.
    fn may_not_serve(self) -> bool {
        matches!(self.examination().stage.get(), Some(Stage::Denied))
    }

    /// The good outcome.
    fn refused(self, item: Item, refusal: &str) -> Finding {
        item.ok(format!("{} {refusal}", self.who()))
    }

    /// Who it is, at the beginning of a sentence.
    fn who(self) -> String {
        if self.logged_in {
            format!("{}, with another client id,", self.examination().who())
        } else {
            "a client without a login".to_owned()
        }
    }
}

/// Takes a refusal because of who tries it for what it is: the good outcome of an attempt.
fn barred<T>(attempt: Result<T, Trouble>) -> Result<Taken<T>, Trouble> {
    let trouble = match attempt {
        Ok(allowed) => return Ok(Taken::Allowed(allowed)),
        Err(trouble) if trouble.keeps_out() => trouble,
        Err(trouble) => return Err(trouble),
    };
    Ok(Taken::Barred(match trouble {
        Trouble::Denied { action, .. } => format!("may not {action}"),
        Trouble::Refused { code, .. } => format!("is refused the connection ({code:#04x})"),
        Trouble::Unreachable(_) => "is not let in without a certificate".to_owned(),
        _ => "is disconnected as not authorized (0x87)".to_owned(),
    }))
}
