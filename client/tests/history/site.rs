//! Broker with its users and rules.

use std::sync::Arc;

use rantai_access::{AclFile, Table, UserRecord};
use rantai_broker::{Broker, Config, Cost, Record};
use rantai_client::wire::name::Root;
use rantai_client::wire::role::BusRole;
use rantai_testing::Place;

use crate::listen;

/// Number of users.
pub(crate) const USERS: usize = 20;

/// Broker with numbered users.
pub(crate) struct Site {
    /// Stopped when dropped.
    _broker: Broker,
    pub(crate) place: Place,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let mut config = Config::on_free_port();
        config.anonymous = false;
        let root = Root::default();
        let acl = "pattern readwrite home/%u/#\n";
        let mut table = Table::builder().file(AclFile::parse("acl.conf", acl).expect("an ACL file"));
        for user in 0..USERS {
            let called = (1..=2).map(|step| format!("{}.run", object((user + step) % USERS)));
            let role = BusRole {
                name: name(user),
                call: called.collect(),
                serve: vec![object(user)],
                ..BusRole::default()
            };
            let record = UserRecord::new(&name(user)).expect("a name").roles([name(user)]);
            table = table.role(&role.name, role.rules(&root).expect("rules")).user(record);
            let password = Record::new(password(user).as_bytes(), Cost::LOWEST).expect("hashed");
            config.users.push(rantai_broker::User::new(name(user), Some(password)));
        }
        config.access = Some(Arc::new(table.build().expect("a table")));
        let (broker, place) = listen::start(config).await.expect("a broker starts");
        Self { _broker: broker, place }
    }
}

/// Returns the user's name, which is also the prefix of its client ids.
pub(crate) fn name(user: usize) -> String {
    format!("u{user:02}")
}

/// Returns the user's password.
pub(crate) fn password(user: usize) -> String {
    format!("secret of {user}")
}

/// Returns the name of the object that the user serves.
pub(crate) fn object(user: usize) -> String {
    format!("o{user:02}")
}

/// Returns the user's client id.
pub(crate) fn client_id(user: usize) -> String {
    format!("{}--main", name(user))
}

/// Returns whether a user may call the object of another one: each may call those of the next two.
pub(crate) fn may_call(user: usize, server: usize) -> bool {
    (1..=2).any(|step| (user + step) % USERS == server)
}

/// Returns the topic of an object's replies to a user.
pub(crate) fn reply_topic(server: usize, user: usize) -> String {
    format!("rantai/reply/{}/{}", object(server), client_id(user))
}
