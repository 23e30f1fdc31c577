//! Advice on an item that is not good, by broker.

use super::item::{Area, Finding, State};
use super::product::Product;

/// Returns what to do, in one sentence; `None` if the text of the finding says it all.
pub(super) fn advice(finding: &Finding, product: Product, logged_in: bool) -> Option<&'static str> {
    match finding.state {
        State::Ok => return None,
        State::Untested => return untested(finding, logged_in),
        State::Unknown => {
            return Some(finding.advice.unwrap_or(
                "try again with a longer --timeout, and look at the broker's log: it says why it ends or refuses connections",
            ));
        }
        State::Warning | State::Fails => {}
    }
    if finding.advice.is_some() {
        return finding.advice;
    }
    if finding.item.area == Area::Strangers {
        return Some(against_strangers(finding.item.id, product));
    }
    let (rantai, mosquitto, other) = match finding.item.id {
        "reachable" => return Some(reach(&finding.text, logged_in)),
        "versions" => (
            "look at what is between this client and the broker: it speaks all three",
            "use mosquitto 1.6 or later, which speaks all three",
            "use a broker, or a listener of it, that speaks MQTT 5 and 3.1.1",
        ),
        "retained" => (
            "raise limits.retained and limits.retained_bytes in broker.toml",
            "set retain_available true in mosquitto.conf",
            "allow retained messages: the registry consists of them",
        ),
        "retained-load" => (
            "raise limits.retained, limits.retained_bytes and limits.queue_messages in broker.toml",
            "set max_queued_messages 0 in mosquitto.conf",
            "raise its limits of retained messages, and of messages that wait for one client",
        ),
        "will" => (
            "raise limits.will_bytes in broker.toml",
            "let the user write the state of its node in the acl_file: `rantai acl export --for mosquitto`",
            "allow wills: by them everybody learns that a node is gone",
        ),
        "response-topic" | "correlation-data" | "user-properties" => (
            "look at what is between this client and the broker: it passes properties on",
            "look at bridges and proxies before it: mosquitto 1.6 or later passes properties on",
            "use MQTT 5 throughout, also on bridges: objects cannot be called without these properties",
        ),
        "shared-subscriptions" => (
            "raise limits.share_groups and limits.share_groups_session in broker.toml",
            "let users read $share/OBJECT/… in the acl_file: `rantai acl export --for mosquitto`",
            "switch shared subscriptions on; a choice of member by hash may have to be round robin or random",
        ),
        "no-subscribers" => (
            "look at what is between this client and the broker: it tells callers",
            "use mosquitto 2.0 or later, which tells callers",
            "nothing has to be done: callers look into the registry instead",
        ),
        "packet-size" => (
            "raise limits.packet_bytes in broker.toml",
            "raise max_packet_size in mosquitto.conf, or leave it out",
            "raise its largest packet to 1 MiB or more",
        ),
        "message-expiry" => (
            "look at what is between this client and the broker: it lets messages expire",
            "use mosquitto 1.6 or later, which lets messages expire",
            "clear entries of lost nodes by hand, and give tasks deadlines of their own",
        ),
        "order" => (
            "look at what is between this client and the broker: it keeps the order",
            "set max_queued_messages 0, and max_inflight_messages 1 where messages are sent again, in mosquitto.conf",
            "have it deliver one client's messages in order: files and events rely on it",
        ),
        "receive-maximum" => (
            "look at what is between this client and the broker: it keeps to it",
            "use the latest mosquitto; 2.0.11 sends more in a burst",
            "give slow clients larger buffers",
        ),
        "session" => (
            "raise limits.session_expiry_s in broker.toml, and set data_dir",
            "leave persistent_client_expiration out of mosquitto.conf, and set persistence true",
            "allow sessions to outlive their connections: without them `rantai sub` misses what is sent meanwhile",
        ),
        "qos-2" => (
            "look at what is between this client and the broker: it delivers at QoS 2",
            "leave max_qos out of mosquitto.conf",
            "use QoS 1: the bus itself does not need QoS 2",
        ),
        "encryption" => (
            "use mqtts://, a VPN or a tunnel where the network is not yours alone",
            "set certfile and keyfile for a listener in mosquitto.conf",
            "use a listener with TLS",
        ),
        "certificate" => ("renew it: `rantai cert`", "renew the certfile", "renew it"),
        "plain-port" => (
            "leave `listen` out of broker.toml once everybody uses TLS, or bind it to 127.0.0.1",
            "bind the listener of port 1883 to 127.0.0.1 in mosquitto.conf",
            "close the port once everybody uses TLS",
        ),
        _ => return None,
    };
    Some(match product {
        Product::Rantai => rantai,
        Product::Mosquitto => mosquitto,
        Product::Other => other,
    })
}

fn reach(text: &str, logged_in: bool) -> &'static str {
    if text.contains("refuses the connection") {
        return if logged_in {
            "look at --user and the file of --password-file, or at the context"
        } else {
            "log in with --user and --password-file, or a context (`rantai context add`)"
        };
    }
    "look at the address: mqtt:// is for MQTT without TLS, mqtts:// with it, ws:// and wss:// for WebSocket"
}

fn untested(finding: &Finding, logged_in: bool) -> Option<&'static str> {
    if !finding.text.contains("not allow") && !finding.text.contains("may not serve") {
        return None;
    }
    Some(if logged_in {
        "log in as a user with the role node"
    } else {
        "log in as a user who may serve objects: --user and --password-file"
    })
}

fn against_strangers(id: &str, product: Product) -> &'static str {
    let by_user = id.starts_with("user-");
    match (product, by_user) {
        (Product::Rantai, _) if id.ends_with("-caller") => {
            "name the root of the bus in bus_roots of broker.toml, and look at what is before the broker"
        }
        (Product::Rantai, false) => {
            "give broker.toml [[users]] with roles and leave `anonymous` out, or take roles out of anonymous_roles"
        }
        (Product::Rantai, true) => {
            "give the user fewer roles in broker.toml; --trusted leaves this out for admins and users who serve"
        }
        (Product::Mosquitto, _) if id.ends_with("-caller") => {
            "use Rantai's broker where objects have to know who calls: mosquitto cannot tell them"
        }
        (Product::Mosquitto, _) if id.ends_with("-group") => {
            "use Rantai's broker: no acl_file of mosquitto keeps users out of $share groups. Without users who are not \
             trusted, set allow_anonymous false and password_file"
        }
        (Product::Mosquitto, false) => {
            "set allow_anonymous false, password_file and acl_file in mosquitto.conf: `rantai acl export --for mosquitto`"
        }
        (Product::Mosquitto, true) => {
            "set acl_file in mosquitto.conf: `rantai acl export --for mosquitto`; --trusted leaves this out for admins"
        }
        (Product::Other, false) => {
            "let nobody in without a login, and give users rules about topics (docs/access.md)"
        }
        (Product::Other, true) => {
            "give users rules about topics (docs/access.md); --trusted leaves this out for admins"
        }
    }
}
