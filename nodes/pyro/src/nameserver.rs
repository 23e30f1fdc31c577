//! The object `Pyro.NameServer`: names of Pyro servers, and all objects of the bus.

use std::collections::{BTreeMap, BTreeSet};

use rantai_client::wire::name::ObjectName;
use regex::{Regex, RegexBuilder};

use crate::arguments::bind;
use crate::daemon::{self, unknown};
use crate::exception::Raised;
use crate::frame::Version;
use crate::gateway::{GatewayState, Origin};
use crate::names::{Registered, check_metadata, check_name, object_name};
use crate::serializer::PyArguments;
use crate::settings::Network;
use crate::uri::PyroUri;
use crate::value::PyValue;

/// Name of the object.
pub(crate) const NAME: &str = "Pyro.NameServer";
/// Its methods.
pub(crate) const METHODS: [&str; 8] =
    ["count", "list", "lookup", "ping", "register", "remove", "set_metadata", "yplookup"];
/// Maximum length of a regular expression, and of its compiled form, in bytes.
const PATTERN: usize = 1 << 10;
const COMPILED: usize = 1 << 20;

/// Which names are listed.
enum Filter {
    All,
    Prefix(String),
    Regex(Regex),
    /// Names with all of these metadata.
    AllOf(BTreeSet<String>),
    /// Names with any of these metadata.
    AnyOf(BTreeSet<String>),
}

/// URI and metadata of a name.
struct Listed {
    uri: PyroUri,
    metadata: BTreeSet<String>,
}

/// Calls a method.
pub(crate) async fn call(
    gateway: &GatewayState,
    origin: &Origin,
    method: &str,
    arguments: PyArguments,
) -> Result<PyValue, Raised> {
    match method {
        "ping" => bind(method, [], 0, arguments).map(|[]| PyValue::None),
        "count" => {
            let [] = bind(method, [], 0, arguments)?;
            Ok(count(listed(gateway, origin).await.len()))
        }
        "lookup" => {
            let [name, metadata] = bind(method, ["name", "return_metadata"], 1, arguments)?;
            lookup(gateway, origin, &name, metadata.is_true()).await
        }
        "list" => list(gateway, origin, arguments).await,
        "yplookup" => {
            // Metadata are returned unless told otherwise.
            let [all, any, metadata] =
                bind(method, ["meta_all", "meta_any", "return_metadata"], 0, arguments)?;
            if !all.is_true() && !any.is_true() {
                return Ok(PyValue::Dict(Vec::new()));
            }
            let filter = filter([PyValue::None, PyValue::None, all, any])?;
            found(gateway, origin, &filter, metadata == PyValue::None || metadata.is_true()).await
        }
        "register" => register(gateway, origin, arguments).await,
        "set_metadata" => {
            let [name, metadata] = bind(method, ["name", "metadata"], 2, arguments)?;
            may_register(gateway, origin)?;
            let (name, metadata) = (text(&name, "name")?, texts(&metadata, "metadata")?);
            check_metadata(&metadata)?;
            if gateway.names.set_metadata(&name, metadata) { Ok(PyValue::None) } else { Err(no_name(&name)) }
        }
        "remove" => remove(gateway, origin, arguments),
        other => Err(unknown(NAME, other)),
    }
}

fn may_register(gateway: &GatewayState, origin: &Origin) -> Result<(), Raised> {
    if Network::any_has(&gateway.register_from, origin.peer) {
        return Ok(());
    }
    if gateway.refused.may_log(origin.peer.to_string()) {
        tracing::warn!(
            "{} may not change names of the Pyro name server; `register_from` says who may",
            origin.peer
        );
    }
    let text = format!("{} may not register names; `register_from` in [pyro] says who may", origin.peer);
    Err(Raised::pyro("SecurityError", text))
}

async fn register(
    gateway: &GatewayState,
    origin: &Origin,
    arguments: PyArguments,
) -> Result<PyValue, Raised> {
    let [name, uri, safe, metadata] = bind("register", ["name", "uri", "safe", "metadata"], 2, arguments)?;
    may_register(gateway, origin)?;
    let naming = |text: String| Raised::pyro("NamingError", text);
    let name = text(&name, "name")?;
    check_name(&name)?;
    let metadata = texts(&metadata, "metadata")?;
    check_metadata(&metadata)?;
    let uri = PyroUri::of(&uri).map_err(|error| Raised::pyro("PyroError", error.to_string()))?;
    if [NAME, daemon::NAME].contains(&&*name) {
        return Err(naming(format!("the name {name} is the gateway's own")));
    }
    if let Some(object) = object_name(&name)
        && gateway.names.is_of_another(&object, &gateway.catalog.claimants(&object).await)
    {
        return Err(naming(format!("{name} is an object of the bus already; register another name")));
    }
    let address = gateway.dialing.resolve(&uri).await;
    address.map_err(|error| naming(format!("cannot register {uri}: {error}")))?;
    gateway.names.register(name, uri, origin.version, metadata, safe.is_true())?;
    Ok(PyValue::None)
}

