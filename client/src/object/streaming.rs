//! Streamed results on the object's side.

use std::fmt;
use std::pin::{Pin, pin};

use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;

use super::answer::Answer;
use super::context::Context;
use crate::wire::fault::{Code, Fault};
use crate::wire::json;

/// Maximum size of a part with several items, in bytes.
const MAX_PART_BYTES: usize = 16 << 10;
/// The same of the first part, which is small to send the first item early. It doubles with each part, so that the first
/// ones are on their way while the stream is still read.
const FIRST_PART_BYTES: usize = 1 << 10;
/// Default maximum of a result list, in bytes.
const DEFAULT_LIST_BYTES: usize = 1 << 20;

/// Way in which the items of a result are delivered.
#[derive(Clone)]
pub enum Delivery {
    /// One list.
    List {
        /// Maximum size of the list, in bytes.
        bytes: usize,
    },
    /// Parts, under flow control.
    Parts(std::sync::Arc<dyn Parts>),
    /// Refused: the method fails, as the caller stores results and accepts no streams.
    Refused,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List { .. } => "List",
            Self::Parts(_) => "Parts",
            Self::Refused => "Refused",
        })
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self::List { bytes: DEFAULT_LIST_BYTES }
    }
}

/// Sink for the parts of a result.
pub trait Parts: Send + Sync {
    /// Maximum size of one item, in bytes of JSON.
    fn largest_item(&self) -> usize;

