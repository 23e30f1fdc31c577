//! Common parts of the integration tests: a raw MQTT client, and a broker for it.
//!
//! The client writes and parses packets with `rantai-testing`, without an MQTT library. Anything that the standard
//! forbids a server to send causes a panic, in any test.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of the kit")]

mod client;
pub(crate) mod listen;
mod target;

pub(crate) use client::Client;
pub(crate) use rantai_testing::{
    Ack, Connack, Connect, Packet, Place, Property, Publish, Suback, Version, Will, ack, auth, binary,
    disconnect, encode_properties, frame, keep_to_addresses, keep_to_tcp, pingreq, string, subscribe,
    subscribe_with, unique, unsubscribe, variable_integer,
};
pub(crate) use target::{Target, is_external, lapse, target, target_with, unique_topic};

/// Returns a user with a password record of the lowest cost.
pub(crate) fn user(name: &str, password: &str) -> rantai_broker::User {
    let record =
        rantai_broker::Record::new(password.as_bytes(), rantai_broker::Cost::LOWEST).expect("hashed");
    rantai_broker::User::new(name, Some(record))
}
