//! Routing and publishing of replies.

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
use rantai_client::wire::request::{Form, MIN_IDENTITY_BYTES, Refusal, ReplyTo, Request};
use rantai_client::wire::topic::EventTopic;
use rantai_client::wire::user::User;
use tokio::time::Instant;

use super::served::Served;

/// Time limit for the reply to a request that cannot be parsed, and so has no known deadline.
const UNREADABLE_TTL: Duration = Duration::from_secs(30);

/// Sink for outgoing publishes.
pub trait Out: Send + Sync + 'static {
    /// Publishes a message. With a token other than 0, its result is reported to
    /// [`Dispatcher::settled`](super::Dispatcher::settled).
    ///
    /// # Errors
    ///
    /// The message cannot be sent; its result is not reported later.
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent>;

    /// Returns the number of bytes that were accepted and are not written yet.
    fn backlog(&self) -> usize {
        0
    }

    /// Returns whether another node claims a name by a registry entry that this user published. `None` is a client that
    /// has not logged in; it matches everyone if the broker does not stamp publishers.
    fn is_claimed_by(&self, _object: &ObjectName, _user: Option<&User>) -> bool {
        false
    }

    /// Returns the features that the broker has announced.
    fn features(&self) -> BrokerFeatures {
        BrokerFeatures::default()
    }

    /// Returns whether the registry says that a node serves an object; `None` if that is not known (yet).
    fn is_served(&self, _object: &ObjectName) -> Option<bool> {
        Some(true)
    }
}

/// Route of a reply: topic, form and QoS.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) form: Form,
    pub(super) reply_to: ReplyTo,
    /// Client that the reply goes to, if its topic names one.
    pub(super) client: Option<ClientId>,
    pub(super) correlation: Option<Bytes>,
    pub(super) qos: QoS,
    pub(super) deadline: Instant,
}

impl Route {
    /// Returns the route of a request's reply.
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

/// Client that follows the node of its call.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) client: ClientId,
    pub(super) correlation: Bytes,
}

impl Route {
    /// Returns the client that waits for the reply and may follow the node of its call; `None` for a call whose
    /// correlation could be guessed.
    pub(super) fn follower(&self) -> Option<Follower> {
        let correlation =
            self.correlation.clone().filter(|correlation| correlation.len() >= MIN_IDENTITY_BYTES);
        Some(Follower { client: self.client.clone()?, correlation: correlation? })
    }

    /// Returns whether the reply goes to a public topic.
    pub(super) fn is_public(&self) -> bool {
        matches!(self.reply_to, ReplyTo::Topic(_)) && self.client.is_none()
    }

    /// Returns the caller whose share of an object's places a request counts against. A user counts only if the broker
    /// stamps `caller`; otherwise anybody could use up another user's share.
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
    /// Answers a request that cannot be executed.
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
                let deadline = received + UNREADABLE_TTL;
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

    /// Answers a request to an object. Returns whether a reply was sent; if so, its result is reported for a `token`
    /// other than 0.
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

    /// Publishes a reply, or a fault in its place if the broker does not accept its size.
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

    /// Publishes `accepted` to the client that waits for a reply: its call, which has passed this many links, runs on
    /// this node.
    pub(super) fn accepted(&self, served: &Served, route: &Route, trail: usize) {
        let epoch = served.entry.lock().as_ref().map(|entry| entry.epoch.clone());
        if let (Some(caller), Some(epoch)) = (route.follower(), epoch) {
            let accepted = Accepted { node: self.node.clone(), epoch, trail: trail as u64, passed_on: false };
            self.say_accepted(&served.name, caller, &accepted);
        }
    }

    /// Publishes to a caller, on behalf of an object, which node has its call.
    pub(super) fn say_accepted(&self, object: &ObjectName, caller: Follower, accepted: &Accepted) {
        let event = MethodName::new(ACCEPTED).expect("a name");
        let topic = EventTopic { object: object.clone(), event, client: Some(caller.client) };
        let properties = Properties { correlation: Some(caller.correlation), ..Properties::default() };
        let publish = Publish::new(topic.format(&self.root), accepted.write());
        self.say(publish.properties(properties).qos(QoS::AtMostOnce));
    }

    /// Publishes a message whose result is ignored.
    pub(super) fn say(&self, publish: Publish) {
        if let Err(error) = self.out.send(publish, 0) {
            tracing::debug!("not sent: {error}");
        }
    }
}

/// Returns the same refusal with another code.
pub(super) fn with_code(refusal: Refusal, code: Code) -> Refusal {
    match refusal {
        Refusal::Told { fault, form, reply_to, correlation } => {
            Refusal::Told { fault: Fault::new(code, fault.message), form, reply_to, correlation }
        }
        silent @ Refusal::Silent(_) => silent,
    }
}

/// Returns the name of a refusal in `rpc.stats`.
fn refusal_kind(code: Code) -> &'static str {
    match code {
        Code::NOT_JSON => "not_json",
        Code::NOT_A_REQUEST => "not_a_request",
        Code::WRONG_PARAMETERS => "wrong_parameters",
        _ => "other",
    }
}
