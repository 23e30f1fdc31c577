//! Former nodes of the same site: a site without a name of its own is another node after each start. What nodes that
//! were killed have left in the registry is cleared by their successor.

use std::time::Duration;

use rantai_client::client::Builder;
use rantai_client::registry::View;
use rantai_client::session::Publish;
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::RegistryTopic;
use tokio::time::sleep;

/// When the registry is read: the broker publishes the will of a predecessor at once, or after its keep-alive.
const AFTER: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(1)];
/// Maximum length of the host's name in a node's.
const MAX_HOST_CHARS: usize = 16;

/// Returns the prefix of the names of all nodes that serve these objects on this host as this user of the operating system:
/// `node-HOST-` and six hexadecimal digits.
pub(super) fn name_prefix(objects: &[String]) -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    prefix(&host, rustix::process::getuid().as_raw(), objects)
}

fn prefix(host: &str, user: u32, objects: &[String]) -> String {
    let valid = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    // The first label alone, as the domain of a host is the same for all.
    let host: String =
        host.split('.').next().unwrap_or_default().chars().filter(valid).take(MAX_HOST_CHARS).collect();
    let mut objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    objects.sort_unstable();
    let identity = format!("{user} {}", objects.join(" "));
    // FNV-1a: the same in every version of the program, which std's hash is not.
    let hash = identity
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("node-{host}-{:06x}", hash & 0xFF_FFFF)
}

/// Clears what lost nodes of this site have left, 5 s and 60 s after the start. Their names are that of `own` but for
/// its random end.
///
/// Access rules allow a node its own topics only. Then the entries stay until they expire, or an admin clears them: to
/// log in with a predecessor's client id would end it, should it be there again.
pub(super) async fn clear(builder: Builder, own: ClientId) {
    for after in AFTER {
        sleep(after).await;
        let Ok(client) = builder.clone().connect().await else { continue };
        if let Ok(view) = client.registry().list().await {
            for topic in left(&view, &own) {
                let cleared = Publish::new(topic.format(client.root()), Vec::new()).retain();
                if let Err(error) = client.publish(cleared).await {
                    tracing::debug!("cannot clear what a former node of this site has left: {error}");
                    break;
                }
            }
        }
        client.close().await;
    }
}

/// Returns the topics of the entries of the lost predecessors of a node, and those of their states, in this order.
fn left(view: &View, own: &ClientId) -> Vec<RegistryTopic> {
    let lost: Vec<&ClientId> = view.lost().filter(|node| is_predecessor(node, own)).collect();
    let entries = view.all().filter_map(|(entry, _)| {
        let node = lost.iter().find(|node| node.as_str() == entry.node)?;
        Some(RegistryTopic::Name(ObjectName::new(&entry.object).ok()?, (*node).clone()))
    });
    let states = lost.iter().map(|node| RegistryTopic::Node((*node).clone()));
    entries.chain(states).collect()
}

/// Whether two names differ in their random ends only.
fn is_predecessor(node: &ClientId, own: &ClientId) -> bool {
    let prefix = |id: &ClientId| id.as_str().rsplit_once('-').map(|(prefix, _)| prefix.to_owned());
    node != own && prefix(node).is_some() && prefix(node) == prefix(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_of_host_user_and_objects() {
        let objects = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let of = |host, user, names: &[&str]| prefix(host, user, &objects(names));
        let pi = of("pi.lab.example", 1000, &["echo", "calculator"]);
        assert!(pi.starts_with("node-pi-") && pi.len() == 14, "{pi}");
        assert_eq!(pi, of("pi", 1000, &["calculator", "echo"]), "in any order");
        for other in [
            of("pj", 1000, &["calculator", "echo"]),
            of("pi", 0, &["calculator", "echo"]),
            of("pi", 1000, &["echo"]),
        ] {
            assert_ne!(pi, other);
        }
        let odd = of("räume_und/höfe-mit-langem-namen", 0, &[]);
        assert!(ClientId::new(&format!("{odd}-0123456789ab")).is_ok() && odd.len() <= 28, "{odd}");
    }

    #[test]
    fn only_lost_nodes_of_the_same_prefix_are_cleared() {
        let mut view = View::default();
        let id = |id: &str| ClientId::new(id).expect("an id");
        for (node, state) in [
            ("node-pi-aaaaaa-1", "lost"),
            ("node-pi-aaaaaa-2", "ready"),
            ("node-pi-bbbbbb-1", "lost"),
            ("node-pi-aaaaaa-3", "lost"),
        ] {
            let entry = format!(r#"{{"v":1,"object":"echo","node":"{node}","epoch":"1","settled":true}}"#);
            let state = format!(r#"{{"v":1,"state":"{state}","epoch":"1"}}"#);
            view.apply(&format!("rantai/name/echo/{node}"), entry.as_bytes()).expect("an entry");
            view.apply(&format!("rantai/node/{node}"), state.as_bytes()).expect("a state");
        }
        let topics: Vec<String> = left(&view, &id("node-pi-aaaaaa-3"))
            .iter()
            .map(|topic| topic.format(&rantai_client::wire::name::Root::default()))
            .collect();
        assert_eq!(topics, ["rantai/name/echo/node-pi-aaaaaa-1", "rantai/node/node-pi-aaaaaa-1"]);
        assert!(left(&view, &id("lamp")).is_empty());
    }
}
