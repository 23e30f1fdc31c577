//! Subscribing and unsubscribing.

use rumqttc::v5::mqttbytes::v5 as packets;
use tokio::sync::oneshot;

use super::encode::{LONGEST_STRING, filter};
use super::{Outbox, PendingSubscribe, ResultSender};
use crate::session::decode::{reason_string, refusal};
use crate::session::error::SubscribeError;
use crate::session::message::Filter;

impl Outbox {
    /// Sends a SUBSCRIBE; the receiver gets its result, or is closed when the connection is lost.
    pub(in crate::session) fn subscribe(
        &mut self,
        filters: Vec<Filter>,
    ) -> oneshot::Receiver<Result<(), SubscribeError>> {
        let (told, granted) = oneshot::channel();
        if filters.is_empty() {
            let _ = told.send(Ok(()));
        } else if let Some(bad) =
            filters.iter().find(|f| f.topic.is_empty() || f.topic.len() > LONGEST_STRING)
        {
            let (filter, reason) = (bad.topic.clone(), "no filter".into());
            let _ = told.send(Err(SubscribeError::Refused { filter, reason }));
        } else if self.online {
            self.send_subscribe(filters, Some(told));
        }
        granted
    }

    /// Sends a SUBSCRIBE.
    pub(super) fn send_subscribe(
        &mut self,
        filters: Vec<Filter>,
        told: Option<ResultSender<SubscribeError>>,
    ) {
        let pkid = self.next_id();
        let subscribe =
            packets::Subscribe { pkid, filters: filters.iter().map(filter).collect(), properties: None };
        self.write(&packets::Packet::Subscribe(subscribe));
        self.subscribing.insert(pkid, PendingSubscribe { filters, told });
    }

    /// Sends an UNSUBSCRIBE; the receiver gets its result. `None` when there is nothing to unsubscribe.
    pub(in crate::session) fn unsubscribe(
        &mut self,
        filters: Vec<String>,
    ) -> Option<oneshot::Receiver<Result<(), SubscribeError>>> {
        self.forget(&filters);
        if !self.online || filters.is_empty() {
            return None;
        }
        let (told, done) = oneshot::channel();
        let pkid = self.next_id();
        self.write(&packets::Packet::Unsubscribe(packets::Unsubscribe { pkid, filters, properties: None }));
        self.unsubscribing.insert(pkid, told);
        Some(done)
    }

    /// Removes filters from those that are subscribed again after a reconnect, also where the broker has not granted them
    /// yet.
    pub(in crate::session) fn forget(&mut self, filters: &[String]) {
        self.remove(filters);
        for asked in self.subscribing.values_mut().flat_map(|subscribe| &mut subscribe.filters) {
            asked.lasting &= !filters.contains(&asked.topic);
        }
    }

    fn remove(&mut self, filters: &[String]) {
        self.subscriptions.retain(|known| !filters.contains(&known.topic));
    }

    /// Handles a SUBACK. Returns the refusal of a filter that was subscribed again after a reconnect, as nobody waits
    /// for its result.
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
            // After a reconnect each filter is granted or refused by itself.
            let granted = filters.into_iter().zip(codes).filter(|(_, code)| refusal(**code, "").is_none());
            self.subscriptions.extend(granted.map(|(filter, _)| filter).filter(|filter| filter.lasting));
            return refused;
        };
        let result = match refused {
            None => {
                self.subscriptions.extend(filters.into_iter().filter(|f| f.lasting));
                Ok(())
            }
            Some(error) => Err(error),
        };
        let _ = told.send(result);
        None
    }

    /// Handles an UNSUBACK.
    pub(in crate::session) fn ungranted(&mut self, id: u16) {
        if let Some(told) = self.unsubscribing.remove(&id) {
            let _ = told.send(Ok(()));
        }
    }
}
