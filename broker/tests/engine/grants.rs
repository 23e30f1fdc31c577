//! Reply grants: only the client that was asked may reply, and only to the client that asked.

use std::sync::Arc;

use rantai_access::{AclFile, Effect, Rule, RuleAccess, RuleFilter, Source, Syntax, Table, UserRecord};
use rantai_broker::Config;

use crate::Own;
use crate::support::{Client, Connect, Packet, Property, Publish, Version, Will};
use Version::{V3, V5};

const CALL: &str = "rantai/call/calculator/add";
const ADA: &str = "rantai/reply/calculator/ada--1";
const BOB: &str = "rantai/reply/calculator/bob--1";

/// Returns the rules of the predefined roles `caller` and `node`, as far as these tests need them.
pub(crate) fn role(name: &str) -> Vec<Rule> {
    use RuleAccess::{Read, Reply, Write};
    let caller = [
        (Read, "rantai/reply/+/%c"),
        (Write, "rantai/call/#"),
        (Write, "rantai/at/#"),
        (Write, "rantai/all/#"),
    ];
    let node = [
        (Read, "$share/*/rantai/call/*/#"),
        (Read, "rantai/at/%c/#"),
        (Read, "rantai/all/*/#"),
        (Write, "rantai/node/%c"),
        (Reply, "rantai/reply/#"),
    ];
    let node = node.into_iter().filter(|_| name == "node");
    of_role(caller.into_iter().chain(node))
}

pub(crate) fn of_role(rules: impl IntoIterator<Item = (RuleAccess, &'static str)>) -> Vec<Rule> {
    rules.into_iter().map(|(access, filter)| rule("of a test", access, filter)).collect()
}

fn rule(role: &str, access: RuleAccess, filter: &str) -> Rule {
    let filter = RuleFilter::parse(filter, Syntax::Extended).expect("a filter");
    let source = Source::Role { role: role.into(), entry: "a test".into() };
    Rule::new(Effect::Allow, access, filter, source).expect("a rule")
}

/// Configures users: `ada` and `bob` call; `pi`, `lembang`, `subang` and `eve` serve; `gateway` calls on behalf of
/// everyone, and `guest` may do nothing. Passwords are the names.
fn rules(config: &mut Config) {
    rules_where_nobody(config, role("caller"));
}

/// Configures [`rules`], with these rules for clients that did not log in.
fn rules_where_nobody(config: &mut Config, nobody: Vec<Rule>) {
    let users = [
        ("ada", "caller"),
        ("bob", "caller"),
        ("gateway", "caller"),
        ("pi", "node"),
        ("lembang", "node"),
        ("subang", "node"),
        ("eve", "node"),
    ];
    let record = |name: &str| UserRecord::new(name).expect("a user name");
    let mut table = Table::builder().role("caller", role("caller")).role("node", role("node"));
    table = table.role("nobody", nobody);
    for (name, role) in users {
        let acts_for = (name == "gateway").then_some("*");
        table = table.user(record(name).roles([role]).acts_for(acts_for));
    }
    let replies = of_role([(RuleAccess::Write, "rantai/reply/#"), (RuleAccess::Read, "rantai/reply/+/%c")]);
    let table = table.role("replies", replies);
    let table = table.user(record("proxy").roles(["replies"]).acts_for(["*"]));
    let table = table.user(record("guest")).nobody_roles(["nobody"]).build().expect("a table");
    config.access = Some(Arc::new(table));
    config.anonymous = true;
    let names = users.into_iter().map(|(name, _)| name).chain(["guest", "proxy"]);
    config.users = names.map(|name| crate::support::user(name, name)).collect();
}

pub(crate) fn as_user(version: Version, client_id: &str) -> Connect {
    let user = client_id.split_once("--").expect("NAME--SOMETHING").0;
    Connect::new(version).id(client_id).user(user).password(user)
}

async fn client(own: &Own, client_id: &str) -> Client {
    own.connect(as_user(V5, client_id)).await
}

/// Connects a client that serves an object.
pub(crate) async fn node(own: &Own, client_id: &str, object: &str) -> Client {
    let mut node = client(own, client_id).await;
    node.subscribe(&format!("$share/{object}/rantai/call/{object}/#"), 2).await;
    node
}

/// Connects a client that receives its replies.
pub(crate) async fn caller(own: &Own, client_id: &str) -> Client {
    let mut caller = client(own, client_id).await;
    caller.subscribe(&format!("rantai/reply/+/{client_id}"), 2).await;
    caller
}

pub(crate) fn request(topic: &str, reply: &str, correlation: &str) -> Publish {
    let correlation = Property::CorrelationData(correlation.into());
    Publish::new(topic, "[2,3]").qos(1).property(Property::ResponseTopic(reply.into())).property(correlation)
}

pub(crate) fn reply(topic: &str, correlation: &str) -> Publish {
    Publish::new(topic, "5").qos(1).property(Property::CorrelationData(correlation.into()))
}

fn user<'a>(message: &'a Publish, name: &str) -> Option<&'a str> {
    message.properties.iter().find_map(|property| match property {
        Property::User(key, value) if key == name => Some(value.as_str()),
        _ => None,
    })
}

