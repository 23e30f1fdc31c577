//! Table of the names that Pyro servers have registered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::wire::name::ObjectName;
use rantai_nodes::Node;
use tokio::task::JoinHandle;

use crate::exception::Raised;
use crate::frame::Version;
use crate::peer::{Adoption, Dialing, PyroServer};
use crate::uri::PyroUri;

/// Maximum length of a name and of an item of metadata, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Maximum number of items of metadata of a name.
const MAX_METADATA: usize = 64;

/// Registered names.
pub(crate) struct Names {
    node: Arc<Node>,
    dialing: Arc<Dialing>,
    lost: Duration,
    limit: usize,
    table: Mutex<BTreeMap<String, Registration>>,
    /// Tasks that withdraw objects.
    ending: Mutex<BTreeMap<ObjectName, JoinHandle<()>>>,
}

/// Registration of a name.
#[derive(Debug)]
struct Registration {
    version: Version,
    metadata: BTreeSet<String>,
    server: Arc<PyroServer>,
    /// Name on the bus, with the task that serves it; `None` if the name has no form there.
    adopted: Option<(ObjectName, Adoption)>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) uri: PyroUri,
    /// Version of the client that has registered it.
    pub(crate) version: Version,
    pub(crate) metadata: BTreeSet<String>,
    pub(crate) object: Option<ObjectName>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("count", &self.table.lock().len()).finish_non_exhaustive()
    }
}

impl Names {
    pub(crate) fn new(node: Arc<Node>, dialing: Arc<Dialing>) -> Self {
        let limits = dialing.limits;
        Self {
            node,
            dialing,
            lost: limits.lost(),
            limit: limits.registrations,
            table: Mutex::default(),
            ending: Mutex::default(),
        }
    }

    /// Registers a name, and serves it on the bus as `object`. An earlier registration of the name ends; `safe` refuses that.
    ///
    /// # Errors
    ///
    /// The name is registered and `safe` is set, or the table is full of servers that are reachable.
    pub(crate) fn register(
        &self,
        name: String,
        uri: PyroUri,
        version: Version,
        metadata: BTreeSet<String>,
        safe: bool,
    ) -> Result<(), Raised> {
        let mut table = self.table.lock();
        if safe && table.contains_key(&name) {
            return Err(Raised::pyro("NamingError", format!("name already registered: {name}")));
        }
        let previous = table.remove(&name);
        if table.len() >= self.limit {
            let gone =
                table.iter().find(|(_, known)| !known.server.is_reachable()).map(|(name, _)| name.clone());
            let Some(gone) = gone else {
                if let Some(previous) = previous {
                    table.insert(name, previous);
                }
                let text = format!("{} names are registered, which is the limit; remove one", self.limit);
                return Err(Raised::pyro("NamingError", text));
            };
            tracing::warn!("forgot the Pyro name {gone}, whose server is not reachable, to register {name}");
            self.end(table.remove(&gone));
        }
        self.end(previous);
        let object = object_name(&name).filter(|object| !has(&table, object));
        if object.is_none() {
            tracing::warn!("the Pyro name {name} has no form of its own on the bus and is not served there");
        }
        let server = PyroServer::new(uri, version, self.dialing.clone());
        let adopted = match object {
            Some(object) => {
                let previous = self.ending.lock().remove(&object);
                let (node, shown) = (self.node.clone(), name.clone());
                let adoption =
                    Adoption::start(node, object.clone(), shown, server.clone(), self.lost, previous);
                Some((object, adoption))
            }
            None => None,
        };
        table.insert(name, Registration { version, metadata, server, adopted });
        Ok(())
    }

    /// Returns all names.
    pub(crate) fn all(&self) -> BTreeMap<String, Registered> {
        self.table.lock().iter().map(|(name, known)| (name.clone(), known.public())).collect()
    }

    /// Returns whether another object has this name on the bus: one of a node of `nodes`, which claim the name, or one that the
    /// node of the gateway serves and that is not of a Pyro server.
    pub(crate) fn is_of_another(&self, object: &ObjectName, nodes: &[String]) -> bool {
        if nodes.iter().any(|node| node != self.node.name().as_str()) {
            return true;
        }
        let own = has(&self.table.lock(), object) || self.ending.lock().contains_key(object);
        !own && self.node.objects().iter().any(|served| served.name == *object)
    }

    /// Replaces the metadata of a name; returns whether the name is registered.
    pub(crate) fn set_metadata(&self, name: &str, metadata: BTreeSet<String>) -> bool {
        self.table.lock().get_mut(name).map(|known| known.metadata = metadata).is_some()
    }

    /// Removes a name, and its object from the bus; returns whether it was registered.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let removed = self.table.lock().remove(name);
        let was_there = removed.is_some();
        self.end(removed);
        was_there
    }

    /// Withdraws all objects from the bus.
    pub(crate) async fn close(&self) {
        let table = std::mem::take(&mut *self.table.lock());
        for known in table.into_values() {
            self.end(Some(known));
        }
        let ending = std::mem::take(&mut *self.ending.lock());
        for end in ending.into_values() {
            let _ = end.await;
        }
    }

    /// Withdraws the object of a registration in the background.
    fn end(&self, registration: Option<Registration>) {
        let mut ending = self.ending.lock();
        ending.retain(|_, end| !end.is_finished());
        if let Some((object, adoption)) = registration.and_then(|removed| removed.adopted) {
            ending.insert(object, tokio::spawn(adoption.end()));
        }
    }
}

impl Registration {
    fn public(&self) -> Registered {
        Registered {
            uri: self.server.uri.clone(),
            version: self.version,
            metadata: self.metadata.clone(),
            object: self.adopted.as_ref().map(|(object, _)| object.clone()),
        }
    }
}

fn has(table: &BTreeMap<String, Registration>, object: &ObjectName) -> bool {
    table.values().any(|known| known.adopted.as_ref().is_some_and(|(name, _)| name == object))
}

/// Returns the name of an object on the bus: characters that are not allowed become `_`.
pub(crate) fn object_name(name: &str) -> Option<ObjectName> {
    let valid = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    ObjectName::new(&name.chars().map(valid).collect::<String>()).ok()
}

/// Checks a name that is registered.
pub(crate) fn check_name(name: &str) -> Result<(), Raised> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let text = format!("a name has 1 to {MAX_NAME_BYTES} bytes and no control characters");
        return Err(Raised::pyro("NamingError", text));
    }
    Ok(())
}

/// Checks metadata.
pub(crate) fn check_metadata(metadata: &BTreeSet<String>) -> Result<(), Raised> {
    if metadata.len() > MAX_METADATA || metadata.iter().any(|item| item.len() > MAX_NAME_BYTES) {
        let text = format!("metadata are at most {MAX_METADATA} texts of at most {MAX_NAME_BYTES} bytes");
        return Err(Raised::pyro("NamingError", text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pyro_are_made_valid() {
        for (name, expected) in [
            ("example.chainTopology.1", Some("example.chainTopology.1")),
            ("my server:1", Some("my_server_1")),
            ("\u{e9}", Some("_")),
            ("tasks", None),
            ("", None),
        ] {
            assert_eq!(object_name(name).as_ref().map(ObjectName::as_str), expected, "{name}");
        }
        assert_eq!(object_name(&"x".repeat(65)), None);
        assert!(check_name("a b").is_ok() && check_name("").is_err() && check_name("a\n").is_err());
        let metadata = |count: usize| (0..count).map(|number| number.to_string()).collect();
        assert!(check_metadata(&metadata(64)).is_ok() && check_metadata(&metadata(65)).is_err());
    }
}
