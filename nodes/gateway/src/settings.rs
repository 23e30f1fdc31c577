//! Settings of the gateways in nodes.toml.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rantai_client::wire::user::User as UserName;
use rantai_credentials::{KeyRecord, Record, RecordError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use super::limits::Limits;
use super::location;
pub use super::proxies::Network;
use super::soap::service::{Simple, ncname};
use super::tls::{Named, with_sources};
use super::users::records;
use rantai_tls::{ServerFiles, ServerTls};

/// Built-in methods that only read: the only ones that HTTP clients may call.
pub(super) const BUILT_IN: [&str; 4] = ["rpc.ping", "rpc.info", "rpc.stats", "rpc.discover"];

/// Settings of the REST gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    /// Address to listen on, such as `127.0.0.1:5151`.
    pub listen: SocketAddr,
    /// PEM file of the server's certificate, followed by those of intermediate authorities; enables HTTPS. It is read again
    /// when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM file of an authority: only clients with a certificate signed by it may connect.
    pub client_ca: Option<PathBuf>,
    /// PEM file of that authority's revocation list.
    pub revocations: Option<PathBuf>,
    /// Public URL, such as `https://api.example.org`. Default: taken from each request.
    pub address: Option<String>,
    /// Objects that can be called; a name that ends in `*` is a prefix. Default: all objects.
    #[serde(default = "every")]
    pub objects: Vec<String>,
    /// Those of `objects` whose events everybody who may call can follow, in the same form. Default: all of them, but where
    /// there are users not `tasks`, whose events tell of the tasks of all users.
    pub events: Option<Vec<String>>,
    /// Users who may call. Without users and a password file, anybody may call.
    #[serde(default)]
    pub users: Vec<User>,
    /// File of users with their passwords; may be that of the broker, so that both have the same users.
    pub password_file: Option<PathBuf>,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Users for whom statistics contain the names of callers: those of the whole configuration.
    #[serde(skip)]
    pub admins: Vec<String>,
    /// Origins whose web pages may call, such as `https://example.org`. Default: only the gateway's own pages.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Limits on clients.
    #[serde(default)]
    pub limits: Limits,
    /// Configured paths that call methods.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// Settings of the SOAP 1.1 gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Soap {
    /// Address to listen on, such as `127.0.0.1:8000`.
    pub listen: SocketAddr,
    /// PEM file of the server's certificate, followed by those of intermediate authorities; enables HTTPS. It is read again
    /// when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM file of an authority: only clients with a certificate signed by it may connect.
    pub client_ca: Option<PathBuf>,
    /// PEM file of that authority's revocation list.
    pub revocations: Option<PathBuf>,
    /// Public URL, such as `https://api.example.org`. Default: taken from each request.
    pub address: Option<String>,
    /// Objects that can be called, each at `/NAME`; a name that ends in `*` is a prefix. Default: all objects.
    #[serde(default = "every")]
    pub objects: Vec<String>,
    /// Users who may call. Without users and a password file, anybody may call.
    #[serde(default)]
    pub users: Vec<User>,
    /// File of users with their passwords; may be that of the broker, so that both have the same users.
    pub password_file: Option<PathBuf>,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Origins whose web pages may call, such as `https://example.org`; their host names are accepted as this gateway's.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Limits on clients.
    #[serde(default)]
    pub limits: Limits,
    /// Configured services, whose operations call methods of objects.
    #[serde(default)]
    pub services: Vec<Service>,
}

fn every() -> Vec<String> {
    vec!["*".to_owned()]
}

/// User who may call: with a password by `Authorization: Basic`, or with a key by `Bearer`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name of the user.
    pub name: String,
    /// Record of the password, as printed by `rantai passwd --hash`.
    #[serde(default, deserialize_with = "record")]
    pub password: Option<Record>,
    /// Key, or its record as printed by `rantai passwd --key`.
    pub key: Option<UserKey>,
}

/// Key of a program in a configuration: in plain text, or as its record.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct UserKey(String);

impl UserKey {
    /// Creates it from a key, or from the text of a record.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Checks whether this is the key in plain text, which every reader of the configuration could use.
    pub fn is_plain(&self) -> bool {
        !KeyRecord::is_record(&self.0)
    }

    pub(super) fn record(&self) -> Result<KeyRecord, RecordError> {
        if self.is_plain() { Ok(KeyRecord::new(self.0.as_bytes())) } else { self.0.parse() }
    }
}