/// Publishes at QoS 1, and returns the reason code and the Reason String of the refusal.
async fn refusal(client: &mut Client, publish: Publish) -> (u8, String) {
    let id = client.fresh_id();
    client.send(&publish.qos(1).id(id).encode(V5)).await;
    let Packet::Puback(ack) = client.reply().await else { panic!("no PUBACK") };
    let text = ack.properties.into_iter().find_map(|property| match property {
        Property::ReasonString(text) => Some(text),
        _ => None,
    });
    (ack.code, text.unwrap_or_default())
}

#[tokio::test]
async fn only_the_client_that_was_asked_may_reply_and_only_once() {
    let own = Own::start(rules).await;
    let (mut pi, mut ada) = (node(&own, "pi--1", "calculator").await, caller(&own, "ada--1").await);
    let mut eve = node(&own, "eve--1", "example.other").await;
    for qos in 0..3 {
        let correlation = format!("correlation {qos}");
        assert_eq!(pi.publish(reply(ADA, &correlation)).await, 0x87, "nobody has asked");
        ada.publish(request(CALL, ADA, &correlation).qos(qos)).await;
        let got = pi.message().await;
        assert_eq!((got.topic.as_str(), user(&got, "caller")), (CALL, Some("ada")));
        for forger in [&mut eve, &mut caller(&own, "bob--1").await] {
            assert_eq!(forger.publish(reply(ADA, &correlation)).await, 0x87, "not asked");
        }
        assert_eq!(pi.publish(reply(BOB, &correlation)).await, 0x87, "another one's reply topic");
        assert_eq!(pi.publish(reply(ADA, "another")).await, 0x87, "another request's reply");
        assert_eq!(pi.publish(reply(ADA, &correlation).retain()).await, 0x87, "to stay there");
        assert_eq!(pi.publish(reply(ADA, &correlation).qos(qos)).await, 0);
        assert_eq!(user(&ada.message().await, "caller"), Some("pi"));
        // Each attempt is refused, and the connection continues.
        for _ in 0..3 {
            assert_eq!(pi.publish(reply(ADA, &correlation)).await, 0x87, "replied to");
        }
        pi.publish(reply(ADA, &correlation).qos(0)).await;
        assert_eq!(pi.publish(reply(ADA, &correlation).qos(2)).await, 0x87);
    }
    ada.assert_silent().await;
    assert_eq!(own.broker.counts().refused_replies, 3 * (1 + 1 + 1 + 1 + 1 + 3 + 2));
}

