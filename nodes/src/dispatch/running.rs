//! Running calls, from the first poll to the reply.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::{Answer, Answering, Call, Canceller, Object};
use rantai_client::shares::CallerKey;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::MethodName;
use rantai_client::wire::reply::{Outcome, Reply};
use rantai_client::wire::request::{MAX_TTL_MS, ReplyTo};
use rantai_client::wire::user::User;
use tokio::time::{Instant, sleep_until};

use super::cancelling::{CancelKey, Cancellable};
use super::forward::{Forwards, Passage};
use super::once::Once;
use super::replies::Route;
use super::served::Served;
use super::streaming::Streaming;

/// Running call.
pub(super) struct Running {
    pub(super) forwards: Arc<Forwards>,
    pub(super) served: Arc<Served>,
    pub(super) method: MethodName,
    pub(super) route: Route,
    pub(super) received: Instant,
    /// Key in the table of duplicates.
    pub(super) key: Option<u128>,
    pub(super) passage: Passage,
    pub(super) share_of: CallerKey,
    /// User that calls on behalf of the caller.
    pub(super) via: Option<User>,
    /// Stream of its result, if the caller asked for one.
    pub(super) stream: Option<Arc<Streaming>>,
}

/// Origin of a call's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// The method was executed.
    #[default]
    Method,
    /// The result was in the journal, from an earlier execution.
    Journal,
    /// The journal refused the call, and the method was not executed.
    #[cfg_attr(not(feature = "journal"), expect(dead_code, reason = "only a journal refuses"))]
    Refused,
}

/// Origin of a call's result, once it is known.
pub(super) type SharedOrigin = Arc<Mutex<Origin>>;

fn known(origin: Option<&SharedOrigin>) -> Origin {
    origin.map_or(Origin::Method, |origin| *origin.lock())
}

/// Reason why a waiting call has ended.
enum Ended {
    Result(Result<Answer, Fault>),
    Cancelled,
    /// The caller's deadline has passed, so nobody waits for the reply.
    TimedOut,
    /// The method's own time limit, in milliseconds, has passed.
    Limited(u64),
}

impl Running {
    /// Starts the call. A method that does not wait has ended when this returns.
    pub(super) fn start(self, call: Call, once: Option<Once>) {
        self.served.stats.began(&self.method);
        let object = self.served.object.clone();
        let canceller = call.context.canceller();
        // Only with a journal the origin may be another one than the method.
        let origin = once.is_some().then(SharedOrigin::default);
        let answering = match once {
            None => begin(object, call),
            Some(once) => {
                let origin = origin.clone().unwrap_or_default();
                Ok(Box::pin(async move { once.call(object, call, &origin).await }) as Answering)
            }
        };
        let mut answering = match answering {
            Ok(answering) => answering,
            Err(fault) => return self.finish(Err(fault), Origin::Method),
        };
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        match poll(&mut answering, &mut nobody) {
            Poll::Ready(result) => self.finish(result, known(origin.as_ref())),
            Poll::Pending => self.wait(answering, origin, canceller),
        }
    }

    /// Continues the call as a task, until it has ended, is cancelled or reaches its deadline.
    fn wait(self, mut answering: Answering, origin: Option<SharedOrigin>, canceller: Canceller) {
        let place = self.served.places.hold(self.share_of.clone());
        let once = self.served.description.method(self.method.as_str()).is_some_and(|m| m.once);
        let call = Arc::new(Cancellable::new(canceller, once));
        let key = CancelKey::of(&self.route, self.via.as_ref());
        if let Some(key) = &key {
            self.served.cancellable.lock().insert(key.clone(), call.clone());
            if let Some(stream) = &self.stream {
                self.served.streams.insert(key.clone(), stream.clone());
            }
        }
        let limit = self.served.description.method(self.method.as_str()).and_then(|m| m.time_limit_ms);
        let most = self.served.limits.max_deadline.as_millis() as u64;
        let limit = limit.unwrap_or(MAX_TTL_MS).min(most);
        // A limit of the maximum deadline or more never applies, because the caller's deadline ends the call before.
        let own = (limit < MAX_TTL_MS).then(|| (self.received + Duration::from_millis(limit), limit));
        tokio::spawn(async move {
            let result = std::future::poll_fn(|context| poll(&mut answering, context));
            let limited = async {
                match own {
                    Some((own, limit)) => {
                        sleep_until(own).await;
                        limit
                    }
                    None => std::future::pending().await,
                }
            };
            let accepted = async {
                sleep_until(self.received + self.served.limits.accepted_after).await;
                self.forwards.replies.accepted(&self.served, &self.route, self.passage.trail.len());
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                biased;
                result = result => Ended::Result(result),
                limit = limited => Ended::Limited(limit),
                () = self.is_over() => Ended::TimedOut,
                () = call.cancelled() => Ended::Cancelled,
                () = accepted => unreachable!("it waits for ever"),
            };
            // It was cancelled and has answered at the same time.
            let ended = if call.ended() { ended } else { Ended::Cancelled };
            if matches!(ended, Ended::Limited(_) | Ended::TimedOut) {
                call.timed_out();
            }
            // Dropped first, so that its resources are free before anybody is notified.
            drop(answering);
            if let Some(key) = &key {
                self.served.cancellable.lock().remove(key, &call);
            }
            let (served, stream) = (self.served.clone(), self.stream.clone());
            let has_result = matches!(ended, Ended::Result(_));
            match ended {
                Ended::Result(result) => self.finish(result, known(origin.as_ref())),
                Ended::Cancelled if call.leaves() => {
                    let node = &self.forwards.replies.node;
                    let text = format!("{}: its node {node} has ended", self.served.name);
                    let fault =
                        Fault::new(Code::LOST_OBJECT, text).with("node", node.as_str()).with_maybe_executed();
                    self.finish(Err(fault), Origin::Method);
                }
                Ended::Cancelled => {
                    self.finish(Err(Fault::new(Code::CANCELLED, "cancelled")), Origin::Method);
                }
                Ended::Limited(limit) => {
                    let text = format!("it ran longer than the {limit} ms it may");
                    self.finish(Err(Fault::new(Code::TIMED_OUT, text)), Origin::Method);
                }
                Ended::TimedOut => {
                    let fault = Fault::new(Code::TIMED_OUT, "the time of the call is over");
                    self.served.stats.ended(&self.method, self.received, Some(&fault));
                    self.forget();
                    self.let_stream_go(fault);
                }
            }
            drop(place);
            if let (Some(key), Some(stream)) = (&key, &stream)
                && served.streams.ended(key, stream, has_result)
            {
                stream.is_over().await;
                served.streams.forget(key, stream);
            }
        });
    }

