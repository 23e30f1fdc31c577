//! A request in, a reply out: everything between the two, without MQTT.
//!
//! One [`Dispatcher`] serves all objects of a node. A method that does not wait is carried out at once, on the
//! task that read the request; one that waits goes on by itself.
//!
//! | File | What a request meets there |
//! |---|---|
//! | `dispatch.rs` | Which object it is for, whether it is taken, and whether it was met before |
//! | `builtin` | The methods every object has |
//! | `running` | The call: from its first step to its reply |
//! | `cancelling` | Whether it ends without one: its caller gave it up |
//! | `once` | Whether it may be carried out once more |
//! | `forward`, `recent` | The next link of a chain, instead of a reply; what went there a moment ago |
//! | `streaming`, `streams` | A result in parts, as its caller takes them; those of an object |
//! | `replies` | Where its reply goes |
//! | `departed` | Whether its caller is gone |
//! | `served`, `duplicates`, `stats` | The object: what it is allowed, what it was asked, and how it went |

mod builtin;
mod cancelling;
mod departed;
mod duplicates;
mod forward;
mod once;
mod recent;
mod replies;
mod running;
mod served;
#[cfg(all(test, feature = "journal"))]
mod simulation;
mod stats;
mod streaming;
mod streams;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use rantai_client::object::{Call, Calls, Context, Delivery, Emitter, no_such_method};
use rantai_client::session::{Message, Unsent};
use rantai_client::shares::CallerKey;
use rantai_client::wire::compact;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::reply::Outcome;
use rantai_client::wire::request::Request;
use rantai_client::wire::stream::MORE_METHOD;
use rantai_client::wire::topic::{CallTopic, Target, TopicError};
use tokio::time::Instant;

pub use replies::Out;
pub use served::{Limits, Served};

#[cfg(feature = "journal")]
use crate::journal::Journal;
use crate::links::ServerLoss;
use cancelling::CancelKey;
use departed::Departed;
use duplicates::Met;
use forward::{Forwards, Passage};
use once::{Keeper, Once};
use replies::{Replies, Route, with_code};
use running::Running;
use stats::StatsReader;
use streaming::Taken;

/// Topics that are remembered as they were read.
const TOPICS: usize = 64;
/// From this many unwritten bytes on nothing more is executed.
const CROWDED: usize = 4 << 20;
/// From this many on nothing more is said at all.
const CHOKED: usize = 16 << 20;

/// The serving side of a node.
pub struct Dispatcher {
    objects: RwLock<HashMap<ObjectName, Arc<Served>>>,
    /// Topics of requests as they were read, with their objects: clients use few. Emptied when it is full, and whenever an
    /// object comes or goes.
    topics: Mutex<HashMap<Box<str>, Found>>,
    replies: Arc<Replies>,
    forwards: Arc<Forwards>,
    departed: Departed,
    /// The connection by which methods call other objects.
    calls: Calls,
    /// What methods marked `once` were asked, and what came of it.
    journal: Keeper,
    /// Users whom `rpc.stats` names all callers to.
    admins: OnceLock<Vec<String>>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dispatcher({})", self.replies.node)
    }
}

/// The object of a request, and what its topic says.
type Found = (Arc<Served>, CallTopic);

/// A request that is taken.
struct Admitted {
    request: Request,
    route: Route,
    received: Instant,
    /// Whether too much is unwritten to carry anything out.
    is_crowded: bool,
    /// How long it may have lain unread, where its caller's time may be over so.
    overdue: Option<Duration>,
}

impl Dispatcher {
    /// The serving side of the node `node`, whose objects call others by `calls`.
    pub fn new(root: Root, node: ClientId, out: Box<dyn Out>, calls: Calls) -> Arc<Self> {
        let replies = Arc::new(Replies { root, node_property: compact::text([node.as_str()]), node, out });
        let forwards = Forwards::new(replies.clone());
        Arc::new(Self {
            objects: RwLock::default(),
            topics: Mutex::default(),
            replies,
            forwards,
            departed: Departed::default(),
            calls,
            journal: Keeper::default(),
            admins: OnceLock::new(),
        })
    }

