//! State shared by all items: the broker, the identities and topics that are used, and the traces to be removed afterwards.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use rantai_client::client::random_id;
use rantai_client::session::Address;
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rmqtt_codec::v5::Connect;
use tokio::time::Instant;

use super::identity::{Identity, Login};
use super::link::{Limits, Link};
use super::product::Product;
use super::topics::Topics;
use super::traces::Traces;
use super::trouble::Trouble;

/// Examination of one broker.
pub(super) struct Examination {
    pub(super) address: Address,
    /// Time limit of each item.
    pub(super) timeout: Duration,
    /// Topics below the root of the command, for what access rules say of them.
    pub(super) bus: Topics,
    pub(super) traces: Traces,
    pub(super) product: Cell<Product>,
    /// Features that the broker announces.
    pub(super) features: Cell<BrokerFeatures>,
    pub(super) stage: OnceCell<Stage>,
    login: Option<Rc<Login>>,
    /// Address of the broker with the client certificate of the command, if it has one, and without.
    known: Rc<Address>,
    unknown: Rc<Address>,
    /// Prefix of all names of this examination.
    run: Rc<str>,
    count: Cell<u32>,
}

/// Topics on which messages can be published and received.
pub(super) enum Stage {
    /// Topics below a root of the examination's own, or else below the root of the command.
    Below(Topics),
    /// The user may not receive on either.
    Denied,
    /// No message comes back, and the broker gives no reason.
    Dark,
}

/// Examination as one item sees it, with the deadline of the item.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    pub(super) examination: &'a Examination,
    pub(super) deadline: Instant,
}

impl Examination {
    pub(super) fn new(address: Address, root: Root, timeout: Duration) -> Self {
        let login = address
            .user()
            .map(|user| Login { user: user.to_owned(), password: address.password().to_owned() });
        let (known, unknown) = (address.clone(), address.clone().without_client_certificate());
        Self {
            address,
            known: Rc::new(known),
            unknown: Rc::new(unknown),
            timeout,
            bus: Topics::new(root),
            traces: Traces::default(),
            product: Cell::default(),
            features: Cell::default(),
            stage: OnceCell::new(),
            login: login.map(Rc::new),
            run: random_id("doctor").as_str().into(),
            count: Cell::new(0),
        }
    }

    /// Returns topics below a root that nobody else uses.
    pub(super) fn own_topics(&self) -> Topics {
        Topics::new(Root::new(&self.run).expect("a name is a root"))
    }

    /// Returns the user of the command, if it logs in.
    pub(super) fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| &*login.user)
    }

    /// Checks whether the command authenticates: by a user name, or by a certificate.
    pub(super) fn is_known(&self) -> bool {
        self.login.is_some() || *self.known != *self.unknown
    }

    /// Returns a description of the command's user, for sentences.
    pub(super) fn who(&self) -> String {
        match self.user() {
            Some(user) => format!("user {user}"),
            None if self.is_known() => "the user of the certificate".to_owned(),
            None => "a client without a login".to_owned(),
        }
    }

    /// Creates an identity of the command's user, with a client id that is not in use.
    pub(super) fn client(&self) -> Identity {
        let id = self.name();
        // Prefix of the client ids reserved for a user, unless its record says otherwise (docs/access.md).
        let reserved = self.user().and_then(|user| ClientId::new(&format!("{user}--{id}")).ok());
        let id = reserved.unwrap_or_else(|| ClientId::new(&id).expect("letters, digits and hyphens"));
        Identity { id, login: self.login.clone(), address: self.known.clone() }
    }

    /// Creates an identity with neither login nor certificate, and a client id that is not in use.
    pub(super) fn anonymous(&self) -> Identity {
        let id = ClientId::new(&self.name()).expect("letters, digits and hyphens");
        Identity { id, login: None, address: self.unknown.clone() }
    }

    /// Creates an identity of the command's user, with a client id short enough for MQTT 3.1.
    pub(super) fn short_client(&self) -> Identity {
        Identity { login: self.login.clone(), address: self.known.clone(), ..self.anonymous() }
    }

    /// Returns the time limits of a connection, and the mark of its messages.
    pub(super) fn limits(&self, deadline: Instant) -> Limits {
        Limits { deadline, grace: self.timeout / 2, mark: self.run.clone() }
    }

    /// Returns the name of an object that does not exist.
    pub(super) fn object(&self) -> ObjectName {
        ObjectName::any(&self.name()).expect("letters, digits and hyphens")
    }

    /// Starts an item: its time limit begins now.
    pub(super) fn probe(&self) -> Probe<'_> {
        Probe { examination: self, deadline: Instant::now() + self.timeout }
    }

    /// Returns a new name `doctor-…`; short, as MQTT 3.1 limits client ids to 23 characters.
    fn name(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("{}-{}", self.run, self.count.get())
    }
}

impl<'a> Probe<'a> {
    /// Returns the topics on which messages can be published and received.
    ///
    /// # Errors
    ///
    /// The user may receive nowhere, or no message comes back.
    pub(super) fn stage(&self) -> Result<&'a Topics, Trouble> {
        match self.examination.stage.get() {
            Some(Stage::Below(topics)) => Ok(topics),
            Some(Stage::Denied) => {
                let action = "serve objects named doctor-*".to_owned();
                Err(Trouble::Denied { action, why: String::new() })
            }
            Some(Stage::Dark) | None => Err(Trouble::unclear("no message comes back: see reachable")),
        }
    }

    /// Returns how long to wait for a message that should come, which leaves the item time to conclude that it did not.
    pub(super) fn patience(&self) -> Duration {
        self.examination.timeout / 3
    }

    /// Returns how long to wait for a message that should not come.
    pub(super) fn doubt(&self) -> Duration {
        self.examination.timeout / 5
    }

    /// Creates a new identity of the command's user, and connects.
    pub(super) async fn client(&self) -> Result<(Identity, Link), Trouble> {
        let identity = self.examination.client();
        let link = self.link(&identity).await?;
        Ok((identity, link))
    }

    /// Connects with a clean session.
    pub(super) async fn link(&self, identity: &Identity) -> Result<Link, Trouble> {
        self.connect(identity, identity.connect()).await
    }

    /// Connects with this CONNECT.
    pub(super) async fn connect(&self, identity: &Identity, connect: Connect) -> Result<Link, Trouble> {
        Link::connect(identity, connect, self.examination.limits(self.deadline)).await
    }
}
