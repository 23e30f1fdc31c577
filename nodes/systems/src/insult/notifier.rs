//! `Notifier`: calls its subscribers back with an insult, periodically.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::{Calls, Context, Emitter, Unasked, passed_on};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{ClientId, MethodName, ObjectName};
use rantai_client::{CallError, interface};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::store::InsultStoreProxy;
use rantai_nodes::kind::{Building, Configured, Kind};

/// Time limit of a callback.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of failed callbacks in a row after which a subscriber is dropped.
const MAX_FAILURES: u32 = 3;
/// Allowed periods and leases, in milliseconds.
const TIMES: std::ops::RangeInclusive<u64> = 10..=24 * 60 * 60 * 1000;
/// Maximum number of subscribers that can be configured.
const MAX_SUBSCRIBERS: usize = 10_000;

/// Settings of a notifier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifierSettings {
    /// Name the object is served under.
    pub name: String,
    /// Name of the object that keeps the insults.
    pub store: String,
    /// Method of an object that is called back. Default: `notify`.
    #[serde(default = "notify")]
    pub method: String,
    /// Interval of the callbacks in milliseconds.
    pub period_ms: u64,
    /// Lifetime of a subscription in milliseconds; subscribing again renews it.
    pub lease_ms: u64,
    /// Maximum number of subscribers.
    #[serde(default = "many")]
    pub subscribers: usize,
}

fn notify() -> String {
    "notify".to_owned()
}

fn many() -> usize {
    1_000
}

/// Subscription of a client or an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// Subscriber.
    pub subscriber: String,
    /// Lifetime of the subscription in milliseconds, unless it is renewed; `None` for an object, which stays subscribed
    /// while it answers.
    pub lease_ms: Option<u64>,
}

/// Calls its subscribers back with an insult, periodically.
///
/// An object is called back by its method `notify(insult)`, a client by the event `insult` on its own topic.
#[interface(version = "1.0.0", tags("insult"), event(insult: String))]
pub trait Notifier {
    /// Subscribes the object named `callback`, or the caller.
    #[method(idempotent)]
    async fn subscribe(&self, callback: Option<String>, context: Context) -> Result<Subscribed, Fault>;

    /// Ends a subscription; returns `false` if there was none.
    #[method(idempotent)]
    async fn unsubscribe(&self, callback: Option<String>, context: Context) -> Result<bool, Fault>;

    /// Returns the number of subscribers.
    #[method(read_only)]
    async fn subscribers(&self) -> Result<u64, Fault>;
}

/// Subscriber: a client, which gets events, or an object, which is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subscriber {
    Client(ClientId),
    Object(ObjectName),
}

/// Condition that ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Time at which the subscription ends, unless it is renewed.
    Until(Instant),
    /// Number of failed callbacks in a row.
    Failed(u32),
}

/// Implementation of [`Notifier`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    settings: NotifierSettings,
    calls: Calls,
    subscribers: Arc<Mutex<HashMap<Subscriber, Standing>>>,
}

impl Caller {
    /// Creates a notifier that reaches the store and its subscribers by `calls`.
    ///
    /// # Errors
    ///
    /// The settings are invalid; the text says why.
    pub fn new(settings: NotifierSettings, calls: Calls) -> Result<Self, String> {
        for (what, ms) in [("period_ms", settings.period_ms), ("lease_ms", settings.lease_ms)] {
            if !TIMES.contains(&ms) {
                return Err(format!("{what} is {} to {}", TIMES.start(), TIMES.end()));
            }
        }
        MethodName::new(&settings.method).map_err(|error| format!("method: {error}"))?;
        if !(1..=MAX_SUBSCRIBERS).contains(&settings.subscribers) {
            return Err(format!("subscribers is 1 to {MAX_SUBSCRIBERS}"));
        }
        Ok(Self { settings, calls, subscribers: Arc::default() })
    }

