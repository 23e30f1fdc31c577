//! Streamed results over HTTP: lines of JSON or server-sent events, selected by `Accept`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use rantai_client::shares::HeldPlace;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json;
use rantai_client::{Items, Opened, Request};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::guard::{Caller, Counts, Guard};
use super::rest::Gateway;
use super::{answer, status};

/// Interval of keep-alive comments in event streams.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Encoding of streamed items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemFormat {
    /// One JSON value per line: `application/x-ndjson`.
    Lines,
    /// Server-sent events: `text/event-stream`.
    Events,
}

impl ItemFormat {
    /// Returns the encoding of the first supported type in `Accept`; `None` for a single JSON response.
    pub(super) fn asked_for(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        // Types with the weight 0 are excluded.
        let is_taken = |one: &&str| {
            let weights = one.split(';').skip(1).filter_map(|weight| weight.trim().strip_prefix("q="));
            !weights.into_iter().any(|weight| weight.trim().parse() == Ok(0.0))
        };
        let types = values.flat_map(|value| value.split(',')).filter(is_taken);
        let mut types =
            types.map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        types.find_map(|one| match &*one {
            "application/x-ndjson" | "application/ndjson" => Some(Some(Self::Lines)),
            "text/event-stream" => Some(Some(Self::Events)),
            "application/json" | "application/*" | "*/*" => Some(None),
            _ => None,
        })?
    }
}

/// Stream of one response, with its places in the limits.
struct ItemStream {
    /// `None` after the last item.
    items: Option<Items<Value>>,
    stop: watch::Receiver<bool>,
    guard: Arc<Guard>,
    _places: [HeldPlace<Caller>; 2],
}

impl Drop for ItemStream {
    fn drop(&mut self) {
        self.guard.counts.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Element of a response.
enum ItemElement {
    Item(Value),
    Failed(Fault),
    End,
}

impl ItemStream {
    /// Returns the next element; `None` after the last, and when the gateway stops.
    async fn next(&mut self) -> Option<ItemElement> {
        let items = self.items.as_mut()?;
        let next = tokio::select! {
            next = items.next() => next,
            _ = self.stop.wait_for(|stop| *stop) => return None,
        };
        match next {
            Some(Ok(item)) => Some(ItemElement::Item(json::portable(item))),
            Some(Err(error)) => {
                self.items = None;
                Some(ItemElement::Failed(status::fault(error)))
            }
            None => {
                self.items = None;
                Some(ItemElement::End)
            }
        }
    }
}

impl Gateway {
    /// Calls the method and streams its result; responds with a single result if the method does not stream. `place` is the
    /// place of the call.
    pub(super) async fn respond_in_items(
        &self,
        caller: &Caller,
        request: Request,
        format: ItemFormat,
        place: HeldPlace<Caller>,
    ) -> Result<Response, Response> {
        let stream = self.streams.take(caller).ok_or_else(|| {
            self.share_log.refused("the event streams", caller);
            status::answer(&Fault::busy(5_000))
        })?;
        let opened = request.open().await.map_err(|error| status::answer(&status::fault(error)))?;
        let items = match opened {
            Opened::Whole(response) => return Ok(answer::answer(response)),
            Opened::Items(items) => items,
        };
        Counts::one(&self.guard.counts.streams);
        let node = items.node().cloned();
        let sending = ItemStream {
            items: Some(items),
            stop: self.stop.clone(),
            guard: self.guard.clone(),
            _places: [place, stream],
        };
        let mut response = match format {
            ItemFormat::Lines => {
                let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
                (kind, Body::from_stream(lines(sending))).into_response()
            }
            ItemFormat::Events => Sse::new(events(sending))
                .keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
                .into_response(),
        };
        let headers = response.headers_mut();
        if let Some(node) = node.and_then(|node| HeaderValue::from_str(node.as_str()).ok()) {
            headers.insert("rantai-node", node);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

/// Encodes items as lines. After an error the body is aborted, so that a client cannot take it for complete.
fn lines(sending: ItemStream) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold((sending, false), |(mut sending, has_failed)| async move {
        if has_failed {
            // Lets hyper flush the error line first.
            tokio::task::yield_now().await;
            let error = std::io::Error::other("the stream has failed");
            return Some((Err(error), (sending, false)));
        }
        let line = |value: &Value| Ok(Bytes::from(format!("{value}\n")));
        match sending.next().await? {
            ItemElement::Item(item) => Some((line(&item), (sending, false))),
            ItemElement::Failed(fault) => Some((line(&json!({ "error": fault })), (sending, true))),
            ItemElement::End => None,
        }
    })
}

/// Encodes items as `item` events, with an `end` or `error` event after the last.
fn events(sending: ItemStream) -> impl Stream<Item = Result<Event, Infallible>> {
    futures_util::stream::unfold(sending, |mut sending| async {
        let event = |name, data: &Value| Event::default().event(name).data(data.to_string());
        let event = match sending.next().await? {
            ItemElement::Item(item) => event("item", &item),
            ItemElement::Failed(fault) => event("error", &json!({ "error": fault })),
            ItemElement::End => event("end", &Value::Null),
        };
        Some((Ok(event), sending))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_supported_accept_type_selects_the_format() {
        use ItemFormat::{Events, Lines};
        for (accept, expected) in [
            (&[][..], None),
            (&["*/*"], None),
            (&["application/x-ndjson"], Some(Lines)),
            (&["Application/X-NDJSON; q=0.9"], Some(Lines)),
            (&["text/html, text/event-stream"], Some(Events)),
            (&["application/json, application/x-ndjson"], None),
            (&["text/plain", "application/ndjson, */*"], Some(Lines)),
            (&["text/plain"], None),
            (&["application/x-ndjson;q=0, */*"], None),
            (&["application/json; q=0.0, text/event-stream"], Some(Events)),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(ItemFormat::asked_for(&headers), expected, "{accept:?}");
        }
    }
}
