//! Bus messages: stamping of the caller and checks of reply grants.

use std::sync::Arc;

use bytestring::ByteString;

use super::Connection;
use super::administering::not_for_others;
use super::rights::NeededGrants;
use crate::access::{Action, Allowed, Denial, Principal};
use crate::bus::BusTopic;
use crate::caller::{self, NOBODY};
use crate::counters::Counters;
use crate::grants::{Asked, Wanted};
use crate::message::{Message, Properties};
use crate::owner::Owner;
use crate::peer::Identity;
use crate::session::Scratch;
use crate::unserved::{ScanSize, Unserved};

/// Routing steps charged for an answer to a request without a subscriber.
const STEPS_PER_ANSWER: usize = 256;

/// Reason why a bus message is refused.
#[derive(Debug)]
pub(super) enum BusRefusal {
    /// Refused by a rule, or because there is no grant.
    Denied(Denial),
    /// The sender already waits for as many replies as its share allows.
    Share,
}

impl From<Denial> for BusRefusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Connection {
    /// Returns the grant that this client needs to reply on `topic` to the request with these properties.
    fn reply<'a>(&'a self, topic: &'a str, properties: &'a Properties) -> Wanted<'a> {
        self.link.reply_of(&self.session.client_id, topic, properties)
    }

    /// Stamps the caller on a message, and sets the Response Topic of a request that has none. `needed` tells what the
    /// message needs reply grants for.
    pub(super) fn enter_bus(
        &mut self,
        message: &mut Message,
        needed: NeededGrants,
        now: u64,
    ) -> Result<(), BusRefusal> {
        if needed.reply {
            self.check_reply(message, now)?;
        }
        let Message { topic, properties, asked, .. } = message;
        let Some(bus) = self.hub.shared.bus.topic(topic) else {
            return if needed.response { Err(self.no_response(properties, None).into()) } else { Ok(()) };
        };
        let administers = self.check_administration(&bus)?;
        if self.hub.shared.access.generation() == 0 {
            self.stamp_caller(&bus, topic, properties, needed)?;
            return Ok(());
        }
        if bus.is_request() && properties.response_topic.is_none() {
            properties.response_topic = self.private_reply(&bus, properties);
        }
        let reply = properties.response_topic.as_ref().filter(|_| bus.is_request());
        // Most reply topics end in the client's own id, and need no lookup of a grant.
        let client_id = self.session.client_id.as_bytes();
        let is_own = |reply: &str| reply.as_bytes().rsplit(|&byte| byte == b'/').next() == Some(client_id);
        let passed_on = reply
            .filter(|reply| needed.response || !is_own(reply))
            .and_then(|reply| self.hub.shared.grants.passed_on(&self.reply(reply, properties), now));
        if needed.response && passed_on.is_none() {
            return Err(self.no_response(properties, Some(&bus)).into());
        }
        let asks_for_reply = reply.is_some_and(|reply| self.hub.shared.bus.is_reply(reply));
        let other = match &passed_on {
            // A nested call: all requests of a chain have the caller of the first one.
            Some(_) if administers => return Err(not_for_others().into()),
            Some(by) => {
                caller::stamp(&mut properties.user, by.caller.as_ref(), self.link.principal.caller());
                None
            }
            None => self.stamp_caller(&bus, topic, properties, needed)?,
        };
        if administers && other.is_some() {
            return Err(not_for_others().into());
        }
        if asks_for_reply {
            let by = passed_on.unwrap_or_else(|| self.asks_for(other));
            if !self.hub.shared.grants.may_ask(by.asker.as_ref()) {
                return Err(BusRefusal::Share);
            }
            *asked = Some(by);
        }
        Ok(())
    }

    /// Calls the handler of the embedding program for a request that no subscriber serves.
    pub(super) fn answer_unserved(&self, message: &Message, scratch: &mut Scratch) {
        let shared = &self.hub.shared;
        let (Some(handler), Some(bus)) = (&shared.config.unserved, shared.bus.topic(&message.topic)) else {
            return;
        };
        scratch.route_steps += STEPS_PER_ANSWER;
        let client = Identity { principal: &self.link.principal, client_id: &self.session.client_id };
        let has_rules = shared.access.generation() != 0;
        let may_read =
            |topic: &str| !has_rules || shared.access.authorize(client, Action::Receive, topic).is_ok();
        let now = scratch.now;
        let retained = |topic: &str, look: ScanSize| {
            if matches!(look, ScanSize::Many(_)) && !shared.registry_scans.admit(self.owner.as_ref(), now) {
                return Vec::new();
            }
            let mut found = shared.retained.read().below(topic, look.most(), now);
            found.retain(|(topic, _)| may_read(topic));
            found
        };
        let request = Unserved { message, root: bus.root, has_rules, retained: &retained };
        let reply = handler.answer(&request).filter(|reply| shared.bus.is_reply(&reply.topic));
        let Some(reply) = reply else { return };
        Counters::add(&shared.counters.unserved, 1);
        let reply = reply.message(message);
        self.hub.router.publish_own(&reply, scratch);
        scratch.settle(shared);
        // The client that passed the request on will not reply any more.
        if let Some(passed_on) = message.asked.as_ref().and_then(|asked| asked.passed_on.as_ref()) {
            shared.grants.use_up(&passed_on.borrowed());
        }
    }

    /// Uses up the grant of a request after its last reply was routed.
    pub(super) fn note_replied(&self, message: &Message) {
        let shared = &self.hub.shared;
        if shared.access.generation() != 0
            && shared.bus.is_reply(&message.topic)
            && message.user("more") != Some("1")
        {
            shared.grants.use_up(&self.reply(&message.topic, &message.properties));
        }
    }

    /// Checks whether this client holds a grant to publish a reply.
    fn check_reply(&self, message: &Message, now: u64) -> Result<(), Denial> {
        let shared = &self.hub.shared;
        let wanted = self.reply(&message.topic, &message.properties);
        if !message.retain && shared.grants.allow(&wanted, now) {
            return Ok(());
        }
        Counters::add(&shared.counters.refused_replies, 1);
        Err(Denial::not_authorized(if message.retain {
            "a reply is for a request, and not to be retained"
        } else {
            "no request to this client waits for this reply: it has this topic as its Response Topic and the same \
             Correlation Data, was not replied to, and has not expired"
        }))
    }

    /// Returns the topic for replies to this client, if it has logged in and may read the topic. Used for requests
    /// without a Response Topic, such as those of MQTT 3.1.1.
    fn private_reply(&mut self, bus: &BusTopic<'_>, properties: &Properties) -> Option<ByteString> {
        self.link.principal.caller()?;
        if properties.user.values("oneway").any(|value| value == "1") {
            return None;
        }
        let topic = bus.private_reply(&self.session.client_id)?;
        (self.may_be_replied_to(&topic) == Ok(Allowed::Yes)).then_some(topic)
    }

    /// Stamps the caller: the user of this connection, or another user for whom it may act and who must be allowed to
    /// publish the same. Returns that other user. If this connection may not act for the user it names, a request
    /// marked `acting` is refused: otherwise a ledger or gateway without `acts_for` would call with its own rights
    /// instead of those of its caller.
    fn stamp_caller(
        &self,
        bus: &BusTopic<'_>,
        topic: &str,
        properties: &mut Properties,
        needed: NeededGrants,
    ) -> Result<Option<Principal>, Denial> {
        let (access, principal) = (&self.hub.shared.access, &*self.link.principal);
        let is_other = |sent: &ByteString| principal.local || **sent != *principal.caller_or_nobody();
        let sent = caller::sent(&properties.user).filter(is_other);
        let Some(user) = sent.as_ref().filter(|user| access.may_act_for(principal, user)) else {
            if let Some(user) = sent
                .as_ref()
                .filter(|_| bus.is_request() && access.has_users() && caller::is_acting(&properties.user))
            {
                return Err(may_not_act_for(principal, user));
            }
            caller::stamp(&mut properties.user, principal.caller(), None);
            return Ok(None);
        };
        let other = match &**user {
            NOBODY => Principal::default(),
            // Copied, because a grant would otherwise keep the packet in memory.
            user => Principal::of_user(user.into()),
        };
        if access.generation() != 0 {
            let client = Identity { principal: &other, client_id: &self.session.client_id };
            let allowed = access.authorize(client, Action::Publish, topic)?;
            // A reply grant of this client is no right of the other user, who is not asked for a reply by any request.
            if allowed == Allowed::WithReplyGrant && !needed.reply {
                let text =
                    format!("user {user} may publish there by a reply grant only, and holds none here");
                return Err(Denial::not_authorized(&text));
            }
        }
        caller::stamp(&mut properties.user, other.caller(), principal.caller());
        Ok(Some(other))
    }

    /// Returns the asker of a request by this client, which may act for another user.
    fn asks_for(&mut self, other: Option<Principal>) -> Arc<Asked> {
        let asks = |owner: Option<Arc<Owner>>, caller: Option<ByteString>| {
            let asker = owner.map(|owner| self.hub.shared.grants.asker(&owner));
            Arc::new(Asked { asker, caller, passed_on: None })
        };
        match other.map(|other| other.user) {
            Some(Some(user)) => asks(Some(Arc::new(Owner::User(user.clone()))), Some(user)),
            Some(None) => asks(self.owner.clone(), None),
            None => {
                let own = || asks(self.owner.clone(), self.link.principal.caller().cloned());
                self.rights.get_or_insert_default().asks.get_or_insert_with(own).clone()
            }
        }
    }

    /// Returns the refusal of a request whose Response Topic this client may not read, when no request was sent to the
    /// client that it could be passing on.
    fn no_response(&self, properties: &Properties, bus: Option<&BusTopic<'_>>) -> Denial {
        let id = match self.link.principal.caller() {
            Some(user) => format!("{user}--1"),
            None => self.session.client_id.to_string(),
        };
        let own = bus.and_then(|bus| bus.private_reply(&id));
        let advice = match own {
            Some(own) => format!("ask for the reply on a topic of your own, as with -i {id} -e {own}"),
            None => "ask for the reply on a topic that you may read".to_owned(),
        };
        let asked = properties.response_topic.as_deref().unwrap_or_default();
        let why = "is not yours to read, and no request that was sent to you asks for a reply there";
        Denial::not_authorized(&format!("{advice}: {asked} {why}"))
    }

    /// Does the same as [`no_response`](Self::no_response) for a message that the rules have denied.
    pub(super) fn no_response_of(&self, message: &Message) -> Denial {
        let bus = self.hub.shared.bus.topic(&message.topic);
        self.no_response(&message.properties, bus.as_ref())
    }
}

fn may_not_act_for(principal: &Principal, user: &str) -> Denial {
    let Some(own) = principal.caller() else {
        return Denial::not_authorized(
            "a client that did not log in calls for no user: log in as one with acts_for in broker.toml",
        );
    };
    let other = match user {
        NOBODY => "clients that did not log in".to_owned(),
        // Truncated, because the client chose the text, and the advice after it must fit into the Reason String.
        user => format!("user {user:.64}"),
    };
    let advice = format!("give {own} acts_for = [\"*\"] in broker.toml");
    Denial::not_authorized(&format!("user {own} may not call for {other}: {advice}"))
}