    /// Keeps what methods marked `once` are asked. Without it they refuse.
    #[cfg(feature = "journal")]
    pub(crate) fn keep_journal(&self, journal: Journal) {
        let _ = self.journal.set(Arc::new(journal));
    }

    /// Lets `rpc.stats` name all callers to these users.
    pub(crate) fn name_callers_to(&self, admins: Vec<String>) {
        let _ = self.admins.set(admins);
    }

    /// Takes an object in; false where the name is taken on this node.
    pub fn add(&self, served: Arc<Served>) -> bool {
        let mut objects = self.objects.write();
        if objects.contains_key(&served.name) {
            return false;
        }
        // The object may keep it for good, and would keep what holds the object with it.
        let replies = Arc::downgrade(&self.replies);
        let publish = Arc::new(move |publish| {
            if let Some(replies) = replies.upgrade() {
                replies.say(publish);
            }
        });
        let emitter = Emitter::new(self.replies.root.clone(), served.name.clone(), publish);
        served.object.attach(emitter.clone());
        let _ = served.emitter.set(emitter);
        objects.insert(served.name.clone(), served);
        self.topics.lock().clear();
        true
    }

    /// Lets an object go; calls that run go on.
    pub fn remove(&self, name: &ObjectName) {
        let mut objects = self.objects.write();
        objects.remove(name);
        self.topics.lock().clear();
    }

    /// All objects, in the order of their names.
    pub fn objects(&self) -> Vec<Arc<Served>> {
        let mut objects: Vec<_> = self.objects.read().values().cloned().collect();
        objects.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        objects
    }

    /// Tells callers whose requests were passed on a moment ago that a node of the next object is lost.
    pub(crate) fn server_lost(&self, loss: ServerLoss) {
        self.forwards.server_lost(loss);
    }

    /// What became of a message sent with a token.
    pub fn settled(&self, token: u128, result: Result<(), Unsent>) {
        if !self.departed.settled(token, &result) {
            self.forwards.settled(token, result);
        }
    }

    /// Takes a message on a topic of requests.
    pub fn message(&self, message: &Message) {
        let received = Instant::now();
        let Some((served, topic)) = self.find(message, received) else { return };
        let Some(admitted) = self.admit(&served, &topic, message, received) else { return };
        if admitted.request.method.as_str() == MORE_METHOD {
            return self.more(&served, &admitted);
        }
        if admitted.request.method.is_built_in() {
            if admitted.is_crowded {
                return self.refuse_crowded(&served, &admitted.route);
            }
            if let Some(unread) = admitted.overdue {
                return self.refuse_overdue(&served, &admitted.route, unread);
            }
            let admins = self.admins.get().map_or(&[][..], Vec::as_slice);
            let reader = StatsReader::of(admitted.request.caller.as_ref(), admins);
            let outcome = builtin::built_in(&served, &admitted.request, &*self.replies.out, reader);
            return self.replies.reply(&served, &admitted.route, outcome);
        }
        self.execute(&served, admitted, &message.payload);
    }

    /// A caller takes more of a stream: it gets that, and no reply. Where there is no stream (any more) it is told, also where the
    /// two have crossed: it has got the last part then.
    fn more(&self, served: &Arc<Served>, admitted: &Admitted) {
        let Admitted { request, route, .. } = admitted;
        let fault = match Taken::read(request) {
            Ok(taken) if served.streams.more(request, taken) => return,
            Ok(_) => Fault::new(Code::MISMATCH, "there is no such stream on this node (any more)"),
            Err(fault) => fault,
        };
        self.replies.reply(served, route, Outcome::Fault(fault));
    }

