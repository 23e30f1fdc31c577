//! Steps of the cases, and their execution.

use std::time::Duration;

use rantai_client::session::{Filter, Message, Publish, QoS, Unsent};
use rantai_client::wire::Properties;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::check::{Expected, check_error, equal, error, has, present, read};
use crate::description::Described;
use crate::placeholders::{Placeholders, bytes, format_payload};
use crate::registry::Presented;
use crate::verdict::Problem;
use crate::wire::Wire;

/// Time limit for an expected message, unless the case has another.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Time for which no other message may follow a reply that is the only one.
const QUIET_AFTER_REPLY: Duration = Duration::from_millis(300);

/// A step of a case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Publish(Box<Published>),
    Expect(Box<Expected>),
    ExpectAnyOrder(Vec<Expected>),
    Call(Box<Called>),
    Calls(Vec<Called>),
    Items(Vec<Value>),
    SilenceMs(u64),
    /// No message arrives on this topic; messages on others are ignored.
    SilenceOn(Silent),
    /// Ignores all messages for this time, in milliseconds.
    IgnoreMs(u64),
    Retained(Box<Retained>),
    Described(Box<Described>),
    /// Starts or ends the next link of a chain.
    Next(bool),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Published {
    topic: String,
    payload: String,
    payload_hex: Option<String>,
    qos: Option<u8>,
    retain: bool,
    response_topic: Option<String>,
    correlation: Option<String>,
    expiry: Option<u32>,
    content_type: Option<String>,
    user: Vec<(String, String)>,
}

/// Request in a form that the object understands, and its expected reply.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Called {
    method: String,
    #[serde(default)]
    params: Value,
    /// Payload in plain form, instead of parameters.
    payload: Option<String>,
    qos: Option<u8>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    code: Option<i64>,
    #[serde(default)]
    data: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retained {
    topic: String,
    json: Map<String, Value>,
    expiry_at_most: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silent {
    topic: String,
    ms: u64,
}

/// Executes the steps of one case.
pub(crate) struct Run<'a> {
    pub(crate) wire: &'a mut Wire,
    pub(crate) names: Placeholders,
    /// Whether the object understands requests in JSON-RPC form only.
    pub(crate) json_rpc: bool,
    /// Publishes that the broker has refused.
    pub(crate) refused: Vec<String>,
    /// Next link of a chain.
    pub(crate) next: Option<&'a Presented>,
}

