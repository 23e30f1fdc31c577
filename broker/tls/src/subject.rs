//! User names from client certificates.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Field of a certificate that contains the user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameField {
    /// Common name of the certificate's subject.
    #[default]
    CommonName,
    /// First DNS name or e-mail address of the certificate's subject alternative names.
    AlternativeName,
}

/// Reason why a certificate does not name a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// The certificate cannot be parsed.
    #[error("the client certificate cannot be parsed")]
    Damaged,
    /// The certificate has no common name, or an empty one.
    #[error("the client certificate has no common name")]
    NoCommonName,
    /// The certificate has more than one common name, and it is unknown which of them its issuer has checked.
    #[error("the client certificate has several common names")]
    SeveralCommonNames,
    /// The certificate has no DNS name and no e-mail address, or empty ones.
    #[error("the client certificate has no DNS name and no e-mail address")]
    NoAlternativeName,
    /// The name is not text, or contains control characters.
    #[error("the name in the client certificate is no text without control characters")]
    NotText,
}

/// Returns the user name from a certificate. The name is text without control characters; whether it is a valid user name
/// is not checked.
///
/// # Errors
///
/// The certificate cannot be parsed, or the field is missing, ambiguous or not text.
pub fn user_name(certificate: &CertificateDer<'_>, field: NameField) -> Result<String, SubjectError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Damaged)?;
    let name = match field {
        NameField::CommonName => common_name(&certificate)?,
        NameField::AlternativeName => alternative_name(&certificate)?,
    };
    if name.chars().any(char::is_control) {
        return Err(SubjectError::NotText);
    }
    Ok(name.to_owned())
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, SubjectError> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().ok_or(SubjectError::NoCommonName)?;
    if names.next().is_some() {
        return Err(SubjectError::SeveralCommonNames);
    }
    let name = name.as_str().map_err(|_| SubjectError::NotText)?;
    if name.is_empty() { Err(SubjectError::NoCommonName) } else { Ok(name) }
}

fn alternative_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, SubjectError> {
    let names = certificate.subject_alternative_name().map_err(|_| SubjectError::Damaged)?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    for name in names {
        match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) if !name.is_empty() => {
                return Ok(name);
            }
            // An invalid name is not skipped: the name after it would not be the one that the issuer put first.
            GeneralName::Invalid(..) => return Err(SubjectError::NotText),
            _ => {}
        }
    }
    Err(SubjectError::NoAlternativeName)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str, alternative: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Lab");
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = alternative;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    fn name(text: &str) -> rcgen::string::Ia5String {
        text.try_into().expect("ASCII")
    }

    #[test]
    fn the_common_name_is_the_user() {
        let named = certificate("ada", vec![SanType::DnsName(name("other"))]);
        assert_eq!(user_name(&named, NameField::CommonName).as_deref(), Ok("ada"));
        let unicode = certificate("Ådel Ñ", vec![]);
        assert_eq!(user_name(&unicode, NameField::CommonName).as_deref(), Ok("Ådel Ñ"));
    }

    #[test]
    fn the_first_dns_name_or_address_is_the_user() {
        let loopback = SanType::IpAddress([127, 0, 0, 1].into());
        let usable = [SanType::Rfc822Name(name("ada@lab.example")), SanType::DnsName(name("pi.local"))];
        let mut each = vec![loopback];
        each.extend(usable);
        let named = certificate("other", each);
        assert_eq!(user_name(&named, NameField::AlternativeName).as_deref(), Ok("ada@lab.example"));
        let unnamed = certificate("other", vec![SanType::IpAddress([127, 0, 0, 1].into())]);
        assert_eq!(user_name(&unnamed, NameField::AlternativeName), Err(SubjectError::NoAlternativeName));
    }

    #[test]
    fn invalid_names_are_refused() {
        let refused = |common_name| user_name(&certificate(common_name, vec![]), NameField::CommonName);
        assert_eq!(refused(""), Err(SubjectError::NoCommonName));
        assert_eq!(refused("ada\nroot"), Err(SubjectError::NotText));
        assert_eq!(refused("ada\u{0}"), Err(SubjectError::NotText));
        assert_eq!(refused("ada\u{85}"), Err(SubjectError::NotText));
        let damaged = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
        assert_eq!(user_name(&damaged, NameField::CommonName), Err(SubjectError::Damaged));
    }

    #[test]
    fn several_common_names_are_refused() {
        // rcgen writes one name of each kind: changing the type of the organization (2.5.4.10) to common name (2.5.4.3)
        // makes a second one.
        let mut der = certificate("ada", vec![]).to_vec();
        let organization = [0x06, 0x03, 0x55, 0x04, 0x0a];
        let places: Vec<_> = (0..der.len() - 5).filter(|at| der[*at..at + 5] == organization).collect();
        assert!(!places.is_empty());
        for at in places {
            der[at + 4] = 0x03;
        }
        assert_eq!(
            user_name(&CertificateDer::from(der), NameField::CommonName),
            Err(SubjectError::SeveralCommonNames)
        );
    }
}