    /// The object that a message is for; a message for none is refused where it names this node.
    fn find(&self, message: &Message, received: Instant) -> Option<Found> {
        if let Some(known) = self.topics.lock().get(&*message.topic) {
            return Some(known.clone());
        }
        let refuse = |code: Option<Code>, text: &str| {
            let refusal = Request::misdirected(&self.replies.root, &message.properties, text);
            let refusal = match code {
                Some(code) => with_code(refusal, code),
                None => refusal,
            };
            self.replies.refuse(None, refusal, message.qos, received);
        };
        let topic = match CallTopic::parse(&self.replies.root, &message.topic) {
            Ok(topic) => topic,
            Err(TopicError::Other) => return None,
            Err(error @ (TopicError::TooManyLevels | TopicError::NoName)) => {
                refuse(None, &format!("{:?}: {error}", &*message.topic));
                return None;
            }
        };
        // Locked until the topic is remembered: the object may be about to go.
        let objects = self.objects.read();
        let served = objects.get(&topic.object).cloned();
        if served.is_none() && matches!(topic.target, Target::Node(_)) {
            refuse(Some(Code::UNKNOWN_OBJECT), &format!("no object {} on this node", topic.object));
        }
        let found = (served?, topic);
        let mut topics = self.topics.lock();
        if topics.len() >= TOPICS {
            topics.clear();
        }
        topics.insert((*message.topic).into(), found.clone());
        Some(found)
    }

    /// Reads a request; one that is not taken is counted, and answered where that is of use.
    fn admit(
        &self,
        served: &Arc<Served>,
        topic: &CallTopic,
        message: &Message,
        received: Instant,
    ) -> Option<Admitted> {
        let refused = |kind| {
            served.stats.refused(kind);
            None
        };
        if message.retain {
            // A stored copy: nobody is asking now.
            return refused("retained");
        }
        let backlog = self.replies.out.backlog();
        if backlog > CHOKED {
            return refused("choked");
        }
        let read = Request::read(
            &self.replies.root,
            topic,
            &message.payload,
            &message.properties,
            self.replies.out.features(),
        );
        let request = match read {
            Ok(request) => request,
            Err(refusal) => {
                self.replies.refuse(Some(served), *refusal, message.qos, received);
                return None;
            }
        };
        if request.ttl_ms == 0 {
            return refused("expired");
        }
        let request = match topic.target {
            // Parts of several instances would mix.
            Target::All => Request { stream: request.stream.filter(|bytes| *bytes == 0), ..request },
            Target::Any | Target::Node(_) => request,
        };
        // What may have come while the process did not run counts as if it had come when that began.
        let came = received.checked_sub(message.unread).unwrap_or(received);
        let route = Route::of(&self.replies.root, &request, message.qos, came);
        if !served.limits.public_replies && message.properties.response_topic.is_none() && route.is_public() {
            return refused("no_reply_topic");
        }
        if request.trail.len() > served.limits.trail {
            let text = format!("the trail has more than {} items", served.limits.trail);
            let fault = Fault::new(Code::TRAIL_LIMIT, text).with("trail", request.trail);
            self.replies.reply(served, &route, Outcome::Fault(fault));
            return refused("trail_limit");
        }
        let overdue = (route.deadline <= received).then_some(message.unread);
        Some(Admitted { request, route, received, is_crowded: backlog > CROWDED, overdue })
    }

    fn refuse_crowded(&self, served: &Served, route: &Route) {
        served.stats.refused("busy");
        self.replies.reply(served, route, Outcome::Fault(Fault::busy(200)));
    }

    /// Refuses a request that may have come too late for its caller: one that waits still can repeat it.
    fn refuse_overdue(&self, served: &Served, route: &Route, unread: Duration) {
        served.stats.refused("overdue");
        let text = format!(
            "the node stood still for {} ms: the request may be older than its deadline and was not carried out; repeat it",
            unread.as_millis()
        );
        let fault = Fault::new(Code::BUSY, text).with("retry_after_ms", 0);
        self.replies.reply(served, route, Outcome::Fault(fault));
    }

