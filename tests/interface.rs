//! What `#[interface]` generates for a user of the package `rantai` alone: types by other names, types of one's own with known
//! names, and typed events.

use std::time::Duration;

use rantai::broker::Config;
use rantai::client::object::Description;
use rantai::{Binary as Bytes, Context as CallContext, *};
use serde_json::{Value, json};
use tokio::time::timeout;

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

type Maybe<T> = Option<T>;
type MaybeNumber = Option<u64>;

mod own {
    //! Types with the names of others.

    use rantai::schemars::{self, JsonSchema};
    use serde::{Deserialize, Serialize};

    /// Coordinates.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(crate) struct Context {
        /// The first.
        pub(crate) x: u64,
    }

    /// A choice.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(crate) struct Option<T> {
        /// What is chosen.
        pub(crate) chosen: T,
    }
}

/// Names of types.
#[interface(event(done: u64), event(r#type: String), state(last: own::Context))]
trait Names {
    /// Parameters that may be left out, by their types.
    async fn optional(&self, one: u64, two: Maybe<String>, three: MaybeNumber) -> Result<Value, Fault>;

    /// A parameter and a result that are bytes.
    async fn reverse(&self, data: Bytes, #[arg(context)] call: &CallContext) -> Result<Bytes, Fault>;

    /// Parameters of types with known names, and parameters with the names of variables in the generated code.
    async fn own(
        &self,
        #[arg(value)] context: own::Context,
        option: own::Option<u64>,
        arguments: u64,
        request: u64,
        #[arg(context)] call: CallContext,
    ) -> Result<own::Context, Fault>;

    /// Emits every event.
    async fn tell(&self, r#type: String, context: &rantai::Context) -> Result<(), Fault>;
}

struct Spelled;

impl Names for Spelled {
    async fn optional(&self, one: u64, two: Maybe<String>, three: MaybeNumber) -> Result<Value, Fault> {
        Ok(json!([one, two, three]))
    }

    async fn reverse(&self, data: Bytes, call: &CallContext) -> Result<Bytes, Fault> {
        assert_eq!(call.object.as_str(), "names");
        Ok(Bytes::from(data.0.iter().rev().copied().collect::<Vec<u8>>()))
    }

    async fn own(
        &self,
        context: own::Context,
        option: own::Option<u64>,
        arguments: u64,
        request: u64,
        call: CallContext,
    ) -> Result<own::Context, Fault> {
        assert_eq!(call.object.as_str(), "names");
        Ok(own::Context { x: context.x + option.chosen + arguments + request })
    }

    async fn tell(&self, r#type: String, context: &rantai::Context) -> Result<(), Fault> {
        let events = NamesEmitter::from(context);
        events.last().set(&own::Context { x: 1 })?;
        events.done().emit_for(context, &2)?;
        events.done().upcall_for(context, &3)?;
        events.r#type().emit(&r#type)
    }
}

/// A client of the object on a broker of its own; broker and node end when they are dropped.
async fn names() -> (Broker, Node, Client) {
    let broker = Broker::start(Config::on_free_port()).await.expect("a broker");
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let node = Node::connect(&address).await.expect("a node");
    node.serve("names", NamesObject(Spelled)).await.expect("served");
    (broker, node, Client::connect(&address).await.expect("a client"))
}

#[test]
fn parameters_are_described_by_their_types() {
    let Description { methods, events, .. } = NamesObject(Spelled).description();
    let params = |index: usize| -> Vec<(&str, bool, bool)> {
        let params = methods[index].params.iter();
        params.map(|param| (&*param.name, param.required, param.schema.is_some())).collect()
    };
    assert_eq!(params(0), [("one", true, true), ("two", false, true), ("three", false, true)]);
    assert_eq!(methods[0].params[1].schema, Some(json!({"type": "string"})));
    assert_eq!(params(1), [("data", true, false)]);
    assert!(methods[1].result.is_none() && methods[0].result.is_some());
    let own =
        [("context", true, true), ("option", true, true), ("arguments", true, true), ("request", true, true)];
    assert_eq!(params(2), own);
    assert_eq!(params(3), [("type", true, true)]);
    let events: Vec<_> = events.iter().map(|event| (&*event.name, event.state)).collect();
    assert_eq!(events, [("done", false), ("type", false), ("last", true)]);
}

#[tokio::test]
async fn optional_parameters_at_the_end_are_left_out() {
    let (_broker, _node, client) = names().await;
    let names = NamesProxy::new(&client, "names");
    assert_eq!(names.optional(1, None, None).await.expect("an answer"), json!([1, null, null]));
    assert_eq!(names.optional(1, None, Some(3)).await.expect("an answer"), json!([1, null, 3]));
    assert_eq!(
        names.optional(1, Some("2".to_owned()), None).await.expect("an answer"),
        json!([1, "2", null])
    );
    let asked: Value = client.object("names").call("optional", (1,)).await.expect("an answer");
    assert_eq!(asked, json!([1, null, null]));

    // What is on the wire: the list ends with the last that is not `None`.
    let mut requests =
        client.subscribe(vec![Filter::new("rantai/call/names/optional")]).await.expect("granted");
    names.optional(1, Some("2".to_owned()), None).await.expect("an answer");
    let request = timeout(PATIENCE, requests.next()).await.expect("in time").expect("a request");
    assert_eq!(request.payload, r#"[1,"2"]"#);
}

#[tokio::test]
async fn types_count_and_not_their_names() {
    let (_broker, _node, client) = names().await;
    let names = NamesProxy::new(&client, "names");
    let reversed = names.reverse(Bytes::from(vec![0, 159, 146])).await.expect("bytes");
    assert_eq!(reversed.0, vec![146, 159, 0]);
    let (context, option) = (own::Context { x: 1 }, own::Option { chosen: 2 });
    assert_eq!(names.own(context, option, 3, 4).await.expect("an answer"), own::Context { x: 10 });
}

#[tokio::test]
async fn events_have_their_types() {
    let (_broker, _node, client) = names().await;
    let names = NamesProxy::new(&client, "names");
    let mut done = names.done_events().await.expect("granted");
    let mut mine = names.done_upcalls().await.expect("granted");
    let mut kinds = names.type_events().await.expect("granted");
    let mut last = names.last_events().await.expect("granted");
    let mut wrong = client.object("names").events::<u64>("type").await.expect("granted");
    names.tell("news".to_owned()).await.expect("told");

    let next = timeout(PATIENCE, done.next()).await.expect("in time").expect("an event").expect("a number");
    assert_eq!(next.value, 2);
    let upcall = timeout(PATIENCE, mine.next()).await.expect("in time").expect("an event").expect("a number");
    assert_eq!((upcall.value, &upcall.correlation), (3, &next.correlation));
    assert!(upcall.correlation.is_some() && !upcall.retained);
    let next = timeout(PATIENCE, kinds.next()).await.expect("in time").expect("an event").expect("a text");
    assert_eq!((next.value.as_str(), next.correlation), ("news", None));
    let next = timeout(PATIENCE, last.next()).await.expect("in time").expect("an event").expect("a state");
    assert_eq!((next.value, next.retained), (own::Context { x: 1 }, false));
    let next = timeout(PATIENCE, wrong.next()).await.expect("in time").expect("an event");
    assert!(matches!(next, Err(CallError::Result(_))), "{next:?}");

    // Who subscribes later gets the state, and no event of before.
    drop(last);
    let mut last = names.last_events().await.expect("granted");
    let next = timeout(PATIENCE, last.next()).await.expect("in time").expect("an event").expect("a state");
    assert_eq!((next.value, next.retained), (own::Context { x: 1 }, true));
    assert!(client.object("no name").events::<u64>("done").await.is_err());
}

mod elsewhere {
    //! A user who knows the package by another path.

    mod bus {
        pub(super) use rantai::*;
    }

    /// Greets people.
    #[rantai::interface(crate = "bus")]
    pub(super) trait Greeter {
        /// A greeting.
        async fn greet(&self, name: String) -> Result<String, bus::Fault>;
    }

    pub(super) struct Polite;

    impl Greeter for Polite {
        async fn greet(&self, name: String) -> Result<String, bus::Fault> {
            Ok(format!("Halo, {name}!"))
        }
    }
}

#[test]
fn path_of_the_crate_may_be_given() {
    let description = elsewhere::GreeterObject(elsewhere::Polite).description();
    assert_eq!(description.methods[0].name, "greet");
}
