//! Calls on behalf of another user.

use super::Proxy;
use crate::client::Client;
use crate::wire::user::User;

impl Proxy {
    /// Calls on behalf of this user, who becomes the object's `caller`; the user of this connection becomes `via`.
    ///
    /// The broker allows it if both may call the method, and if the connection's user may act for others (`acts_for` in
    /// broker.toml); otherwise it refuses the request ([`Unsent::Denied`]). A broker without users removes the name; one that
    /// stamps no caller passes it on, but nodes do not trust it.
    #[must_use]
    pub fn for_user(mut self, user: &User) -> Self {
        self.settings.caller = Some(user.to_string());
        self
    }

    /// Calls with the rights of clients that did not log in; as with [`for_user`](Self::for_user), the connection's user must
    /// be one that may act for others.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.settings.caller = Some(String::new());
        self
    }
}

impl Client {
    /// Returns whether the broker lets this connection call on behalf of all users ([`Proxy::for_user`], [`Proxy::for_nobody`]),
    /// as announced in CONNACK; `None` if it has no access rules, and so does not restrict it.
    pub fn may_act_for_others(&self) -> Option<bool> {
        let features = self.outlet().features();
        features.grants().then(|| features.acts_for())
    }
}