fn record<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Record>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The text may be a password in plain text, so that it is not shown.
    let record = text.parse().map_err(|error: RecordError| {
        D::Error::custom(format!("{error}; `rantai passwd --hash` prints the record of a password"))
    })?;
    Ok(Some(record))
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// Configured path: `GET PATH?a=…&b=…` calls a method with these parameters; POST if the method may change something.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Path, such as `/add`.
    pub path: String,
    /// Name of the object.
    pub object: String,
    /// Name of the method.
    pub method: String,
    /// Names in the query, in the order of the method's parameters. Other names are ignored.
    #[serde(default)]
    pub params: Vec<String>,
    /// Member of the response that contains the result. Default: the response is the result itself.
    pub result: Option<String>,
    /// Responses to certain errors.
    #[serde(default)]
    pub errors: Vec<RouteError>,
}

/// Error response of a route: `{"error": TEXT}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteError {
    /// Code of the errors.
    pub code: Option<i32>,
    /// Kind of the errors.
    pub kind: Option<String>,
    /// HTTP status of the response.
    pub status: u16,
    /// Text of the response.
    pub error: String,
}

/// Configured SOAP service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Path, such as `/`.
    pub path: String,
    /// Name of the service.
    pub name: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Operations of the service.
    pub operations: Vec<Operation>,
}

/// Operation of a configured service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Name of the operation.
    pub name: String,
    /// Name of the object.
    pub object: String,
    /// Name of the method.
    pub method: String,
    /// Parameters in order, such as `["a:int", "b:int"]`.
    pub params: Vec<String>,
    /// Type of the result: `int`, `long`, `double`, `boolean` or `string`.
    pub result: Simple,
}

impl Operation {
    /// Parses the parameters with their types.
    pub(super) fn typed(&self) -> Result<Vec<(String, Simple)>, String> {
        let typed = |text: &String| {
            let (name, of) = text.split_once(':')?;
            Some((name.to_owned(), Simple::named(of)?))
        };
        let wrong = |text: &String| {
            format!("{text:?} is no NAME:TYPE with a type of int, long, double, boolean or string")
        };
        self.params.iter().map(|text| typed(text).ok_or_else(|| wrong(text))).collect()
    }
}

/// Paths reserved for the gateway.
const OWN: [&str; 6] = ["/objects", "/events", "/openapi.json", "/ui", "/stats", "/try.js"];

impl Rest {
    /// Returns the users whose keys are in the configuration in plain text.
    pub fn plain_keys(&self) -> impl Iterator<Item = &str> {
        plain_keys(&self.users)
    }

    /// Returns the configured files, so that the caller can resolve relative paths against the configuration's folder.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { password_file, certificate, key, client_ca, revocations, .. } = self;
        [password_file, certificate, key, client_ca, revocations].into_iter().flatten()
    }

    pub(super) fn tls(&self) -> Result<Option<ServerFiles>, String> {
        Named::new([&self.certificate, &self.key, &self.client_ca, &self.revocations]).files()
    }

    /// Checks the settings; the error says which of them is invalid.
    pub fn check(&self) -> Result<(), String> {
        users(&self.users, self.password_file.as_deref())?;
        reached(self.tls()?, self.address.as_deref())?;
        let mut seen = HashSet::new();
        for route in &self.routes {
            path(&route.path)?;
            method(&route.method)?;
            let own = OWN.iter().any(|own| route.path == *own || route.path.starts_with(&format!("{own}/")));
            if own || route.path == "/" {
                return Err(format!("route {:?}: that path is the gateway's own", route.path));
            }
            if !seen.insert(&route.path) {
                return Err(format!("route {:?} stands there twice", route.path));
            }
            for error in &route.errors {
                if !(400..=599).contains(&error.status) {
                    return Err(format!("route {:?}: the status of an error is 400 to 599", route.path));
                }
            }
        }
        origins(&self.origins)
    }
}

fn origins(origins: &[String]) -> Result<(), String> {
    for origin in origins {
        let parsed = url::Url::parse(origin).map_err(|error| format!("origin {origin:?}: {error}"))?;
        if parsed.origin().ascii_serialization() != *origin {
            return Err(format!("origin {origin:?}: SCHEME://HOST[:PORT] is expected"));
        }
    }
    Ok(())
}

/// Refuses built-in methods that change something.
fn method(name: &str) -> Result<(), String> {
    if name.starts_with("rpc.") && !BUILT_IN.contains(&name) {
        return Err(format!("{name} is not for callers from outside"));
    }
    Ok(())
}

fn plain_keys(users: &[User]) -> impl Iterator<Item = &str> {
    users.iter().filter(|user| user.key.as_ref().is_some_and(UserKey::is_plain)).map(|user| &*user.name)
}

