//! The attribute macro `interface` of `rantai` and `rantai-client`.

mod attributes;
mod emitter;
mod expand;
mod method;
mod object;
mod proxy;

use proc_macro::TokenStream;
use quote::quote;
use syn::parse_macro_input;

/// Turns a trait into the interface of an object.
///
/// In addition to the trait `Name` itself, the macro generates
///
/// * `NameProxy`, a typed client for objects with this interface,
/// * `NameObject<T>`, which serves any `T: Name`: it parses and checks parameters, and serializes results,
/// * `NameEmitter`, which publishes the declared events, if there are any,
/// * the JSON schemas of parameters, results and events, from the Rust types (`schemars::JsonSchema`).
///
/// Every method is `async fn name(&self, …) -> Result<T, Fault>`, or `… -> Result<impl Stream<Item = T>, Fault>` for a result that
/// comes item by item; an item of type `Result<T, Fault>` may be an error, which ends it. The proxy gives `Items<T>` of such a
/// method. Doc comments become summaries.
///
/// ```ignore
/// /// Arithmetic on two numbers.
/// #[interface(version = "1.0.0", tags("math"), event(done: f64), state(last: f64))]
/// pub trait Calculator {
///     /// The sum of `a` and `b`.
///     #[method(read_only, time_limit_ms = 5_000)]
///     async fn add(&self, a: f64, b: f64) -> Result<f64, Fault>;
/// }
/// ```
///
/// # Parameters
///
/// A parameter whose type is `Option<…>`, by whatever name, may be left out, and the proxy leaves out those at the end that are
/// `None`: a method may get further ones at its end, and callers still reach objects that do not have them. One whose type is
/// `Binary`, and a result of that type, is bytes; it is the only parameter of its method.
///
/// A parameter of type `Context`, or `&Context`, is not sent: the node passes the context of the call. The macro knows it by the
/// name of the type; `#[arg(context)]` before the parameter says it of a type with another name, and `#[arg(value)]` says that a
/// type with this name is an ordinary parameter. If the type is not what it was taken for, the code does not compile.
///
/// # Events
///
/// `event(name: Type)` declares an event, and `state(name: Type)` one whose last value is retained. `NameEmitter`, made from the
/// `Context` of a call or from an `Emitter`, has a method for each: `name()` returns an `EventEmitter<Type>` or a
/// `StateEmitter<Type>`. The proxy has `name_events()`, which subscribes to what is published to everybody, and for an event also
/// `name_upcalls()`, which subscribes to what is published to this client alone.
///
/// # Arguments
///
/// For the trait: `version`, `tags(…)`, `event(…)`, `state(…)`, and `crate = "path"`, the path of the crate `rantai` if it is not
/// `::rantai`; of this attribute in `rantai-client` it is the path of that crate, if it is not `::rantai_client`.
///
/// For a method: `idempotent` (it may be executed twice), `read_only` (it changes nothing, which implies
/// `idempotent`) or `once` (it must not be executed twice, even if the node restarts: the node keeps a journal), `secret`
/// (its result is neither logged nor stored on disk, for example by the ledger), `time_limit_ms = N`, and `name = "…"`
/// for another name on the bus.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    interface_of(&quote!(::rantai_client), arguments, item)
}

/// The attribute [`interface`](macro@interface) for those who depend on the package `rantai`: the generated code names `::rantai`.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn interface_of_rantai(arguments: TokenStream, item: TokenStream) -> TokenStream {
    interface_of(&quote!(::rantai), arguments, item)
}

fn interface_of(
    crate_path: &proc_macro2::TokenStream,
    arguments: TokenStream,
    item: TokenStream,
) -> TokenStream {
    let arguments = parse_macro_input!(arguments as attributes::Interface);
    let item = parse_macro_input!(item as syn::ItemTrait);
    expand::expand(&arguments, crate_path, item).unwrap_or_else(|error| error.to_compile_error()).into()
}