fn remove(gateway: &GatewayState, origin: &Origin, arguments: PyArguments) -> Result<PyValue, Raised> {
    let [name, prefix, regex] = bind("remove", ["name", "prefix", "regex"], 0, arguments)?;
    may_register(gateway, origin)?;
    if name.is_true() {
        return Ok(PyValue::Int(gateway.names.remove(&text(&name, "name")?).into()));
    }
    if !prefix.is_true() && !regex.is_true() {
        return Ok(PyValue::Int(0));
    }
    let filter = filter([prefix, regex, PyValue::None, PyValue::None])?;
    let registered = gateway.names.all();
    let matching = registered.iter().filter(|(name, known)| filter.takes(name, &known.metadata));
    let removed = matching.filter(|(name, _)| gateway.names.remove(name)).count();
    Ok(count(removed))
}

async fn lookup(
    gateway: &GatewayState,
    origin: &Origin,
    name: &PyValue,
    with_metadata: bool,
) -> Result<PyValue, Raised> {
    let name = text(name, "name")?;
    let Some(found) = listed(gateway, origin).await.remove(&name) else { return Err(no_name(&name)) };
    let uri = found.uri.to_python(origin.version);
    Ok(if with_metadata { PyValue::Tuple(vec![uri, set(found.metadata, origin.version)]) } else { uri })
}

async fn list(gateway: &GatewayState, origin: &Origin, arguments: PyArguments) -> Result<PyValue, Raised> {
    let ([prefix, regex, all, any], metadata) = match origin.version {
        Version::Five => {
            let names = ["prefix", "regex", "return_metadata"];
            let [prefix, regex, metadata] = bind("list", names, 0, arguments)?;
            ([prefix, regex, PyValue::None, PyValue::None], metadata)
        }
        Version::Four => {
            let names = ["prefix", "regex", "metadata_all", "metadata_any", "return_metadata"];
            let [prefix, regex, all, any, metadata] = bind("list", names, 0, arguments)?;
            ([prefix, regex, all, any], metadata)
        }
    };
    found(gateway, origin, &filter([prefix, regex, all, any])?, metadata.is_true()).await
}

async fn found(
    gateway: &GatewayState,
    origin: &Origin,
    filter: &Filter,
    with_metadata: bool,
) -> Result<PyValue, Raised> {
    let mut all = listed(gateway, origin).await;
    all.retain(|name, listed| filter.takes(name, &listed.metadata));
    let member = |(name, listed): (String, Listed)| {
        let uri = PyValue::Str(listed.uri.to_string());
        let value =
            if with_metadata { PyValue::Tuple(vec![uri, set(listed.metadata, origin.version)]) } else { uri };
        (PyValue::Str(name), value)
    };
    Ok(PyValue::Dict(all.into_iter().map(member).collect()))
}

/// Returns all names: the name server itself, the objects of the bus, and the registered names.
async fn listed(gateway: &GatewayState, origin: &Origin) -> BTreeMap<String, Listed> {
    let registered = gateway.names.all();
    let own: BTreeSet<&str> =
        registered.values().filter_map(|known| known.object.as_ref()).map(ObjectName::as_str).collect();
    let mut all = BTreeMap::new();
    for (object, tags) in gateway.catalog.served().await {
        if !own.contains(&*object) {
            let uri = gateway.uri(&object, origin);
            all.insert(object, Listed { uri, metadata: tags.into_iter().collect() });
        }
    }
    for (name, known) in &registered {
        let uri = reachable(gateway, origin, known);
        all.insert(name.clone(), Listed { uri, metadata: known.metadata.clone() });
    }
    let metadata = BTreeSet::from([format!("class:{}", class(origin.version))]);
    all.insert(NAME.to_owned(), Listed { uri: gateway.uri(NAME, origin), metadata });
    all
}

/// Returns the URI by which a client reaches a registered server: its own, or that of its object on the bus if client and
/// server speak different versions of Pyro.
fn reachable(gateway: &GatewayState, origin: &Origin, known: &Registered) -> PyroUri {
    match &known.object {
        Some(object) if known.version != origin.version => gateway.uri(object.as_str(), origin),
        _ => known.uri.clone(),
    }
}

/// Returns the class of name servers.
fn class(version: Version) -> &'static str {
    match version {
        Version::Four => "Pyro4.naming.NameServer",
        Version::Five => "Pyro5.nameserver.NameServer",
    }
}