#[tokio::test]
async fn a_request_cannot_direct_its_reply_to_another_client() {
    let own = Own::start(rules).await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    let mut bob = caller(&own, "bob--1").await;
    let (code, text) = refusal(&mut bob, request(CALL, ADA, "1")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("-i bob--1 -e rantai/reply/calculator/bob--1"), "{text}");
    // A node may pass on the requests that it received, and nothing else.
    let mut eve = client(&own, "eve--1").await;
    let (code, text) = refusal(&mut eve, request(CALL, ADA, "1")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("-i eve--1 -e rantai/reply/calculator/eve--1"), "{text}");
    assert_eq!(eve.publish(request("rantai/event/x/y", ADA, "1")).await, 0x87, "whatever the topic");
    // A client without a user, with a client id like a user's name.
    let mut nobody = own.connect(Connect::new(V5).id("guest7")).await;
    let (code, text) = refusal(&mut nobody, request(CALL, ADA, "1")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("-i guest7 -e rantai/reply/calculator/guest7"), "{text}");
    assert_eq!(nobody.publish(request(CALL, "rantai/reply/calculator/guest7", "1")).await, 0);
    assert_eq!(user(&pi.message().await, "caller"), None);
    // A will can neither reply nor ask for a reply on behalf of others.
    for will in [
        Will::new(CALL, "x").property(Property::ResponseTopic(ADA.into())),
        Will::new(ADA, "x").property(Property::CorrelationData("1".into())),
    ] {
        assert_eq!(own.try_connect(as_user(V5, "eve--2").will(will)).await.1, 0x87);
    }
    pi.assert_silent().await;
}

#[tokio::test]
async fn a_chain_carries_its_caller_and_its_last_link_replies() {
    let own = Own::start(rules).await;
    let links = ["pi", "lembang", "subang"];
    let mut nodes = Vec::new();
    for link in links {
        nodes.push(node(&own, &format!("{link}--1"), link).await);
    }
    let mut ada = caller(&own, "ada--1").await;
    let hop = |link: &str| request(&format!("rantai/call/{link}/process"), ADA, "of the trip");
    assert_eq!(ada.publish(hop("pi")).await, 0);
    for (index, link) in links.into_iter().enumerate() {
        let got = nodes[index].message().await;
        assert_eq!(user(&got, "caller"), Some("ada"), "{link}");
        assert_eq!(user(&got, "via"), index.checked_sub(1).map(|before| links[before]), "{link}");
        if let Some(next) = links.get(index + 1) {
            let forged = hop(next).property(Property::user("caller", "bob"));
            assert_eq!(nodes[index].publish(forged).await, 0);
            let other = request(&format!("rantai/call/{next}/process"), ADA, "another");
            assert_eq!(nodes[index].publish(other).await, 0x87, "not what it was asked");
        }
    }
    assert_eq!(nodes[2].publish(reply(ADA, "of the trip")).await, 0);
    assert_eq!(ada.message().await.text(), "5");
    for node in &mut nodes {
        assert_eq!(node.publish(reply(ADA, "of the trip")).await, 0x87, "the trip is over");
    }
    // The next link is dead: the link that has passed the request on replies.
    assert_eq!(ada.publish(hop("pi")).await, 0);
    nodes[0].message().await;
    assert_eq!(nodes[0].publish(hop("nobody")).await, 0x10);
    assert_eq!(nodes[0].publish(reply(ADA, "of the trip")).await, 0);
    assert_eq!(ada.message().await.text(), "5");
}

#[tokio::test]
async fn grants_outlive_a_connection_and_are_renewed_with_a_repeated_request() {
    let own = Own::start(rules).await;
    let mut ada = caller(&own, "ada--1").await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    ada.publish(request(CALL, ADA, "1")).await;
    pi.message().await;
    pi.cut().await;
    let mut pi = client(&own, "pi--1").await;
    assert_eq!(pi.publish(reply(ADA, "1")).await, 0);
    ada.message().await;

    // The request is delivered, replied to, not acknowledged, and delivered again.
    let connect = as_user(V5, "pi--2").persistent();
    let mut pi = own.connect(connect.clone()).await;
    pi.subscribe("rantai/at/pi--2/#", 1).await;
    let at = "rantai/at/pi--2/calculator/add";
    ada.publish(request(at, ADA, "2")).await;
    pi.delivery().await;
    assert_eq!(pi.publish(reply(ADA, "2")).await, 0);
    assert_eq!(pi.publish(reply(ADA, "2")).await, 0x87);
    ada.message().await;
    pi.cut().await;
    ada.publish(request(at, ADA, "3")).await;
    let mut pi = own.connect(connect.resume()).await;
    for correlation in ["2", "3"] {
        let got = pi.message().await;
        assert_eq!(got.correlation(), Some(correlation.as_bytes()), "also what came while it was away");
        assert_eq!(pi.publish(reply(ADA, correlation)).await, 0);
        assert_eq!(pi.publish(reply(ADA, correlation)).await, 0x87);
        ada.message().await;
    }
}

