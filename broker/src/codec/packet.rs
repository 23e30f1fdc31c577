//! Packets that a client may send, as the broker handles them.

use bytes::Bytes;
use bytestring::ByteString;

use super::filters::PacketFilters;
use super::protocol::Protocol;
use super::version::Version;
use crate::message::{Message, QoS};

/// A packet that a client may send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    Acknowledgement(Acknowledgement),
    Subscribe(Subscribe),
    Unsubscribe {
        id: u16,
        filters: PacketFilters,
    },
    PingReq,
    /// `expiry` is the Session Expiry Interval of the packet, in seconds.
    Disconnect {
        with_will: bool,
        expiry: Option<u32>,
    },
    Auth,
}

/// Acknowledgement of the message with the packet id `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    Ack {
        id: u16,
    },
    /// PUBREC. With `refused`, the reason code is 0x80 or above, and the delivery ends here (MQTT 5, 4.3.3).
    Rec {
        id: u16,
        refused: bool,
    },
    Rel {
        id: u16,
    },
    Comp {
        id: u16,
    },
}

impl Acknowledgement {
    /// Returns whether this is the client's last packet of a delivery, which the broker does not answer.
    pub(crate) fn ends_a_delivery(self) -> bool {
        matches!(self, Self::Ack { .. } | Self::Rec { refused: true, .. } | Self::Comp { .. })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) protocol: Protocol,
    /// Whether the client is a broker's bridge, as announced by a bit of its protocol level.
    pub(crate) bridge: bool,
    pub(crate) version: Version,
    pub(crate) client_id: ByteString,
    pub(crate) clean_start: bool,
    /// Keep Alive in seconds; 0 disables it.
    pub(crate) keep_alive: u16,
    /// Session Expiry Interval in seconds; `u32::MAX` never expires. In MQTT 3.1.1 it is 0 or `u32::MAX`, depending on
    /// the clean session flag.
    pub(crate) session_expiry: u32,
    pub(crate) receive_maximum: u16,
    /// Maximum Packet Size in bytes; `u32::MAX` if the client sets no limit.
    pub(crate) packet_maximum: u32,
    pub(crate) alias_maximum: u16,
    pub(crate) problem_information: bool,
    pub(crate) authentication_method: Option<ByteString>,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<ByteString>,
    pub(crate) password: Option<Bytes>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Will {
    /// Message of the will. Its expiry time is set when the will is published, not when the client connects.
    pub(crate) message: Message,
    /// Message Expiry Interval in seconds.
    pub(crate) expiry: Option<u32>,
    /// Will Delay Interval in seconds.
    pub(crate) delay: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) message: Message,
    pub(crate) dup: bool,
    /// Packet id; 0 at QoS 0.
    pub(crate) id: u16,
    pub(crate) alias: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    pub(crate) identifier: Option<u32>,
    pub(crate) filters: PacketFilters,
}

/// Subscription options (MQTT 5, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription (MQTT 5, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    #[default]
    AtSubscribe,
    IfNew,
    Never,
}

impl RetainHandling {
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtSubscribe),
            1 => Some(Self::IfNew),
            2 => Some(Self::Never),
            _ => None,
        }
    }
}
