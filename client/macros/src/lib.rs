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
/// Every method is `async fn name(&self, …) -> Result<T, Fault>`, or `… -> Result<impl Stream<Item = T>, Fault>` for a
/// streamed result. If the items have the type `Result<T, Fault>`, an error item ends the stream. For such a method the
/// proxy returns `Items<T>`. A parameter of type `Option<…>` is optional. Parameters and results of type `Binary` are raw
/// bytes. A parameter of type `Context` is not sent: it gives the method the context of the call. Doc comments become
/// summaries.
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
