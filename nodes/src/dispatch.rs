//! A request in, a reply out: everything between the two, without MQTT.
//!
//! One [`Dispatcher`] serves all objects of a node. A method that does not wait is carried out at once, on the
//! task that read the request; one that waits goes on by itself.

mod builtin;
mod duplicates;
mod stats;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rantai_client::object::{Answer, Answering, Call, Context, Description, Emitter, Forward, Object};
use rantai_client::session::{Message, Publish, QoS, Unsent};
use rantai_client::wire::Properties;
use rantai_client::wire::entry::Entry;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{Form, LARGEST_TRAIL, Refusal, ReplyTo, Request};
use rantai_client::wire::topic::{CallTopic, Target, TopicError};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::journal::{self, Journal};
use duplicates::{Duplicates, Met};
use stats::Stats;

/// Where what is said goes to.
pub trait Out: Send + Sync + 'static {
    /// Takes a message; with a token other than 0, [`Dispatcher::settled`] is told what became of it.
    ///
    /// # Errors
    ///
    /// What is known to be wrong at once; nothing is told of it later.
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent>;

    /// Bytes that have been taken and are not written yet.
    fn backlog(&self) -> usize {
        0
    }

    /// Whether somebody serves an object by the registry's word; `None` where it is not known (yet).
    fn is_served(&self, _object: &ObjectName) -> Option<bool> {
        Some(true)
    }
}

/// What an object is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that may wait for something at the same time; further ones are answered with -32005.
    pub concurrent: usize,
    /// The largest result, in bytes.
    pub result: usize,
    /// Items of a trail that may be passed on.
    pub trail: usize,
    /// Whether requests that name no reply topic are answered on `{root}/reply/{object}`.
    pub public_replies: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: 256, result: 1 << 20, trail: 16, public_replies: true }
    }
}

/// From this many unwritten bytes on nothing more is executed.
const CROWDED: usize = 4 << 20;
/// Requests passed on that are looked after at the same time.
const MOST_DOUBTFUL: usize = 1_024;
/// An entry follows the subscription to the calls within this time.
const APPEARANCE: Duration = Duration::from_secs(1);
/// From this many on nothing more is said at all.
const CHOKED: usize = 16 << 20;

/// An object, and what is known of the calls to it.
pub struct Served {
    /// The name it is served by.
    pub name: ObjectName,
    pub(crate) object: Arc<dyn Object>,
    pub(crate) description: Description,
    pub(crate) limits: Limits,
    /// What the registry says of it now.
    pub(crate) entry: Mutex<Option<Entry>>,
    /// The name is to be given up.
    pub(crate) yielded: Notify,
    /// By which the object says something unasked, once a node has taken it in.
    emitter: OnceLock<Emitter>,
    stats: Stats,
    running: AtomicUsize,
    duplicates: Mutex<Duplicates>,
    /// Calls that wait and may be cancelled, by the fingerprint of their correlation.
    cancellable: Mutex<HashMap<Vec<u8>, Arc<Notify>>>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.name)
    }
}

impl Served {
    /// Under this name.
    pub fn new(name: ObjectName, object: Arc<dyn Object>, limits: Limits) -> Arc<Self> {
        let description = object.description();
        Arc::new(Self {
            name,
            object,
            description,
            limits,
            entry: Mutex::default(),
            yielded: Notify::new(),
            emitter: OnceLock::new(),
            stats: Stats::default(),
            running: AtomicUsize::new(0),
            duplicates: Mutex::default(),
            cancellable: Mutex::default(),
        })
    }

    /// How many calls wait for something.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Begins what the object does unasked; it ends when this is dropped.
    pub(crate) fn begin(&self) -> Option<Begun> {
        let emitter = self.emitter.get()?.clone();
        Some(Begun(tokio::spawn(self.object.clone().run(emitter)).abort_handle()))
    }

    fn method_names(&self) -> impl Iterator<Item = &str> {
        self.description.methods.iter().map(|m| &*m.name)
    }
}

