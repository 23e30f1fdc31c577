//! Explanations of TLS errors, in words for people.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// Maximum number of names of a certificate in an error.
const MAX_NAMES: usize = 8;

/// Reason why there is no TLS connection to a server.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The server's certificate was not issued by a trusted authority.
    #[error("its certificate was issued by {issuer}, which this machine does not trust")]
    UnknownAuthority {
        /// Issuer named in the certificate.
        issuer: String,
    },
    /// The issuer of the server's certificate has the name of a trusted authority, but another key.
    #[error(
        "its certificate was issued by another {issuer} than the one this machine trusts; has it been made anew?"
    )]
    RenewedAuthority {
        /// Issuer named in the certificate.
        issuer: String,
    },
    /// The server's certificate is valid for other names only.
    #[error("its certificate is for {names}, not for {server}")]
    OtherName {
        /// Host that the client wants to connect to.
        server: String,
        /// Names and addresses in the certificate.
        names: String,
    },
    /// A certificate of the server has expired or is not valid yet, by this machine's clock.
    #[error(
        "its certificate is valid from {from} to {until} and this machine's clock says {now}: is the clock right?"
    )]
    NotNow {
        /// Start of the certificate's validity.
        from: String,
        /// End of the certificate's validity.
        until: String,
        /// Time of this machine's clock.
        now: String,
    },
    /// The server presents the certificate of an authority as its own.
    #[error(
        "it shows the certificate of an authority as its own; it needs one that the authority has issued"
    )]
    AuthorityItself,
    /// The server requires a client certificate.
    #[error("it lets in only clients that show a certificate")]
    CertificateRequired,
    /// The server rejects the certificate of this client.
    #[error("it does not take this client's certificate: {0}")]
    CertificateRefused(&'static str),
    /// The server's reply is not TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The server closed the connection during the handshake.
    #[error("it closed the connection before TLS was agreed on")]
    Closed,
    /// Other errors of TLS.
    #[error("{0}")]
    Other(Error),
}

impl TlsProblem {
    /// Returns whether a retry may succeed: clocks may be corrected, and certificates renewed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NotNow { .. })
    }
}

/// Certificate chain that a server presented, and the host that the client wanted.
pub(crate) struct Presented {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) server: String,
}

/// Explains an error.
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
                // The invalid certificate may be that of an intermediate authority.
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

/// Returns the current time of this machine, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Formats a time like those of certificates.
fn time(seconds: i64) -> String {
    let written = ASN1Time::from_timestamp(seconds);
    written.map_or_else(|_| format!("{seconds} seconds after 1970"), |time| time.to_string())
}

/// Returns the issuer of a certificate, escaped, because the text comes from the server.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer().to_string();
    let name = if issuer.is_empty() { "nobody that it names".to_owned() } else { format!("{issuer:?}") };
    if certificate.issuer() == certificate.subject() { format!("{name} (itself)") } else { name }
}

/// Returns the names and addresses of a certificate.
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
        count @ ..=MAX_NAMES => all[..count].join(", "),
        count => format!("{} and {} more", all[..MAX_NAMES].join(", "), count - MAX_NAMES),
    }
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::Ipv4Addr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(std::net::Ipv6Addr::from);
    v4.map(|address| address.to_string()).or_else(|_| v6.map(|address| address.to_string())).ok()
}
