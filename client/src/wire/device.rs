//! Topics between an adopted device and the node that serves its object, and the state of the device.

use super::name::{MethodName, ObjectName, Root};

/// Topic below `{root}/device/{object}`. The node publishes on [`Call`](Self::Call), the device on all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceTopic {
    /// `call`: requests to the device.
    Call,
    /// `reply`: responses of the device.
    Reply,
    /// `state`: the state of the device, retained.
    State,
    /// `event/{event}`: events of the device.
    Event(MethodName),
}

/// State of a device, as it publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It has subscribed to its calls.
    Online,
    /// It is away for a while: calls wait for it.
    Asleep,
    /// It is away. This is its will, and an empty payload.
    Offline,
}

impl DeviceTopic {
    /// Formats the topic.
    pub fn format(&self, root: &Root, object: &ObjectName) -> String {
        let below = match self {
            Self::Call => "call",
            Self::Reply => "reply",
            Self::State => "state",
            Self::Event(event) => return format!("{root}/device/{object}/event/{event}"),
        };
        format!("{root}/device/{object}/{below}")
    }

    /// Parses a topic; `None` for topics of other objects and of other kinds.
    pub fn parse(root: &Root, object: &ObjectName, topic: &str) -> Option<Self> {
        let below = topic.strip_prefix(root.as_str())?.strip_prefix("/device/")?;
        match below.strip_prefix(object.as_str())?.strip_prefix('/')? {
            "call" => Some(Self::Call),
            "reply" => Some(Self::Reply),
            "state" => Some(Self::State),
            other => MethodName::new(other.strip_prefix("event/")?).ok().map(Self::Event),
        }
    }

    /// Returns the filter for all events of a device.
    pub fn events(root: &Root, object: &ObjectName) -> String {
        format!("{root}/device/{object}/event/+")
    }
}

impl DeviceState {
    /// Parses a state: a word, which may be written as a JSON string; `None` for other payloads.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let text = payload.trim_ascii();
        let word = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
        match word {
            b"online" => Some(Self::Online),
            b"asleep" => Some(Self::Asleep),
            b"offline" => Some(Self::Offline),
            _ if payload.is_empty() => Some(Self::Offline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_as_they_are_written_and_only_for_their_object() {
        let event = DeviceTopic::Event(MethodName::new("pressed").expect("a name"));
        for root in ["rantai", "a/device/lamp"] {
            let (root, lamp) = (Root::new(root).expect("a root"), ObjectName::new("lamp").expect("a name"));
            let other = ObjectName::new("lamp.2").expect("a name");
            for topic in [DeviceTopic::Call, DeviceTopic::Reply, DeviceTopic::State, event.clone()] {
                let text = topic.format(&root, &lamp);
                assert_eq!(DeviceTopic::parse(&root, &lamp, &text), Some(topic), "{text}");
                assert_eq!(DeviceTopic::parse(&root, &other, &text), None, "{text}");
            }
            for other in ["device/lamp", "device/lamp/event/1", "device/lamp/event/a/b", "call/lamp/reply"] {
                assert_eq!(DeviceTopic::parse(&root, &lamp, &format!("{root}/{other}")), None, "{other}");
            }
        }
        let (root, lamp) = (Root::default(), ObjectName::new("lamp").expect("a name"));
        assert_eq!(event.format(&root, &lamp), "rantai/device/lamp/event/pressed");
        assert_eq!(DeviceTopic::events(&root, &lamp), "rantai/device/lamp/event/+");
    }

    #[test]
    fn states_are_words_and_a_cleared_one_is_offline() {
        for (payload, expected) in [
            ("online", Some(DeviceState::Online)),
            (" \"asleep\"\n", Some(DeviceState::Asleep)),
            ("offline", Some(DeviceState::Offline)),
            ("", Some(DeviceState::Offline)),
            ("\"online", None),
            ("{}", None),
            ("Online", None),
        ] {
            assert_eq!(DeviceState::read(payload.as_bytes()), expected, "{payload:?}");
        }
    }
}