    /// Waits for the caller's deadline, which a caller that reads a stream extends.
    async fn is_over(&self) {
        match &self.stream {
            Some(stream) => stream.is_over().await,
            None => sleep_until(self.route.deadline).await,
        }
    }

    /// Sends the reply, or forwards the request.
    fn finish(self, result: Result<Answer, Fault>, origin: Origin) {
        let Self { forwards, served, route, passage, .. } = &self;
        let outcome = match result {
            Ok(Answer::Value(value)) => Outcome::Value(value),
            Ok(Answer::Binary(bytes)) => Outcome::Binary(bytes),
            Err(fault) => Outcome::Fault(fault),
            Ok(Answer::FinalPart { payload, items }) => return self.end_stream(payload, items),
            Ok(Answer::Forward(forward)) => match forwards.forward(served, route, passage, forward) {
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
        let until = self.stream.as_ref().map_or(route.deadline, |stream| stream.until());
        if Instant::now() >= until || matches!(route.reply_to, ReplyTo::Nobody) {
            return self.forget();
        }
        let replies = &forwards.replies;
        let correlation = route.correlation.as_ref();
        let reply =
            Reply::write(outcome, &route.form, correlation, &replies.node_property, served.limits.result);
        let secret = served.description.method(self.method.as_str()).is_some_and(|method| method.secret);
        let reply = if secret { reply.secret() } else { reply };
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.has_begun()) {
            self.forget();
            return stream.end(stream.behind_items(reply));
        }
        match (self.key, origin) {
            // A repeat may be executed.
            (Some(key), Origin::Refused) => served.duplicates.lock().withdraw(key),
            (Some(key), _) => served.duplicates.lock().finish(key, Some(&reply)),
            (None, _) => {}
        }
        replies.publish(route, if origin == Origin::Journal { reply.again() } else { reply });
    }

    /// Publishes the last items of a stream. If they are all items, they are an ordinary reply.
    fn end_stream(self, payload: Vec<u8>, items: u64) {
        self.served.stats.ended(&self.method, self.received, None);
        let Some(stream) = self.stream.as_ref().filter(|stream| Instant::now() < stream.until()) else {
            return self.forget();
        };
        let (is_whole, reply) = (!stream.has_begun(), stream.last(payload, items));
        match self.key.filter(|_| is_whole) {
            Some(key) => self.served.duplicates.lock().finish(key, Some(&reply)),
            None => self.forget(),
        }
        stream.end(reply);
    }

    /// Notifies a caller that has not read its stream for too long: it may have been delayed, and wait for the next
    /// item.
    fn let_stream_go(&self, fault: Fault) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.has_begun()) {
            let (route, replies) = (&self.route, &self.forwards.replies);
            let correlation = route.correlation.as_ref();
            let reply = Reply::write(
                Outcome::Fault(fault),
                &route.form,
                correlation,
                &replies.node_property,
                usize::MAX,
            );
            replies.publish(route, stream.behind_items(reply));
        }
    }

    /// Forgets the request: there is no reply that a repeat could get.
    fn forget(&self) {
        if let Some(key) = self.key {
            self.served.duplicates.lock().finish(key, None);
        }
    }
}

/// Calls a method up to its first await point; a panic becomes a fault.
pub(super) fn begin(object: Arc<dyn Object>, call: Call) -> Result<Answering, Fault> {
    std::panic::catch_unwind(AssertUnwindSafe(|| object.call(call))).map_err(|panic| panicked(&panic))
}

/// Polls a method once; a panic becomes a fault.
pub(super) fn poll(
    answering: &mut Answering,
    context: &mut std::task::Context<'_>,
) -> Poll<Result<Answer, Fault>> {
    let answering: &mut Pin<Box<_>> = answering;
    std::panic::catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)))
        .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&panic))))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|t| &**t));
    tracing::error!("a method panicked: {}", text.unwrap_or("without a text"));
    // The panic message may contain anything, so it is not sent.
    Fault::new(Code::BROKEN_OBJECT, "the method panicked")
}
