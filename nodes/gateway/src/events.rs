//! Events of an object over HTTP: server-sent events, or a WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use rantai_client::Subscription;
use rantai_client::session::{Filter, Message};
use rantai_client::shares::HeldPlace;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json;
use rantai_client::wire::name::{MethodName, ObjectName, Root};
use rantai_client::wire::topic::EventTopic;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::catalog::allows;
use super::guard::{Caller, Counts};
use super::rest::{Gateway, query};
use super::status;

/// Time without an event after which a keep-alive is sent.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Time limit for sending a frame.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a frame from a client, in bytes; such frames are ignored.
const MAX_FRAME_BYTES: usize = 4 << 10;
/// Name of the ledger of tasks.
const LEDGER: &str = "tasks";
/// Maximum number of events that can be named in one request.
const MAX_NAMED_EVENTS: usize = 32;

/// Events of one object, with the listener's place in the limits.
struct EventStream {
    events: Subscription,
    missed: u64,
    root: Root,
    gateway: Arc<Gateway>,
    stop: watch::Receiver<bool>,
    _place: HeldPlace<Caller>,
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.gateway.guard.counts.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Element of the stream.
enum EventElement {
    Event(String, Value),
    /// Number of events dropped because this listener was too slow.
    Missed(u64),
}

impl EventStream {
    /// Returns the next event that is not for a single client; `None` when the gateway ends, or its connection to the broker
    /// has ended permanently.
    async fn next(&mut self) -> Option<EventElement> {
        loop {
            let missed = self.events.missed();
            if missed > self.missed {
                let more = missed - std::mem::replace(&mut self.missed, missed);
                return Some(EventElement::Missed(more));
            }
            let next = tokio::select! {
                next = self.events.next() => next,
                _ = self.stop.wait_for(|stop| *stop) => None,
            };
            let Message { topic, payload, .. } = next?;
            let Some(EventTopic { event, client: None, .. }) = EventTopic::parse(&self.root, &topic) else {
                continue;
            };
            // The removal of a retained state is not an event.
            if payload.is_empty() {
                continue;
            }
            let value = json::read(&payload)
                .map_or_else(|_| Value::from(String::from_utf8_lossy(&payload).into_owned()), json::portable);
            return Some(EventElement::Event(event.to_string(), value));
        }
    }
}

pub(super) async fn follow(
    State(gateway): State<Arc<Gateway>>,
    Path(object): Path<String>,
    RawQuery(raw): RawQuery,
    Extension(caller): Extension<Caller>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let stream = match open(&gateway, &caller, &object, raw.as_deref()).await {
        Ok(stream) => stream,
        Err(fault) => return status::answer(&fault),
    };
    match socket {
        Ok(socket) => socket
            .max_frame_size(MAX_FRAME_BYTES)
            .max_message_size(MAX_FRAME_BYTES)
            .on_upgrade(|socket| by_socket(stream, socket)),
        Err(_) => Sse::new(by_response(stream))
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
            .into_response(),
    }
}

impl Gateway {
    /// Checks whether the events of an object may be followed here.
    pub(super) fn may_follow(&self, object: &str) -> Result<(), Fault> {
        let may_follow = match &self.events {
            Some(events) => allows(events, object),
            None => self.guard.is_open() || object != LEDGER,
        };
        if may_follow {
            return Ok(());
        }
        let text = format!("the events of {object} are not for everybody; `events` of [rest] can name it");
        Err(Fault::new(Code::DENIED, text))
    }
}

async fn open(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    object: &str,
    raw: Option<&str>,
) -> Result<EventStream, Fault> {
    gateway.allowed(object)?;
    gateway.may_follow(object)?;
    let name = ObjectName::any(object);
    let name = name.map_err(|error| Fault::new(Code::UNKNOWN_OBJECT, error.to_string()))?;
    let wanted: Vec<String> =
        query(raw).into_iter().filter(|(name, _)| name == "event").map(|(_, event)| event).collect();
    if wanted.len() > MAX_NAMED_EVENTS {
        return Err(Fault::new(Code::NOT_A_REQUEST, format!("at most {MAX_NAMED_EVENTS} events")));
    }
    let description = gateway.catalog.of(object).await.map_err(status::fault)?;
    let root = gateway.client.root().clone();
    let mut filters = Vec::new();
    for event in &wanted {
        if !description.events.iter().any(|known| known.name == *event) {
            return Err(Fault::new(Code::NO_SUCH_METHOD, format!("{object} has no event {event:?}")));
        }
        let event =
            MethodName::new(event).map_err(|error| Fault::new(Code::NOT_A_REQUEST, error.to_string()))?;
        filters.extend(EventTopic::filters(&root, &name, Some(&event)));
    }
    if wanted.is_empty() {
        filters.extend(EventTopic::filters(&root, &name, None));
    }
    let place = gateway.streams.take(caller).ok_or_else(|| {
        gateway.share_log.refused("the event streams", caller);
        Fault::busy(5_000)
    })?;
    let filters = filters.into_iter().map(Filter::new).collect();
    let events = gateway.client.subscribe(filters).await.map_err(status::fault)?;
    Counts::one(&gateway.guard.counts.streams);
    let stop = gateway.stop.clone();
    Ok(EventStream { events, missed: 0, root, gateway: gateway.clone(), stop, _place: place })
}

fn by_response(stream: EventStream) -> impl futures_util::Stream<Item = Result<Event, Infallible>> {
    futures_util::stream::unfold(stream, |mut stream| async {
        let event = match stream.next().await? {
            EventElement::Event(name, value) => Event::default().event(name).data(value.to_string()),
            EventElement::Missed(count) => Event::default().event("missed").data(count.to_string()),
        };
        Some((Ok(event), stream))
    })
}

async fn by_socket(mut stream: EventStream, mut socket: WebSocket) {
    loop {
        let frame = tokio::select! {
            told = stream.next() => match told {
                Some(EventElement::Event(event, data)) => json!({"event": event, "data": data}).to_string(),
                Some(EventElement::Missed(count)) => json!({"missed": count}).to_string(),
                None => break,
            },
            received = socket.recv() => match received {
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                // Frames of clients have no meaning; the socket answers pings.
                Some(Ok(_)) => continue,
            },
            () = tokio::time::sleep(KEEP_ALIVE_INTERVAL) => {
                match timeout(SEND_TIMEOUT, socket.send(Frame::Ping(Vec::new().into()))).await {
                    Ok(Ok(())) => continue,
                    _ => return,
                }
            }
        };
        if !matches!(timeout(SEND_TIMEOUT, socket.send(Frame::Text(frame.into()))).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(SEND_TIMEOUT, socket.send(Frame::Close(None))).await;
}