    /// Calls the subscribers back in every period, until it is dropped.
    pub async fn go_on(self, emitter: Emitter) {
        let period = Duration::from_millis(self.settings.period_ms);
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.expire(Instant::now());
            if self.subscribers.lock().is_empty() {
                continue;
            }
            match self.insult(period).await {
                Ok(Some(insult)) => self.notify(&emitter, &insult, period).await,
                Ok(None) => {}
                Err(fault) => tracing::warn!("nobody is called back: {fault}"),
            }
        }
    }

    async fn insult(&self, period: Duration) -> Result<Option<String>, Fault> {
        let store = self.calls.object(&self.settings.store, period.max(CALLBACK_TIMEOUT)).await?;
        let insult = InsultStoreProxy::from(store).any_insult().await;
        insult.map_err(|error| passed_on(&self.settings.store, error))
    }

    /// Calls all subscribers back concurrently, so that a slow one does not delay the others.
    async fn notify(&self, emitter: &Emitter, insult: &str, period: Duration) {
        let subscribers: Vec<Subscriber> = self.subscribers.lock().keys().cloned().collect();
        let mut answers = JoinSet::new();
        for subscriber in subscribers {
            match subscriber {
                Subscriber::Client(client) => {
                    if let Err(fault) = emitter.upcall(&client, "insult", &insult) {
                        tracing::warn!("{client}: {fault}");
                    }
                }
                Subscriber::Object(object) => {
                    let (caller, insult) = (self.clone(), insult.to_owned());
                    answers.spawn(async move {
                        let answer = caller.call(&object, &insult, period.min(CALLBACK_TIMEOUT)).await;
                        (object, answer)
                    });
                }
            }
        }
        while let Some(ended) = answers.join_next().await {
            if let Ok((object, answer)) = ended {
                self.answered(object, answer);
            }
        }
    }

    async fn call(&self, object: &ObjectName, insult: &str, time: Duration) -> Result<(), CallError> {
        let object = self.calls.object(object.as_str(), time).await?;
        object.call::<Value>(&self.settings.method, (insult,)).await.map(|_| ())
    }

    /// Records the result of a callback; drops an object that is not served, lacks the method, or has failed too often.
    fn answered(&self, object: ObjectName, answer: Result<(), CallError>) {
        let mut subscribers = self.subscribers.lock();
        let subscriber = Subscriber::Object(object);
        // The subscription may have ended in the meantime.
        let Some(Standing::Failed(failures)) = subscribers.get_mut(&subscriber) else { return };
        let Err(error) = answer else {
            *failures = 0;
            return;
        };
        *failures += 1;
        let gone = matches!(
            error.code(),
            Some(Code::UNKNOWN_OBJECT | Code::LOST_OBJECT | Code::NO_SUCH_METHOD | Code::WRONG_PARAMETERS)
        );
        if gone || *failures >= MAX_FAILURES {
            subscribers.remove(&subscriber);
            tracing::info!("{subscriber:?} is no longer called back: {error}");
        }
    }

    fn expire(&self, now: Instant) {
        let over = |standing: &Standing| matches!(standing, Standing::Until(end) if *end <= now);
        self.subscribers.lock().retain(|subscriber, standing| {
            let over = over(standing);
            if over {
                tracing::info!("{subscriber:?} has not subscribed again");
            }
            !over
        });
    }
}

/// Returns the subscriber that a request names, or its caller.
fn subscriber(callback: Option<&str>, context: &Context) -> Result<Subscriber, Fault> {
    match callback {
        Some(name) => ObjectName::new(name)
            .map(Subscriber::Object)
            .map_err(|_| Fault::wrong_parameter("callback", "the name of an object")),
        None => context.client.clone().map(Subscriber::Client).ok_or_else(|| {
            Fault::failed("no_client", "the reply topic names no client; name an object as callback")
        }),
    }
}

impl Notifier for Caller {
    async fn subscribe(&self, callback: Option<String>, context: Context) -> Result<Subscribed, Fault> {
        let subscriber = subscriber(callback.as_deref(), &context)?;
        let lease = self.settings.lease_ms;
        let (name, standing, lease_ms) = match &subscriber {
            Subscriber::Object(name) => (name.to_string(), Standing::Failed(0), None),
            Subscriber::Client(name) => {
                let end = Instant::now() + Duration::from_millis(lease);
                (name.to_string(), Standing::Until(end), Some(lease))
            }
        };
        let mut subscribers = self.subscribers.lock();
        if subscribers.len() >= self.settings.subscribers && !subscribers.contains_key(&subscriber) {
            let text = format!("{} are subscribed already, and no more fit in", subscribers.len());
            return Err(Fault { message: text, ..Fault::busy(lease) });
        }
        subscribers.insert(subscriber, standing);
        Ok(Subscribed { subscriber: name, lease_ms })
    }

