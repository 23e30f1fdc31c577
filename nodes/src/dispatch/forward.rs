//! Requests that are passed on: to whom, with what is left of their time, and what became of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::Forward;
use rantai_client::session::{Publish, QoS, Unsent};
use rantai_client::wire::Properties;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::reply::Outcome;
use rantai_client::wire::request::{Form, LARGEST_TRAIL, ReplyTo};
use rantai_client::wire::topic::{CallTopic, Target};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::replies::{Replies, Route};
use super::served::Served;

/// Requests passed on that are looked after at the same time.
const MOST_DOUBTFUL: usize = 1_024;
/// An entry follows the subscription to the calls within this time.
const APPEARANCE: Duration = Duration::from_secs(1);
/// Between two looks at the registry in that time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Of a request passed on: whom to tell if it did not arrive.
struct Passed {
    served: Arc<Served>,
    route: Route,
    to: ObjectName,
    trail: Value,
}

/// What a request brings along when it is passed on.
pub(super) struct Passage {
    /// Items of the links before.
    pub(super) trail: Vec<Value>,
    /// The caller's trace.
    pub(super) traceparent: Option<String>,
}

/// The requests that a node passes on, until each is acknowledged.
pub(super) struct Forwards {
    pub(super) replies: Arc<Replies>,
    /// Requests passed on and not acknowledged yet, by their token.
    forwarded: Mutex<HashMap<u128, Passed>>,
    next_token: Mutex<u128>,
    /// Places for requests passed on of which it is not known whether anybody serves them.
    doubtful: Arc<Semaphore>,
}

impl Forwards {
    /// None yet.
    pub(super) fn new(replies: Arc<Replies>) -> Arc<Self> {
        Arc::new(Self {
            replies,
            forwarded: Mutex::default(),
            next_token: Mutex::new(1),
            doubtful: Arc::new(Semaphore::new(MOST_DOUBTFUL)),
        })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.forwarded.lock().is_empty() && self.doubtful.available_permits() == MOST_DOUBTFUL
    }

    /// Passes a request on, with what is left of its time.
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
        if let Some(parent) = &passage.traceparent {
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
            topic: topic.format(&self.replies.root).into(),
            payload: serde_json::to_vec(&payload).expect("a JSON value is JSON").into(),
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            resend: false,
        };
        let passed =
            Passed { served: served.clone(), route: route.clone(), to: topic.object, trail: written };
        self.forwarded.lock().insert(token, passed);
        if let Err(error) = self.replies.out.send(publish, token) {
            self.settled(token, Err(error));
        }
        Ok(())
    }

    /// What became of a message sent with a token.
    pub(super) fn settled(self: &Arc<Self>, token: u128, result: Result<(), Unsent>) {
        let Some(passed) = self.forwarded.lock().remove(&token) else { return };
        match result {
            Err(error) => self.dead_hop(passed, &error),
            Ok(()) if self.replies.out.is_served(&passed.to) == Some(true) => {}
            // Somebody got it, and the registry knows nobody who serves it: whoever has come in this moment is
            // given the time to be seen; a mere listener answers nothing.
            Ok(()) => {
                let Ok(place) = self.doubtful.clone().try_acquire_owned() else { return };
                let forwards = Arc::downgrade(self);
                tokio::spawn(async move {
                    let _place = place;
                    let until = Instant::now() + APPEARANCE;
                    loop {
                        sleep(LOOK_AGAIN).await;
                        let Some(forwards) = forwards.upgrade() else { return };
                        match forwards.replies.out.is_served(&passed.to) {
                            // It may have answered, and be gone before that time is over.
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

    /// Tells the caller that the next link was not reached.
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
