//! Checks the roles of the bus against the topics and filters of clients, nodes, the ledger, the gateways and the
//! command line: everything that `wire::topic` can format, by who uses it.

use rantai_access::{Action, Outcome, Refusal, Table, UserRecord, Who};
use rantai_client::wire::device::DeviceTopic;
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::role::BusRole;
use rantai_client::wire::topic::{
    CallTopic, EventTopic, RegistryTopic, ReplyTopic, Target, call_filters, requests_at,
};

const CALLER: Who<'_> = Who { user: Some("ada"), client_id: "ada--1" };
const NODE: Who<'_> = Who { user: Some("pi"), client_id: "pi" };
const OBSERVER: Who<'_> = Who { user: Some("eye"), client_id: "eye" };
const ADMIN: Who<'_> = Who { user: Some("root"), client_id: "root" };
const LAB: Who<'_> = Who { user: Some("lab"), client_id: "lab" };

fn roots() -> [Root; 2] {
    [Root::default(), Root::new("a/at/reply/b").expect("a root")]
}

fn object(name: &str) -> ObjectName {
    ObjectName::any(name).expect("a name")
}

fn client(name: &str) -> ClientId {
    ClientId::new(name).expect("a client id")
}

fn method(name: &str) -> MethodName {
    MethodName::new(name).expect("a method")
}

fn table(root: &Root) -> Table {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let lab = BusRole {
        name: "lab".to_owned(),
        call: words(&["calculator.*", "tasks.submit"]),
        serve: words(&["example.*", "sister"]),
        watch: words(&["sister"]),
        public_replies: true,
        ..BusRole::default()
    };
    let mut table = Table::builder();
    for role in BusRole::ready_made().into_iter().chain([lab]) {
        table = table.role(&role.name, role.rules(root).expect("rules"));
    }
    for (user, role) in
        [("ada", "caller"), ("pi", "node"), ("eye", "observer"), ("root", "admin"), ("lab", "lab")]
    {
        table = table.user(UserRecord::new(user).expect("a name").roles([role]));
    }
    table.build().expect("a table")
}

/// Checks the outcome of a client's action, by the table of its root.
#[track_caller]
fn assert_outcome(table: &Table, who: Who<'_>, action: Action<'_>, expected: Outcome) {
    assert_eq!(table.decide(&who, action).outcome, expected, "{}", table.explain(&who, action));
}

fn allowed(table: &Table, who: &Who<'_>, action: Action<'_>) -> bool {
    table.decide(who, action).outcome == Outcome::Allowed
}

const NO_RULE: Outcome = Outcome::Refused(Refusal::NoRule);

fn requests(root: &Root, name: &str, called: Option<&str>) -> [String; 3] {
    [Target::Any, Target::Node(client("pi")), Target::All]
        .map(|target| CallTopic { target, object: object(name), method: called.map(method) }.format(root))
}

