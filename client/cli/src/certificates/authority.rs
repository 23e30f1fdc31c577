//! Certificate authority: creating it, and signing certificates.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;

use super::about::{About, hexadecimal};
use super::constraints::{Only, allow, constraints, permitted};
use super::folder::{Folder, Key, Pair};
use super::host::Host;
use super::issued::{self, Issued};
use super::{DAY, date, now, revocations};
use crate::exit::{Exit, Failure};
use crate::random::random_bytes;

/// Validity of an authority in days: ten years.
const AUTHORITY_DAYS: i64 = 3_652;

/// Subject of a certificate.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// Server that is reached by these names.
    Server(Vec<Host>),
    /// Client: the user of this name.
    Client(String),
}

/// Key of a certificate that is issued.
pub(crate) enum WithKey {
    /// New key, readable by its owner only.
    New,
    /// New key that replaces another: owner, group and the group's read permission are kept, but no others may read it.
    Renewed,
    /// Existing key.
    Same(Box<KeyPair>),
}

/// Authority with its key.
pub(crate) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) about: About,
    der: Vec<u8>,
}

impl Authority {
    /// Creates an authority, replacing an existing one, with an empty list of revoked certificates.
    pub(crate) fn create(folder: &Folder, name: &str, only: &[Only]) -> Result<Self, Failure> {
        let now = now()?;
        let mut params = params(name, now, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = constraints(only);
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(|error| cannot_sign(&error))?;
        issued::write(folder, &[])?;
        folder.authority().write(&certificate.pem(), &Key::New(key))?;
        let authority = Self::load(folder)?;
        revocations::start(folder, &authority)?;
        Ok(authority)
    }

    /// Reads the authority of a folder; fails if its certificate has ended.
    pub(crate) fn load(folder: &Folder) -> Result<Self, Failure> {
        let pair = folder.authority();
        let shown = pair.certificate.display();
        let (about, key) = (pair.about()?, pair.read_key()?);
        check_key(&pair, &about, &key)?;
        if !about.is_authority {
            return Err(Failure::new(
                Exit::Usage,
                format!("the certificate in {shown} is not that of an authority"),
            ));
        }
        let now = now()?;
        if about.ends <= now {
            let text = format!(
                "the authority in {shown} has ended on {}; make another with `rantai cert ca DIR --force`, and give its ca.pem \
                 to all clients",
                date(about.ends)
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        if about.begins > now {
            let text = format!(
                "the authority in {shown} begins on {}, and the clock of this machine says {}; set the clock",
                date(about.begins),
                date(now)
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        let certificates = rantai_tls::read_certificates(&pair.certificate)
            .map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        let issuer = Issuer::from_ca_cert_der(&certificates[0], key).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot use the authority in {shown}: {error}"))
        })?;
        Ok(Self { issuer, about, der: certificates[0].to_vec() })
    }

    /// Signs a certificate for `days` days, or until the authority itself ends, and writes it. Returns its contents.
    pub(crate) fn issue(
        &self,
        folder: &Folder,
        pair: &Pair,
        subject: &Subject,
        key: WithKey,
        days: i64,
    ) -> Result<About, Failure> {
        let now = now()?;
        let mut params = params(common_name(subject), now, days)?;
        params.not_after = params.not_after.min(time(self.about.ends));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match subject {
            Subject::Server(hosts) => {
                self.check_hosts(hosts)?;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params.subject_alt_names = hosts.iter().map(name).collect::<Result<_, _>>()?;
            }
            Subject::Client(_) => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        let key = match key {
            WithKey::New => Key::New(new_key()?),
            WithKey::Renewed => Key::Renewed(new_key()?),
            WithKey::Same(key) => Key::Kept(*key),
        };
        let certificate = params.signed_by(key.pair(), &self.issuer).map_err(|error| cannot_sign(&error))?;
        let about = About::read(certificate.der()).map_err(|reason| cannot_sign(&reason))?;
        // Recorded before the certificate is written: one that is not in the list could not be revoked.
        let (is_client, name) = match subject {
            Subject::Server(hosts) => (false, hosts.first().map(ToString::to_string).unwrap_or_default()),
            Subject::Client(name) => (true, name.clone()),
        };
        issued::add(folder, Issued { serial: about.serial.clone(), ends: about.ends, is_client, name })?;
        pair.write(&certificate.pem(), &key)?;
        Ok(about)
    }

    fn check_hosts(&self, hosts: &[Host]) -> Result<(), Failure> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&self.der)
            .map_err(|error| cannot_sign(&error))?;
        let Ok(Some(only)) = certificate.name_constraints() else { return Ok(()) };
        match hosts.iter().find(|host| !allow(only.value, host)) {
            None => Ok(()),
            Some(host) => {
                let text = format!(
                    "the authority signs for {} alone, and {host} is not among them; make another one with --only {host} beside \
                     those, or without --only",
                    permitted(only.value)
                );
                Err(Failure::new(Exit::Usage, text))
            }
        }
    }
}

/// Checks that a key belongs to the certificate.
pub(crate) fn check_key(pair: &Pair, about: &About, key: &KeyPair) -> Result<(), Failure> {
    if key.subject_public_key_info() == about.public_key {
        return Ok(());
    }
    let text = format!("{} is not the key of {}", pair.key.display(), pair.certificate.display());
    Err(Failure::new(Exit::Usage, text))
}

/// Returns the parameters common to all certificates. They are valid from a day ago, as another machine's clock may be slow.
fn params(name: &str, now: i64, days: i64) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = time(now - DAY);
    params.not_after = time(now - DAY + days * DAY);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// Returns the common name. That of a server contains a space, so that it cannot be taken for a host name.
fn common_name(subject: &Subject) -> &str {
    match subject {
        Subject::Server(_) => "rantai server",
        Subject::Client(name) => name,
    }
}

fn name(host: &Host) -> Result<SanType, Failure> {
    match host {
        Host::Name(name) => {
            let name = name.as_str().try_into().map_err(|error: rcgen::Error| cannot_sign(&error))?;
            Ok(SanType::DnsName(name))
        }
        Host::Address(address) => Ok(SanType::IpAddress(*address)),
    }
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot make a private key: {error}")))
}

/// Generates a serial number of 16 random bytes. The first byte is neither zero nor negative, so that all have equal length.
fn serial() -> Result<SerialNumber, Failure> {
    let mut bytes = random_bytes::<16>()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot draw a serial number: {error}")))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    debug_assert_eq!(hexadecimal(&bytes).len(), 32, "no digit is lost");
    Ok(SerialNumber::from_slice(&bytes))
}

pub(super) fn time(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn cannot_sign(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot sign: {error}"))
}