/// What an object does unasked.
#[derive(Debug)]
pub(crate) struct Begun(AbortHandle);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The serving side of a node.
pub struct Dispatcher {
    root: Root,
    node: ClientId,
    objects: RwLock<HashMap<ObjectName, Arc<Served>>>,
    out: Box<dyn Out>,
    /// Requests passed on and not acknowledged yet, by their token.
    forwarded: Mutex<HashMap<u128, Passed>>,
    next_token: Mutex<u128>,
    /// Places for requests passed on of which it is not known whether anybody serves them.
    doubtful: Arc<Semaphore>,
    /// What methods marked `once` were asked, and what came of it.
    journal: OnceLock<Arc<Journal>>,
    /// Whether the node takes requests of callers that named no deadline; not so with a persistent session.
    pub(crate) needs_deadline: bool,
}

/// Of a request passed on: whom to tell if it did not arrive.
struct Passed {
    served: Arc<Served>,
    route: Route,
    to: ObjectName,
    trail: Value,
}

/// Where the reply to a request goes, and how.
#[derive(Clone, Debug)]
struct Route {
    form: Form,
    reply_to: ReplyTo,
    correlation: Option<Vec<u8>>,
    qos: QoS,
    deadline: Instant,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dispatcher({})", self.node)
    }
}

impl Dispatcher {
    /// For a node.
    pub fn new(root: Root, node: ClientId, out: Box<dyn Out>) -> Arc<Self> {
        Arc::new(Self {
            root,
            node,
            objects: RwLock::default(),
            out,
            forwarded: Mutex::default(),
            next_token: Mutex::new(1),
            doubtful: Arc::new(Semaphore::new(MOST_DOUBTFUL)),
            journal: OnceLock::new(),
            needs_deadline: false,
        })
    }

    /// Keeps what methods marked `once` are asked. Without it they refuse.
    pub(crate) fn keep_journal(&self, journal: Journal) {
        let _ = self.journal.set(Arc::new(journal));
    }

    /// Takes an object in; false where the name is taken on this node.
    pub fn add(self: &Arc<Self>, served: Arc<Served>) -> bool {
        let mut objects = self.objects.write();
        if objects.contains_key(&served.name) {
            return false;
        }
        // The object may keep it for good, and would keep what holds the object with it.
        let out = Arc::downgrade(self);
        let publish = Arc::new(move |publish| {
            if let Some(out) = out.upgrade() {
                out.say(publish);
            }
        });
        let emitter = Emitter::new(self.root.clone(), served.name.clone(), publish);
        served.object.attach(emitter.clone());
        let _ = served.emitter.set(emitter);
        objects.insert(served.name.clone(), served);
        true
    }

    /// Lets an object go; calls that run go on.
    pub fn remove(&self, name: &ObjectName) {
        self.objects.write().remove(name);
    }

    /// The objects there are.
    pub fn objects(&self) -> Vec<Arc<Served>> {
        self.objects.read().values().cloned().collect()
    }

