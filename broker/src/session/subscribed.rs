//! Storing subscriptions, with the progress of reading their retained messages.

use bytestring::ByteString;

use super::SessionState;
use super::reads::RetainedRead;
use crate::message::QoS;
use crate::store::{Op, SubscriptionRecord};

impl SessionState {
    /// Ends the read of retained messages after an unsubscribe.
    pub(crate) fn end_read(&mut self, filter: &ByteString) {
        self.reads.end(filter);
    }

    /// Continues a read of retained messages that was in progress when the broker stopped.
    pub(crate) fn restore_read(&mut self, filter: ByteString, record: &SubscriptionRecord) {
        if let Some(key) = &record.reading {
            let from = key.clone();
            self.reads.begin(RetainedRead { filter, qos: record.qos, identifier: record.identifier, from });
        }
    }

    /// Returns the store operation for a subscription, with the progress of reading its retained messages. With
    /// `begins`, they are about to be read from the beginning.
    pub(crate) fn subscription_op(&self, key: u64, filter: &ByteString, begins: bool) -> Option<Op> {
        let (options, identifier) = self.subscriptions.get(filter)?;
        let reading = if begins {
            Some(ByteString::new())
        } else {
            let read = self.reads.get(filter).filter(|read| read.qos != QoS::AtMostOnce);
            read.map(|read| read.from.clone())
        };
        let options = SubscriptionRecord {
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            identifier: *identifier,
            reading: reading.filter(|_| options.qos != QoS::AtMostOnce),
        };
        Some(Op::Subscribe { key, filter: filter.clone(), options })
    }
}