/// Covers `Client`, `Proxy`, the registry view, `chain --trace`, the ledger and the gateways.
#[test]
fn role_caller_permits_what_clients_need_and_no_more() {
    for root in roots() {
        let table = table(&root);
        let echo = object("echo");
        let me = client(CALLER.client_id);
        for who in [CALLER, NODE] {
            for topic in requests(&root, "echo", Some("say")).iter().chain(&requests(&root, "tasks", None)) {
                assert_outcome(&table, who, Action::Publish(topic), Outcome::Allowed);
            }
        }
        for filter in [
            ReplyTopic::filter(&root, &me),
            EventTopic::every_for(&root, "progress", &me),
            EventTopic { object: echo.clone(), event: method("said"), client: Some(me.clone()) }
                .format(&root),
            RegistryTopic::entries(&root),
            RegistryTopic::nodes(&root),
            RegistryTopic::entries_of(&root, &echo),
            RegistryTopic::entries_on(&root, &client("pi")),
            RegistryTopic::Node(client("pi")).format(&root),
        ] {
            assert_outcome(&table, CALLER, Action::Subscribe(&filter), Outcome::Allowed);
        }
        let (mine, others) =
            (ReplyTopic::to(&root, &echo, &me), ReplyTopic::to(&root, &echo, &client("bob")));
        assert_outcome(&table, CALLER, Action::Deliver(mine.as_str()), Outcome::Allowed);
        for forbidden in [others.as_str(), &requests(&root, "echo", None)[0]] {
            assert_outcome(&table, CALLER, Action::Deliver(forbidden), NO_RULE);
        }
        for topic in [
            mine.as_str().to_owned(),
            RegistryTopic::Name(echo.clone(), me.clone()).format(&root),
            RegistryTopic::Node(me.clone()).format(&root),
            EventTopic { object: echo.clone(), event: method("said"), client: None }.format(&root),
            "elsewhere".to_owned(),
        ] {
            assert_outcome(&table, CALLER, Action::Publish(&topic), NO_RULE);
        }
        for filter in [ReplyTopic::filter(&root, &client("bob")), requests_at(&root, &client("pi"))] {
            assert_outcome(&table, CALLER, Action::Subscribe(&filter), NO_RULE);
        }
        let [calls, ..] = call_filters(&root, &me, &echo);
        assert!(!table.decide(&CALLER, Action::Subscribe(&calls)).is_allowed());
        // The filter for all replies includes those to others, so that only its own are delivered.
        assert_outcome(&table, CALLER, Action::Subscribe(&format!("{root}/reply/#")), Outcome::AtDelivery);
    }
}

/// Covers `Node`, its announcer, claims and dispatcher.
#[test]
fn role_node_permits_what_nodes_need_for_their_objects() {
    for root in roots() {
        let table = table(&root);
        let me = client(NODE.client_id);
        let echo = object("echo");
        for filter in call_filters(&root, &me, &echo).into_iter().chain([
            requests_at(&root, &me),
            RegistryTopic::Node(me.clone()).format(&root),
            RegistryTopic::entries_on(&root, &me),
            RegistryTopic::entries_of(&root, &echo),
        ]) {
            assert_outcome(&table, NODE, Action::Subscribe(&filter), Outcome::Allowed);
        }
        let event = |client| EventTopic { object: echo.clone(), event: method("said"), client }.format(&root);
        for topic in [
            RegistryTopic::Name(echo.clone(), me.clone()).format(&root),
            RegistryTopic::Node(me.clone()).format(&root),
            event(None),
            event(Some(client("ada--1"))),
            requests(&root, "echo", Some("rpc.yield"))[1].clone(),
        ] {
            assert_outcome(&table, NODE, Action::Publish(&topic), Outcome::Allowed);
        }
        let reply = ReplyTopic::to(&root, &echo, &client("ada--1"));
        assert_outcome(&table, NODE, Action::Publish(reply.as_str()), Outcome::WithReplyGrant);
        for topic in [
            RegistryTopic::Name(echo.clone(), client("bob")).format(&root),
            RegistryTopic::Node(client("bob")).format(&root),
        ] {
            assert_outcome(&table, NODE, Action::Publish(&topic), NO_RULE);
        }
        assert_outcome(&table, NODE, Action::Subscribe(&requests_at(&root, &client("bob"))), NO_RULE);
    }
}

