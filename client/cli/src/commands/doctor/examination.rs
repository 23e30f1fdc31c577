//! What all items share: the broker, as whom and where they try it, and what has to be removed afterwards.

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

/// An examination of one broker.
pub(super) struct Examination {
    pub(super) address: Address,
    /// The time of each item.
    pub(super) timeout: Duration,
    /// The topics of the bus, for what rules say of them.
    pub(super) bus: Topics,
    pub(super) traces: Traces,
    pub(super) product: Cell<Product>,
    /// What the broker does for the bus, by its own word.
    pub(super) features: Cell<BrokerFeatures>,
    pub(super) stage: OnceCell<Stage>,
    login: Option<Rc<Login>>,
    /// The way to the broker with the client certificate of the command, if it has one, and without.
    known: Rc<Address>,
    unknown: Rc<Address>,
    /// Beginning of every name.
    run: Rc<str>,
    count: Cell<u32>,
}

/// Where messages go to and fro.
pub(super) enum Stage {
    /// Below a root of its own, or else below that of the bus.
    Below(Topics),
    /// The user may receive on neither.
    Denied,
    /// Nothing comes back, and the broker does not say why.
    Dark,
}

/// The examination for one item, which ends at a time.
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

    /// Topics that no bus has.
    pub(super) fn own_topics(&self) -> Topics {
        Topics::new(Root::new(&self.run).expect("a name is a root"))
    }

    /// The user of the command, if it logs in.
    pub(super) fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| &*login.user)
    }

    /// Whether the command shows who it is: by a user name, or by a certificate.
    pub(super) fn is_known(&self) -> bool {
        self.login.is_some() || *self.known != *self.unknown
    }

    /// What to call the user of the command in a sentence.
    pub(super) fn who(&self) -> String {
        match self.user() {
            Some(user) => format!("user {user}"),
            None if self.is_known() => "the user of the certificate".to_owned(),
            None => "a client without a login".to_owned(),
        }
    }

    /// A client that nobody else is, of the user of the command.
    pub(super) fn client(&self) -> Identity {
        let id = self.name();
        // What a user's client ids begin with, unless its record says otherwise (docs/access.md).
        let reserved = self.user().and_then(|user| ClientId::new(&format!("{user}--{id}")).ok());
        let id = reserved.unwrap_or_else(|| ClientId::new(&id).expect("letters, digits and hyphens"));
        Identity { id, login: self.login.clone(), address: self.known.clone() }
    }

    /// A client that nobody else is, with neither login nor certificate.
    pub(super) fn anonymous(&self) -> Identity {
        let id = ClientId::new(&self.name()).expect("letters, digits and hyphens");
        Identity { id, login: None, address: self.unknown.clone() }
    }

    /// A client of the user with an id that MQTT 3.1 takes.
    pub(super) fn short_client(&self) -> Identity {
        Identity { login: self.login.clone(), address: self.known.clone(), ..self.anonymous() }
    }

    /// How long a connection waits, and for what.
    pub(super) fn limits(&self, deadline: Instant) -> Limits {
        Limits { deadline, grace: self.timeout / 2, mark: self.run.clone() }
    }

    /// An object that does not exist.
    pub(super) fn object(&self) -> ObjectName {
        ObjectName::any(&self.name()).expect("letters, digits and hyphens")
    }

    /// The examination for one item, whose time begins now.
    pub(super) fn probe(&self) -> Probe<'_> {
        Probe { examination: self, deadline: Instant::now() + self.timeout }
    }

    /// `doctor-…`: MQTT 3.1 has ids of at most 23 characters.
    fn name(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("{}-{}", self.run, self.count.get())
    }
}

impl<'a> Probe<'a> {
    /// Where messages go to and fro.
    ///
    /// # Errors
    ///
    /// The user may receive nowhere, or nothing comes.
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

    /// How long something is waited for that should come, so that the item has time left to say that it did not.
    pub(super) fn patience(&self) -> Duration {
        self.examination.timeout / 3
    }

    /// How long something is waited for that should not come.
    pub(super) fn doubt(&self) -> Duration {
        self.examination.timeout / 5
    }

    /// A new client of the user, and its connection.
    pub(super) async fn client(&self) -> Result<(Identity, Link), Trouble> {
        let identity = self.examination.client();
        let link = self.link(&identity).await?;
        Ok((identity, link))
    }

    /// A connection with a clean session.
    pub(super) async fn link(&self, identity: &Identity) -> Result<Link, Trouble> {
        self.connect(identity, identity.connect()).await
    }

    /// A connection with a CONNECT of its own.
    pub(super) async fn connect(&self, identity: &Identity, connect: Connect) -> Result<Link, Trouble> {
        Link::connect(identity, connect, self.examination.limits(self.deadline)).await
    }
}