#[tokio::test]
async fn replicas_and_streams_may_send_all_their_replies() {
    let own = Own::start(rules).await;
    let mut ada = caller(&own, "ada--1").await;
    let mut replicas = Vec::new();
    for name in ["pi--1", "lembang--1", "subang--1"] {
        let mut replica = client(&own, name).await;
        replica.subscribe("rantai/all/calculator/#", 1).await;
        replicas.push(replica);
    }
    ada.publish(request("rantai/all/calculator/add", ADA, "1")).await;
    for replica in &mut replicas {
        replica.message().await;
    }
    for replica in &mut replicas {
        for _ in 0..3 {
            let item = reply(ADA, "1").property(Property::user("more", "1"));
            assert_eq!(replica.publish(item).await, 0);
            ada.message().await;
        }
        assert_eq!(replica.publish(reply(ADA, "1")).await, 0);
        ada.message().await;
        let more = reply(ADA, "1").property(Property::user("more", "1"));
        assert_eq!(replica.publish(more).await, 0x87, "after the end");
    }
}

#[tokio::test]
async fn requests_without_a_response_topic_get_a_private_one() {
    let own = Own::start(rules).await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    for version in Version::BOTH {
        let mut ada = own.connect(as_user(version, "ada--1")).await;
        ada.subscribe("rantai/reply/+/ada--1", 1).await;
        for topic in [CALL, "rantai/call/calculator"] {
            ada.publish(Publish::new(topic, "{}").qos(1)).await;
            assert_eq!(pi.message().await.response_topic(), Some(ADA));
            assert_eq!(pi.publish(Publish::new(ADA, "5").qos(1)).await, 0);
            assert_eq!(ada.message().await.text(), "5");
            assert_eq!(pi.publish(Publish::new(ADA, "5").qos(1)).await, 0x87);
        }
        let mut odd = own.connect(as_user(version, "ada--a b")).await;
        odd.publish(Publish::new(CALL, "[]").qos(1)).await;
        assert_eq!(pi.message().await.response_topic(), None, "no client id of the bus");
        let mut nobody = own.connect(Connect::new(version).id("nobody")).await;
        nobody.publish(Publish::new(CALL, "[]").qos(1)).await;
        assert_eq!(pi.message().await.response_topic(), None, "nobody has logged in");
    }
    let mut ada = client(&own, "ada--1").await;
    ada.publish(Publish::new(CALL, "[]").qos(1).property(Property::user("oneway", "1"))).await;
    assert_eq!(pi.message().await.response_topic(), None, "no reply is wanted");
}

#[tokio::test]
async fn without_rules_all_clients_may_reply() {
    let own = Own::start(|_| ()).await;
    let mut pi = own.client(V5).await;
    pi.subscribe("rantai/call/#", 1).await;
    let mut ada = own.connect(Connect::new(V3).id("ada--1").user("ada").password("ada")).await;
    ada.publish(Publish::new(CALL, "[]").qos(1)).await;
    assert_eq!(pi.message().await.response_topic(), None);
    let mut reader = own.client(V5).await;
    reader.subscribe(ADA, 1).await;
    for _ in 0..2 {
        assert_eq!(pi.publish(reply(ADA, "1")).await, 0);
        reader.message().await;
    }
}

