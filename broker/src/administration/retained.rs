//! Lists and deletion of retained messages.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::{Listed, Page, PageBuilder};
use crate::hub::Hub;
use crate::link::flush_all;
use crate::message::{Message, QoS};
use crate::retained::{Cursor, FilterSet, ReadLimits};
use crate::session::Scratch;
use crate::topic::is_own_value;

/// Limits of one read of the retained messages, during which publishers wait.
const READ_LIMITS: ReadLimits = ReadLimits { messages: 64, steps: 256 };
/// Number of messages deleted before the task yields: each is routed to its subscribers.
const DELETIONS_PER_TURN: usize = 16;

/// Retained message, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetainedInfo {
    /// Topic.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// Size of the payload, in bytes.
    pub bytes: usize,
    /// Expiry time, in milliseconds since 1970; `None` if the message does not expire.
    pub expires_at: Option<u64>,
}

/// Result of deleting retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Number of deleted messages.
    pub count: usize,
    /// Whether there may be more to delete, because the maximum of this call was reached.
    pub more: bool,
}

/// Reader of the messages of one filter, in parts.
struct Reader {
    filter: FilterSet,
    cursor: Cursor,
}

impl Reader {
    fn new(filter: &str, after: Option<&str>) -> Self {
        let mut set = FilterSet::default();
        set.insert(filter, 0);
        Self { filter: set, cursor: after.map(Cursor::behind).unwrap_or_default() }
    }

    /// Reads the next part, and returns its messages and whether the end was reached.
    fn next(&mut self, hub: &Hub) -> (Vec<Arc<Message>>, bool) {
        let (mut found, now) = (Vec::new(), hub.shared.clock.now_ms());
        let retained = hub.shared.retained.read();
        let take = |_, message: &Arc<Message>| found.push(message.clone());
        let progress = retained.read(&self.filter, &mut self.cursor, READ_LIMITS, now, take);
        (found, progress.done)
    }
}

pub(super) async fn list(hub: Arc<Hub>, filter: String, Page { after, most }: Page) -> Listed<RetainedInfo> {
    let mut reader = Reader::new(&filter, after.as_deref());
    let mut gathered = PageBuilder::new(most);
    loop {
        let (found, done) = reader.next(&hub);
        for message in found {
            const ITEM_OVERHEAD_BYTES: usize = 64;
            let topic = message.topic.to_string();
            let (bytes, next) = (ITEM_OVERHEAD_BYTES + topic.len(), topic.clone());
            let info = RetainedInfo {
                topic,
                qos: message.qos as u8,
                bytes: message.payload.len(),
                expires_at: message.expires,
            };
            gathered.push(info, bytes);
            if gathered.is_full() {
                return Listed { items: gathered.items, next: Some(next) };
            }
        }
        if done {
            return Listed { items: gathered.items, next: None };
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn delete(hub: Arc<Hub>, filter: String, most: usize) -> Deleted {
    let (mut reader, mut count) = (Reader::new(&filter, None), 0);
    loop {
        let (found, done) = reader.next(&hub);
        let mut topics = found.iter().map(|message| &message.topic).filter(|topic| !is_own_value(topic));
        loop {
            let mut scratch = Scratch::at(hub.shared.clock.now_ms());
            let mut deleted = 0;
            while deleted < DELETIONS_PER_TURN
                && let Some(topic) = topics.next()
            {
                if count >= most {
                    settle(&hub, &mut scratch);
                    return Deleted { count, more: true };
                }
                hub.router.publish_own(&deletion(topic), &mut scratch);
                deleted += 1;
                count += 1;
            }
            settle(&hub, &mut scratch);
            if deleted == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        if done {
            return Deleted { count, more: false };
        }
        tokio::task::yield_now().await;
    }
}

fn settle(hub: &Hub, scratch: &mut Scratch) {
    scratch.settle(&hub.shared);
    flush_all(&mut scratch.dirty);
}

/// Returns the message that deletes the retained message of a topic (MQTT 5, 3.3.1.3).
fn deletion(topic: &ByteString) -> Message {
    Message {
        topic: topic.clone(),
        payload: Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: true,
        ..Message::default()
    }
}
