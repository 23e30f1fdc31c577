//! Items that objects and callers need of a broker. Each file is one exchange with it.

mod delivery;
mod load;
mod network;
mod packet_size;
mod reach;
mod request;
mod retained;
mod session;
mod shared;
mod versions;
mod will;

use bytes::Bytes;
use rantai_client::wire::entry::{Entry, Mode, VERSION};
use rantai_client::wire::name::{ClientId, ObjectName};

use super::examination::{Examination, Probe};
use super::item::{self, Finding};
use super::{Running, running};

pub(super) use load::names;
pub(super) use network::{certificate, encryption, plain_port};
pub(super) use reach::{Reach, reach};
pub(super) use versions::versions;

/// Expiry of everything that an examination publishes, in seconds, in case it cannot be removed.
pub(super) const EXPIRY: u32 = 60;
/// How long to wait for a retained message, or for one that should not come.
const SHORT_WAIT: std::time::Duration = std::time::Duration::from_millis(300);

/// Returns the examinations that use MQTT 5, each on connections of its own.
pub(super) fn examinations(examination: &Examination) -> Vec<Running<'_>> {
    vec![
        running(examination, item::RETAINED, retained::retained),
        running(examination, item::WILL, will::will),
        Box::pin(async { request::request(examination.probe()).await }),
        running(examination, item::SHARED, shared::shared),
        running(examination, item::NO_SUBSCRIBERS, shared::no_subscribers),
        running(examination, item::PACKET_SIZE, packet_size::packet_size),
        running(examination, item::EXPIRY, retained::expiry),
        running(examination, item::ORDER, delivery::order),
        running(examination, item::RECEIVE_MAXIMUM, delivery::receive_maximum),
        running(examination, item::SESSION, session::session),
        running(examination, item::QOS_2, delivery::qos_2),
    ]
}

/// Creates a registry entry that is not settled, so that callers do not take the object for served.
pub(super) fn entry(object: &ObjectName, node: &ClientId, summary: &str) -> Bytes {
    let entry = Entry {
        v: VERSION,
        object: object.to_string(),
        node: node.to_string(),
        epoch: "00000000".to_owned(),
        mode: Mode::Exclusive,
        settled: false,
        form: None,
        version: String::new(),
        summary: summary.to_owned(),
        tags: Vec::new(),
        methods: Vec::new(),
        events: Vec::new(),
    };
    entry.write().expect("a small entry").into()
}