#[tokio::test]
async fn a_flood_of_requests_counts_against_its_sender() {
    let own = Own::start(|config| {
        rules(config);
        config.limits.grants = 60;
    })
    .await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    let (mut bob, mut ada) = (caller(&own, "bob--1").await, caller(&own, "ada--1").await);
    let mut asked = 0;
    while bob.publish(request(CALL, BOB, &asked.to_string())).await == 0 {
        asked += 1;
        pi.message().await;
        assert!(asked <= 41, "two thirds are its share");
    }
    assert_eq!(bob.publish(request(CALL, BOB, "more")).await, 0x97);
    // Requests on other connections of the user also count.
    let mut other = client(&own, "bob--2").await;
    assert_eq!(other.publish(request(CALL, "rantai/reply/calculator/bob--2", "more")).await, 0x97);
    for number in 0..100 {
        let correlation = format!("ada {number}");
        assert_eq!(ada.publish(request(CALL, ADA, &correlation)).await, 0);
        pi.message().await;
        assert_eq!(pi.publish(reply(ADA, &correlation)).await, 0);
        ada.message().await;
    }
    assert_eq!(own.broker.counts().refused_grants, 3);
    assert_eq!(pi.publish(reply(BOB, "0")).await, 0, "what was taken is replied to");
    assert_eq!(bob.publish(request(CALL, BOB, "another")).await, 0);
}

#[tokio::test]
async fn acting_for_a_user_requires_the_rights_of_both() {
    let own = Own::start(rules).await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    let mut gateway = caller(&own, "gateway--1").await;
    let own_reply = "rantai/reply/calculator/gateway--1";
    let call = |user: &str, correlation: &str| {
        request(CALL, own_reply, correlation).property(Property::user("caller", user))
    };
    assert_eq!(gateway.publish(call("ada", "1")).await, 0);
    let got = pi.message().await;
    assert_eq!((user(&got, "caller"), user(&got, "via")), (Some("ada"), Some("gateway")));
    assert_eq!(pi.publish(reply(own_reply, "1")).await, 0);
    gateway.message().await;
    for (refused, reason) in
        [("guest", "no rule of user guest"), ("mallory", "the broker has no user mallory")]
    {
        let (code, told) = refusal(&mut gateway, call(refused, "2")).await;
        assert!(code == 0x87 && told.contains(reason), "{refused}: {code:#x} {told}");
    }
    assert_eq!(gateway.publish(request(CALL, own_reply, "3")).await, 0);
    let got = pi.message().await;
    assert_eq!((user(&got, "caller"), user(&got, "via")), (Some("gateway"), None));
    // The gateway has no grant to reply on behalf of a user who was not asked.
    let reply_as_pi = reply(BOB, "5").property(Property::user("caller", "pi"));
    let mut proxy = caller(&own, "proxy--1").await;
    assert_eq!(proxy.publish(reply_as_pi.clone()).await, 0x87);
    assert_eq!(proxy.publish(reply(BOB, "5")).await, 0x10, "for itself it may");
    // A client that may not act for others remains the caller.
}

/// Once, the connection's own user was set instead: a ledger or gateway without `acts_for` called with its own rights
/// for everyone, without an error.
#[tokio::test]
async fn a_request_on_behalf_of_a_user_is_refused_without_acts_for() {
    let own = Own::start(rules).await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    let mut bob = caller(&own, "bob--1").await;
    let forged =
        |caller: &str, number: &str| request(CALL, BOB, number).property(Property::user("caller", caller));
    let call = |caller: &str, number: &str| forged(caller, number).property(Property::user("acting", "1"));
    for (caller, named) in
        [("ada", "user ada"), ("", "clients that did not log in"), (&"x".repeat(9000), "xxx")]
    {
        let (code, why) = refusal(&mut bob, call(caller, "1")).await;
        assert_eq!(code, 0x87, "{caller}");
        assert!(why.contains(named) && why.ends_with("give bob acts_for = [\"*\"] in broker.toml"), "{why}");
    }
    let mut nobody = own.client(V5).await;
    let anonymous = Publish::new(CALL, "[2,3]").qos(1).property(Property::user("caller", "ada"));
    let anonymous = anonymous.property(Property::user("acting", "1"));
    let (code, why) = refusal(&mut nobody, anonymous).await;
    assert!(code == 0x87 && why.contains("did not log in"), "{code} {why}");
    // A refusal at QoS 0 has no answer. The next message is the first that arrives.
    bob.publish(call("ada", "2").qos(0)).await;
    assert_eq!(bob.publish(call("bob", "3")).await, 0, "it is who it says");
    let got = pi.message().await;
    assert_eq!((user(&got, "caller"), user(&got, "via")), (Some("bob"), None));
    assert!(got.properties.contains(&Property::CorrelationData("3".into())), "{got:?}");
    assert_eq!(
        bob.publish(forged("ada", "4")).await,
        0,
        "who does not say that it acts for others is who it is"
    );
    let got = pi.message().await;
    assert_eq!((user(&got, "caller"), user(&got, "via")), (Some("bob"), None));
}

