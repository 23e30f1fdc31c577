//! The attribute macro `interface` of `rantai-client`.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Turns a trait into the interface of an object.
///
/// In addition to the trait `Name` itself, the macro generates
///
/// * `NameProxy`, a typed client for objects with this interface,
/// * `NameObject<T>`, which serves any `T: Name`: it parses and checks parameters, and serializes results,
/// * the JSON schemas of parameters, results and events, from the Rust types (`schemars::JsonSchema`).
///
/// Every method is `async fn name(&self, …) -> Result<T, Fault>`, or `… -> Result<impl Stream<Item = T>, Fault>` for a result that
/// comes item by item; an item of type `Result<T, Fault>` may be an error, which ends it. The proxy gives `Items<T>` of such a
/// method. A parameter of type `Option<…>` may be left out, and the proxy leaves out those at the end that are `None`: a method may
/// get further ones at its end, and callers still reach objects that do not have them. One of type `Binary`, and a result of that
/// type, is bytes; one of type `Context` is no parameter but what stands around the call. Doc comments become summaries.
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
/// Arguments for the trait: `version`, `tags(…)`, `event(name: Type)` and `state(name: Type)` (an event whose last value
/// is retained).
///
/// Arguments for a method: `idempotent` (it may be executed twice), `read_only` (it changes nothing, which implies
/// `idempotent`) or `once` (it must not be executed twice, even if the node restarts: the node keeps a journal), `secret`
/// (its result is neither logged nor stored on disk, for example by the ledger), `time_limit_ms = N`, and `name = "…"`
/// for another name on the bus.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let settings = parse_macro_input!(arguments as attributes::Interface);
    let item = parse_macro_input!(item as syn::ItemTrait);
    expand::expand(&settings, item).unwrap_or_else(|error| error.to_compile_error()).into()
}
