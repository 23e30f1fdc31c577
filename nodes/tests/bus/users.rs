//! `RANTAI_TEST_USERS=1`: the brokers of these tests have users and access rules. Nodes log in as one user, clients as another.

use std::sync::Arc;

use rantai_access::{Table, TableBuilder, UserRecord};
use rantai_broker::Config;
use rantai_client::session::Address;
use rantai_client::wire::name::Root;
use rantai_client::wire::role::BusRole;
use rantai_testing::Connect;

use super::support::user;

/// User of nodes, ledgers and gateways, which act for others.
pub(crate) const SERVING: &str = "test-serving";
/// User of clients: calls, and watches events.
pub(crate) const CALLING: &str = "test-calling";
/// User of clients that subscribe to everything, and forge messages of others.
pub(crate) const ADMIN: &str = "test-admin";

/// The user of adopted devices: it reads calls of its objects, and writes their answers, and no more.
pub(crate) const DEVICE: &str = "test-device";

/// Returns whether users and rules are enabled.
pub(crate) fn are_on() -> bool {
    std::env::var_os("RANTAI_TEST_USERS").is_some()
}

/// Adds these users, and their rules for the buses on these roots, to the configuration of a broker, unless users are
/// disabled or the configuration has its own.
pub(crate) fn with_users(mut config: Config, roots: &[Root]) -> Config {
    if are_on() && config.users.is_empty() {
        config.users = [SERVING, CALLING, ADMIN, DEVICE].map(|name| user(name, name)).into();
        config.anonymous = false;
        config.bus_roots = roots.iter().map(ToString::to_string).collect();
        config.access = Some(Arc::new(table(roots)));
    }
    config
}

/// Adds the credentials of a user to an address, if users are enabled.
pub(crate) fn log_in(address: Address, user: &str) -> Address {
    if are_on() { address.with_credentials(user, user) } else { address }
}

/// Adds the credentials of a user to a CONNECT, if users are enabled.
pub(crate) fn log_in_raw(connect: Connect, user: &str) -> Connect {
    if are_on() { connect.user(user).password(user) } else { connect }
}

fn table(roots: &[Root]) -> Table {
    let record =
        |name: &str, roles: &[&str]| UserRecord::new(name).expect("a user name").roles(roles.iter().copied());
    let with_role = |table: TableBuilder, role: BusRole| {
        let rules = roots.iter().flat_map(|root| role.rules(root).expect("rules"));
        table.role(&role.name, rules)
    };
    let device = BusRole { name: DEVICE.to_owned(), device: vec!["*".to_owned()], ..BusRole::default() };
    let roles = BusRole::ready_made().into_iter().chain([device]).fold(Table::builder(), with_role);
    let users = roles
        .user(record(SERVING, &["node", "observer"]).acts_for(["*"]))
        .user(record(CALLING, &["caller", "observer"]))
        .user(record(ADMIN, &["admin"]))
        .user(record(DEVICE, &[DEVICE]));
    users.build().expect("a table")
}
