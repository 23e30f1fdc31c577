//! Checks of web pages: browsers send the origin of a page and the host that it calls.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use rantai_client::wire::fault::{Code, Fault};

use super::guard::{Counts, Guard};
use super::location::Location;

/// Web pages that may call: the gateway's own, and those of the listed origins.
#[derive(Debug)]
pub(super) struct Pages {
    /// Listed origins, such as `https://example.org`.
    origins: Vec<String>,
    /// Whether anybody may call.
    open: bool,
    /// Whether the gateway uses TLS, so that a page without TLS is not its own.
    secure: bool,
    /// Name of this host.
    host: Option<String>,
}

impl Pages {
    pub(super) fn new(origins: &[String], open: bool, location: &Location) -> Self {
        let origins = origins.iter().cloned().chain(location.origin()).collect();
        Self { origins, open, secure: location.is_secure(), host: host_name() }
    }

    /// Refuses and counts a request of a page that may not call. A request without a page's headers is not from a browser, and
    /// passes.
    pub(super) fn check(&self, headers: &HeaderMap, guard: &Guard) -> Result<(), Fault> {
        let refuse = |text: String| {
            Counts::one(&guard.counts.foreign_pages);
            Err(Fault::new(Code::DENIED, text))
        };
        if !self.is_own(headers) {
            return refuse("pages of this origin may not call; `origins` lists those that may".to_owned());
        }
        match text(headers, header::HOST) {
            // DNS rebinding: the owner of a name may have it resolve to this host, and then their page has the same origin as the
            // gateway. If callers have to log in, only the gateway's own page has their password.
            Some(host) if self.open && !self.is_known(host) => refuse(format!(
                "anybody may call here, but not by the name {host:?}, unless `origins` has it"
            )),
            _ => Ok(()),
        }
    }

    fn is_own(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(header::ORIGIN) {
            // Browsers send no origin for pictures and links, but this header.
            let site = headers.get("sec-fetch-site");
            return site.is_none_or(|site| site == "same-origin" || site == "none");
        }
        let Some(origin) = text(headers, header::ORIGIN) else { return false };
        let own = origin.split_once("://").is_some_and(|(scheme, host)| {
            Some(host) == text(headers, header::HOST) && (!self.secure || scheme == "https")
        });
        own || self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Checks whether a host name cannot be a foreign one: an address, this host's name, or a listed one. A name without a dot
    /// may be foreign, by the domain that a resolver or a local network appends.
    fn is_known(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().to_ascii_lowercase();
        let address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        let local = name == "localhost" || name.ends_with(".localhost");
        let own =
            self.host.as_ref().is_some_and(|host| name == *host || name.strip_suffix(".local") == Some(host));
        let listed = |origin: &String| {
            let host = origin.split_once("://").and_then(|(_, host)| host.parse::<Authority>().ok());
            host.is_some_and(|host| host.host() == name)
        };
        address || local || own || self.origins.iter().any(listed)
    }
}

/// Returns the name of this host, in lower case.
fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    Some(name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of `http://` on this host, which another program may serve, has another origin than `https://`.
    #[test]
    fn with_tls_an_http_page_is_not_the_gateways_own() {
        let asked = |origin: &str| {
            let headers = [(header::HOST, "pi"), (header::ORIGIN, origin)];
            HeaderMap::from_iter(headers.map(|(name, value)| (name, value.parse().expect("a value"))))
        };
        for (secure, origin, expected) in [
            (true, "https://pi", true),
            (true, "http://pi", false),
            (false, "http://pi", true),
            // Behind a proxy that uses TLS.
            (false, "https://pi", true),
            (false, "https://other", false),
        ] {
            let pages = Pages { origins: Vec::new(), open: true, secure, host: None };
            assert_eq!(pages.is_own(&asked(origin)), expected, "{secure} {origin}");
        }
    }

    /// Regression: names without a dot, and all of `.local`, were accepted, although their owner could have them
    /// resolve to this host.
    #[test]
    fn only_names_of_this_host_and_listed_ones_are_known() {
        let pages = Pages {
            origins: vec!["https://api.example.org".to_owned()],
            open: true,
            secure: false,
            host: Some("pi-east".to_owned()),
        };
        for (host, expected) in [
            ("127.0.0.1:5151", true),
            ("[::1]:5151", true),
            ("192.168.1.9", true),
            ("localhost:5151", true),
            ("rest.localhost", true),
            ("pi-east", true),
            ("PI-EAST:5151", true),
            ("pi-east.local", true),
            ("api.example.org", true),
            ("evil.local", false),
            ("evil", false),
            ("pi", false),
            ("pi-east.evil.org", false),
            ("localhost.evil.org", false),
            ("127.0.0.1.evil.org", false),
            ("", false),
        ] {
            assert_eq!(pages.is_known(host), expected, "{host}");
        }
    }
}
