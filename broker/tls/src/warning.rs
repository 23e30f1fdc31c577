//! Problems of a server's files that do not keep the server from starting.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::files::Identity;
use crate::server::ServerFiles;

/// Seconds per day.
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
/// Number of days before its expiry from which a certificate is reported.
const EXPIRY_WARNING_DAYS: i64 = 14;

/// Problem of a server's files that does not keep the server from starting. It keeps clients from connecting, now or
/// soon, or leaves a private key readable for others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateWarning {
    /// A certificate has expired.
    #[error("a certificate in {} has expired at {until}: clients refuse it; renew it", path.display())]
    Expired {
        /// File of the certificate.
        path: PathBuf,
        /// End of its validity.
        until: String,
    },
    /// A certificate is not valid yet.
    #[error(
        "a certificate in {} is not valid before {from}: clients refuse it until then; look at this machine's clock, or at \
         that of who has issued it", path.display()
    )]
    NotYetValid {
        /// File of the certificate.
        path: PathBuf,
        /// Start of its validity.
        from: String,
    },
    /// A certificate expires soon.
    #[error("a certificate in {} expires in {days} days, at {until}; renew it", path.display())]
    ExpiresSoon {
        /// File of the certificate.
        path: PathBuf,
        /// End of its validity.
        until: String,
        /// Whole days until the end.
        days: i64,
    },
    /// The server's own certificate is that of an authority.
    #[error(
        "the certificate in {} is that of an authority, which many clients refuse as a server's; have the authority issue one \
         for the server", path.display()
    )]
    Authority {
        /// File of the certificate.
        path: PathBuf,
    },
    /// Other users may read or change the private key.
    #[error("others on this machine may read or change the key {}; run `chmod o= {}`", path.display(), path.display())]
    KeyOfOthers {
        /// File of the key.
        path: PathBuf,
    },
    /// A revocation list is out of date.
    #[error("a revocation list in {} was to be replaced at {due}; fetch a new one", path.display())]
    OldRevocations {
        /// File of the list.
        path: PathBuf,
        /// Time at which its issuer planned to publish the next one.
        due: String,
    },
}

/// Parsed contents of a server's files.
pub(crate) struct Examined<'a> {
    /// Certificates and keys, in the order of [`ServerFiles::certificates`].
    pub(crate) identities: &'a [Identity],
    pub(crate) roots: &'a [CertificateDer<'static>],
    pub(crate) revocations: &'a [CertificateRevocationListDer<'static>],
}

/// Returns the problems at a time, in seconds since 1970.
pub(crate) fn examine(files: &ServerFiles, contents: &Examined<'_>, now: i64) -> Vec<CertificateWarning> {
    let mut warnings = Vec::new();
    for (identity, files) in contents.identities.iter().zip(files.certificates()) {
        examine_validity(&files.certificate, &identity.chain, now, &mut warnings);
        let own = identity.chain.first().and_then(|own| X509Certificate::from_der(own).ok());
        if own.is_some_and(|(_, own)| own.is_ca()) {
            warnings.push(CertificateWarning::Authority { path: files.certificate.clone() });
        }
        if is_open_to_others(&files.key) {
            warnings.push(CertificateWarning::KeyOfOthers { path: files.key.clone() });
        }
    }
    if let Some(clients) = &files.clients {
        examine_validity(&clients.roots, contents.roots, now, &mut warnings);
        let lists = contents.revocations.iter();
        let due = lists.filter_map(|list| {
            let (_, list) = CertificateRevocationList::from_der(list).ok()?;
            list.next_update().filter(|due| due.timestamp() < now)
        });
        let path = clients.revocations.clone().unwrap_or_default();
        warnings.extend(
            due.map(|due| CertificateWarning::OldRevocations { path: path.clone(), due: due.to_string() }),
        );
    }
    warnings
}

