//! Codec: bytes to packets and back, in MQTT 3.1.1 or 5 depending on CONNECT.
//!
//! rmqtt-codec reads and writes every packet but the two that carry the traffic. PUBLISH and its acknowledgements are
//! read and written here: rmqtt-codec drops a Message Expiry of 0 and a Payload Format of 0 on the way to the
//! subscriber, cannot patch a packet id into an encoded frame, and reserves memory for each frame. So are SUBSCRIBE and
//! UNSUBSCRIBE, whose filters rmqtt-codec reads all at once. Checks that it lacks for other packets are made in
//! [`decode`]. Nothing of rmqtt-codec is visible outside this folder.

mod connect;
mod decode;
mod encode;
mod error;
mod filters;
mod frame;
mod id;
mod mqtt31;
mod packet;
mod properties;
mod protocol;
mod publish;
mod reason;
mod version;

pub(crate) use connect::announced_version;
pub(crate) use decode::{decode, is_publish, read_publish, short_acknowledgement};
pub(crate) use encode::{
    AROUND_REASON_STRING, Acknowledge, ConnAck, REASON_STRING_BYTES, acknowledge, connack, disconnect,
    ping_response, suback, unsuback,
};
pub(crate) use error::DecodeError;
pub(crate) use filters::PacketFilters;
pub(crate) use frame::frame;
pub(crate) use id::USER_PROPERTY;
pub(crate) use packet::{
    Acknowledgement, Connect, Options, Packet, Publish, RetainHandling, Subscribe, Will,
};
pub(crate) use properties::TOO_MANY_USER_PROPERTIES;
pub(crate) use protocol::Protocol;
pub(crate) use publish::{Encoded, Outgoing, encode_publish, patch_packet_id};
pub(crate) use reason::Reason;
pub(crate) use version::Version;

#[cfg(test)]
mod tests;
