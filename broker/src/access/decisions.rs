//! Cache of access decisions: most clients use few topics.

use bytestring::ByteString;
use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;

use super::{Allowed, Denial};

/// Maximum number of cached decisions per client.
const MAX_CACHED_DECISIONS: usize = 32;
/// Maximum length of a topic whose decision is cached, in bytes.
const MAX_CACHED_TOPIC_BYTES: usize = 256;

/// Cached decisions about topics, by one generation of rules. Allocates nothing before the first decision.
#[derive(Debug, Default)]
pub(crate) struct Decisions(Option<Box<CachedDecisions>>);

#[derive(Debug, Default)]
struct CachedDecisions {
    generation: u64,
    by_topic: IndexMap<ByteString, Result<Allowed, Denial>, DefaultHashBuilder>,
    /// Index of the last topic looked up. It is compared first, because consecutive packets often have the same topic,
    /// and a comparison costs less than a hash.
    last: usize,
}

impl Decisions {
    /// Returns the decision about `topic` by the rules of `generation`: a cached one, or that of `decide`.
    pub(crate) fn of(
        &mut self,
        generation: u64,
        topic: &str,
        decide: impl FnOnce() -> Result<Allowed, Denial>,
    ) -> Result<Allowed, Denial> {
        let kept = self.0.get_or_insert_default();
        if kept.generation != generation {
            **kept = CachedDecisions { generation, ..CachedDecisions::default() };
        }
        if let Some((last, decision)) = kept.by_topic.get_index(kept.last)
            && last == topic
        {
            return decision.clone();
        }
        if let Some((index, _, decision)) = kept.by_topic.get_full(topic) {
            kept.last = index;
            return decision.clone();
        }
        let decision = decide();
        if topic.len() <= MAX_CACHED_TOPIC_BYTES {
            if kept.by_topic.len() >= MAX_CACHED_DECISIONS {
                kept.by_topic.clear();
            }
            // Copied, because the cached topic would otherwise keep the whole packet in memory.
            (kept.last, _) = kept.by_topic.insert_full(ByteString::from(topic), decision.clone());
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_cached_until_the_rules_change() {
        let mut decisions = Decisions::default();
        let mut asked = 0;
        let mut ask = |generation, topic: &str| {
            let _ = decisions.of(generation, topic, || {
                asked += 1;
                Ok(Allowed::Yes)
            });
            asked
        };
        assert_eq!((ask(1, "a"), ask(1, "a"), ask(1, "b"), ask(2, "a"), ask(2, "a")), (1, 1, 2, 3, 3));
        assert_eq!((ask(2, "b"), ask(2, "a"), ask(2, "b"), ask(2, "b")), (4, 4, 4, 4), "in turn");
        let long = "x".repeat(MAX_CACHED_TOPIC_BYTES + 1);
        assert_eq!((ask(2, &long), ask(2, &long)), (5, 6), "nobody keeps long topics here");
        for number in 0..10 * MAX_CACHED_DECISIONS {
            ask(2, &number.to_string());
        }
        assert!(decisions.0.expect("some are kept").by_topic.len() <= MAX_CACHED_DECISIONS);
    }
}