/// Checks that the files for TLS can be used, and that the address is valid.
fn reached(tls: Option<ServerFiles>, address: Option<&str>) -> Result<(), String> {
    if let Some(files) = tls {
        ServerTls::open(files).map_err(|error| with_sources(&error))?;
    }
    location::check(address)
}

impl Soap {
    /// Returns the users whose keys are in the configuration in plain text.
    pub fn plain_keys(&self) -> impl Iterator<Item = &str> {
        plain_keys(&self.users)
    }

    /// Returns the configured files, so that the caller can resolve relative paths against the configuration's folder.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { password_file, certificate, key, client_ca, revocations, .. } = self;
        [password_file, certificate, key, client_ca, revocations].into_iter().flatten()
    }

    pub(super) fn tls(&self) -> Result<Option<ServerFiles>, String> {
        Named::new([&self.certificate, &self.key, &self.client_ca, &self.revocations]).files()
    }

    /// Checks the settings; the error says which of them is invalid.
    pub fn check(&self) -> Result<(), String> {
        users(&self.users, self.password_file.as_deref())?;
        reached(self.tls()?, self.address.as_deref())?;
        origins(&self.origins)?;
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for service in &self.services {
            if service.path != "/" {
                path(&service.path)?;
            }
            if let Some(other) = seen.insert(&service.path, &service.name) {
                return Err(format!("services {other:?} and {:?} have one path", service.name));
            }
            let texts = service.operations.iter().map(|operation| &operation.name).chain([&service.name]);
            for name in texts {
                ncname(name).ok_or_else(|| format!("{name:?} is no name of XML"))?;
            }
            for operation in &service.operations {
                method(&operation.method)?;
                for (name, _) in operation.typed()? {
                    ncname(&name).ok_or_else(|| format!("{name:?} is no name of XML"))?;
                }
            }
        }
        Ok(())
    }
}

fn users(users: &[User], file: Option<&Path>) -> Result<(), String> {
    for user in users {
        if user.password.is_none() && user.key.is_none() {
            return Err(format!("user {:?} has neither a password nor a key", user.name));
        }
        if let Some(Err(_)) = user.key.as_ref().map(UserKey::record) {
            return Err(format!(
                "the key of user {:?} is a damaged record; `rantai passwd --key` prints a key and its record",
                user.name
            ));
        }
        if user.name.contains(':') {
            return Err(format!("user {:?}: a name has no colon", user.name));
        }
        UserName::new(&user.name).map_err(|error| error.to_string())?;
    }
    records(users, file).map(drop)
}

fn path(path: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.len() > 1 && path.starts_with('/') && !path.contains("//") && path.chars().all(allowed) {
        Ok(())
    } else {
        Err(format!("path {path:?}: / and then A-Z a-z 0-9 . _ - are expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str) -> Result<(), String> {
        let text = format!("listen = '127.0.0.1:0'\n{text}");
        toml::from_str::<Rest>(&text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn invalid_gateway_settings_are_refused() {
        let route = |path: &str| rest(&format!("routes = [{{path='{path}', object='c', method='add'}}]"));
        assert_eq!(route("/add"), Ok(()));
        for path in ["add", "/", "/objects", "/objects/x", "/a//b", "/{x}", "/*", "/ü", "/ui"] {
            assert!(route(path).is_err(), "{path}");
        }
        assert!(rest("users = [{name='a'}]").is_err());
        assert!(rest("users = [{name='a:b', key='k'}]").is_err());
        assert!(
            rest("users = [{name='a', key='$sha256$ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0'}]").is_ok()
        );
        let damaged = rest("users = [{name='a', key='$sha256$ungWv48Bz'}]").expect_err("cut short");
        assert!(damaged.contains("rantai passwd --key") && !damaged.contains("ungWv"), "{damaged}");
        let plain = rest("users = [{name='a', password='s3cret'}]").expect_err("plain text");
        assert!(plain.contains("rantai passwd --hash"), "{plain}");
        assert!(rest("trusted_proxies = ['127.0.0.1', '10.0.0.0/8']").is_ok());
        assert!(rest("trusted_proxies = ['proxy']").is_err());
        assert!(rest("routes = [{path='/y', object='c', method='rpc.yield'}]").is_err());
        assert!(rest("origins = ['https://example.org']").is_ok());
        assert!(rest("origins = ['https://example.org/']").is_err());
        assert!(rest("limits = {connections = 0}").is_err());
        assert!(rest("limit = {}").is_err());
    }
}
