//! Tables of `[[listeners]]`, and their checks.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::address;
use crate::config::User;
use crate::config::complaint::Complaint;
use crate::config::listeners::{
    CertificateFiles, ClientCertificates, Endpoint, Listener, Origins, TlsSettings, UserFrom, WebSettings,
};

/// A table of `[[listeners]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenListener {
    protocol: Spanned<Protocol>,
    address: Option<Spanned<String>>,
    socket: Option<Spanned<PathBuf>>,
    mode: Option<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    additional_certificates: Option<Spanned<Vec<WrittenCertificate>>>,
    client_ca: Option<Spanned<PathBuf>>,
    client_certificates: Option<Spanned<ClientCertificates>>,
    user_from: Option<Spanned<UserFrom>>,
    revocations: Option<Spanned<PathBuf>>,
    path: Option<Spanned<String>>,
    origins: Option<Spanned<Vec<Spanned<String>>>>,
    anonymous: Option<Spanned<bool>>,
    users: Option<Spanned<Vec<Spanned<String>>>>,
    connections: Option<Spanned<usize>>,
}

/// An element of `additional_certificates`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCertificate {
    certificate: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Tls,
    Ws,
    Wss,
    Unix,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    fn has_web(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// Checks the listeners of a file whose `listen` and users are already checked. Relative paths start in the folder of
/// `file`.
pub(super) fn check(
    written: Vec<WrittenListener>,
    listen: &[SocketAddr],
    users: &[User],
    file: &Path,
) -> Result<Vec<Listener>, Complaint> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut listeners: Vec<Listener> = Vec::new();
    for written in written {
        let span = written.address.as_ref().map(Spanned::span);
        let span = span.or(written.socket.as_ref().map(Spanned::span)).unwrap_or(written.protocol.span());
        let listener = written.check(users, folder)?;
        let short = listen.iter().copied().map(Listener::tcp);
        let same = short.chain(listeners.iter().cloned());
        if let Some(other) = { same }.find(|other| other.endpoint.is_same_as(&listener.endpoint)) {
            let message = format!(
                "{} is where {} is, too; give one of them another place, or remove it",
                listener.title(),
                other.title()
            );
            return Err(Complaint { span, message });
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

impl WrittenListener {
    fn check(self, users: &[User], folder: &Path) -> Result<Listener, Complaint> {
        let protocol = *self.protocol.as_ref();
        self.refuse_what_does_not_fit(protocol)?;
        let missing = |key: &str, example: &str| {
            let message = format!("a {} listener needs `{key}`; write {example}", protocol.name());
            Complaint::at(&self.protocol, message)
        };
        let endpoint = match (protocol, &self.address, &self.socket) {
            (Protocol::Unix, _, Some(socket)) => Endpoint::Unix {
                path: beside(folder, socket)?,
                mode: self.mode.as_ref().map(mode).transpose()?,
            },
            (Protocol::Unix, ..) => return Err(missing("socket", "socket = \"/run/rantai/mqtt.sock\"")),
            (_, Some(written), _) => Endpoint::Tcp(address(written)?),
            (_, None, _) => return Err(missing("address", "address = \"0.0.0.0:8883\"")),
        };
        let tls = protocol.has_tls().then(|| {
            let key = |written: &Option<Spanned<PathBuf>>, key: &str| {
                let written = written.as_ref();
                let written = written.ok_or_else(|| missing(key, &format!("{key} = \"server.pem\"")))?;
                beside(folder, written)
            };
            let optional = |written: &Option<Spanned<PathBuf>>| {
                written.as_ref().map(|written| beside(folder, written)).transpose()
            };
            let additional = self.additional_certificates.iter().flat_map(Spanned::as_ref).map(|written| {
                let certificate = beside(folder, &written.certificate)?;
                Ok(CertificateFiles { certificate, key: beside(folder, &written.key)? })
            });
            Ok(TlsSettings {
                certificate: key(&self.certificate, "certificate")?,
                key: key(&self.key, "key")?,
                additional_certificates: additional.collect::<Result<_, Complaint>>()?,
                client_ca: optional(&self.client_ca)?,
                client_certificates: self.client_certificates()?,
                user_from: self.user_from.as_ref().map_or_else(UserFrom::default, |from| *from.as_ref()),
                revocations: optional(&self.revocations)?,
            })
        });
        let tls = tls.transpose()?;
        let web = protocol.has_web().then(|| {
            let default = WebSettings::default();
            Ok(WebSettings {
                path: self.path.as_ref().map_or(Ok(default.path), path)?,
                origins: self.origins.as_ref().map_or(Ok(default.origins), origins)?,
            })
        });
        let web = web.transpose()?;
        let asks = tls.as_ref().is_some_and(|tls| tls.client_certificates != ClientCertificates::None);
        if let Some(anonymous) = self.anonymous.as_ref().filter(|anonymous| !*anonymous.as_ref())
            && users.is_empty()
            && !asks
        {
            let message = "nobody could connect here; add [[users]] or a password_file, or leave the key out";
            return Err(Complaint::at(anonymous, message));
        }
        Ok(Listener {
            endpoint,
            tls,
            web,
            anonymous: self.anonymous.map(Spanned::into_inner),
            users: self.users.map(|written| allowed(&written, users)).transpose()?,
            connections: self.connections.as_ref().map(at_least_one).transpose()?,
        })
    }

    /// Refuses the first key that does not apply to this protocol.
    fn refuse_what_does_not_fit(&self, protocol: Protocol) -> Result<(), Complaint> {
        let unless = |fits: bool, key: &str, written: Option<Range<usize>>, of: &str| match written {
            Some(span) if !fits => {
                let name = protocol.name();
                let message =
                    format!("`{key}` is for {of} listeners, and this one is {name}; remove the key");
                Err(Complaint { span, message })
            }
            _ => Ok(()),
        };
        let (unix, tls, web) = (protocol == Protocol::Unix, protocol.has_tls(), protocol.has_web());
        unless(!unix, "address", span(self.address.as_ref()), "tcp, tls, ws and wss")?;
        unless(unix, "socket", span(self.socket.as_ref()), "unix")?;
        unless(unix, "mode", span(self.mode.as_ref()), "unix")?;
        unless(tls, "certificate", span(self.certificate.as_ref()), "tls and wss")?;
        unless(tls, "key", span(self.key.as_ref()), "tls and wss")?;
        let additional = span(self.additional_certificates.as_ref());
        unless(tls, "additional_certificates", additional, "tls and wss")?;
        unless(tls, "client_ca", span(self.client_ca.as_ref()), "tls and wss")?;
        unless(tls, "client_certificates", span(self.client_certificates.as_ref()), "tls and wss")?;
        unless(tls, "user_from", span(self.user_from.as_ref()), "tls and wss")?;
        unless(tls, "revocations", span(self.revocations.as_ref()), "tls and wss")?;
        unless(web, "path", span(self.path.as_ref()), "ws and wss")?;
        unless(web, "origins", span(self.origins.as_ref()), "ws and wss")
    }

    /// Returns which clients need a certificate. The other keys about client certificates require `client_ca`.
    fn client_certificates(&self) -> Result<ClientCertificates, Complaint> {
        let needs_ca = |span| {
            let message = "client certificates need a root; add client_ca, or remove this key".to_owned();
            Err(Complaint { span, message })
        };
        let (written, has_ca) = (self.client_certificates.as_ref(), self.client_ca.is_some());
        match written {
            Some(written) if !has_ca && *written.as_ref() != ClientCertificates::None => {
                return needs_ca(written.span());
            }
            _ => {}
        }
        if !has_ca && let Some(user_from) = &self.user_from {
            return needs_ca(user_from.span());
        }
        if !has_ca && let Some(revocations) = &self.revocations {
            return needs_ca(revocations.span());
        }
        let default = if has_ca { ClientCertificates::Required } else { ClientCertificates::None };
        Ok(written.map_or(default, |written| *written.as_ref()))
    }
}

fn span<T>(written: Option<&Spanned<T>>) -> Option<Range<usize>> {
    written.map(Spanned::span)
}

fn beside(folder: &Path, written: &Spanned<PathBuf>) -> Result<PathBuf, Complaint> {
    if written.as_ref().as_os_str().is_empty() {
        return Err(Complaint::at(written, "no file; write its path"));
    }
    Ok(folder.join(written.as_ref()))
}

/// Parses permissions as written for chmod.
fn mode(written: &Spanned<String>) -> Result<u32, Complaint> {
    let text = written.as_ref();
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| Complaint::at(written, "not permissions; write them as chmod does, as in \"0660\""))
}

/// Checks the path of a URL, as it appears in the request.
fn path(written: &Spanned<String>) -> Result<String, Complaint> {
    let text = written.as_ref();
    let is_path = text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>'));
    if !is_path {
        let message = "not the path of a URL; write it with a slash and without a query, as in \"/mqtt\"";
        return Err(Complaint::at(written, message));
    }
    Ok(text.clone())
}

fn origins(written: &Spanned<Vec<Spanned<String>>>) -> Result<Origins, Complaint> {
    let each = written.as_ref();
    if each.is_empty() {
        let message = "no browser could connect; write origins, \"*\" for any, or leave the key out for pages \
                       of the same host";
        return Err(Complaint::at(written, message));
    }
    if each.iter().any(|origin| origin.as_ref() == "*") {
        return Ok(Origins::Any);
    }
    let origin = |written: &Spanned<String>| {
        let text = written.as_ref().to_ascii_lowercase();
        let host = text.split_once("://").map(|(_, host)| host);
        let is_origin = host.is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\"*".contains(&byte))
        });
        if is_origin {
            return Ok(text);
        }
        let message = "not an origin; write scheme and host, and no path, as in \"https://lab.example\"";
        Err(Complaint::at(written, message))
    };
    each.iter().map(origin).collect::<Result<_, _>>().map(Origins::Of)
}

fn allowed(written: &Spanned<Vec<Spanned<String>>>, users: &[User]) -> Result<Vec<String>, Complaint> {
    let allowed = written.as_ref().iter().map(|name| {
        if users.iter().any(|user| user.name == *name.as_ref()) {
            return Ok(name.as_ref().clone());
        }
        let message =
            format!("there is no user `{}`; add it to [[users]] or the password_file", name.as_ref());
        Err(Complaint::at(name, message))
    });
    allowed.collect()
}

fn at_least_one(written: &Spanned<usize>) -> Result<usize, Complaint> {
    match *written.as_ref() {
        0 => {
            Err(Complaint::at(written, "must be at least 1; leave the key out for no limit of this listener"))
        }
        most => Ok(most),
    }
}
