//! What errors of TLS mean, in words for people.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// So many names of a certificate are told.
const NAMES_TOLD: usize = 8;

/// Why there is no TLS connection to a server.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// No authority that is trusted has issued the server's certificate.
    #[error("its certificate was issued by {issuer}, which this machine does not trust")]
    UnknownAuthority {
        /// Who issued it, as the certificate says.
        issuer: String,
    },
    /// The issuer of the server's certificate has the name of an authority that is trusted, and another key.
    #[error(
        "its certificate was issued by another {issuer} than the one this machine trusts; has it been made anew?"
    )]
    RenewedAuthority {
        /// Who issued it, as the certificate says.
        issuer: String,
    },
    /// The server's certificate is for other names.
    #[error("its certificate is for {names}, not for {server}")]
    OtherName {
        /// The host that was asked for.
        server: String,
        /// The names and addresses of the certificate.
        names: String,
    },
    /// A certificate of the server is not valid at the time that this machine believes it is.
    #[error(
        "its certificate is valid from {from} to {until} and this machine's clock says {now}: is the clock right?"
    )]
    NotNow {
        /// The first moment of the certificate.
        from: String,
        /// Its last moment.
        until: String,
        /// This machine's time.
        now: String,
    },
    /// The server shows the certificate of an authority as its own.
    #[error(
        "it shows the certificate of an authority as its own; it needs one that the authority has issued"
    )]
    AuthorityItself,
    /// The server lets nobody in without a certificate.
    #[error("it lets in only clients that show a certificate")]
    CertificateRequired,
    /// The server does not take the certificate of this client.
    #[error("it does not take this client's certificate: {0}")]
    CertificateRefused(&'static str),
    /// What the server says is not TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The server ended the connection in the middle of the handshake.
    #[error("it closed the connection before TLS was agreed on")]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Other(Error),
}

impl TlsProblem {
    /// Whether the same attempt may succeed later: clocks are set, and certificates renewed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NotNow { .. })
    }
}

/// What a server has shown, and who was asked for.
pub(crate) struct Presented {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) server: String,
}

/// What an error means.
pub(crate) fn explain(error: &Error, presented: &Presented) -> TlsProblem {
    let chain: Vec<X509Certificate<'_>> = presented
        .chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, certificate)| certificate)
        .collect();
    let own = chain.first();
    match error {
        Error::InvalidCertificate(reason) => match (reason, own) {
            (CertificateError::BadSignature, Some(own)) => {
                TlsProblem::RenewedAuthority { issuer: issuer(own) }
            }
            (CertificateError::UnknownIssuer, Some(own)) => {
                TlsProblem::UnknownAuthority { issuer: issuer(own) }
            }
            (
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                Some(own),
            ) => TlsProblem::OtherName { server: presented.server.clone(), names: names(own) },
            (
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
                Some(own),
            ) => {
                let now = now();
                // It may be that of an authority between the server's and the one that is trusted.
                let is_wrong = |certificate: &&X509Certificate<'_>| {
                    let validity = certificate.validity();
                    now < validity.not_before.timestamp() || now > validity.not_after.timestamp()
                };
                let validity = chain.iter().find(is_wrong).unwrap_or(own).validity();
                TlsProblem::NotNow {
                    from: validity.not_before.to_string(),
                    until: validity.not_after.to_string(),
                    now: time(now),
                }
            }
            (CertificateError::Other(_), Some(own)) if own.is_ca() => TlsProblem::AuthorityItself,
            _ => TlsProblem::Other(error.clone()),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                TlsProblem::CertificateRequired
            }
            AlertDescription::UnknownCA => {
                TlsProblem::CertificateRefused("it does not know the authority that issued it")
            }
            AlertDescription::DecryptError => TlsProblem::CertificateRefused(
                "it was not issued by the key of the authority that the server knows",
            ),
            AlertDescription::CertificateExpired => {
                TlsProblem::CertificateRefused("it is not valid at this time, by the clock of the server")
            }
            AlertDescription::CertificateRevoked => TlsProblem::CertificateRefused("it was revoked"),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => TlsProblem::CertificateRefused("it does not say why"),
            _ => TlsProblem::Other(error.clone()),
        },
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => TlsProblem::NotTls,
        other => TlsProblem::Other(other.clone()),
    }
}

/// This machine's time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A time as those of certificates are written.
fn time(seconds: i64) -> String {
    let written = ASN1Time::from_timestamp(seconds);
    written.map_or_else(|_| format!("{seconds} seconds after 1970"), |time| time.to_string())
}

/// Who issued a certificate; without escape sequences, since a server says so.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer().to_string();
    let told = if issuer.is_empty() { "nobody that it names".to_owned() } else { format!("{issuer:?}") };
    if certificate.issuer() == certificate.subject() { format!("{told} (itself)") } else { told }
}

/// The names and addresses of a certificate.
fn names(certificate: &X509Certificate<'_>) -> String {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let all = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let all: Vec<String> = all
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        })
        .collect();
    match all.len() {
        0 => "no host".to_owned(),
        count @ ..=NAMES_TOLD => all[..count].join(", "),
        count => format!("{} and {} more", all[..NAMES_TOLD].join(", "), count - NAMES_TOLD),
    }
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::Ipv4Addr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(std::net::Ipv6Addr::from);
    v4.map(|address| address.to_string()).or_else(|_| v6.map(|address| address.to_string())).ok()
}
