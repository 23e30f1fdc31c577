//! Calls on behalf of somebody else.

use super::Proxy;
use crate::client::Client;
use crate::wire::user::User;

impl Proxy {
    /// Calls on behalf of this user, who is then the object's `caller`; the user of this connection is `via`.
    ///
    /// The broker allows it where both may call the method, and where the connection's user may act for others (`acts_for`
    /// in broker.toml); otherwise it refuses the request ([`Unsent::Denied`]). A broker without users removes the name, and one
    /// that stamps no caller passes it on, and nodes do not believe it.
    #[must_use]
    pub fn for_user(mut self, user: &User) -> Self {
        self.settings.caller = Some(user.to_string());
        self
    }

    /// Calls on behalf of a client that did not log in, by the rights of such clients; as with [`for_user`](Self::for_user),
    /// the connection's user has to be one that may act for others.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.settings.caller = Some(String::new());
        self
    }
}

impl Client {
    /// Whether the broker lets this connection call on behalf of everybody ([`Proxy::for_user`], [`Proxy::for_nobody`]), by
    /// its word in CONNACK; `None` where it has no rules, and so keeps nobody from it.
    pub fn may_act_for_others(&self) -> Option<bool> {
        let features = self.outlet().features();
        features.grants().then(|| features.acts_for())
    }
}