fn examine_validity(
    path: &Path,
    certificates: &[CertificateDer<'_>],
    now: i64,
    warnings: &mut Vec<CertificateWarning>,
) {
    for certificate in certificates {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { continue };
        let validity = certificate.validity();
        let text = |time: &ASN1Time| time.to_string();
        let path = path.to_owned();
        let left = validity.not_after.timestamp().saturating_sub(now);
        if left < 0 {
            warnings.push(CertificateWarning::Expired { path, until: text(&validity.not_after) });
        } else if now < validity.not_before.timestamp() {
            warnings.push(CertificateWarning::NotYetValid { path, from: text(&validity.not_before) });
        } else if left < EXPIRY_WARNING_DAYS * SECONDS_PER_DAY {
            let until = text(&validity.not_after);
            warnings.push(CertificateWarning::ExpiresSoon { path, until, days: left / SECONDS_PER_DAY });
        }
    }
}

/// Returns whether users other than the file's owner and group may read or change it.
#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|about| about.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::server::{CertificateFiles, ClientFiles};

    /// 2026-06-15 12:00:00 UTC.
    const NOW: i64 = 1_781_524_800;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8), is_ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["pi.local".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
    }

    fn warnings(
        chain: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> Vec<CertificateWarning> {
        let files = ServerFiles {
            default: CertificateFiles { certificate: "server.pem".into(), key: "/no/such/key".into() },
            additional: Vec::new(),
            clients: Some(ClientFiles { roots: PathBuf::from("ca.pem"), revocations: None, required: false }),
        };
        examine(&files, &Examined { identities: &[identity(chain)], roots, revocations: &[] }, NOW)
    }

    fn identity(chain: &[CertificateDer<'static>]) -> Identity {
        Identity { chain: chain.to_vec(), key: PrivatePkcs8KeyDer::from(Vec::new()).into() }
    }

    #[test]
    fn expired_early_and_expiring_certificates_are_reported() {
        let good = certificate((2026, 1, 1), (2026, 7, 1), false);
        assert_eq!(warnings(std::slice::from_ref(&good), &[]), []);
        let only = |told: Vec<CertificateWarning>| match &told[..] {
            [one] => one.to_string(),
            others => panic!("{others:?}"),
        };
        let soon = certificate((2026, 1, 1), (2026, 6, 20), false);
        let text = only(warnings(&[soon], &[]));
        assert!(text.contains("server.pem expires in 4 days, at Jun 20 "), "{text}");
        let over = certificate((2026, 1, 1), (2026, 6, 15), false);
        let text = only(warnings(&[good.clone(), over.clone()], &[]));
        assert!(text.contains("a certificate in server.pem has expired at Jun 15 "), "{text}");
        let text = only(warnings(std::slice::from_ref(&good), &[over]));
        assert!(text.contains("ca.pem has expired"), "{text}");
        let future = certificate((2026, 6, 16), (2027, 1, 1), false);
        let text = only(warnings(&[future], &[]));
        assert!(text.contains("server.pem is not valid before Jun 16 "), "{text}");
    }

    #[test]
    fn an_authority_certificate_of_the_server_itself_is_reported() {
        let authority = certificate((2026, 1, 1), (2030, 1, 1), true);
        let good = certificate((2026, 1, 1), (2030, 1, 1), false);
        assert_eq!(warnings(&[good, authority.clone()], std::slice::from_ref(&authority)), []);
        let path = PathBuf::from("server.pem");
        assert_eq!(warnings(&[authority], &[]), [CertificateWarning::Authority { path }]);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_readable_for_others_is_reported() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("server.key");
        std::fs::write(&key, "a key").expect("written");
        let files = CertificateFiles { certificate: PathBuf::new(), key: key.clone() };
        let files = ServerFiles { default: files, additional: Vec::new(), clients: None };
        for (mode, is_told) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("set");
            let told = examine(
                &files,
                &Examined { identities: &[identity(&[])], roots: &[], revocations: &[] },
                NOW,
            );
            let expected = CertificateWarning::KeyOfOthers { path: key.clone() };
            assert_eq!(told, if is_told { vec![expected] } else { vec![] }, "{mode:o}");
        }
    }
}
