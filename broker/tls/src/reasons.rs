//! Reasons of failed handshakes, in plain words for a server's log.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Returns the reason why a client's handshake has failed, as a clause that contains no text sent by the client.
pub fn client_failure(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "it has no client certificate, and this listener requires one",
        Error::InvalidCertificate(error) => certificate_failure(error),
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => {
            "no common version of TLS: it offers neither 1.2 nor 1.3"
        }
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        ) => "no common cipher suite or key exchange",
        Error::PeerIncompatible(
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => "it does not support the kind of key of the server's certificate, or of its own",
        Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => {
            "its TLS 1.2 lacks the extended master secret"
        }
        Error::PeerIncompatible(_) => "its TLS lacks what is required here",
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "what it sends is not TLS",
        Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "what it sends breaks the rules of TLS",
        Error::DecryptError => "what it sends cannot be decrypted",
        _ => "the TLS handshake failed",
    }
}

fn certificate_failure(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its client certificate has expired (or a clock is wrong)"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its client certificate is not valid yet (or a clock is wrong)"
        }
        CertificateError::Revoked => "its client certificate is revoked",
        CertificateError::UnknownIssuer => "its client certificate is of a CA that client_ca does not name",
        CertificateError::UnknownRevocationStatus => {
            "no revocation list is of the CA of its client certificate"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for clients (extended key usage)"
        }
        CertificateError::BadSignature => "its client certificate is not signed by its CA",
        _ => "its client certificate cannot be used",
    }
}

fn alert_received(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "it does not trust the CA of the server's certificate",
        AlertDescription::CertificateExpired => "it says that the server's certificate has expired",
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            "it does not accept the server's certificate (another name, unknown CA or expired)"
        }
        AlertDescription::UnsupportedCertificate => "it does not support the server's certificate",
        AlertDescription::ProtocolVersion => "no common version of TLS",
        AlertDescription::HandshakeFailure => "it does not support what the server offers",
        AlertDescription::UserCanceled => "it gave the handshake up",
        _ => "it ended the handshake with an alert",
    }
}