    /// Sends the next part, a JSON array of `items` items. Waits for credit.
    fn send(&self, payload: Vec<u8>, items: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Items of the next part: a JSON array without its closing bracket.
#[derive(Debug, Default)]
struct NextPart {
    text: Vec<u8>,
    items: u64,
}

impl NextPart {
    fn add(&mut self, item: &[u8]) {
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        self.text.extend_from_slice(item);
        self.items += 1;
    }

    fn take(&mut self) -> (Vec<u8>, u64) {
        let Self { mut text, items } = std::mem::take(self);
        if text.is_empty() {
            text.push(b'[');
        }
        text.push(b']');
        (text, items)
    }
}

/// Serializes an item.
fn written(item: &impl Serialize) -> Result<Vec<u8>, Fault> {
    let broken = |error| Fault::new(Code::BROKEN_OBJECT, format!("an item that is no JSON: {error}"));
    let value = serde_json::to_value(item).map_err(broken)?;
    serde_json::to_vec(&json::portable(value)).map_err(broken)
}

impl Context {
    /// Answers with the items of a stream: in parts if the caller asked for a stream, else as one list. The stream is polled
    /// for an item only while the caller has credit, so a slow caller slows the stream down. The stream is dropped when the
    /// call is cancelled.
    ///
    /// # Errors
    ///
    /// -32007 if the list or one item is too large; -32603 if an item cannot be serialized.
    pub async fn stream<T: Serialize>(&self, items: impl Stream<Item = T>) -> Result<Answer, Fault> {
        self.try_stream(items.map(Ok)).await
    }

    /// Same as [`stream`](Self::stream) for a stream of results. The first error ends it.
    ///
    /// # Errors
    ///
    /// The stream's error, and those of [`stream`](Self::stream).
    pub async fn try_stream<T: Serialize>(
        &self,
        items: impl Stream<Item = Result<T, Fault>>,
    ) -> Result<Answer, Fault> {
        let mut items = pin!(items);
        let most = match &self.delivery {
            Delivery::Parts(parts) => return send(items, &**parts).await,
            Delivery::Refused => {
                let text = "its result is a stream, which is not kept; call it directly";
                return Err(Fault::failed("is_stream", text));
            }
            Delivery::List { bytes } => *bytes,
        };
        let mut list = NextPart::default();
        while let Some(item) = items.next().await {
            list.add(&written(&item?)?);
            if list.text.len() >= most {
                let fault = Fault::too_large(most);
                let message = format!("more than {most} bytes in one list; ask for a stream");
                return Err(Fault { message, ..fault });
            }
        }
        let (text, _) = list.take();
        let value = serde_json::from_slice(&text).expect("a list of JSON values is one");
        Ok(Answer::Value(value))
    }
}

async fn send<T: Serialize>(
    mut items: Pin<&mut impl Stream<Item = Result<T, Fault>>>,
    parts: &dyn Parts,
) -> Result<Answer, Fault> {
    let mut part = NextPart::default();
    let mut has_begun = false;
    let mut most = FIRST_PART_BYTES;
    loop {
        let next = if let Some(next) = items.next().now_or_never() {
            next
        } else {
            // Flush before waiting. The first part, even if empty, tells the caller that the stream has started.
            if part.items > 0 || !has_begun {
                let (payload, count) = part.take();
                parts.send(payload, count).await;
                has_begun = true;
            }
            items.next().await
        };
        let Some(item) = next else {
            let (payload, items) = part.take();
            return Ok(Answer::FinalPart { payload, items });
        };
        let item = item.and_then(|item| written(&item)).and_then(|item| {
            let largest = parts.largest_item();
            if item.len() > largest { Err(Fault::too_large(largest)) } else { Ok(item) }
        });
        let is_full = item.as_ref().map_or(true, |item| part.text.len() + item.len() > most);
        if part.items > 0 && is_full {
            let (payload, count) = part.take();
            parts.send(payload, count).await;
            has_begun = true;
            most = MAX_PART_BYTES.min(2 * most);
        }
        part.add(&item?);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::object::{Calls, Emitter};
    use crate::wire::name::{ObjectName, Root};

    #[derive(Default)]
    struct Sent(Mutex<Vec<(Value, u64)>>);

    impl Parts for Sent {
        fn largest_item(&self) -> usize {
            100_000
        }

        fn send(&self, payload: Vec<u8>, items: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            let value = serde_json::from_slice(&payload).expect("JSON");
            self.0.lock().push((value, items));
            Box::pin(std::future::ready(()))
        }
    }

    fn context(delivery: Delivery) -> Context {
        let name = ObjectName::new("x").expect("a name");
        let emitter = Emitter::new(Root::default(), name.clone(), Arc::new(|_| {}));
        let now = Instant::now();
        let mut context = Context::new(name, now, now, emitter, Calls::default());
        context.delivery = delivery;
        context
    }

    #[tokio::test]
    async fn ready_items_share_a_part_and_none_waits_for_a_later_one() {
        let sent = Arc::new(Sent::default());
        let context = context(Delivery::Parts(sent.clone()));
        let slow = stream::iter([1, 2]).chain(stream::once(async {
            tokio::task::yield_now().await;
            3
        }));
        let answer = context.stream(slow).await;
        assert_eq!(*sent.0.lock(), [(json!([1, 2]), 2)]);
        assert_eq!(answer, Ok(Answer::FinalPart { payload: b"[3]".to_vec(), items: 1 }));
    }

    #[tokio::test]
    async fn stream_sends_an_empty_first_part_before_its_first_item() {
        let sent = Arc::new(Sent::default());
        let context = context(Delivery::Parts(sent.clone()));
        let late = stream::once(async {
            tokio::task::yield_now().await;
            1
        });
        let answer = context.stream(late).await;
        assert_eq!(*sent.0.lock(), [(json!([]), 0)]);
        assert_eq!(answer, Ok(Answer::FinalPart { payload: b"[1]".to_vec(), items: 1 }));
        let answer = context.stream(stream::empty::<u8>()).await;
        assert_eq!(answer, Ok(Answer::FinalPart { payload: b"[]".to_vec(), items: 0 }));
    }

    #[tokio::test]
    async fn error_follows_the_items_before_it() {
        let sent = Arc::new(Sent::default());
        let context = context(Delivery::Parts(sent.clone()));
        let fails = || stream::iter([Ok(1), Err(Fault::failed("full", "no more")), Ok(2)]);
        let fault = context.try_stream(fails()).await.expect_err("it fails");
        assert_eq!((fault.code, &sent.0.lock()[..]), (Code::FAILED, &[(json!([1]), 1)][..]));
    }

    #[tokio::test]
    async fn parts_grow_from_a_small_first_one() {
        let sent = Arc::new(Sent::default());
        let context = context(Delivery::Parts(sent.clone()));
        context.stream(stream::iter((0..1_000).map(|_| "x".repeat(100)))).await.expect("ends");
        let items: Vec<u64> = sent.0.lock().iter().map(|(_, items)| *items).collect();
        // 103 bytes each.
        assert_eq!(items, [9, 19, 39, 79, 159, 159, 159, 159, 159]);
    }

    #[tokio::test]
    async fn part_has_several_small_items_or_one_large_item() {
        let sent = Arc::new(Sent::default());
        let context = context(Delivery::Parts(sent.clone()));
        let lengths = [10, 90_000, 20, 1_500, 1_500, 1_500, 30];
        let texts = stream::iter(lengths.map(|length| "x".repeat(length)));
        let last = context.stream(texts).await;
        let counts: Vec<u64> = sent.0.lock().iter().map(|(_, items)| *items).collect();
        assert_eq!(counts, [1, 1, 3], "ten, ninety thousand, and three with twenty");
        assert!(matches!(last, Ok(Answer::FinalPart { items: 2, .. })), "{last:?}");
        let fault = context.stream(stream::iter(["x".repeat(100_000)])).await.expect_err("too large");
        assert_eq!(fault.code, Code::TOO_LARGE);
    }

    #[tokio::test]
    async fn caller_without_streams_gets_one_list_within_the_limit() {
        let list = context(Delivery::List { bytes: 100 });
        assert_eq!(list.stream(stream::iter(0..3)).await, Ok(Answer::Value(json!([0, 1, 2]))));
        let fault = list.stream(stream::iter(0..u64::MAX)).await.expect_err("endless");
        assert!(fault.code == Code::TOO_LARGE && fault.message.contains("ask for a stream"), "{fault}");
        let fault = context(Delivery::Refused).stream(stream::iter(0..3)).await.expect_err("refused");
        assert_eq!(fault.data["kind"], "is_stream");
    }
}
