//! Replies: where each goes, and in which form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use rantai_client::session::{Publish, QoS, Unsent};
use rantai_client::shares::CallerKey;
use rantai_client::wire::Properties;
use rantai_client::wire::accepted::{ACCEPTED, Accepted};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{Form, IDENTIFYING, Refusal, ReplyTo, Request};
use rantai_client::wire::topic::EventTopic;
use rantai_client::wire::user::User;
use tokio::time::Instant;

use super::served::Served;

/// Time for the reply to a request that could not be read, and so names no deadline.
const UNREADABLE: Duration = Duration::from_secs(30);

/// Sink for outgoing publishes.
pub trait Out: Send + Sync + 'static {
    /// Takes a message; with a token other than 0, [`Dispatcher::settled`](super::Dispatcher::settled) is told what became of it.
    ///
    /// # Errors
    ///
    /// What is known to be wrong at once; nothing is told of it later.
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent>;

    /// Bytes that have been taken and are not written yet.
    fn backlog(&self) -> usize {
        0
    }

    /// Whether another node claims a name by a registry entry that this user published; `None` is a client that has not
    /// logged in, and everybody where the broker does not say who publishes.
    fn is_claimed_by(&self, _object: &ObjectName, _user: Option<&User>) -> bool {
        false
    }

    /// What the broker does for the bus, by its word.
    fn features(&self) -> BrokerFeatures {
        BrokerFeatures::default()
    }

    /// Whether somebody serves an object by the registry's word; `None` where it is not known (yet).
    fn is_served(&self, _object: &ObjectName) -> Option<bool> {
        Some(true)
    }
}

/// Where the reply to a request goes, and how.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) form: Form,
    pub(super) reply_to: ReplyTo,
    /// The client that the reply goes to, where its topic names one.
    pub(super) client: Option<ClientId>,
    pub(super) correlation: Option<Bytes>,
    pub(super) qos: QoS,
    pub(super) deadline: Instant,
}

impl Route {
    /// The route of a request's reply.
    pub(super) fn of(root: &Root, request: &Request, qos: QoS, received: Instant) -> Self {
        Self {
            form: request.form.clone(),
            reply_to: request.reply_to.clone(),
            client: client_of(root, &request.reply_to),
            correlation: request.correlation.clone(),
            qos,
            deadline: received + Duration::from_millis(request.ttl_ms),
        }
    }
}

/// A client that follows the node of its call.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) client: ClientId,
    pub(super) correlation: Bytes,
}

impl Route {
    /// The client that waits for the reply and may follow the node of its call. A call whose correlation others may guess is
    /// none that a client follows.
    pub(super) fn follower(&self) -> Option<Follower> {
        let correlation = self.correlation.clone().filter(|correlation| correlation.len() >= IDENTIFYING);
        Some(Follower { client: self.client.clone()?, correlation: correlation? })
    }

    /// Whether the reply goes to a topic that everybody may know.
    pub(super) fn is_public(&self) -> bool {
        matches!(self.reply_to, ReplyTo::Topic(_)) && self.client.is_none()
    }

    /// Whose share of an object's places a request counts against. A `caller` is there only where the broker stamps
    /// it: anybody could use up somebody else's share otherwise.
    pub(super) fn share_of(&self, caller: Option<&User>) -> CallerKey {
        match (caller, &self.client) {
            (Some(user), _) => CallerKey::User(user.clone()),
            (None, Some(client)) => CallerKey::Client(client.clone()),
            (None, None) => CallerKey::Unnamed,
        }
    }
}

fn client_of(root: &Root, reply_to: &ReplyTo) -> Option<ClientId> {
    match reply_to {
        ReplyTo::Topic(topic) => topic.client(root),
        ReplyTo::Nobody => None,
    }
}

/// Writes and publishes the replies of a node.
pub(super) struct Replies {
    pub(super) root: Root,
    pub(super) node: ClientId,
    /// Value of the user property `node`.
    pub(super) node_property: ByteString,
    pub(super) out: Box<dyn Out>,
}

impl Replies {
    /// Answers a request that cannot be carried out.
    pub(super) fn refuse(&self, served: Option<&Arc<Served>>, refusal: Refusal, qos: QoS, received: Instant) {
        match refusal {
            Refusal::Silent(reason) => {
                tracing::debug!(reason, "a request was refused in silence");
                if let Some(served) = served {
                    served.stats.refused("no_reply_topic");
                }
            }
            Refusal::Told { fault, form, reply_to, correlation } => {
                if let Some(served) = served {
                    served.stats.refused(refusal_kind(fault.code));
                }
                let deadline = received + UNREADABLE;
                let client = client_of(&self.root, &reply_to);
                let route = Route { form, reply_to, client, correlation, qos, deadline };
                let limit = served.map_or(usize::MAX, |s| s.limits.result);
                self.publish_limited(&route, Outcome::Fault(fault), limit);
            }
        }
    }

