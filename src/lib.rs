//! Objects on an MQTT bus: call them by name from Rust as if they were local, serve them, and embed the broker.
//!
//! An object is named, has methods and events, and describes itself. Its [`interface`] is a trait, which both sides share: the
//! attribute generates a typed proxy to call the object, and the object that serves whatever implements the trait.
//!
//! ```
//! use rantai::broker::Config;
//! use rantai::{Broker, Client, Fault, Node, interface};
//!
//! /// Greets people.
//! #[interface]
//! pub trait Greeter {
//!     /// A greeting for `name`.
//!     async fn greet(&self, name: String) -> Result<String, Fault>;
//! }
//!
//! struct Polite;
//!
//! impl Greeter for Polite {
//!     async fn greet(&self, name: String) -> Result<String, Fault> {
//!         if name.is_empty() {
//!             return Err(Fault::failed("nobody", "there is nobody to greet"));
//!         }
//!         Ok(format!("Halo, {name}!"))
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A broker within the program; any other broker of MQTT 5 does as well.
//!     let broker = Broker::start(Config::on_free_port()).await?;
//!     let address = format!("mqtt://{}", broker.addresses()[0]);
//!
//!     let node = Node::connect(&address).await?;
//!     node.serve("greeter", GreeterObject(Polite)).await?;
//!
//!     let client = Client::connect(&address).await?;
//!     let greeter = GreeterProxy::new(&client, "greeter");
//!     assert_eq!(greeter.greet("Ana".to_owned()).await?, "Halo, Ana!");
//!
//!     // Without the interface, as from any other language.
//!     let text: String = client.object("greeter").call("greet", "Budi").await?;
//!     assert_eq!(text, "Halo, Budi!");
//!     Ok(())
//! }
//! ```
//!
//! It depends on `rantai` with the features `node` and `broker`, and on tokio. The folder `examples` of the package has a program
//! for each part of the library.
//!
//! # Features
//!
//! | Feature | | Beside the names at the top |
//! |---|---|---|
//! | `client` (default) | [`Client`], [`interface`]: call objects, subscribe to events, fetch files | [`client`], [`files`] |
//! | `node` | [`Node`]: serve objects | [`node`] |
//! | `journal` | methods marked `once`, which are executed at most once although the node restarts | |
//! | `files` | share folders as objects | [`files`] |
//! | `tasks` | calls that are stored and made later, retried, and repeated by a schedule | [`tasks`] |
//! | `site` | [`Site`]: serve a configuration file, as the program `rantai` does | [`site`] |
//! | `gateway` | REST and SOAP in front of the objects of a site | |
//! | `broker` | [`Broker`]: embed the broker, for MQTT 3.1.1 and 5 | [`broker`], [`access`] |
//!
//! TLS is part of `client` and of `broker`, and needs no feature. It uses rustls with ring.
//!
//! Types that travel as parameters, results or events need `Serialize`, `Deserialize` and `JsonSchema`: the crates serde and
//! [`schemars`], whose version is the one that this crate exports.

// The documentation names what every feature brings.
#![cfg_attr(
    not(all(feature = "broker", feature = "files", feature = "gateway", feature = "tasks")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(feature = "client")]
pub mod files;

#[cfg(feature = "broker")]
#[doc(no_inline)]
pub use rantai_access as access;
#[cfg(feature = "broker")]
#[doc(no_inline)]
pub use rantai_broker as broker;
#[cfg(feature = "client")]
#[doc(no_inline)]
pub use rantai_client as client;
#[cfg(feature = "node")]
#[doc(no_inline)]
pub use rantai_nodes as node;
#[cfg(feature = "site")]
#[doc(no_inline)]
pub use rantai_site as site;
#[cfg(feature = "tasks")]
#[doc(no_inline)]
pub use rantai_tasks as tasks;

#[cfg(feature = "client")]
pub use rantai_client::client::Builder as ClientBuilder;
#[cfg(feature = "client")]
pub use rantai_client::interface_of_rantai as interface;
#[cfg(feature = "client")]
pub use rantai_client::object::{
    Binary, Context, Emitter, EventEmitter, Object, Progress, StateEmitter, Stream,
};
#[cfg(feature = "client")]
pub use rantai_client::session::{Address, Filter, Message, Publish, QoS, Status, TlsFiles};
#[cfg(feature = "client")]
pub use rantai_client::wire::fault::{Code, Fault};
#[cfg(feature = "client")]
pub use rantai_client::wire::name::{ClientId, ObjectName, Root};
#[cfg(feature = "client")]
pub use rantai_client::{
    Answers, CallError, Client, ConnectError, Content, Events, Items, Opened, Proxy, Received, Request,
    Response, Subscription, error_chain, schemars,
};

#[cfg(feature = "node")]
pub use rantai_client::wire::entry::Mode;
#[cfg(feature = "node")]
pub use rantai_nodes::{Builder as NodeBuilder, Limits, Node, NodeError, ServeError, ServeOptions};

#[cfg(feature = "site")]
pub use rantai_site::{Plan, Site, SiteEnd, SiteError, SiteEvent, SiteOptions};

#[cfg(feature = "broker")]
pub use rantai_broker::{Broker, StartError};

#[cfg(feature = "client")]
#[doc(hidden)]
pub use rantai_client::__private;

/// The program in the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Types that are not the context of a call are refused, and the same types are taken by their attributes.
///
/// ```compile_fail
/// use rantai::{Fault, interface};
///
/// #[derive(Clone)]
/// pub struct Context;
///
/// #[interface]
/// pub trait Drawing {
///     async fn draw(&self, context: Context) -> Result<u64, Fault>;
/// }
/// ```
///
/// ```compile_fail
/// use rantai::{Fault, interface};
///
/// #[interface]
/// pub trait Drawing {
///     async fn draw(&self, #[arg(context)] size: u64) -> Result<u64, Fault>;
/// }
/// ```
///
/// ```compile_fail
/// use rantai::{Context as Call, Fault, interface};
///
/// #[interface]
/// pub trait Drawing {
///     async fn draw(&self, call: Call) -> Result<u64, Fault>;
/// }
/// ```
///
/// ```
/// use rantai::{Context as Call, Fault, interface};
///
/// pub type Context = String;
///
/// #[interface]
/// pub trait Drawing {
///     async fn draw(&self, #[arg(value)] context: Context, #[arg(context)] call: Call) -> Result<u64, Fault>;
/// }
/// ```
#[cfg(doctest)]
struct Contexts;