    /// Takes a message on a topic of requests.
    pub fn message(self: &Arc<Self>, message: &Message) {
        let received = Instant::now();
        let topic = match CallTopic::parse(&self.root, &message.topic) {
            Ok(topic) => topic,
            Err(TopicError::Other) => return,
            Err(error @ (TopicError::TooManyLevels | TopicError::NoName)) => {
                let text = format!("{:?}: {error}", &*message.topic);
                let refusal = Request::misdirected(&self.root, &message.properties, &text);
                return self.refuse(None, refusal, message.qos, received);
            }
        };
        let served = self.objects.read().get(&topic.object).cloned();
        let Some(served) = served else {
            if matches!(topic.target, Target::Node(_)) {
                let text = format!("no object {} on this node", topic.object);
                let refusal = Request::misdirected(&self.root, &message.properties, &text);
                self.refuse(None, with_code(refusal, Code::UNKNOWN_OBJECT), message.qos, received);
            }
            return;
        };
        if message.retain {
            // A stored copy: nobody is asking now.
            return served.stats.refused("retained");
        }
        let backlog = self.out.backlog();
        if backlog > CHOKED {
            return served.stats.refused("choked");
        }
        let request = match Request::read(&self.root, &topic, &message.payload, &message.properties) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(Some(&served), *refusal, message.qos, received),
        };
        let route = Route {
            form: request.form.clone(),
            reply_to: request.reply_to.clone(),
            correlation: request.correlation.clone(),
            qos: message.qos,
            deadline: received + Duration::from_millis(request.ttl_ms),
        };
        if request.ttl_ms == 0 {
            return served.stats.refused("expired");
        }
        if self.needs_deadline && !request.has_deadline {
            return served.stats.refused("no_deadline");
        }
        if !served.limits.public_replies
            && message.properties.response_topic.is_none()
            && self.is_public(&route.reply_to)
        {
            return served.stats.refused("no_reply_topic");
        }
        if backlog > CROWDED {
            served.stats.refused("busy");
            return self.reply(&served, &route, Outcome::Fault(Fault::busy(200)));
        }
        if request.method.is_built_in() {
            let outcome = builtin::built_in(&served, &request);
            return self.reply(&served, &route, outcome);
        }
        self.execute(&served, request, route, received, message);
    }

    fn execute(
        self: &Arc<Self>,
        served: &Arc<Served>,
        request: Request,
        route: Route,
        received: Instant,
        message: &Message,
    ) {
        let described = served.description.method(request.method.as_str());
        let Some(described) = described.filter(|_| !request.method.is_private()) else {
            served.stats.refused("no_such_method");
            let names: Vec<&str> = served.method_names().collect();
            let fault = rantai_client::object::no_such_method(request.method.as_str(), &names);
            return self.reply(served, &route, Outcome::Fault(fault));
        };
        if served.running() >= served.limits.concurrent {
            served.stats.refused("busy");
            return self.reply(served, &route, Outcome::Fault(Fault::busy(100)));
        }
        let identity = request.identity();
        let entry = identity.as_ref().filter(|_| described.once).map(|identity| {
            let print = journal::print(request.method.as_str(), &message.payload);
            (journal::Identity::new(served.name.as_str(), identity), print)
        });
        let key = identity.map(|identity| {
            let mut duplicates = served.duplicates.lock();
            let (key, print) = duplicates.fingerprint(&identity, &request.method, &message.payload);
            (key, duplicates.meet(key, print, route.deadline, received))
        });
        let key = match key {
            None => None,
            Some((key, Met::New)) => Some(key),
            Some((_, Met::Running)) => {
                // It attaches: its reply is that of the request that runs.
                return served.stats.refused("repeated");
            }
            Some((_, Met::Finished(reply))) => {
                served.stats.refused("repeated");
                return self.publish(&route, reply.again());
            }
            Some((_, Met::Other)) => {
                served.stats.refused("identity_reused");
                let text = "this identity was used for another request, or its reply is no longer kept";
                return self.reply(served, &route, Outcome::Fault(Fault::new(Code::IDENTITY_REUSED, text)));
            }
        };
        let Request { method, params, trail, caller, traceparent, .. } = request;
        let out = self.clone();
        let publish = Arc::new(move |publish| out.say(publish));
        let context = Context {
            object: served.name.clone(),
            caller,
            client: self.reply_client(&route.reply_to),
            correlation: route.correlation.clone(),
            trail,
            received,
            deadline: route.deadline,
            emitter: Emitter::new(self.root.clone(), served.name.clone(), publish),
        };
        let trail = context.trail.clone();
        let running = Running {
            dispatcher: self.clone(),
            served: served.clone(),
            method: method.clone(),
            route,
            received,
            key,
            trail,
            traceparent,
            repeated: Arc::default(),
        };
        served.stats.began(&method);
        let object = served.object.clone();
        let call = Call { method, params, context };
        let mut answering = match entry {
            None => match std::panic::catch_unwind(AssertUnwindSafe(|| object.call(call))) {
                Ok(answering) => answering,
                Err(panic) => return running.finish(Err(panicked(&panic))),
            },
            Some((identity, print)) => {
                let (dispatcher, repeated) = (self.clone(), running.repeated.clone());
                Box::pin(async move { dispatcher.once(object, call, &identity, print, &repeated).await })
            }
        };
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        match poll(&mut answering, &mut nobody) {
            Poll::Ready(result) => running.finish(result),
            Poll::Pending => running.wait(answering),
        }
    }

    /// Carries out a method that is marked `once`: written down before, and what came of it after.
    async fn once(
        &self,
        object: Arc<dyn Object>,
        call: Call,
        identity: &journal::Identity,
        print: journal::Print,
        repeated: &AtomicBool,
    ) -> Result<Answer, Fault> {
        let Some(journal) = self.journal.get() else {
            return Err(Fault::new(
                Code::BROKEN_OBJECT,
                "the node keeps no journal of what is carried out once",
            ));
        };
        if let journal::Begun::Before(result) = journal.begin(identity, print).await? {
            repeated.store(true, Ordering::Relaxed);
            return *result;
        }
        let mut answering = match std::panic::catch_unwind(AssertUnwindSafe(|| object.call(call))) {
            Ok(answering) => answering,
            Err(panic) => Box::pin(std::future::ready(Err(panicked(&panic)))),
        };
        let result = std::future::poll_fn(|context| poll(&mut answering, context)).await;
        journal.end(identity, &result).await?;
        result
    }

    /// What became of a message sent with a token.
    pub fn settled(self: &Arc<Self>, token: u128, result: Result<(), Unsent>) {
        let Some(passed) = self.forwarded.lock().remove(&token) else { return };
        match result {
            Err(error) => self.dead_hop(passed, &error),
            Ok(()) if self.out.is_served(&passed.to) == Some(true) => {}
            // Somebody got it, and the registry knows nobody who serves it: whoever has come in this moment is
            // given the time to be seen; a mere listener answers nothing.
            Ok(()) => {
                let Ok(place) = self.doubtful.clone().try_acquire_owned() else { return };
                let dispatcher = Arc::downgrade(self);
                tokio::spawn(async move {
                    let _place = place;
                    sleep(APPEARANCE).await;
                    let Some(dispatcher) = dispatcher.upgrade() else { return };
                    if dispatcher.out.is_served(&passed.to) == Some(false) {
                        dispatcher.dead_hop(passed, &Unsent::NobodyThere);
                    }
                });
            }
        }
    }

    fn dead_hop(&self, passed: Passed, error: &Unsent) {
        let Passed { served, route, to, trail } = passed;
        if Instant::now() >= route.deadline {
            return;
        }
        let mut fault = Fault::dead_hop(to.as_str(), trail);
        if *error == Unsent::Busy {
            let message = format!("{to} takes no more requests now: {error}");
            fault = Fault { message, ..Fault::busy(500) }.with("hop", to.as_str());
        } else if *error != Unsent::NobodyThere {
            fault.message = format!("{to} was not reached: {error}");
        }
        self.reply(&served, &route, Outcome::Fault(fault));
    }

    fn is_public(&self, reply_to: &ReplyTo) -> bool {
        matches!(reply_to, ReplyTo::Topic(_)) && self.reply_client(reply_to).is_none()
    }

    /// The client that a reply goes to, where its topic names one.
    fn reply_client(&self, reply_to: &ReplyTo) -> Option<ClientId> {
        match reply_to {
            ReplyTo::Topic(topic) => topic.client(&self.root),
            ReplyTo::Nobody => None,
        }
    }

    fn refuse(&self, served: Option<&Arc<Served>>, refusal: Refusal, qos: QoS, received: Instant) {
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
                let deadline = received + Duration::from_secs(30);
                let route = Route { form, reply_to, correlation, qos, deadline };
                let limit = served.map_or(usize::MAX, |s| s.limits.result);
                self.publish_limited(&route, Outcome::Fault(fault), limit);
            }
        }
    }

    fn reply(&self, served: &Served, route: &Route, outcome: Outcome) {
        self.publish_limited(route, outcome, served.limits.result);
    }

    fn publish_limited(&self, route: &Route, outcome: Outcome, limit: usize) {
        if matches!(route.reply_to, ReplyTo::Nobody) {
            return;
        }
        let reply = Reply::write(outcome, &route.form, route.correlation.as_deref(), &self.node, limit);
        self.publish(route, reply);
    }

    fn publish(&self, route: &Route, reply: Reply) {
        let ReplyTo::Topic(topic) = &route.reply_to else { return };
        let publish = Publish {
            topic: topic.as_str().into(),
            payload: reply.payload.into(),
            properties: reply.properties,
            qos: route.qos,
            retain: false,
            resend: true,
        };
        let Err(error) = self.out.send(publish, 0) else { return };
        if let Unsent::TooLarge { limit, .. } = error {
            let fault = Outcome::Fault(Fault::too_large(limit));
            let reply =
                Reply::write(fault, &route.form, route.correlation.as_deref(), &self.node, usize::MAX);
            let publish = Publish::new(topic.as_str(), reply.payload).properties(reply.properties);
            self.say(publish.qos(route.qos));
        } else {
            tracing::debug!("a reply was not sent: {error}");
        }
    }

    fn say(&self, publish: Publish) {
        if let Err(error) = self.out.send(publish, 0) {
            tracing::debug!("not sent: {error}");
        }
    }

    /// Passes a request on, with what is left of its time.
    fn forward(self: &Arc<Self>, running: &Running, forward: Forward) -> Result<(), Fault> {
        let Running { route, served, traceparent, .. } = running;
        let mut trail = running.trail.clone();
        trail.push(forward.hop);
        let written = Value::Array(trail);
        let text = written.to_string();
        let items = written.as_array().map_or(0, Vec::len);
        if items > served.limits.trail || text.len() > LARGEST_TRAIL {
            let text = format!("the trail has reached its limit of {} items", served.limits.trail);
            return Err(Fault::new(Code::TRAIL_LIMIT, text).with("trail", written));
        }
        let left = route.deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
        if left == 0 {
            return Ok(());
        }
        let mut properties = Properties {
            correlation: route.correlation.clone(),
            expiry: Some(left.div_ceil(1000) as u32),
            ..Properties::default()
        };
        if let Some(parent) = traceparent {
            properties.user.push(("traceparent".to_owned(), parent.clone()));
        }
        let Forward { to, method, params, .. } = forward;
        let reply_to = match &route.reply_to {
            ReplyTo::Topic(topic) => Some(topic.as_str().to_owned()),
            ReplyTo::Nobody => None,
        };
        let (method, payload) = match &route.form {
            Form::Plain => {
                properties.user.push(("ttl_ms".to_owned(), left.to_string()));
                properties.user.push(("trail".to_owned(), text));
                if reply_to.is_none() {
                    properties.user.push(("oneway".to_owned(), "1".to_owned()));
                }
                (Some(method), Value::Array(params))
            }
            Form::JsonRpc(id) => {
                let mut request = json!({
                    "jsonrpc": "2.0", "method": method.as_str(), "params": params,
                    "ttl_ms": left, "trail": written,
                });
                if reply_to.is_some() {
                    request["id"] = id.clone();
                }
                (None, request)
            }
        };
        properties.response_topic = reply_to;
        let topic = CallTopic { target: Target::Any, object: to, method };
        let token = {
            let mut next = self.next_token.lock();
            *next += 1;
            *next
        };
        let publish = Publish {
            topic: topic.format(&self.root).into(),
            payload: serde_json::to_vec(&payload).expect("a JSON value is JSON").into(),
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: false,
        };
        let passed =
            Passed { served: served.clone(), route: route.clone(), to: topic.object, trail: written };
        self.forwarded.lock().insert(token, passed);
        if let Err(error) = self.out.send(publish, token) {
            self.settled(token, Err(error));
        }
        Ok(())
    }
}