    /// Answers a request to an object.
    pub(super) fn reply(&self, served: &Served, route: &Route, outcome: Outcome) {
        self.publish_limited(route, outcome, served.limits.result);
    }

    /// Answers a request to an object; with a token other than 0, what becomes of the reply is told where this is true.
    pub(super) fn reply_with_token(
        &self,
        served: &Served,
        route: &Route,
        outcome: Outcome,
        token: u128,
    ) -> bool {
        if matches!(route.reply_to, ReplyTo::Nobody) {
            return false;
        }
        let limit = served.limits.result;
        let reply =
            Reply::write(outcome, &route.form, route.correlation.as_ref(), &self.node_property, limit);
        self.publish_with_token(route, reply, token)
    }

    fn publish_limited(&self, route: &Route, outcome: Outcome, limit: usize) {
        if matches!(route.reply_to, ReplyTo::Nobody) {
            return;
        }
        let reply =
            Reply::write(outcome, &route.form, route.correlation.as_ref(), &self.node_property, limit);
        self.publish(route, reply);
    }

    /// Publishes a reply; a fault instead of one that the broker does not take.
    pub(super) fn publish(&self, route: &Route, reply: Reply) {
        self.publish_with_token(route, reply, 0);
    }

    fn publish_with_token(&self, route: &Route, reply: Reply, token: u128) -> bool {
        let ReplyTo::Topic(topic) = &route.reply_to else { return false };
        let publish = Publish {
            topic: topic.shared(),
            properties: reply.properties(),
            payload: reply.payload,
            qos: route.qos,
            retain: false,
            resend: true,
        };
        let Err(error) = self.out.send(publish, token) else { return true };
        if let Unsent::TooLarge { limit, .. } = error {
            let fault = Outcome::Fault(Fault::too_large(limit));
            let reply =
                Reply::write(fault, &route.form, route.correlation.as_ref(), &self.node_property, usize::MAX);
            let publish = Publish::new(topic.shared(), reply.payload.clone()).properties(reply.properties());
            self.say(publish.qos(route.qos));
        } else {
            tracing::debug!("a reply was not sent: {error}");
        }
        false
    }

    /// Tells the client that waits for a reply that its call, which has come by so many links, is under way on this node.
    pub(super) fn accepted(&self, served: &Served, route: &Route, trail: usize) {
        let epoch = served.entry.lock().as_ref().map(|entry| entry.epoch.clone());
        if let (Some(caller), Some(epoch)) = (route.follower(), epoch) {
            let accepted = Accepted { node: self.node.clone(), epoch, trail: trail as u64, passed_on: false };
            self.say_accepted(&served.name, caller, &accepted);
        }
    }

    /// Tells a caller on behalf of an object which node has its call.
    pub(super) fn say_accepted(&self, object: &ObjectName, caller: Follower, accepted: &Accepted) {
        let event = MethodName::new(ACCEPTED).expect("a name");
        let topic = EventTopic { object: object.clone(), event, client: Some(caller.client) };
        let properties = Properties { correlation: Some(caller.correlation), ..Properties::default() };
        let publish = Publish::new(topic.format(&self.root), accepted.write());
        self.say(publish.properties(properties).qos(QoS::AtMostOnce));
    }

    /// Publishes what nobody waits for.
    pub(super) fn say(&self, publish: Publish) {
        if let Err(error) = self.out.send(publish, 0) {
            tracing::debug!("not sent: {error}");
        }
    }
}

/// The same refusal with another code.
pub(super) fn with_code(refusal: Refusal, code: Code) -> Refusal {
    match refusal {
        Refusal::Told { fault, form, reply_to, correlation } => {
            Refusal::Told { fault: Fault::new(code, fault.message), form, reply_to, correlation }
        }
        silent @ Refusal::Silent(_) => silent,
    }
}

/// The name of a refusal in `rpc.stats`.
fn refusal_kind(code: Code) -> &'static str {
    match code {
        Code::NOT_JSON => "not_json",
        Code::NOT_A_REQUEST => "not_a_request",
        Code::WRONG_PARAMETERS => "wrong_parameters",
        _ => "other",
    }
}
