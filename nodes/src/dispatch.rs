//! Request handling: everything between a request and its reply, without MQTT.
//!
//! One [`Dispatcher`] serves all objects of a node. A method that does not wait is executed at once, on the task that
//! read the request; one that waits becomes a task of its own.
//!
//! | Module | Content |
//! |---|---|
//! | `dispatch.rs` | Object of the request, admission, and detection of duplicates |
//! | `builtin` | Built-in methods of every object |
//! | `running` | Running call, from its first poll to its reply |
//! | `cancelling` | Cancellation by the caller |
//! | `once` | Methods marked `once` |
//! | `forward`, `recent` | Forwarding to the next link of a chain; recently forwarded requests |
//! | `streaming`, `streams` | Streamed result under flow control; streams of one object |
//! | `replies` | Routing of replies |
//! | `departed` | Detection of callers that are gone |
//! | `served`, `duplicates`, `stats` | Served object: its limits, duplicates and statistics |

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
use streaming::MoreRequest;

/// Maximum number of parsed topics that are cached.
const MAX_CACHED_TOPICS: usize = 64;
/// Number of unwritten bytes from which requests are answered busy.
const BUSY_BACKLOG: usize = 4 << 20;
/// Number of unwritten bytes from which requests are dropped.
const DROP_BACKLOG: usize = 16 << 20;

/// Dispatches the requests of a node to its objects.
pub struct Dispatcher {
    objects: RwLock<HashMap<ObjectName, Arc<Served>>>,
    /// Cache of parsed request topics, with their objects: clients use few topics. Emptied when it is full, and
    /// whenever an object is added or removed.
    topics: Mutex<HashMap<Box<str>, FoundObject>>,
    replies: Arc<Replies>,
    forwards: Arc<Forwards>,
    departed: Departed,
    /// Connection for the calls that methods make.
    calls: Calls,
    /// Journal of the calls of methods marked `once`.
    journal: Keeper,
    /// Users that `rpc.stats` tells the names of all callers.
    admins: OnceLock<Vec<String>>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dispatcher({})", self.replies.node)
    }
}

/// Object of a request, and its parsed topic.
type FoundObject = (Arc<Served>, CallTopic);

/// Admitted request.
struct Admitted {
    request: Request,
    route: Route,
    received: Instant,
    /// Whether too many bytes are unwritten to execute anything.
    is_crowded: bool,
    /// Time for which the request may have been waiting to be read, if its deadline may have passed because of that.
    overdue: Option<Duration>,
}

impl Dispatcher {
    /// Creates the dispatcher of the node `node`, whose objects call others by `calls`.
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

    /// Sets the journal for methods marked `once`. Without one they refuse calls.
    #[cfg(feature = "journal")]
    pub(crate) fn keep_journal(&self, journal: Journal) {
        let _ = self.journal.set(Arc::new(journal));
    }

    /// Sets the users that `rpc.stats` tells the names of all callers.
    pub(crate) fn name_callers_to(&self, admins: Vec<String>) {
        let _ = self.admins.set(admins);
    }