/// A call that has begun.
struct Running {
    dispatcher: Arc<Dispatcher>,
    served: Arc<Served>,
    method: MethodName,
    route: Route,
    received: Instant,
    key: Option<u128>,
    trail: Vec<Value>,
    traceparent: Option<String>,
    /// Whether what comes of it was kept from an earlier request.
    repeated: Arc<AtomicBool>,
}

/// Why a call that waited has ended.
enum Ended {
    Result(Result<Answer, Fault>),
    Cancelled,
    /// Past the caller's deadline: nobody listens any more.
    TimedOut,
    /// Past the method's own limit.
    Limited(u64),
}

impl Running {
    /// Goes on by itself until it is done, cancelled or out of time.
    fn wait(self, mut answering: Answering) {
        self.served.running.fetch_add(1, Ordering::AcqRel);
        let cancelled = Arc::new(Notify::new());
        let correlation = self.route.correlation.clone().filter(|c| c.len() >= 16);
        if let Some(correlation) = &correlation {
            self.served.cancellable.lock().insert(correlation.clone(), cancelled.clone());
        }
        let limit = self.served.description.method(self.method.as_str()).and_then(|m| m.time_limit_ms);
        let own = limit.map(|limit| (self.received + Duration::from_millis(limit), limit));
        tokio::spawn(async move {
            let deadline = self.route.deadline;
            let until = own.map_or(deadline, |(own, _)| own.min(deadline));
            let result = std::future::poll_fn(|context| poll(&mut answering, context));
            let ended = tokio::select! {
                ended = timeout_at(until, result) => match (ended, own) {
                    (Ok(result), _) => Ended::Result(result),
                    (Err(_), Some((own, limit))) if own <= deadline => Ended::Limited(limit),
                    (Err(_), _) => Ended::TimedOut,
                },
                () = cancelled.notified() => Ended::Cancelled,
            };
            // What it held is let go before anybody hears of the end.
            drop(answering);
            if let Some(correlation) = &correlation {
                self.served.cancellable.lock().remove(correlation);
            }
            let served = self.served.clone();
            match ended {
                Ended::Result(result) => self.finish(result),
                Ended::Cancelled => self.finish(Err(Fault::new(Code::CANCELLED, "cancelled"))),
                Ended::Limited(limit) => {
                    let text = format!("it ran longer than the {limit} ms it may");
                    self.finish(Err(Fault::new(Code::TIMED_OUT, text)));
                }
                Ended::TimedOut => {
                    let fault = Fault::new(Code::TIMED_OUT, "the caller's time was over");
                    self.served.stats.ended(&self.method, self.received, Some(&fault));
                    self.forget();
                }
            }
            served.running.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn finish(self, result: Result<Answer, Fault>) {
        let Self { dispatcher, served, .. } = &self;
        let outcome = match result {
            Ok(Answer::Value(value)) => Outcome::Value(value),
            Ok(Answer::Binary(bytes)) => Outcome::Binary(bytes),
            Err(fault) => Outcome::Fault(fault),
            Ok(Answer::Forward(forward)) => match dispatcher.forward(&self, forward) {
                Ok(()) => {
                    served.stats.ended(&self.method, self.received, None);
                    return self.forget();
                }
                Err(fault) => Outcome::Fault(fault),
            },
        };
        let fault = match &outcome {
            Outcome::Fault(fault) => Some(fault),
            _ => None,
        };
        served.stats.ended(&self.method, self.received, fault);
        if Instant::now() >= self.route.deadline || matches!(self.route.reply_to, ReplyTo::Nobody) {
            return self.forget();
        }
        let correlation = self.route.correlation.as_deref();
        let reply =
            Reply::write(outcome, &self.route.form, correlation, &dispatcher.node, served.limits.result);
        if let Some(key) = self.key {
            served.duplicates.lock().finish(key, Some(&reply));
        }
        let repeated = self.repeated.load(Ordering::Relaxed);
        dispatcher.publish(&self.route, if repeated { reply.again() } else { reply });
    }

    /// It is over, and there is no reply that a repeat could get.
    fn forget(&self) {
        if let Some(key) = self.key {
            self.served.duplicates.lock().finish(key, None);
        }
    }
}

/// One step of a method; its panic is its error.
fn poll(answering: &mut Answering, context: &mut std::task::Context<'_>) -> Poll<Result<Answer, Fault>> {
    let answering: &mut Pin<Box<_>> = answering;
    std::panic::catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)))
        .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&panic))))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|t| &**t));
    tracing::error!("a method panicked: {}", text.unwrap_or("without a text"));
    // What it said may hold anything; it stays on this side.
    Fault::new(Code::BROKEN_OBJECT, "the method panicked")
}

fn with_code(refusal: Refusal, code: Code) -> Refusal {
    match refusal {
        Refusal::Told { fault, form, reply_to, correlation } => {
            Refusal::Told { fault: Fault::new(code, fault.message), form, reply_to, correlation }
        }
        silent @ Refusal::Silent(_) => silent,
    }
}

fn refusal_kind(code: Code) -> &'static str {
    match code {
        Code::NOT_JSON => "not_json",
        Code::NOT_A_REQUEST => "not_a_request",
        Code::WRONG_PARAMETERS => "wrong_parameters",
        _ => "other",
    }
}
