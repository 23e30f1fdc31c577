//! Detects servers of another protocol by the first bytes of their answer, and suggests the address to try.

use super::address::Place;
use super::error::ConnectError;

/// Protocol that the peer speaks instead of the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// TLS: the peer answers with an alert.
    Tls,
    /// HTTP, with which a WebSocket begins.
    Http,
    /// MQTT: a CONNACK or a DISCONNECT.
    Mqtt,
    /// None: the peer closes the connection without an answer.
    Nothing,
}

impl Spoken {
    /// Returns the protocol that these first bytes reveal, if any.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        match first {
            [0x15, 3, ..] => Some(Self::Tls),
            [b'H', b'T', b'T', b'P', ..] => Some(Self::Http),
            // Start of a CONNACK of MQTT 3.1.1 or 5 with its length, or of a DISCONNECT.
            [0x20, 2..=127, ..] | [0xE0, _, ..] => Some(Self::Mqtt),
            _ => None,
        }
    }
}

/// Returns the error, with the address to try, for a place whose port speaks another protocol below the layer that was
/// to be established; `None` if the protocol is the expected one, and for unix sockets.
pub(super) fn mismatch(place: &Place, spoken: Spoken) -> Option<ConnectError> {
    let Place::Network { host, port, tls, path } = place else { return None };
    let (is_tls, is_web) = (*tls, path.is_some());
    let (is, tls, web) = match (spoken, is_tls, is_web) {
        (Spoken::Tls, false, web) => ("answers by TLS", true, web),
        (Spoken::Http, false, false) => ("answers by HTTP", false, true),
        (Spoken::Http, true, false) => ("answers by HTTP", true, true),
        (Spoken::Mqtt, tls, true) => ("answers by MQTT without WebSocket", tls, false),
        (Spoken::Nothing, false, true) => {
            ("closed the connection before WebSocket was agreed on, as ports for MQTT alone do", false, false)
        }
        (Spoken::Nothing, true, true) => {
            ("closed the connection before WebSocket was agreed on, as ports for MQTT alone do", true, false)
        }
        _ => return None,
    };
    Some(other_protocol(host, *port, place, is, tls, web))
}

/// Same as [`mismatch`], for a place by TLS where the TLS handshake failed.
pub(super) fn without_tls(place: &Place, spoken: Option<Spoken>) -> Option<ConnectError> {
    let Place::Network { host, port, tls: true, path } = place else { return None };
    let (is, web) = match spoken? {
        Spoken::Tls => return None,
        Spoken::Http => ("answers by HTTP without TLS", true),
        Spoken::Mqtt => ("answers by MQTT without TLS", false),
        Spoken::Nothing => {
            ("closed the connection before TLS was agreed on, as ports without TLS do", path.is_some())
        }
    };
    Some(other_protocol(host, *port, place, is, false, web))
}

fn other_protocol(
    host: &str,
    port: u16,
    place: &Place,
    is: &'static str,
    tls: bool,
    web: bool,
) -> ConnectError {
    let path = match place {
        Place::Network { path: Some(path), .. } if web => Some(path.clone()),
        _ => web.then(|| "/mqtt".to_owned()),
    };
    let instead = Place::Network { host: host.to_owned(), port, tls, path };
    ConnectError::OtherProtocol { address: place.to_string(), is, instead: instead.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::address::Address;

    fn place(url: &str) -> Place {
        url.parse::<Address>().expect(url).endpoints[0].place.clone()
    }

    #[test]
    fn protocol_is_recognized_by_first_bytes() {
        for (bytes, spoken) in [
            (&[0x15, 3, 3, 0, 2][..], Some(Spoken::Tls)),
            (b"HTTP/1.1 400", Some(Spoken::Http)),
            (&[0x20, 2, 0, 1], Some(Spoken::Mqtt)),
            (&[0xE0, 1, 0x81], Some(Spoken::Mqtt)),
            (b"SSH-2.0-", None),
            (&[], None),
        ] {
            assert_eq!(Spoken::of(bytes), spoken, "{bytes:?}");
        }
    }

    #[test]
    fn suggested_address_has_the_scheme_of_the_spoken_protocol() {
        for (url, spoken, instead) in [
            ("mqtt://pi", Spoken::Tls, Some("mqtts://pi:1883")),
            ("ws://pi:9/a", Spoken::Tls, Some("wss://pi:9/a")),
            ("mqtt://[::1]:9", Spoken::Http, Some("ws://[::1]:9/mqtt")),
            ("mqtts://pi:9", Spoken::Http, Some("wss://pi:9/mqtt")),
            ("ws://pi:1883", Spoken::Nothing, Some("mqtt://pi:1883")),
            ("wss://pi:8883", Spoken::Nothing, Some("mqtts://pi:8883")),
            ("ws://pi", Spoken::Http, None),
            ("mqtt://pi", Spoken::Mqtt, None),
            ("mqtts://pi", Spoken::Mqtt, None),
            ("wss://pi:8883", Spoken::Mqtt, Some("mqtts://pi:8883")),
            ("unix:/s", Spoken::Http, None),
        ] {
            let told = match mismatch(&place(url), spoken) {
                Some(ConnectError::OtherProtocol { instead, .. }) => Some(instead),
                _ => None,
            };
            assert_eq!(told.as_deref(), instead, "{url} {spoken:?}");
        }
        for (url, spoken, instead) in [
            ("mqtts://pi", Spoken::Nothing, "mqtt://pi:8883"),
            ("mqtts://pi:1883", Spoken::Mqtt, "mqtt://pi:1883"),
            ("mqtts://pi:80", Spoken::Http, "ws://pi:80/mqtt"),
            ("wss://pi/a", Spoken::Nothing, "ws://pi:443/a"),
        ] {
            let Some(error) = without_tls(&place(url), Some(spoken)) else { panic!("{url}") };
            assert!(error.to_string().ends_with(&format!("; try {instead}")), "{error}");
        }
    }
}
