//! Protection of the connection to the broker against eavesdropping.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use rantai_client::session::{Address, ConnectError, open};
use tokio::time::{Instant, timeout_at};
use x509_parser::parse_x509_certificate;

use super::super::identity::Identity;
use super::super::link::Link;
use super::super::trouble::Trouble;
use super::{Examination, Finding, Probe, item};

/// Number of days before the end of a certificate at which it should be renewed.
const SOON: i64 = 14;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;
/// Port of MQTT without TLS.
const PLAIN_PORT: u16 = 1883;

/// Checks whether messages and passwords can be read on the network.
pub(in super::super) fn encryption(examination: &Examination) -> Finding {
    let address = examination.address.to_string();
    if examination.address.uses_tls() {
        return item::ENCRYPTION.ok("by TLS");
    }
    let is_local = address.starts_with("unix:")
        || host(&address).is_none_or(|host| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        });
    if is_local {
        return item::ENCRYPTION.ok("none, within this machine");
    }
    item::ENCRYPTION.bad("none: whoever can listen on the network reads passwords and messages")
}

/// Checks how long the broker's certificate is valid. That a trusted authority issued it for this host has been checked by
/// every connection before.
pub(in super::super) async fn certificate(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let opened = timeout_at(probe.deadline, open(&probe.examination.address)).await;
    let stream =
        opened.map_err(|_| Trouble::Silent("a connection with TLS"))?.map_err(Trouble::unreachable)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    let mut ends = Vec::new();
    for (place, certificate) in stream.certificates().into_iter().enumerate() {
        let (_, certificate) = parse_x509_certificate(&certificate)
            .map_err(|error| Trouble::wrong(format!("its certificate cannot be read: {error}")))?;
        ends.push(((certificate.validity().not_after.timestamp() - now) / SECONDS_A_DAY, place));
    }
    // The chain is valid until its first certificate expires.
    let (days, place) = ends.into_iter().min().ok_or_else(|| Trouble::wrong("it shows no certificate"))?;
    let whose = if place == 0 { "" } else { " (that of an authority which it shows beside its own)" };
    if days < SOON {
        return Err(Trouble::wrong(format!("valid for {days} more days{whose}")));
    }
    Ok(item::CERTIFICATE.ok(format!(
        "issued for this host by an authority that is trusted; valid for {days} more days{whose}"
    )))
}

/// Checks whether the broker accepts unencrypted connections too.
pub(in super::super) async fn plain_port(probe: Probe<'_>) -> Result<Finding, Trouble> {
    let examination = probe.examination;
    let address = examination.address.to_string();
    let host = host(&address).unwrap_or_default();
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let plain = format!("mqtt://{shown}:{PLAIN_PORT}");
    let known: Address = plain.parse().map_err(|_| Trouble::wrong(format!("{host} is no host")))?;
    // Without a login, as a password would be sent unencrypted.
    let identity = Identity { address: Rc::new(known), ..examination.anonymous() };
    let limits = examination.limits(Instant::now() + probe.patience());
    match Link::connect(&identity, identity.connect(), limits).await {
        Ok(_) | Err(Trouble::Refused { .. }) => {
            Err(Trouble::wrong(format!("{plain} takes connections, too: who uses it is not encrypted")))
        }
        Err(Trouble::Malformed(_)) => {
            Ok(item::PLAIN_PORT.ok(format!("what answers at {plain} is not MQTT without TLS")))
        }
        Err(Trouble::Unreachable(error)) if is_refused(&error) => {
            Ok(item::PLAIN_PORT.ok(format!("nothing is at {plain}")))
        }
        Err(trouble) => Ok(item::PLAIN_PORT.unknown(format!("{plain}: {trouble}"))),
    }
}

/// Checks whether the host refused the connection, as nothing listens at the port.
fn is_refused(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Unreachable { source, .. }
        if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Returns the host of an address in its displayed form; `None` for a unix socket.
fn host(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let rest = rest.split_once('/').map_or(rest, |(place, _)| place);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    Some(host.trim_matches(['[', ']']))
}