/// Once, tasks stored by a client that did not log in were called with the rights of the ledger.
#[tokio::test]
async fn acting_for_clients_without_a_user_has_their_rights() {
    let only_adds = vec![rule("nobody", RuleAccess::Write, CALL)];
    let own = Own::start(|config| rules_where_nobody(config, only_adds)).await;
    let mut pi = node(&own, "pi--1", "calculator").await;
    let local = own.broker.local_credentials().expect("our engine");
    let local = Connect::new(V5).id("up").user(&local.user).password(&local.password);
    let gateway = as_user(V5, "gateway--1");
    for (connect, id, via) in [(gateway, "gateway--1", Some("gateway")), (local, "up", None)] {
        let mut client = own.connect(connect).await;
        let own_reply = format!("rantai/reply/calculator/{id}");
        let call = |topic: &str| request(topic, &own_reply, id).property(Property::user("caller", ""));
        assert_eq!(client.publish(call(CALL)).await, 0);
        let got = pi.message().await;
        assert_eq!((user(&got, "caller"), user(&got, "via")), (None, via));
        let (code, why) = refusal(&mut client, call("rantai/call/calculator/div")).await;
        assert_eq!(code, 0x87, "{why}");
    }
}

#[tokio::test]
async fn connack_announces_grants_and_the_right_to_act_for_others() {
    let own = Own::start(rules).await;
    for (id, expected) in [("ada--1", "caller,grants"), ("gateway--1", "caller,grants,acts_for")] {
        let connack = client(&own, id).await.connack.expect("let in");
        assert!(connack.properties.contains(&Property::user("rantai", expected)), "{connack:?}");
    }
}

#[tokio::test]
async fn a_monitoring_subscriber_cannot_reply_in_place_of_the_server() {
    let file = "user eve\ntopic read rantai/all/#\ntopic read rantai/call/#\ntopic write b/#\n";
    let serves_other = [
        (RuleAccess::Read, "$share/example.*/rantai/call/example.*/#"),
        (RuleAccess::Reply, "rantai/reply/#"),
    ];
    let own = Own::start(|config| {
        let table = Table::builder()
            .file(AclFile::parse("acl.conf", file).expect("an ACL file"))
            .role("caller", role("caller"))
            .role("calculator", of_role([(RuleAccess::Read, "$share/calculator/rantai/call/calculator/#")]))
            .role("node", role("node"))
            .role("lab", of_role(serves_other))
            .user(UserRecord::new("ada").expect("a name").roles(["caller"]))
            .user(UserRecord::new("pi").expect("a name").roles(["calculator", "node"]))
            .user(UserRecord::new("eve").expect("a name").roles(["lab"]));
        config.access = Some(Arc::new(table.build().expect("a table")));
        config.users = ["ada", "pi", "eve"].map(|name| crate::support::user(name, name)).into();
    })
    .await;
    let (mut pi, mut ada) = (node(&own, "pi--1", "calculator").await, caller(&own, "ada--1").await);
    pi.subscribe("rantai/all/calculator/#", 1).await;
    let mut eve = client(&own, "eve--1").await;
    eve.subscribe("$share/watch/rantai/call/calculator/#", 1).await;
    eve.subscribe("rantai/all/#", 1).await;
    for topic in [CALL, "rantai/all/calculator/add"] {
        ada.publish(request(topic, ADA, "a secret")).await;
        assert_eq!((eve.message().await.topic, pi.message().await.topic), (topic.into(), topic.into()));
        assert_eq!(eve.publish(reply(ADA, "a secret")).await, 0x87, "{topic}");
        assert_eq!(pi.publish(reply(ADA, "a secret")).await, 0, "{topic}");
        assert_eq!(user(&ada.message().await, "caller"), Some("pi"));
    }
}
