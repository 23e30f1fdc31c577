//! Which broker it is, by its own word.

use std::time::Duration;

use super::link::{Link, with_retained};

/// A broker as a product, for what to do about an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Product {
    Rantai,
    Mosquitto,
    #[default]
    Other,
}

/// Where mosquitto says its name, and others do.
const VERSION_TOPIC: &str = "$SYS/broker/version";

impl Product {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rantai => "rantai",
            Self::Mosquitto => "mosquitto",
            Self::Other => "unknown",
        }
    }

    /// Recognizes the broker at the other end; [`Other`](Self::Other) where it does not say.
    pub(super) async fn of(link: &mut Link, wait: Duration) -> Self {
        if link.features().is_some() {
            return Self::Rantai;
        }
        if link.subscribe(VERSION_TOPIC, with_retained()).await.is_err() {
            return Self::Other;
        }
        match link.receive_within(VERSION_TOPIC, wait).await {
            Ok(Some(version)) if version.payload.starts_with(b"mosquitto") => Self::Mosquitto,
            _ => Self::Other,
        }
    }
}
