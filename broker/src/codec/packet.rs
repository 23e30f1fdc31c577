//! The packets that a client may send, as this broker works with them.

use bytes::Bytes;
use bytestring::ByteString;

use super::filters::PacketFilters;
use super::protocol::Protocol;
use super::version::Version;
use crate::message::{Message, QoS};

/// A packet a client may send.
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
    /// `expiry`: the Session Expiry Interval it carried, in seconds.
    Disconnect {
        with_will: bool,
        expiry: Option<u32>,
    },
    Auth,
}

/// A step in the delivery of the message with the packet id `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    Ack {
        id: u16,
    },
    /// `refused`: the reason code is 0x80 or above, and the delivery ends here (MQTT 5, 4.3.3).
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
    /// Whether it is the client's last word on a message it was sent, to which the broker has nothing to say.
    pub(crate) fn ends_a_delivery(self) -> bool {
        matches!(self, Self::Ack { .. } | Self::Rec { refused: true, .. } | Self::Comp { .. })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) protocol: Protocol,
    /// Whether it comes from another broker, which says so by a bit of its protocol level.
    pub(crate) bridge: bool,
    pub(crate) version: Version,
    pub(crate) client_id: ByteString,
    pub(crate) clean_start: bool,
    /// Seconds; 0 switches it off.
    pub(crate) keep_alive: u16,
    /// Seconds; `u32::MAX` never expires. For 3.1.1: 0 or `u32::MAX`, by its clean session flag.
    pub(crate) session_expiry: u32,
    pub(crate) receive_maximum: u16,
    /// The largest packet the client takes; `u32::MAX` where it set no limit.
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
    /// Its expiry is set when the will is published, not when the client connects.
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
    /// 0 at QoS 0.
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