impl Run<'_> {
    /// Executes the steps until one of them fails.
    pub(crate) async fn steps(&mut self, steps: &[Value]) -> Option<Problem> {
        for (index, step) in steps.iter().enumerate() {
            let filled = self.names.fill(step);
            let step = serde_json::from_value(filled).unwrap_or_else(|error| panic!("step {step}: {error}"));
            if let Err(mut text) = self.step(step).await {
                for refused in &self.refused {
                    text = format!("{text}; {refused}");
                }
                return Some(Problem { step: index + 1, text });
            }
        }
        None
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Publish(published) => self.publish(*published).await,
            Step::Expect(expected) => {
                let within = expected.within_ms.map_or(PATIENCE, Duration::from_millis);
                expected.check(&self.next(within).await?)
            }
            Step::ExpectAnyOrder(expected) => self.any_order(expected).await,
            Step::Call(called) => self.calls(vec![*called]).await,
            Step::Calls(called) => self.calls(called).await,
            Step::Items(items) => self.items(&items).await,
            Step::SilenceMs(ms) => self.silence(Duration::from_millis(ms)).await,
            Step::SilenceOn(silent) => self.silence_on(&silent).await,
            Step::IgnoreMs(ms) => {
                let until = Instant::now() + Duration::from_millis(ms);
                while self.wire.next(until.saturating_duration_since(Instant::now())).await.is_some() {}
                Ok(())
            }
            Step::Retained(retained) => self.retained(*retained).await,
            Step::Described(described) => {
                let message = self.next(PATIENCE).await?;
                described.check(&read(&message.payload)?)
            }
            Step::Next(present) => {
                let next = self.next.expect("only cases of chains have a next link");
                let done = if present { next.appear().await } else { next.disappear().await };
                done.map_err(|error| error.to_string())
            }
        }
    }

    async fn publish(&mut self, published: Published) -> Result<(), String> {
        let Published { topic, payload, payload_hex, qos, retain, .. } = published;
        let payload = payload_hex.map_or_else(|| payload.into_bytes(), |digits| bytes(&digits));
        let properties = Properties {
            content_type: published.content_type.map(Into::into),
            response_topic: published.response_topic.map(Into::into),
            correlation: published.correlation.map(|digits| bytes(&digits).into()),
            expiry: published.expiry,
            user: published.user.into_iter().collect(),
        };
        let qos = if qos == Some(0) { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let publish = Publish { retain, ..Publish::new(topic, payload).properties(properties).qos(qos) };
        self.send(publish.once()).await
    }

    async fn send(&mut self, publish: Publish) -> Result<(), String> {
        let topic = publish.topic.clone();
        match self.wire.publish(publish).await {
            Ok(()) => Ok(()),
            // The message is then missing, as some cases expect; for the others, the refusal explains the failure.
            Err(refused @ (Unsent::Denied { .. } | Unsent::Refused(_))) => {
                self.refused.push(format!("on {topic}: {refused}"));
                Ok(())
            }
            Err(error) => Err(format!("cannot publish to {topic}: {error}")),
        }
    }

    async fn next(&mut self, within: Duration) -> Result<Message, String> {
        let message = self.wire.next(within).await;
        message.ok_or_else(|| format!("nothing came within {} ms", within.as_millis()))
    }

    async fn any_order(&mut self, expected: Vec<Expected>) -> Result<(), String> {
        let mut messages = Vec::new();
        for _ in &expected {
            messages.push(self.next(PATIENCE).await?);
        }
        for wanted in expected {
            let problems: Vec<_> = messages.iter().map(|message| wanted.check(message)).collect();
            match problems.iter().position(Result::is_ok) {
                Some(at) => drop(messages.remove(at)),
                None => return problems.into_iter().next().expect("a message for each"),
            }
        }
        Ok(())
    }

    /// Sends all requests at once, and expects exactly one reply to each.
    async fn calls(&mut self, calls: Vec<Called>) -> Result<(), String> {
        let mut open = Vec::new();
        for call in calls {
            let key = Placeholders::new("", "", "").get("key").to_owned();
            let publish = self.request(&call, &key);
            open.push((key, call));
            self.send(publish).await?;
        }
        while !open.is_empty() {
            let message = self.next(PATIENCE).await?;
            if *message.topic != *self.names.get("reply") {
                return Err(format!(
                    "expected a reply on {}, got one on {}",
                    self.names.get("reply"),
                    message.topic
                ));
            }
            let reply = read(&message.payload)?;
            let key = self.key(&message, &reply)?;
            let Some(at) = open.iter().position(|(wanted, _)| *wanted == key) else {
                let text = format_payload(&message.payload);
                return Err(format!("a reply to no request, or a second one to the same ({key}): {text}"));
            };
            let (_, call) = open.remove(at);
            self.outcome(&call, &message, reply)?;
        }
        self.silence(QUIET_AFTER_REPLY).await.map_err(|text| format!("after the reply: {text}"))
    }

    fn request(&self, call: &Called, key: &str) -> Publish {
        let (root, object) = (self.names.get("root"), self.names.get("object"));
        let reply = self.names.get("reply").to_owned();
        let method = &call.method;
        let (topic, payload, correlation) = if self.json_rpc {
            let request = json!({
                "jsonrpc": "2.0", "id": key, "method": method, "params": call.params, "reply_to": reply,
            });
            (format!("{root}/call/{object}"), request, None)
        } else {
            (format!("{root}/call/{object}/{method}"), call.params.clone(), Some(bytes(key).into()))
        };
        let payload = call.payload.clone().unwrap_or_else(|| payload.to_string());
        let qos = if call.qos == Some(0) { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let properties =
            Properties { response_topic: Some(reply.into()), correlation, ..Properties::default() };
        Publish::new(topic, payload).properties(properties).qos(qos).once()
    }

    /// Returns the key of the request that a reply belongs to.
    fn key(&self, message: &Message, reply: &Value) -> Result<String, String> {
        let text = format_payload(&message.payload);
        if self.json_rpc {
            let id = reply.get("id").and_then(Value::as_str);
            return id
                .map(str::to_owned)
                .ok_or_else(|| format!("expected the request's id in the response: {text}"));
        }
        let correlation = message.properties.correlation.as_deref();
        correlation
            .map(rantai_client::hex)
            .ok_or_else(|| format!("expected the request's Correlation Data with the reply {text}"))
    }

    fn outcome(&self, call: &Called, message: &Message, mut reply: Value) -> Result<(), String> {
        let status = message.properties.user("status");
        if let Some(code) = call.code {
            if status.is_some_and(|status| status != code.to_string()) {
                return Err(format!("expected the user property status {code}, or none; got {status:?}"));
            }
            return check_error(&error(&reply)?, code, &call.data);
        }
        if status.is_some_and(|status| status != "ok") {
            return Err(format!("expected the user property status ok, or none; got {status:?}"));
        }
        if self.json_rpc {
            reply = reply.get_mut("result").map(Value::take).ok_or("expected a result")?;
        }
        let wanted = call.result.as_ref().unwrap_or(&Value::Null);
        let text = format_payload(&message.payload);
        if equal(&reply, wanted) { Ok(()) } else { Err(format!("expected the result {wanted}, got {text}")) }
    }

    /// Receives the parts of a stream until its end.
    async fn items(&mut self, wanted: &[Value]) -> Result<(), String> {
        let mut items = Vec::new();
        loop {
            let message = self.next(PATIENCE).await?;
            let from = message.properties.user("from");
            if *message.topic != *self.names.get("reply") || from != Some(&*items.len().to_string()) {
                let text = format_payload(&message.payload);
                return Err(format!(
                    "expected a part from {} on the reply topic, got {text} on {} from {from:?}",
                    items.len(),
                    message.topic
                ));
            }
            match read(&message.payload)? {
                Value::Array(part) => items.extend(part),
                other => return Err(format!("a part of a stream is a JSON array, got {other}")),
            }
            if message.properties.user("more") != Some("1") {
                break;
            }
        }
        let (got, wanted) = (Value::Array(items), Value::Array(wanted.to_vec()));
        if equal(&got, &wanted) { Ok(()) } else { Err(format!("expected the items {wanted}, got {got}")) }
    }

    async fn silence(&mut self, time: Duration) -> Result<(), String> {
        match self.wire.next(time).await {
            None => Ok(()),
            Some(message) => {
                let (text, topic) = (format_payload(&message.payload), &message.topic);
                Err(format!("nothing should have come within {} ms, got {text} on {topic}", time.as_millis()))
            }
        }
    }

    async fn silence_on(&mut self, silent: &Silent) -> Result<(), String> {
        let until = Instant::now() + Duration::from_millis(silent.ms);
        while let Some(message) = self.wire.next(until.saturating_duration_since(Instant::now())).await {
            if *message.topic == *silent.topic {
                let (text, topic) = (format_payload(&message.payload), &silent.topic);
                return Err(format!(
                    "nothing should have come on {topic} within {} ms, got {text}",
                    silent.ms
                ));
            }
        }
        Ok(())
    }

    async fn retained(&mut self, retained: Retained) -> Result<(), String> {
        let Retained { topic, json, expiry_at_most } = retained;
        let subscribed = self.wire.subscribe(vec![Filter::new(topic.clone())]).await;
        subscribed.map_err(|error| error.to_string())?;
        let limit = Instant::now() + PATIENCE;
        let found = loop {
            let left = limit.saturating_duration_since(Instant::now());
            match self.wire.next(left).await {
                None => break Err(format!("nothing is retained on {topic}")),
                Some(message) if *message.topic == *topic => break Ok(message),
                Some(_) => {}
            }
        };
        self.wire.unsubscribe(vec![topic.clone()]).await;
        let message = found?;
        let text = format_payload(&message.payload);
        match read(&message.payload)? {
            Value::Object(got) if has(&got, &json) => {}
            _ => return Err(format!("expected the members {}, got {text} on {topic}", Value::Object(json))),
        }
        let expiry = message.properties.expiry;
        match (expiry_at_most, expiry) {
            (Some(most), None) => Err(format!("expected an expiry of {most} s or less on {topic}, got none")),
            (Some(most), Some(expiry)) if expiry > most => {
                Err(format!("expected an expiry of {most} s or less on {topic}, got {expiry}"))
            }
            _ => Ok(()),
        }
    }
}
