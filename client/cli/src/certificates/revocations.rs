//! List of revoked certificates, which a broker reads (its setting `revocations`).

use std::collections::HashSet;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::about::{common_name, hexadecimal};
use super::authority::{Authority, cannot_sign, time};
use super::folder::{Folder, write_public};
use super::{date, issued, now};
use crate::exit::{Exit, Failure};

/// Writes an empty list.
pub(super) fn start(folder: &Folder, authority: &Authority) -> Result<(), Failure> {
    write(folder, authority, 1, Vec::new())
}

/// Revokes all certificates of a client that have not ended; returns the number of revoked ones.
pub(crate) fn revoke(folder: &Folder, authority: &Authority, name: &str) -> Result<usize, Failure> {
    let now = now()?;
    let mut serials: Vec<String> = issued::read(folder)?
        .into_iter()
        .filter(|issued| issued.is_client && issued.name == name && issued.ends > now)
        .map(|issued| issued.serial)
        .collect();
    let pair = folder.client(name);
    if pair.certificate.is_file() {
        serials.push(pair.about()?.serial);
    }
    let (number, mut revoked) = read(folder)?;
    let known: HashSet<String> =
        revoked.iter().map(|entry| hexadecimal(&entry.serial_number.to_bytes())).collect();
    serials.retain(|serial| !known.contains(serial));
    serials.sort_unstable();
    serials.dedup();
    if serials.is_empty() {
        return Ok(0);
    }
    for serial in &serials {
        revoked.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes(serial)),
            revocation_time: time(now),
            reason_code: None,
            invalidity_date: None,
        });
    }
    write(folder, authority, number + 1, revoked)?;
    Ok(serials.len())
}

/// Contents of a list of revoked certificates.
pub(crate) struct Listed {
    /// Common name of the issuer.
    pub(crate) issuer: String,
    pub(crate) number: u64,
    /// Time at which the list was written, and until which it is valid if it says so, in seconds since 1970.
    pub(crate) begins: i64,
    pub(crate) ends: Option<i64>,
    /// Serial numbers of certificates, and when each was revoked.
    pub(crate) revoked: Vec<(String, i64)>,
}

impl Listed {
    /// Parses a list in DER.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
        let revoked = list
            .iter_revoked_certificates()
            .map(|entry| (hexadecimal(entry.raw_serial()), entry.revocation_date.timestamp()));
        Ok(Self {
            issuer: common_name(list.issuer()),
            number: list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or(0),
            begins: list.last_update().timestamp(),
            ends: list.next_update().map(|time| time.timestamp()),
            revoked: revoked.collect(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let revoked = self.revoked.iter().map(|(serial, at)| json!({"serial": serial, "revoked": date(*at)}));
        json!({
            "issuer": self.issuer,
            "number": self.number,
            "begins": date(self.begins),
            "ends": self.ends.map(date),
            "revoked": revoked.collect::<Vec<_>>(),
        })
    }
}

/// Returns the serial numbers of all revoked certificates, in hexadecimal digits.
pub(crate) fn revoked_serials(folder: &Folder) -> Result<HashSet<String>, Failure> {
    let (_, revoked) = read(folder)?;
    Ok(revoked.iter().map(|entry| hexadecimal(&entry.serial_number.to_bytes())).collect())
}

/// Returns the number and the entries of the list; 0 and no entries if there is no list.
fn read(folder: &Folder) -> Result<(u64, Vec<RevokedCertParams>), Failure> {
    let path = folder.revocations();
    if !path.exists() {
        return Ok((0, Vec::new()));
    }
    let lists =
        rantai_tls::read_revocations(&path).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let (_, list) = CertificateRevocationList::from_der(&lists[0]).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot read the list of revoked certificates {}: {error}", path.display()),
        )
    })?;
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let revoked = list.iter_revoked_certificates().map(|entry| RevokedCertParams {
        serial_number: SerialNumber::from_slice(entry.raw_serial()),
        revocation_time: time(entry.revocation_date.timestamp()),
        reason_code: None,
        invalidity_date: None,
    });
    Ok((number, revoked.collect()))
}

/// Writes the list. It is valid as long as the authority, as nothing rewrites it periodically.
fn write(
    folder: &Folder,
    authority: &Authority,
    number: u64,
    revoked: Vec<RevokedCertParams>,
) -> Result<(), Failure> {
    let params = CertificateRevocationListParams {
        this_update: time(now()? - super::DAY),
        next_update: time(authority.about.ends),
        crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params
        .signed_by(&authority.issuer)
        .and_then(|list| list.pem())
        .map_err(|error| cannot_sign(&error))?;
    write_public(&folder.revocations(), &list)
}

/// Parses hexadecimal digits; an odd number of them is taken to lack a leading zero.
fn bytes(digits: &str) -> Vec<u8> {
    let even = if digits.len().is_multiple_of(2) { digits.to_owned() } else { format!("0{digits}") };
    (0..even.len()).step_by(2).filter_map(|at| u8::from_str_radix(even.get(at..at + 2)?, 16).ok()).collect()
}
