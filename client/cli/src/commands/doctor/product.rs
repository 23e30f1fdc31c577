//! Detection of the broker's product.

use std::time::Duration;

use super::link::{Link, with_retained};

/// Product of a broker, which advice depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Product {
    Rantai,
    Mosquitto,
    #[default]
    Other,
}

/// Topic on which mosquitto publishes its name, as other brokers do.
const VERSION_TOPIC: &str = "$SYS/broker/version";

impl Product {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rantai => "rantai",
            Self::Mosquitto => "mosquitto",
            Self::Other => "unknown",
        }
    }

    /// Detects the product of the broker; [`Other`](Self::Other) if the broker does not name it.
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
