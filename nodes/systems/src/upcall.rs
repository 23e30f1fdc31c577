//! `upcall`: receives messages, and calls their senders back.

use rantai_client::object::Context;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ClientId;
use rantai_client::{interface, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use rantai_nodes::kind::Output;
use rantai_nodes::kind::{Building, Configured, Kind};

/// Maximum size of a message, in bytes. As JSON it may be six times as large, which still fits into a packet.
pub const MAX_MESSAGE_BYTES: usize = 128 << 10;
/// Placeholder of the message in texts.
pub const MESSAGE: &str = "{message}";
/// Placeholder of object and broker in [`Words::connected`].
pub const SERVER: &str = "{server}";

/// Settings of a server that calls its clients back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpcallSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Text to print; `{message}` is the message.
    pub received: String,
    /// Message of the callback.
    pub upcall: String,
    /// Texts of its clients.
    #[serde(default)]
    pub words: Words,
}

/// Texts of a client; `{message}` is the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Words {
    /// Prompt for messages.
    pub prompt: String,
    /// Message that ends the client, in upper or lower case.
    pub bye: String,
    /// Text printed at that message.
    pub exiting: String,
    /// Text printed at each callback.
    pub upcall: String,
    /// Text logged at the start; `{server}` stands for object and broker.
    pub connected: String,
    /// Text logged for each message.
    pub sent: String,
    /// Text logged at each callback.
    pub received: String,
    /// Text logged at the end.
    pub closed: String,
    /// Text printed and logged if no callback arrives in time.
    pub timeout: String,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            prompt: "Enter messages (separated by commas): ".to_owned(),
            bye: "bye".to_owned(),
            exiting: "Exiting...".to_owned(),
            upcall: "Received upcall from server: {message}".to_owned(),
            connected: "Connected to server at {server}".to_owned(),
            sent: "Sent: {message}".to_owned(),
            received: "Received: {message}".to_owned(),
            closed: "Connection closed by user.".to_owned(),
            timeout: "Timeout: No response from server.".to_owned(),
        }
    }
}

/// Server that calls its clients back. The event `upcall` is sent to the client that sent the message, with the
/// correlation of its request; `pushed` is sent independently of requests.
#[interface(version = "1.0.0", tags("upcall"), event(upcall: String), event(pushed: String))]
pub trait Upcall {
    /// Returns the texts of a client.
    #[method(read_only)]
    async fn words(&self) -> Result<Words, Fault>;

    /// Receives a message, and calls its sender back.
    async fn send(&self, message: String, context: Context) -> Result<(), Fault>;

    /// Sends a message to one client, or to all subscribers.
    async fn push(&self, message: String, client: Option<String>, context: Context) -> Result<(), Fault>;
}

/// Implementation of [`Upcall`].
#[derive(Clone)]
pub struct Desk {
    /// Text printed for each message.
    pub received: String,
    /// Message of the callback.
    pub upcall: String,
    /// Texts of its clients.
    pub words: Words,
    /// Output of the printed texts.
    pub output: Output,
}

impl Upcall for Desk {
    async fn words(&self) -> Result<Words, Fault> {
        Ok(self.words.clone())
    }

    async fn send(&self, message: String, context: Context) -> Result<(), Fault> {
        check(&message)?;
        (self.output)(&self.received.replace(MESSAGE, &printable(&message)));
        let called = self.upcall.replace(MESSAGE, &message);
        context.emitter.upcall_for(&context, "upcall", &called)
    }

    async fn push(&self, message: String, client: Option<String>, context: Context) -> Result<(), Fault> {
        check(&message)?;
        let Some(client) = client else { return context.emitter.emit("pushed", &message) };
        let client = ClientId::new(&client).map_err(|error| {
            Fault::wrong_parameter("client", "a client id").with("detail", error.to_string())
        })?;
        context.emitter.upcall(&client, "pushed", &message)
    }
}

impl Kind for UpcallSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let desk = Desk {
            received: self.received.clone(),
            upcall: self.upcall.clone(),
            words: self.words.clone(),
            output: building.output.clone(),
        };
        Ok(building.object(UpcallObject(desk)).replica(self.replica))
    }
}

fn check(message: &str) -> Result<(), Fault> {
    if message.len() > MAX_MESSAGE_BYTES {
        let text = format!("a message of {} bytes; it may have {MAX_MESSAGE_BYTES}", message.len());
        return Err(Fault::new(Code::TOO_LARGE, text).with("limit", MAX_MESSAGE_BYTES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use rantai_client::object::Emitter;
    use rantai_client::session::{Publish, QoS};
    use rantai_client::wire::name::{ObjectName, Root};
    use std::sync::Arc;
    use tokio::time::Instant;

    type Said = Arc<Mutex<Vec<Publish>>>;

    fn context(client: Option<&str>) -> (Context, Said) {
        let object = ObjectName::new("upcall").expect("a name");
        let said = Said::default();
        let heard = said.clone();
        let publish = Arc::new(move |publish| heard.lock().push(publish));
        let emitter = Emitter::new(Root::default(), object.clone(), publish);
        let (now, calls) = (Instant::now(), rantai_client::object::Calls::default());
        let mut context = Context::new(object, now, now, emitter, calls);
        context.client = client.map(|client| ClientId::new(client).expect("a name"));
        context.correlation = Some(b"0123456789abcdef".to_vec().into());
        (context, said)
    }

    fn desk(output: Output) -> Desk {
        let (received, upcall) = ("Received from client: {message}", "Upcall event: Processing {message}");
        Desk { received: received.to_owned(), upcall: upcall.to_owned(), words: Words::default(), output }
    }

    #[tokio::test]
    async fn only_the_sender_of_a_message_is_called_back() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let printed = lines.clone();
        let desk = desk(Arc::new(move |line: &str| printed.lock().push(line.to_owned())));
        let (context, said) = context(Some("me"));
        desk.send("{message}\n本".to_owned(), context.clone()).await.expect("called back");
        assert_eq!(*lines.lock(), ["Received from client: {message}\\n本"]);
        let upcall = said.lock().pop().expect("one");
        assert_eq!((&*upcall.topic, upcall.qos), ("rantai/event/upcall/upcall/me", QoS::AtLeastOnce));
        assert_eq!(upcall.payload, "\"Upcall event: Processing {message}\\n本\"");
        assert_eq!(upcall.properties.correlation, context.correlation);
        desk.push("news".to_owned(), None, context.clone()).await.expect("to everybody");
        desk.push("news".to_owned(), Some("you".to_owned()), context.clone()).await.expect("to one");
        let topics: Vec<String> = said.lock().iter().map(|publish| publish.topic.to_string()).collect();
        assert_eq!(topics, ["rantai/event/upcall/pushed", "rantai/event/upcall/pushed/you"]);
        assert!(desk.push(String::new(), Some("a/b".to_owned()), context).await.is_err());
    }

    #[tokio::test]
    async fn senders_without_a_client_and_long_messages_are_refused() {
        let desk = desk(Arc::new(|_: &str| {}));
        let (nobody, said) = context(None);
        let fault = desk.send("x".to_owned(), nobody).await.expect_err("nobody to call back");
        assert_eq!(fault.data["kind"], "no_client");
        let (context, _) = context(Some("me"));
        assert!(desk.send("x".repeat(MAX_MESSAGE_BYTES), context.clone()).await.is_ok());
        let fault = desk.send("x".repeat(MAX_MESSAGE_BYTES + 1), context).await.expect_err("too long");
        assert_eq!(fault.code, Code::TOO_LARGE);
        assert!(said.lock().is_empty());
    }
}