/// Returns metadata as each version returns it: Pyro4 as a list.
fn set(metadata: BTreeSet<String>, version: Version) -> PyValue {
    let items = metadata.into_iter().map(PyValue::Str).collect();
    match version {
        Version::Four => PyValue::List(items),
        Version::Five => PyValue::Set(items),
    }
}

fn count(count: usize) -> PyValue {
    PyValue::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn no_name(name: &str) -> Raised {
    Raised::pyro("NamingError", format!("unknown name: {name}"))
}

fn text(value: &PyValue, what: &str) -> Result<String, Raised> {
    let text = value.as_str().map(ToOwned::to_owned);
    text.ok_or_else(|| Raised::builtin("TypeError", format!("{what} must be a str")))
}

/// Returns the texts of a list, tuple or set; none for `None`.
fn texts(value: &PyValue, what: &str) -> Result<BTreeSet<String>, Raised> {
    if *value == PyValue::None {
        return Ok(BTreeSet::new());
    }
    let wrong = || Raised::builtin("TypeError", format!("{what} must be a list or set of texts"));
    value.items().ok_or_else(wrong)?.iter().map(|item| text(item, what)).collect()
}

/// Creates a filter of prefix, regular expression, all of some metadata, or any of them.
fn filter(given: [PyValue; 4]) -> Result<Filter, Raised> {
    if given.iter().filter(|filter| filter.is_true()).count() > 1 {
        return Err(Raised::builtin("ValueError", "you can only filter on one thing at a time"));
    }
    let [prefix, regex, all, any] = given;
    if prefix.is_true() {
        return Ok(Filter::Prefix(text(&prefix, "prefix")?));
    }
    if regex.is_true() {
        return pattern(&text(&regex, "regex")?).map(Filter::Regex);
    }
    if all.is_true() {
        return Ok(Filter::AllOf(texts(&all, "metadata")?));
    }
    if any.is_true() {
        return Ok(Filter::AnyOf(texts(&any, "metadata")?));
    }
    Ok(Filter::All)
}

/// Compiles a regular expression, which matches from the start of a name, as Python's `match` does. Matching takes linear time.
fn pattern(text: &str) -> Result<Regex, Raised> {
    let wrong = |reason: String| Raised::pyro("NamingError", format!("invalid regex: {reason}"));
    if text.len() > PATTERN {
        return Err(wrong(format!("more than {PATTERN} bytes")));
    }
    let mut builder = RegexBuilder::new(&format!("^(?:{text})"));
    builder.size_limit(COMPILED).dfa_size_limit(COMPILED).nest_limit(50);
    builder.build().map_err(|error| wrong(error.to_string()))
}

impl Filter {
    fn takes(&self, name: &str, metadata: &BTreeSet<String>) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(name),
            Self::AllOf(all) => all.is_subset(metadata),
            Self::AnyOf(any) => !any.is_disjoint(metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filtered_as_pyro_does() {
        let none = || PyValue::None;
        let texts = |texts: &[&str]| PyValue::List(texts.iter().map(|text| PyValue::text(*text)).collect());
        let metadata: BTreeSet<String> = ["a", "b"].map(ToOwned::to_owned).into();
        for (given, expected) in [
            ([none(), none(), none(), none()], true),
            ([PyValue::text("calc"), none(), none(), none()], true),
            ([PyValue::text("lator"), none(), none(), none()], false),
            ([none(), PyValue::text("calc"), none(), none()], true),
            ([none(), PyValue::text("lator"), none(), none()], false),
            ([none(), PyValue::text("x|calc.*r$"), none(), none()], true),
            ([none(), none(), texts(&["a", "b"]), none()], true),
            ([none(), none(), texts(&["a", "c"]), none()], false),
            ([none(), none(), none(), texts(&["c", "b"])], true),
            ([none(), none(), none(), texts(&["c"])], false),
        ] {
            let shown = format!("{given:?}");
            let filter = filter(given).expect("a filter");
            assert_eq!(filter.takes("calculator", &metadata), expected, "{shown}");
        }
        let two = filter([PyValue::text("a"), PyValue::text("b"), none(), none()]);
        assert!(two.is_err_and(|raised| raised.message.contains("one thing")));
        assert!(filter([none(), none(), PyValue::text("a"), none()]).is_err());
    }

    #[test]
    fn regular_expressions_that_cost_too_much_are_refused() {
        for text in ["(", "a{1000}{1000}{1000}", "(?=a)", &"a".repeat(2_000), &"(".repeat(200)] {
            assert!(pattern(text).expect_err(text).message.starts_with("invalid regex"));
        }
        let slow = pattern("(a+)+$").expect("a regular expression");
        assert!(!slow.is_match(&format!("{}b", "a".repeat(10_000))));
    }
}
