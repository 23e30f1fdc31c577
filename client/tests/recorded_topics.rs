//! Checks the roles against recorded traffic: the forms of all topics and filters that the bus tests of nodes and of
//! the command line have published and subscribed to, from the log of a mosquitto broker (`.ci/on-mosquitto`, with
//! `log_type all`). Names are replaced by their kinds; a client that published its own node state counts as a node.

use rantai_access::{Action, Outcome, Refusal, Table, UserRecord, Who};
use rantai_client::wire::name::Root;
use rantai_client::wire::role::BusRole;

const RECORDED: &str = "
node publish at/{other}/{object}/{method}: allowed
node publish call/{object}/{method}: allowed
node publish event/{object}/{method}: allowed
node publish event/{object}/{method}/{other}: allowed
node publish name/{object}/{me}: allowed
node publish node/{me}: allowed
node publish reply/{object}: by grant
node publish reply/{object}/{other}: by grant
node subscribe $share/{object}/call/{object}/#: allowed
node subscribe all/{object}/#: allowed
node subscribe at/{me}/#: allowed
node subscribe name/+/{me}: allowed
node subscribe name/{object}/+: allowed
node subscribe node/{me}: allowed
node subscribe node/{other}: allowed
caller publish all/{object}/{method}: allowed
caller publish at/{other}/{object}/{method}: allowed
caller publish call/{object}/{method}: allowed
caller subscribe reply/+/{me}: allowed
caller subscribe event/+/{method}/{me}: allowed
caller subscribe event/{object}/{method}/{me}: allowed
caller subscribe name/+/+: allowed
caller subscribe name/{object}/+: allowed
caller subscribe name/{object}/{other}: allowed
caller subscribe node/+: allowed
caller subscribe node/{other}: allowed
observer subscribe event/+/{method}: allowed
observer subscribe event/{object}/{method}: allowed
observer subscribe event/{object}/{method}/#: at delivery
observer subscribe event/{object}/#: at delivery
";

/// Actions of tests against the robustness of nodes and callers: forged entries and states, and subscriptions to
/// requests.
const BY_TESTS: &str = "
caller publish event/{object}/{method}: refused
caller publish name/{object}/{other}: refused
caller publish node/{other}: refused
caller publish reply/{object}/{other}: refused
caller subscribe at/+/#: refused
caller subscribe at/+/{object}/{method}: refused
caller subscribe at/{other}/#: refused
caller subscribe call/#: refused
caller subscribe call/{object}/#: refused
caller subscribe call/{object}/{method}: refused
";

#[test]
fn built_in_roles_permit_the_recorded_traffic() {
    for root in [Root::default(), Root::new("a/at/reply/b").expect("a root")] {
        let mut table = Table::builder();
        for role in BusRole::ready_made() {
            let user = UserRecord::new(&role.name).expect("a name").roles([role.name.as_str()]);
            table = table.role(&role.name, role.rules(&root).expect("rules")).user(user);
        }
        let table = table.build().expect("a table");
        let mut count = 0;
        for line in RECORDED.lines().chain(BY_TESTS.lines()).filter(|line| !line.is_empty()) {
            let [user, verb, form] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (form, expected) = form.split_once(": ").expect("an outcome");
            let client_id = format!("{user}--1");
            let form = match form.strip_prefix("$share/{object}/") {
                Some(form) => format!("$share/{{object}}/{root}/{form}"),
                None => format!("{root}/{form}"),
            };
            let topic = form
                .replace("{me}", &client_id)
                .replace("{other}", "other--1")
                .replace("{object}", "echo")
                .replace("{method}", "say");
            let action = if verb == "publish" { Action::Publish(&topic) } else { Action::Subscribe(&topic) };
            let who = Who { user: Some(user), client_id: &client_id };
            let outcome = match table.decide(&who, action).outcome {
                Outcome::Allowed => "allowed",
                Outcome::AtDelivery => "at delivery",
                Outcome::WithReplyGrant => "by grant",
                Outcome::Refused(Refusal::NoRule) => "refused",
                Outcome::Refused(_) => "denied",
            };
            assert_eq!(outcome, expected, "{line}: {}", table.explain(&who, action));
            count += 1;
        }
        assert_eq!(count, 40);
    }
}
