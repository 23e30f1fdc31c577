//! Contents of a certificate.

use std::net::IpAddr;

use rantai_client::hex;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::host::Host;
use super::{DAY, constraints, date};

/// Parsed certificate.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Common name of the subject, or the whole subject if it has none.
    pub(crate) subject: String,
    /// Common name of the issuer, or the whole issuer if it has none.
    pub(crate) issuer: String,
    /// Host names and addresses that the certificate is valid for.
    pub(crate) hosts: Vec<Host>,
    /// Other names: e-mail addresses, URIs.
    pub(crate) others: Vec<String>,
    pub(crate) serial: String,
    /// Beginning of the validity, in seconds since 1970.
    pub(crate) begins: i64,
    pub(crate) ends: i64,
    /// Whether it is the certificate of an authority.
    pub(crate) is_authority: bool,
    /// Whether it may be used by servers, and by clients.
    pub(crate) purposes: (bool, bool),
    /// Names and networks to which an authority is restricted, as a text.
    pub(crate) only: Option<String>,
    /// Public key in DER.
    pub(crate) public_key: Vec<u8>,
}

impl About {
    /// Parses a certificate in DER.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let (mut hosts, mut others) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => hosts.push(Host::Name(name.to_ascii_lowercase())),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes).map(Host::Address)),
                GeneralName::RFC822Name(other) | GeneralName::URI(other) => others.push((*other).to_owned()),
                other => others.push(other.to_string()),
            }
        }
        let usage = certificate.extended_key_usage().map_err(|error| error.to_string())?;
        let usage = usage.map(|extension| extension.value);
        let only = certificate.name_constraints().map_err(|error| error.to_string())?;
        Ok(Self {
            subject: common_name(certificate.subject()),
            issuer: common_name(certificate.issuer()),
            hosts,
            others,
            serial: hexadecimal(certificate.raw_serial()),
            begins: certificate.validity().not_before.timestamp(),
            ends: certificate.validity().not_after.timestamp(),
            is_authority: certificate.is_ca(),
            purposes: usage.map_or((true, true), |usage| {
                (usage.any || usage.server_auth, usage.any || usage.client_auth)
            }),
            only: only.map(|extension| constraints::permitted(extension.value)),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Returns the number of whole days until the certificate ends; negative once it has ended.
    pub(crate) fn days_left(&self, now: i64) -> i64 {
        (self.ends - now).div_euclid(DAY)
    }

    /// Returns all names as texts.
    pub(crate) fn names(&self) -> Vec<String> {
        self.hosts.iter().map(ToString::to_string).chain(self.others.iter().cloned()).collect()
    }

    /// Returns the purpose of the certificate, for people.
    pub(crate) fn purpose(&self) -> &'static str {
        match (self.is_authority, self.purposes) {
            (true, _) => "authority",
            (false, (true, true)) => "server and client",
            (false, (true, false)) => "server",
            (false, (false, true)) => "client",
            (false, (false, false)) => "neither server nor client",
        }
    }

    pub(crate) fn to_json(&self, now: i64) -> Value {
        json!({
            "subject": self.subject,
            "issuer": self.issuer,
            "names": self.names(),
            "purpose": self.purpose(),
            "only_for": self.only,
            "serial": self.serial,
            "begins": date(self.begins),
            "ends": date(self.ends),
            "days_left": self.days_left(now),
            "has_begun": self.begins <= now,
        })
    }
}

/// Formats bytes as hexadecimal digits, without leading zeros.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    hex(bytes).trim_start_matches('0').to_owned()
}

pub(super) fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), ToOwned::to_owned)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