    async fn unsubscribe(&self, callback: Option<String>, context: Context) -> Result<bool, Fault> {
        let subscriber = subscriber(callback.as_deref(), &context)?;
        Ok(self.subscribers.lock().remove(&subscriber).is_some())
    }

    async fn subscribers(&self) -> Result<u64, Fault> {
        self.expire(Instant::now());
        Ok(self.subscribers.lock().len() as u64)
    }
}

impl Kind for NotifierSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        building.other(&self.store)?;
        let caller = Caller::new(self.clone(), building.calls.clone())?;
        let object = NotifierObject(caller.clone());
        let object = Unasked::new(object, move |emitter| caller.clone().go_on(emitter));
        Ok(building.object(object).alone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rantai_client::wire::name::Root;

    fn settings() -> NotifierSettings {
        NotifierSettings {
            name: "Notifier".to_owned(),
            store: "InsultStore".to_owned(),
            method: notify(),
            period_ms: 5_000,
            lease_ms: 30_000,
            subscribers: 2,
        }
    }

    fn context(client: Option<&str>) -> Context {
        let object = ObjectName::new("Notifier").expect("a name");
        let emitter = Emitter::new(Root::default(), object.clone(), Arc::new(|_| {}));
        let now = Instant::now();
        let mut context = Context::new(object, now, now, emitter, Calls::default());
        context.client = client.map(|client| ClientId::new(client).expect("a name"));
        context
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_subscribe_again_is_dropped() {
        let caller = Caller::new(settings(), Calls::default()).expect("in order");
        let subscribed = caller.subscribe(None, context(Some("me"))).await.expect("room");
        assert_eq!((&*subscribed.subscriber, subscribed.lease_ms), ("me", Some(30_000)));
        tokio::time::advance(Duration::from_secs(20)).await;
        caller.subscribe(None, context(Some("me"))).await.expect("again");
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(caller.subscribers().await, Ok(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(caller.subscribers().await, Ok(0));
        assert_eq!(caller.unsubscribe(None, context(Some("me"))).await, Ok(false));
    }

    #[tokio::test]
    async fn an_object_that_is_gone_is_dropped_and_one_that_fails_after_three_times() {
        let caller = Caller::new(settings(), Calls::default()).expect("in order");
        let object = |name: &str| ObjectName::new(name).expect("a name");
        let answer = |name: &str, answer: Result<(), Code>| {
            caller.answered(object(name), answer.map_err(|code| Fault::new(code, "no").into()));
        };
        for name in ["slow", "gone"] {
            let subscribed = caller.subscribe(Some(name.to_owned()), context(None)).await.expect("room");
            assert_eq!(subscribed.lease_ms, None);
        }
        answer("gone", Err(Code::UNKNOWN_OBJECT));
        assert_eq!(caller.subscribers().await, Ok(1));
        for round in [Err(Code::TIMED_OUT), Err(Code::TIMED_OUT), Ok(()), Err(Code::BUSY), Err(Code::FAILED)]
        {
            answer("slow", round);
            answer("gone", round);
            assert_eq!(caller.subscribers().await, Ok(1), "{round:?}");
        }
        answer("slow", Err(Code::TIMED_OUT));
        assert_eq!(caller.subscribers().await, Ok(0));
    }

    #[tokio::test]
    async fn number_of_subscribers_is_limited_and_anonymous_ones_refused() {
        let caller = Caller::new(settings(), Calls::default()).expect("in order");
        assert!(caller.subscribe(None, context(None)).await.is_err());
        assert!(caller.subscribe(Some("a b".to_owned()), context(None)).await.is_err());
        for client in ["one", "two", "one"] {
            caller.subscribe(None, context(Some(client))).await.expect("room");
        }
        let fault = caller.subscribe(None, context(Some("three"))).await.expect_err("no room");
        assert_eq!(fault.code, Code::BUSY);
        assert_eq!(caller.unsubscribe(None, context(Some("two"))).await, Ok(true));
        caller.subscribe(None, context(Some("three"))).await.expect("room again");
        for wrong in [
            NotifierSettings { period_ms: 0, ..settings() },
            NotifierSettings { lease_ms: 9, ..settings() },
            NotifierSettings { method: "a b".to_owned(), ..settings() },
            NotifierSettings { subscribers: 0, ..settings() },
        ] {
            assert!(Caller::new(wrong, Calls::default()).is_err());
        }
    }
}