    /// Adds an object; returns false if the name is taken on this node.
    pub fn add(&self, served: Arc<Served>) -> bool {
        let mut objects = self.objects.write();
        if objects.contains_key(&served.name) {
            return false;
        }
        // A weak handle: the object may keep it forever, and would otherwise keep its own owner alive.
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

    /// Removes an object; its running calls continue.
    pub fn remove(&self, name: &ObjectName) {
        let mut objects = self.objects.write();
        objects.remove(name);
        self.topics.lock().clear();
    }

    /// Returns all objects, sorted by name.
    pub fn objects(&self) -> Vec<Arc<Served>> {
        let mut objects: Vec<_> = self.objects.read().values().cloned().collect();
        objects.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        objects
    }

    /// Notifies callers whose requests were forwarded recently that a node of the next object is lost.
    pub(crate) fn server_lost(&self, loss: ServerLoss) {
        self.forwards.server_lost(loss);
    }

    /// Handles the result of a message that was sent with a token.
    pub fn settled(&self, token: u128, result: Result<(), Unsent>) {
        if !self.departed.settled(token, &result) {
            self.forwards.settled(token, result);
        }
    }

    /// Handles a message on a request topic.
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

    /// Handles `rpc.more`: raises the credit of a stream, without a reply. If there is no such stream (any more), the
    /// caller gets an error, even if `rpc.more` has crossed the last part, which the caller then has received.
    fn more(&self, served: &Arc<Served>, admitted: &Admitted) {
        let Admitted { request, route, .. } = admitted;
        let fault = match MoreRequest::read(request) {
            Ok(taken) if served.streams.more(request, taken) => return,
            Ok(_) => Fault::new(Code::MISMATCH, "there is no such stream on this node (any more)"),
            Err(fault) => fault,
        };
        self.replies.reply(served, route, Outcome::Fault(fault));
    }

    /// Finds the object of a message. If there is none, the request is refused if it names this node.
    fn find(&self, message: &Message, received: Instant) -> Option<FoundObject> {
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
        // Locked until the topic is cached, because the object may be about to be removed.
        let objects = self.objects.read();
        let served = objects.get(&topic.object).cloned();
        if served.is_none() && matches!(topic.target, Target::Node(_)) {
            refuse(Some(Code::UNKNOWN_OBJECT), &format!("no object {} on this node", topic.object));
        }
        let found = (served?, topic);
        let mut topics = self.topics.lock();
        if topics.len() >= MAX_CACHED_TOPICS {
            topics.clear();
        }
        topics.insert((*message.topic).into(), found.clone());
        Some(found)
    }

    /// Parses and checks a request; one that is not admitted is counted, and answered if the answer is useful.
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
            // A retained message: its publisher does not wait for an answer now.
            return refused("retained");
        }
        let backlog = self.replies.out.backlog();
        if backlog > DROP_BACKLOG {
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
            // Without a stream, because parts of several instances would mix.
            Target::All => Request { stream: request.stream.filter(|bytes| *bytes == 0), ..request },
            Target::Any | Target::Node(_) => request,
        };
        // A request that may have arrived while the process did not run counts as received at the start of that time.
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
        Some(Admitted { request, route, received, is_crowded: backlog > BUSY_BACKLOG, overdue })
    }

    fn refuse_crowded(&self, served: &Served, route: &Route) {
        served.stats.refused("busy");
        self.replies.reply(served, route, Outcome::Fault(Fault::busy(200)));
    }

    /// Refuses a request that may have arrived too late for its caller, so that a caller that still waits can repeat
    /// it.
    fn refuse_overdue(&self, served: &Served, route: &Route, unread: Duration) {
        served.stats.refused("overdue");
        let text = format!(
            "the node stood still for {} ms: the request may be older than its deadline and was not carried out; repeat it",
            unread.as_millis()
        );
        let fault = Fault::new(Code::BUSY, text).with("retry_after_ms", 0);
        self.replies.reply(served, route, Outcome::Fault(fault));
    }

    /// Executes a method, unless the request is a duplicate.
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
                // The duplicate is attached to the running request, and gets its reply. The caller may have missed
                // which node executes it, and the first parts of its stream.
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
        // Checked after duplicates, because busy means that the request was not executed.
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

    /// Refuses a caller that holds its share of the places. If other calls wait for the same reply topic, the refusal
    /// also tests whether the caller is still there.
    fn refuse_over_share(&self, served: &Arc<Served>, route: &Route, share_of: &CallerKey) {
        served.stats.refused("busy");
        served.share_log.refused(format_args!("the places of {}", served.name), share_of);
        let token = self.departed.token(served, route);
        let busy = Outcome::Fault(Fault::busy(100));
        if !self.replies.reply_with_token(served, route, busy, token) {
            self.departed.forget(token);
        }
    }

    /// Builds the context of a call.
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
