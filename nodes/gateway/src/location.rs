//! Public URL of a gateway, for generated documents.

use axum::http::{HeaderMap, header};
use url::Url;

/// Public address of a gateway: the configured one, or else the host that a client's request names.
#[derive(Clone, Debug)]
pub(super) struct Location {
    /// Configured URL, without a trailing slash.
    configured: Option<String>,
    /// Whether the gateway itself uses TLS.
    secure: bool,
}

impl Location {
    pub(super) fn new(configured: Option<&str>, secure: bool) -> Self {
        let configured = configured.map(|address| address.trim_end_matches('/').to_owned());
        Self { configured, secure }
    }

    /// Returns whether the gateway itself uses TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the URL of a path.
    pub(super) fn url(&self, headers: &HeaderMap, path: &str) -> String {
        if let Some(address) = &self.configured {
            return format!("{address}{path}");
        }
        let scheme = if self.secure { "https" } else { "http" };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".:[]-_".contains(c);
        let host = host.filter(|host| host.chars().all(allowed)).unwrap_or("localhost");
        format!("{scheme}://{host}{path}")
    }

    /// Returns the base URL of all paths, for an `OpenAPI` document: relative to the document unless clients are known to use
    /// TLS, as a proxy in front of the gateway may use it.
    pub(super) fn base(&self, headers: &HeaderMap) -> String {
        if self.configured.is_some() || self.secure { self.url(headers, "/") } else { "/".to_owned() }
    }

    /// Returns the origin of the configured address.
    pub(super) fn origin(&self) -> Option<String> {
        let address = Url::parse(self.configured.as_deref()?).ok()?;
        Some(address.origin().ascii_serialization())
    }
}

/// Checks that a configured address is valid.
pub(super) fn check(address: Option<&str>) -> Result<(), String> {
    let Some(text) = address else { return Ok(()) };
    let wrong = || format!("address {text:?}: https://HOST[:PORT][/PATH] is expected, or the same with http");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain || url.password().is_some() {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers_with_host(host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a value"));
        headers
    }

    #[test]
    fn documents_name_the_scheme_that_clients_use() {
        let plain = Location::new(None, false);
        assert_eq!(plain.url(&headers_with_host("pi:80"), "/calculator"), "http://pi:80/calculator");
        assert_eq!(plain.base(&headers_with_host("pi:80")), "/");
        let secure = Location::new(None, true);
        assert_eq!(
            secure.url(&headers_with_host("[::1]:443"), "/calculator"),
            "https://[::1]:443/calculator"
        );
        assert_eq!(secure.base(&headers_with_host("pi")), "https://pi/");
        assert_eq!(
            secure.url(&headers_with_host("\"><x>"), "/"),
            "https://localhost/",
            "no host that could be markup"
        );
    }

    #[test]
    fn configured_address_overrides_the_host_header() {
        let behind = Location::new(Some("https://api.example.org/bus/"), false);
        assert_eq!(
            behind.url(&headers_with_host("10.0.0.1:5151"), "/calculator"),
            "https://api.example.org/bus/calculator"
        );
        assert_eq!(behind.base(&headers_with_host("10.0.0.1:5151")), "https://api.example.org/bus/");
        assert_eq!(behind.origin().as_deref(), Some("https://api.example.org"));
    }

    #[test]
    fn invalid_public_address_is_refused() {
        for right in [None, Some("https://api.example.org"), Some("http://pi:8080/bus/")] {
            assert_eq!(check(right), Ok(()));
        }
        for wrong in
            ["", "api.example.org", "ftp://x", "mailto:x", "https://x/?a", "https://x/#a", "https://u@x"]
        {
            assert!(check(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