/// Covers `rantai watch`, the gateways' streams, and `chain`.
#[test]
fn role_observer_permits_events_except_those_for_one_client() {
    for root in roots() {
        let table = table(&root);
        let sister = object("sister");
        let temp = method("temp");
        let hops = EventTopic::every(&root, "hop");
        for filter in [hops.as_str(), "$SYS/#", &RegistryTopic::entries(&root), &RegistryTopic::nodes(&root)]
        {
            assert_outcome(&table, OBSERVER, Action::Subscribe(filter), Outcome::Allowed);
        }
        let one = EventTopic { object: sister.clone(), event: temp.clone(), client: None }.format(&root);
        let upcall = EventTopic { object: sister.clone(), event: temp.clone(), client: Some(client("bob")) };
        for event in [None, Some(&temp)] {
            let [to_all, to_one] = EventTopic::filters(&root, &sister, event);
            for (who, expected) in [(OBSERVER, Outcome::Allowed), (LAB, Outcome::Allowed), (CALLER, NO_RULE)]
            {
                assert_outcome(&table, who, Action::Subscribe(&to_all), expected);
                // Each client receives messages for its own client id.
                assert_outcome(&table, who, Action::Subscribe(&to_one), Outcome::AtDelivery);
            }
        }
        for who in [OBSERVER, LAB] {
            assert_outcome(&table, who, Action::Deliver(&one), Outcome::Allowed);
        }
        assert_outcome(&table, OBSERVER, Action::Deliver(&upcall.format(&root)), NO_RULE);
        let foreign = EventTopic { object: object("echo"), event: temp.clone(), client: None }.format(&root);
        assert_outcome(&table, LAB, Action::Deliver(&foreign), NO_RULE);
        assert_outcome(&table, OBSERVER, Action::Publish(&requests(&root, "echo", None)[0]), NO_RULE);
    }
}

#[test]
fn a_role_is_confined_to_its_objects_and_methods() {
    for root in roots() {
        let table = table(&root);
        let allowed = |name, called| {
            let answers =
                requests(&root, name, called).map(|t| table.decide(&LAB, Action::Publish(&t)).is_allowed());
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{name} {called:?}");
            answers[0]
        };
        assert!(allowed("calculator", Some("add")) && allowed("calculator", None));
        assert!(allowed("tasks", Some("submit")) && allowed("tasks", Some("rpc.discover")));
        // In JSON-RPC form the broker does not know the method.
        assert!(
            !allowed("tasks", Some("list"))
                && !allowed("tasks", None)
                && !allowed("tasks", Some("rpc.yield"))
        );
        let [calls, _, all] = call_filters(&root, &client("lab"), &object("example.chain.1"));
        for filter in [&calls, &all] {
            assert_outcome(&table, LAB, Action::Subscribe(filter), Outcome::Allowed);
        }
        let [calls, ..] = call_filters(&root, &client("lab"), &object("examples"));
        assert!(!table.decide(&LAB, Action::Subscribe(&calls)).is_allowed());
        let crossed = format!("$share/sister/{root}/call/example.a/#");
        assert!(!table.decide(&LAB, Action::Subscribe(&crossed)).is_allowed());
        let public = |name| ReplyTopic::public(&root, &object(name)).as_str().to_owned();
        assert_outcome(&table, LAB, Action::Subscribe(&public("calculator")), Outcome::Allowed);
        assert_outcome(&table, LAB, Action::Publish(&public("sister")), Outcome::Allowed);
        assert_outcome(&table, CALLER, Action::Subscribe(&public("calculator")), NO_RULE);
        for (topic, filter) in [("a", "#"), ("$CONTROL/x", "$SYS/#"), (&public("x"), &calls)] {
            assert_outcome(&table, ADMIN, Action::Publish(topic), Outcome::Allowed);
            assert_outcome(&table, ADMIN, Action::Subscribe(filter), Outcome::Allowed);
        }
    }
}

