//! Expiry times of other nodes' retained messages: the broker discards expired messages without notifying subscribers.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Margin added to every expiry, as the broker counts in whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

/// Topics whose retained messages expire, by topic and by time.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    known: Mutex<KnownExpiries>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct KnownExpiries {
    by_topic: HashMap<String, Instant>,
    by_time: BTreeSet<(Instant, String)>,
}

impl KnownExpiries {
    fn remove(&mut self, topic: &str) {
        if let Some((topic, time)) = self.by_topic.remove_entry(topic) {
            self.by_time.remove(&(time, topic));
        }
    }
}

impl Expiries {
    /// Records that the message on a topic expires in this many seconds; `None` if it does not expire, or was removed.
    pub(crate) fn note(&self, topic: &str, seconds: Option<u32>) {
        let mut known = self.known.lock();
        known.remove(topic);
        if let Some(seconds) = seconds {
            let time = Instant::now() + Duration::from_secs(seconds.into()) + ROUNDING;
            known.by_topic.insert(topic.to_owned(), time);
            known.by_time.insert((time, topic.to_owned()));
            self.changed.notify_one();
        }
    }

    /// Removes all expiry times.
    pub(crate) fn clear(&self) {
        *self.known.lock() = KnownExpiries::default();
    }

    /// Waits until a message has expired, and returns its topic. Cancelling loses none.
    pub(crate) async fn ended(&self) -> String {
        loop {
            let next = self.known.lock().by_time.first().map(|(time, _)| *time);
            let due = async {
                match next {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    let mut known = self.known.lock();
                    let first = known.by_time.first().filter(|(time, _)| *time <= Instant::now());
                    if let Some((_, topic)) = first.cloned() {
                        known.remove(&topic);
                        return topic;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_end_in_the_order_of_their_expiry() {
        let (expiries, began) = (Expiries::default(), Instant::now());
        for (topic, seconds) in [("a", 30), ("b", 10), ("c", 20), ("d", 5)] {
            expiries.note(topic, Some(seconds));
        }
        expiries.note("c", None);
        expiries.note("b", Some(40));
        for (topic, seconds) in [("d", 6), ("a", 31), ("b", 41)] {
            assert_eq!((&*expiries.ended().await, began.elapsed().as_secs()), (topic, seconds));
        }
        expiries.note("e", Some(1));
        expiries.clear();
        assert!(tokio::time::timeout(Duration::from_secs(9), expiries.ended()).await.is_err());
    }
}
