//! Forwarding of requests: to the next object with the remaining time, and handling of the result.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rantai_client::object::Forward;
use rantai_client::session::{Publish, QoS, Unsent};
use rantai_client::wire::Properties;
use rantai_client::wire::accepted::Accepted;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::reply::Outcome;
use rantai_client::wire::request::{Form, MAX_TRAIL_BYTES, ReplyTo};
use rantai_client::wire::topic::{CallTopic, Target};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use super::recent::{RecentForward, RecentForwards};
use super::replies::{Replies, Route};
use super::served::Served;
use crate::links::ServerLoss;

/// Maximum number of forwarded requests whose receiver is checked at the same time.
const MAX_DOUBTFUL: usize = 1_024;
/// Time limit for a registry entry to follow the subscription to the calls.
const APPEARANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of registry checks within that time.
const REGISTRY_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Time after which a caller has subscribed to `accepted` events.
const HEARD_AFTER: Duration = Duration::from_millis(250);
/// Time within which a node that executes a call has published `accepted`.
const ACCEPTED_BY: Duration = Duration::from_millis(750);

/// Forwarded request, with the route to its caller in case that it did not arrive.
struct Passed {
    served: Arc<Served>,
    route: Route,
    to: ObjectName,
    trail: Value,
}

/// Data that is passed on with a forwarded request.
pub(super) struct Passage {
    /// Items of the previous links.
    pub(super) trail: Vec<Value>,
    /// Trace context of the caller.
    pub(super) traceparent: Option<String>,
}

/// Forwarded requests of a node, each until it is acknowledged.
pub(super) struct Forwards {
    pub(super) replies: Arc<Replies>,
    /// Unacknowledged forwarded requests, by their token.
    forwarded: Mutex<HashMap<u128, Passed>>,
    next_token: Mutex<u128>,
    /// Limit of forwarded requests of which it is not known whether any node serves them.
    doubtful: Arc<Semaphore>,
    /// Requests forwarded recently.
    recent: Mutex<RecentForwards>,
}

impl Forwards {
    /// Creates an empty table.
    pub(super) fn new(replies: Arc<Replies>) -> Arc<Self> {
        Arc::new(Self {
            replies,
            forwarded: Mutex::default(),
            next_token: Mutex::new(1),
            doubtful: Arc::new(Semaphore::new(MAX_DOUBTFUL)),
            recent: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.forwarded.lock().is_empty() && self.doubtful.available_permits() == MAX_DOUBTFUL
    }

    /// Forwards a request with its remaining time.
    pub(super) fn forward(
        self: &Arc<Self>,
        served: &Arc<Served>,
        route: &Route,
        passage: &Passage,
        forward: Forward,
    ) -> Result<(), Fault> {
        let mut trail = passage.trail.clone();
        trail.push(forward.hop);
        let written = Value::Array(trail);
        let text = written.to_string();
        let items = written.as_array().map_or(0, Vec::len);
        if items > served.limits.trail || text.len() > MAX_TRAIL_BYTES {
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
        if let Some(parent) = &passage.traceparent {
            properties.user.push(("traceparent", &**parent));
        }
        let Forward { to, method, params, .. } = forward;
        let reply_to = match &route.reply_to {
            ReplyTo::Topic(topic) => Some(topic.shared()),
            ReplyTo::Nobody => None,
        };
        let (method, payload) = match &route.form {
            Form::Plain => {
                properties.user.push(("ttl_ms", left.to_string()));
                properties.user.push(("trail", text));
                if reply_to.is_none() {
                    properties.user.push(("oneway", "1"));
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
            topic: topic.format(&self.replies.root).into(),
            payload: serde_json::to_vec(&payload).expect("a JSON value is JSON").into(),
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: false,
        };
        if let Some(caller) = route.follower() {
            self.recent.lock().note(RecentForward {
                at: Instant::now(),
                object: served.name.clone(),
                to: topic.object.clone(),
                caller,
                trail: passage.trail.len(),
            });
        }
        let passed =
            Passed { served: served.clone(), route: route.clone(), to: topic.object, trail: written };
        self.forwarded.lock().insert(token, passed);
        if let Err(error) = self.replies.out.send(publish, token) {
            self.settled(token, Err(error));
        }
        Ok(())
    }

    /// Handles the result of a message that was sent with a token.
    pub(super) fn settled(self: &Arc<Self>, token: u128, result: Result<(), Unsent>) {
        let Some(passed) = self.forwarded.lock().remove(&token) else { return };
        match result {
            Err(error) => self.dead_hop(passed, &error),
            Ok(()) if self.replies.out.is_served(&passed.to) == Some(true) => {}
            // A client received it, but the registry contains no node that serves the object: a node that has just
            // started gets time to appear. If the receiver is only a listener, it does not answer.
            Ok(()) => {
                let Ok(place) = self.doubtful.clone().try_acquire_owned() else { return };
                let forwards = Arc::downgrade(self);
                tokio::spawn(async move {
                    let _place = place;
                    let until = Instant::now() + APPEARANCE_TIMEOUT;
                    loop {
                        sleep(REGISTRY_CHECK_INTERVAL).await;
                        let Some(forwards) = forwards.upgrade() else { return };
                        match forwards.replies.out.is_served(&passed.to) {
                            // A node may have answered, and be gone before that time has passed.
                            Some(true) => return,
                            Some(false) if Instant::now() >= until => {
                                return forwards.dead_hop(passed, &Unsent::NobodyThere);
                            }
                            None if Instant::now() >= until => return,
                            _ => {}
                        }
                    }
                });
            }
        }
    }

    /// Notifies the callers of requests forwarded to an object recently that this lost node may have had their calls,
    /// as it may not have published `accepted` itself. They follow this node then, unless a later link says that it has
    /// the call.
    pub(super) fn server_lost(self: &Arc<Self>, loss: ServerLoss) {
        let recent = self.recent.lock().to(&loss.object);
        if recent.is_empty() {
            return;
        }
        let forwards = Arc::downgrade(self);
        tokio::spawn(async move {
            for RecentForward { at, object, caller, trail, .. } in recent {
                // Callers subscribe only after a while, and one of several nodes publishes itself that it has the call.
                sleep_until(at + if loss.was_alone { HEARD_AFTER } else { ACCEPTED_BY }).await;
                let Some(forwards) = forwards.upgrade() else { return };
                let ServerLoss { node, epoch, .. } = loss.clone();
                let word = Accepted { node, epoch, trail: trail as u64, passed_on: true };
                forwards.replies.say_accepted(&object, caller, &word);
            }
        });
    }

    /// Answers the caller that the next link was not reached.
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
        self.replies.reply(&served, &route, Outcome::Fault(fault));
    }
}
