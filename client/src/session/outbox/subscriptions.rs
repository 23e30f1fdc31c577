//! Subscribing and unsubscribing.

use rumqttc::v5::mqttbytes::v5 as packets;
use tokio::sync::oneshot;

use super::encode::{MAX_STRING_BYTES, filter};
use super::{Outbox, PendingSubscribe, PendingUnsubscribe, ResultSender};
use crate::session::decode::{reason_string, refusal};
use crate::session::error::SubscribeError;
use crate::session::message::Filter;

/// Maximum number of filters in one SUBSCRIBE after a reconnect.
const MAX_FILTERS_PER_SUBSCRIBE: usize = 64;

/// Returns the size of a SUBSCRIBE to these filters, in bytes.
fn subscribe_size(filters: &[Filter]) -> usize {
    let filters = filters.iter().map(filter).collect();
    packets::Subscribe { pkid: 1, filters, properties: None }.size()
}

/// Returns the size of an UNSUBSCRIBE from these filters, in bytes.
fn unsubscribe_size(filters: &[String]) -> usize {
    packets::Unsubscribe { pkid: 1, filters: filters.to_vec(), properties: None }.size()
}

impl Outbox {
    /// Sends a SUBSCRIBE; the returned receiver gets its result, or is closed when the connection is lost.
    pub(in crate::session) fn subscribe(
        &mut self,
        filters: Vec<Filter>,
    ) -> oneshot::Receiver<Result<(), SubscribeError>> {
        let (told, granted) = oneshot::channel();
        if filters.is_empty() {
            let _ = told.send(Ok(()));
        } else if let Some(bad) =
            filters.iter().find(|f| f.topic.is_empty() || f.topic.len() > MAX_STRING_BYTES)
        {
            let (filter, reason) = (bad.topic.clone(), "no filter".into());
            let _ = told.send(Err(SubscribeError::Refused { filter, reason }));
        } else if self.online && subscribe_size(&filters) > self.max_packet {
            // None of them is kept, as after a refusal by the broker.
            let topics: Vec<String> = filters.iter().map(|f| f.topic.clone()).collect();
            self.forget(&topics);
            let reason =
                format!("a SUBSCRIBE of more than the {} bytes that the broker takes", self.max_packet);
            let filter = topics.into_iter().next().unwrap_or_default();
            let _ = told.send(Err(SubscribeError::Refused { filter, reason: reason.into() }));
        } else if self.online {
            self.send_subscribe(filters, Some(told));
        }
        granted
    }

    /// Subscribes to all filters again, in packets within the broker's Maximum Packet Size.
    pub(super) fn subscribe_again(&mut self) {
        let mut rest = &self.subscriptions.clone()[..];
        while !rest.is_empty() {
            let mut count = rest.len().min(MAX_FILTERS_PER_SUBSCRIBE);
            while count > 0 && subscribe_size(&rest[..count]) > self.max_packet {
                count /= 2;
            }
            let (filters, behind) = rest.split_at(count.max(1));
            rest = behind;
            if count > 0 {
                self.send_subscribe(filters.to_vec(), None);
            } else {
                tracing::warn!(filter = %filters[0].topic, "longer than the packets that the broker takes: not subscribed");
            }
        }
    }

    /// Sends a SUBSCRIBE.
    fn send_subscribe(&mut self, filters: Vec<Filter>, told: Option<ResultSender<SubscribeError>>) {
        let pkid = self.next_id();
        let subscribe =
            packets::Subscribe { pkid, filters: filters.iter().map(filter).collect(), properties: None };
        self.write(&packets::Packet::Subscribe(subscribe));
        self.subscribing.insert(pkid, PendingSubscribe { filters, told });
    }

    /// Sends an UNSUBSCRIBE; the returned receiver gets its result. Returns `None` if there is nothing to unsubscribe.
    pub(in crate::session) fn unsubscribe(
        &mut self,
        filters: Vec<String>,
    ) -> Option<oneshot::Receiver<Result<(), SubscribeError>>> {
        self.forget(&filters);
        self.ephemeral.retain(|known| !filters.contains(known));
        if self.online {
            return self.send_unsubscribe(filters);
        }
        self.keep_unsubscribed(filters);
        None
    }

    /// Records filters to unsubscribe from on the next connection that resumes the session.
    pub(super) fn keep_unsubscribed(&mut self, filters: Vec<String>) {
        for filter in filters {
            if !self.unsubscribed.contains(&filter) {
                self.unsubscribed.push(filter);
            }
        }
    }

