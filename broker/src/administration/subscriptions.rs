//! Lists of subscriptions.

use std::sync::Arc;

use bytestring::ByteString;
use rantai_topics::overlap;

use super::{AdministrationError, Listed, Page, PageBuilder};
use crate::hub::Hub;
use crate::session::Session;
use crate::topic;

/// Number of filters examined before the task yields.
const FILTERS_PER_TURN: usize = 1_024;

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// Client id of the session.
    pub client_id: String,
    /// Filter of the subscription, with `$share/GROUP/` for a shared one.
    pub filter: String,
    /// Maximum QoS.
    pub qos: u8,
    /// Whether the client does not receive its own messages.
    pub no_local: bool,
}

/// Position in the list: after a filter of a session, or before its first one.
struct ListPosition {
    key: u64,
    filter: Option<String>,
}

impl ListPosition {
    fn parse(text: &str) -> Option<Self> {
        let (key, filter) = text.split_once(':')?;
        Some(Self { key: key.parse().ok()?, filter: Some(filter.to_owned()) })
    }
}

pub(super) async fn list(
    hub: Arc<Hub>,
    filter: String,
    Page { after, most }: Page,
) -> Result<Listed<SubscriptionInfo>, AdministrationError> {
    let place =
        after.map(|text| ListPosition::parse(&text).ok_or(AdministrationError::NoSuchPage)).transpose()?;
    // The session of the position is visited again.
    let mut last = place.as_ref().and_then(|place| place.key.checked_sub(1));
    let behind = |session: &Session| {
        place.as_ref().filter(|place| place.key == session.key).and_then(|place| place.filter.as_deref())
    };
    let (mut gathered, mut found, mut looked_at) = (PageBuilder::new(most), Vec::new(), 0);
    loop {
        let more = hub.look_at_some(&mut last, |_| Some(()), &mut found);
        for (session, ()) in found.drain(..) {
            let (matching, count) = matching(&session, &filter, behind(&session));
            for info in matching {
                let (bytes, next) = (info.bytes(), format!("{}:{}", session.key, info.filter));
                gathered.push(info, bytes);
                if gathered.is_full() {
                    return Ok(Listed { items: gathered.items, next: Some(next) });
                }
            }
            looked_at += 1 + count;
            if looked_at >= FILTERS_PER_TURN {
                looked_at = 0;
                tokio::task::yield_now().await;
            }
        }
        if !more {
            return Ok(Listed { items: gathered.items, next: None });
        }
        tokio::task::yield_now().await;
    }
}

/// Returns the subscriptions of a session that overlap with `filter`, sorted, only those after `behind`; and the
/// number of all its subscriptions.
fn matching(session: &Session, filter: &str, behind: Option<&str>) -> (Vec<SubscriptionInfo>, usize) {
    let state = session.state.lock();
    let plain = |filter: &ByteString| match topic::shared(filter) {
        Some(Some(shared)) => shared.filter.to_owned(),
        _ => filter.to_string(),
    };
    let mut found: Vec<_> = state
        .subscriptions
        .iter()
        .filter(|(own, _)| behind.is_none_or(|behind| ***own > *behind) && overlap(&plain(own), filter))
        .map(|(own, (options, _))| SubscriptionInfo {
            client_id: session.client_id.to_string(),
            filter: own.to_string(),
            qos: options.qos as u8,
            no_local: options.no_local,
        })
        .collect();
    let count = state.subscriptions.len();
    drop(state);
    found.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
    (found, count)
}

impl SubscriptionInfo {
    fn bytes(&self) -> usize {
        const ITEM_OVERHEAD_BYTES: usize = 64;
        ITEM_OVERHEAD_BYTES + self.client_id.len() + self.filter.len()
    }
}