/// `device = ["%u"]`: a device reads its calls and writes its answers, and reaches nothing of another one; its node has the other
/// side.
#[test]
fn a_device_and_its_node_have_each_one_side_of_its_topics() {
    for root in roots() {
        let device =
            BusRole { name: "device".to_owned(), device: vec!["%u".to_owned()], ..BusRole::default() };
        let mut table = Table::builder();
        for role in BusRole::ready_made().into_iter().chain([device]) {
            table = table.role(&role.name, role.rules(&root).expect("rules"));
        }
        for (user, role) in [("lamp", "device"), ("pi", "node"), ("ada", "caller")] {
            table = table.user(UserRecord::new(user).expect("a name").roles([role]));
        }
        let table = table.build().expect("a table");
        let lamp = Who { user: Some("lamp"), client_id: "lamp--1" };
        let event = DeviceTopic::Event(method("pressed"));
        for (topic, is_of_device) in [
            (DeviceTopic::Call, false),
            (DeviceTopic::Reply, true),
            (DeviceTopic::State, true),
            (event, true),
        ] {
            for (name, is_its_own) in [("lamp", true), ("lamp.2", false), ("bell", false)] {
                let topic = topic.format(&root, &object(name));
                let (read, write) = (Action::Subscribe(&topic), Action::Publish(&topic));
                assert_eq!(allowed(&table, &lamp, write), is_of_device && is_its_own, "{topic}");
                assert_eq!(allowed(&table, &lamp, read), !is_of_device && is_its_own, "{topic}");
                assert_eq!(
                    (allowed(&table, &NODE, write), allowed(&table, &NODE, read)),
                    (!is_of_device, is_of_device),
                    "{topic}"
                );
                assert_eq!(
                    (allowed(&table, &CALLER, write), allowed(&table, &CALLER, read)),
                    (false, false),
                    "{topic}"
                );
            }
        }
        let events = DeviceTopic::events(&root, &object("lamp"));
        assert!(
            allowed(&table, &NODE, Action::Subscribe(&events))
                && !allowed(&table, &CALLER, Action::Subscribe(&events))
        );
        for topic in [
            RegistryTopic::Name(object("lamp"), client(lamp.client_id)).format(&root),
            requests(&root, "lamp", Some("on"))[0].clone(),
            format!("{root}/reply/lamp/ada--1"),
            format!("{root}/event/lamp/pressed"),
        ] {
            assert!(!allowed(&table, &lamp, Action::Publish(&topic)), "{topic}");
        }
    }
}

/// `serve = ["student.%u"]`: one role, with an object for each of its users.
#[test]
fn a_role_with_the_users_name_in_it_serves_the_object_of_that_user_alone() {
    for root in roots() {
        let role = BusRole {
            name: "student".to_owned(),
            call: vec!["student.*.*".to_owned()],
            serve: vec!["student.%u".to_owned()],
            ..BusRole::default()
        };
        let mut table = Table::builder().role(&role.name, role.rules(&root).expect("rules"));
        for role in BusRole::ready_made() {
            table = table.role(&role.name, role.rules(&root).expect("rules"));
        }
        for (user, role) in [("ada", "student"), ("budi", "student"), ("pi", "node")] {
            table = table.user(UserRecord::new(user).expect("a name").roles([role]));
        }
        let table = table.build().expect("a table");
        let budi = Who { user: Some("budi"), client_id: "budi--1" };
        let served = |who: Who<'_>, name: &str| {
            let entry = RegistryTopic::Name(object(name), client(who.client_id)).format(&root);
            let group = format!("$share/{name}/{root}/call/{name}/#");
            let allowed = |action| table.decide(&who, action).outcome == Outcome::Allowed;
            (allowed(Action::Publish(&entry)), allowed(Action::Subscribe(&group)))
        };
        let (all, none) = ((true, true), (false, false));
        for (who, name, expected) in [
            (CALLER, "student.ada", all),
            (budi, "student.budi", all),
            (CALLER, "student.budi", none),
            (budi, "student.ada", none),
            (CALLER, "student.ada.more", none),
            (CALLER, "student.adamant", none),
            (CALLER, "calculator", none),
            // Other group names are not reserved by it.
            (NODE, "calculator", all),
            (NODE, "student.ada", all),
        ] {
            assert_eq!(served(who, name), expected, "{who:?} {name}");
        }
        for topic in requests(&root, "student.budi", Some("greet")) {
            assert_outcome(&table, CALLER, Action::Publish(&topic), Outcome::Allowed);
        }
    }
}