    /// Calls a method, unless the request is a repeat.
    fn execute(&self, served: &Arc<Served>, admitted: Admitted, payload: &[u8]) {
        let Admitted { request, route, received, is_crowded, overdue } = admitted;
        let described = served.description.method(request.method.as_str());
        let Some(described) = described.filter(|_| !request.method.is_private()) else {
            served.stats.refused("no_such_method");
            let names: Vec<&str> = served.method_names().collect();
            let fault = no_such_method(request.method.as_str(), &names);
            return self.replies.reply(served, &route, Outcome::Fault(fault));
        };
        let share_of = route.share_of(request.caller.as_ref());
        let identity = request.identity();
        let once = identity.as_ref().filter(|_| described.once).map(|identity| {
            let method = request.method.as_str();
            Once::new(&self.journal, served.name.as_str(), identity, method, payload, &share_of)
        });
        let key = identity.map(|identity| {
            let mut duplicates = served.duplicates.lock();
            let (key, print) = duplicates.fingerprint(&identity, &request.method, payload);
            (key, duplicates.meet(key, print, route.deadline, received))
        });
        let key = match key {
            None => None,
            Some((key, Met::New)) => Some(key),
            Some((_, Met::Running)) => {
                // It attaches: its reply is that of the request that runs. Its caller may have missed who runs it, and the
                // first parts of its stream.
                self.replies.accepted(served, &route, request.trail.len());
                served.streams.send_again(&request, &route);
                return served.stats.refused("repeated");
            }
            Some((_, Met::Finished(reply))) => {
                served.stats.refused("repeated");
                return self.replies.publish(&route, reply.again());
            }
            Some((_, Met::Forgotten)) if served.streams.send_again(&request, &route) => {
                return served.stats.refused("repeated");
            }
            Some((_, Met::Forgotten | Met::Other)) => {
                served.stats.refused("identity_reused");
                let text = "this identity was used for another request, or its reply is no longer kept";
                let fault = Fault::new(Code::IDENTITY_REUSED, text);
                return self.replies.reply(served, &route, Outcome::Fault(fault));
            }
        };
        // After the repeats: a busy node says that it has not carried the request out.
        let is_admitted = served.places.admits_anybody() || served.places.admits(&share_of);
        if is_crowded || overdue.is_some() || !is_admitted {
            if let Some(key) = key {
                served.duplicates.lock().withdraw(key);
            }
            if let Some(unread) = overdue {
                return self.refuse_overdue(served, &route, unread);
            }
            if is_crowded {
                return self.refuse_crowded(served, &route);
            }
            return self.refuse_over_share(served, &route, &share_of);
        }
        let Request { method, params, trail, caller, via, traceparent, stream, .. } = request;
        let passage = Passage { trail, traceparent };
        let mut context =
            self.context(served, &route, share_of.clone(), &passage, received).called_by(caller, via.clone());
        let takes_no_stream = stream == Some(0);
        let stream = stream.filter(|credit| *credit > 0 && CancelKey::of(&route, via.as_ref()).is_some());
        let stream = stream.map(|credit| {
            served.streams.begin(self.replies.clone(), route.clone(), credit, served.limits.result)
        });
        context.delivery = match &stream {
            Some(stream) => Delivery::Parts(stream.clone()),
            None if takes_no_stream => Delivery::Refused,
            None => Delivery::List { bytes: served.limits.result },
        };
        let running = Running {
            forwards: self.forwards.clone(),
            served: served.clone(),
            method: method.clone(),
            route,
            received,
            key,
            passage,
            share_of,
            via,
            stream,
        };
        running.start(Call { method, params, context }, once);
    }

    /// Refuses a caller that has its share of the places. Where it waits for other calls, it is asked whether it is there.
    fn refuse_over_share(&self, served: &Arc<Served>, route: &Route, share_of: &CallerKey) {
        served.stats.refused("busy");
        served.share_log.refused(format_args!("the places of {}", served.name), share_of);
        let token = self.departed.token(served, route);
        let busy = Outcome::Fault(Fault::busy(100));
        if !self.replies.reply_with_token(served, route, busy, token) {
            self.departed.forget(token);
        }
    }

    /// What the method is told of its call.
    fn context(
        &self,
        served: &Served,
        route: &Route,
        share_of: CallerKey,
        passage: &Passage,
        received: Instant,
    ) -> Context {
        let emitter = served.emitter.get().expect("set by `add`, like the object itself").clone();
        let mut context =
            Context::new(served.name.clone(), received, route.deadline, emitter, self.calls.clone());
        context.share_of = share_of;
        context.client.clone_from(&route.client);
        context.correlation.clone_from(&route.correlation);
        context.trail.clone_from(&passage.trail);
        context.traceparent.clone_from(&passage.traceparent);
        context
    }
}