    /// Records the filters that end with the connection, and those whose SUBSCRIBE has no answer: a resumed session
    /// would still have them, although nobody needs them any more.
    pub(super) fn keep_ephemeral(&mut self) {
        let mut filters = std::mem::take(&mut self.ephemeral);
        for PendingSubscribe { filters: asked, .. } in std::mem::take(&mut self.subscribing).into_values() {
            filters.extend(asked.into_iter().map(|filter| filter.topic));
        }
        filters.retain(|filter| !self.subscriptions.iter().any(|kept| kept.topic == *filter));
        self.keep_unsubscribed(filters);
    }

    /// Sends UNSUBSCRIBEs. Returns `None` if there is nothing to unsubscribe.
    pub(super) fn send_unsubscribe(
        &mut self,
        filters: Vec<String>,
    ) -> Option<oneshot::Receiver<Result<(), SubscribeError>>> {
        // If there are too many for one packet, the result is that of the last packet.
        let mut rest = filters;
        let mut last = None;
        while !rest.is_empty() {
            let mut count = rest.len();
            while count > 0 && unsubscribe_size(&rest[..count]) > self.max_packet {
                count /= 2;
            }
            let behind = rest.split_off(count.max(1));
            let filters = std::mem::replace(&mut rest, behind);
            // A filter longer than a packet may be was never subscribed to.
            if count > 0 {
                let (told, done) = oneshot::channel();
                let pkid = self.next_id();
                let unsubscribe = packets::Unsubscribe { pkid, filters: filters.clone(), properties: None };
                self.write(&packets::Packet::Unsubscribe(unsubscribe));
                self.unsubscribing.insert(pkid, PendingUnsubscribe { filters, told });
                last = Some(done);
            }
        }
        last
    }

    /// Removes filters from those that are subscribed again after a reconnect, including those not granted yet. They
    /// end with the connection.
    pub(in crate::session) fn forget(&mut self, filters: &[String]) {
        let is_forgotten = |known: &mut Filter| filters.contains(&known.topic);
        let mut forgotten: Vec<String> =
            self.subscriptions.extract_if(.., is_forgotten).map(|filter| filter.topic).collect();
        if self.online {
            self.ephemeral.append(&mut forgotten);
        } else {
            self.keep_unsubscribed(forgotten);
        }
        for asked in self.subscribing.values_mut().flat_map(|subscribe| &mut subscribe.filters) {
            asked.lasting &= !filters.contains(&asked.topic);
        }
    }

    fn remove(&mut self, filters: &[String]) {
        self.subscriptions.retain(|known| !filters.contains(&known.topic));
        self.ephemeral.retain(|known| !filters.contains(known));
    }

    /// Handles a SUBACK. Returns the refusal of a filter that was subscribed again after a reconnect, for which no
    /// caller waits.
    pub(in crate::session) fn granted(&mut self, ack: &packets::SubAck) -> Option<SubscribeError> {
        let PendingSubscribe { filters, told } = self.subscribing.remove(&ack.pkid)?;
        let codes = &ack.return_codes;
        let why = reason_string(ack.properties.as_ref().and_then(|told| told.reason_string.as_deref()));
        let refused = filters.iter().zip(codes).find_map(|(filter, code)| {
            let reason = refusal(*code, &why)?;
            Some(SubscribeError::Refused { filter: filter.topic.clone(), reason })
        });
        let topics: Vec<String> = filters.iter().map(|f| f.topic.clone()).collect();
        self.remove(&topics);
        let Some(told) = told else {
            // After a reconnect, each filter is granted or refused separately.
            let granted = filters.into_iter().zip(codes).filter(|(_, code)| refusal(**code, "").is_none());
            self.subscriptions.extend(granted.map(|(filter, _)| filter).filter(|filter| filter.lasting));
            return refused;
        };
        let result = match refused {
            None => {
                let (lasting, others): (Vec<_>, Vec<_>) =
                    filters.into_iter().partition(|filter| filter.lasting);
                self.subscriptions.extend(lasting);
                self.ephemeral.extend(others.into_iter().map(|filter| filter.topic));
                Ok(())
            }
            Some(error) => {
                let granted = topics.into_iter().zip(codes).filter(|(_, code)| refusal(**code, "").is_none());
                self.ephemeral.extend(granted.map(|(topic, _)| topic));
                Err(error)
            }
        };
        let _ = told.send(result);
        None
    }

    /// Handles an UNSUBACK.
    pub(in crate::session) fn ungranted(&mut self, id: u16) {
        if let Some(PendingUnsubscribe { told, .. }) = self.unsubscribing.remove(&id) {
            let _ = told.send(Ok(()));
        }
    }
}
