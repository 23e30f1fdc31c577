//! What a client may do that ought not to: one without a login, and one of the user of the command with what is another
//! client's.
//!
//! Everything is tried on names, ids and topics of the examination itself. The *owner* is the client whose requests, replies
//! and names these are: it has the login of the command, if there is one.

mod identity;
mod requests;
mod watching;

use rmqtt_codec::types::QoS;

use super::examination::{Examination, Probe};
use super::identity::Identity;
use super::item::{Finding, Item, StrangerItems, WITH_LOGIN, WITHOUT_LOGIN};
use super::link::{Link, live};
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
        identity::client_id(Intrusion { probe, items: &WITHOUT_LOGIN, logged_in: false })
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
    /// It refused it: what the stranger may not do, as the end of a sentence.
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
    async fn enter(self, stranger: &Identity) -> Result<Taken<Link>, Trouble> {
        barred(self.probe.link(stranger).await)
    }

    /// A connection of a stranger, which subscribes to a filter.
    async fn listen(self, filter: &str) -> Result<Taken<Link>, Trouble> {
        let mut link = match self.enter(&self.stranger()).await? {
            Taken::Allowed(link) => link,
            barred @ Taken::Barred(_) => return Ok(barred),
        };
        Ok(match barred(link.subscribe(filter, live(QoS::AtLeastOnce)).await)? {
            Taken::Allowed(()) => Taken::Allowed(link),
            Taken::Barred(why) => Taken::Barred(why),
        })
    }

    /// The good outcome.
    fn refused(self, item: Item, refusal: &str) -> Finding {
        item.ok(format!("{} {refusal}", self.who()))
    }

    /// Who it is, at the beginning of a sentence.
    fn who(self) -> String {
        let name = self.stranger().name();
        if self.logged_in { format!("{name}, with another client id,") } else { name }
    }
}

/// Takes a refusal for what it is: the good outcome of an attempt.
fn barred<T>(attempt: Result<T, Trouble>) -> Result<Taken<T>, Trouble> {
    let refusal = match attempt {
        Ok(allowed) => return Ok(Taken::Allowed(allowed)),
        Err(Trouble::Denied { action, .. }) => format!("may not {action}"),
        Err(Trouble::Refused { code, .. }) => format!("is refused the connection ({code:#04x})"),
        Err(Trouble::Closed { .. }) => "is disconnected".to_owned(),
        Err(trouble) => return Err(trouble),
    };
    Ok(Taken::Barred(refusal))
}
