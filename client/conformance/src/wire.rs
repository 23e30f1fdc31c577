//! Connection of an examiner: a plain MQTT client, without anything of the libraries on top of it.

use std::time::Duration;

use rantai_client::client::draw_id_of;
use rantai_client::environment::Environment;
use rantai_client::session::{
    Address, Filter, Message, Options, Publish, Receiver, Session, SubscribeError, Unsent, Will,
};
use rantai_client::wire::name::ClientId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::error::ExamineError;

/// Plain MQTT client. Dropping it closes the connection.
pub(crate) struct Wire {
    pub(crate) id: ClientId,
    session: Session,
    messages: UnboundedReceiver<Message>,
}

/// Queue of received messages.
struct Inbox(UnboundedSender<Message>);

impl Receiver for Inbox {
    fn message(&mut self, message: Message) {
        // The wire is dropped while the session ends.
        let _ = self.0.send(message);
    }
}

impl Wire {
    /// Connects with a random client id, which belongs to the user of the address if there is one.
    pub(crate) async fn connect(address: &Address) -> Result<Self, ExamineError> {
        let id = draw_id_of(address.user(), "conform", &Environment::default());
        Self::with(Options::new(address.clone(), id)).await
    }

    /// Connects as the examiner's node: its state becomes `lost` if the examination is interrupted.
    pub(crate) async fn connect_as_node(
        address: &Address,
        id: ClientId,
        will: Will,
    ) -> Result<Self, ExamineError> {
        Self::with(Options { will: Some(will), ..Options::new(address.clone(), id) }).await
    }

    async fn with(options: Options) -> Result<Self, ExamineError> {
        let (sender, messages) = unbounded_channel();
        let id = options.client_id.clone();
        let session = Session::connect(options, |_| Inbox(sender)).await?;
        Ok(Self { id, session, messages })
    }

    /// Returns a handle that publishes and subscribes on the same connection.
    pub(crate) fn session(&self) -> Session {
        self.session.clone()
    }

    /// Publishes, and waits for the acknowledgement.
    pub(crate) async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        match self.session.publish(publish).await {
            // The case detects that by the messages that arrive, or do not.
            Err(Unsent::NobodyThere) => Ok(()),
            result => result,
        }
    }

    pub(crate) async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.session.subscribe(filters).await
    }

    pub(crate) async fn unsubscribe(&self, filters: Vec<String>) {
        // Without a connection there is no subscription either.
        let _ = self.session.unsubscribe(filters).await;
    }

    /// Returns the next message, or `None` if none comes within this time.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Message> {
        timeout(within, self.messages.recv()).await.ok().flatten()
    }

    pub(crate) async fn close(self) {
        self.session.close().await;
    }
}
