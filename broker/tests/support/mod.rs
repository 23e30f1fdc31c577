//! What the integration tests share: a raw MQTT client and a broker to point it at.
//!
//! The client knows no MQTT library, ours included, so that a mistake in the broker's codec cannot
//! hide behind the same mistake here. It writes packets byte by byte, malformed ones too, and reads
//! what the broker sends strictly: anything the standard forbids a server to send is a panic, in
//! whichever test it happens.
#![allow(dead_code, unused_imports, reason = "every test binary uses its own part of the kit")]

mod client;
mod incoming;
mod outgoing;
mod property;
mod target;
mod version;

pub(crate) use client::Client;
pub(crate) use incoming::{Ack, Connack, Packet, Suback};
pub(crate) use outgoing::{
    Connect, Publish, Will, ack, auth, binary, disconnect, frame, pingreq, string, subscribe, subscribe_with,
    unsubscribe, variable_integer,
};
pub(crate) use property::{Property, encode_properties};
pub(crate) use target::{Target, is_external, lapse, target, target_with, unique, unique_topic};
pub(crate) use version::Version;
