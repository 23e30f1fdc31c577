//! What the code that [`interface`](crate::interface) generates names. Not part of the API: it changes without notice.

pub use crate::client::Client;
pub use crate::error::CallError;
pub use crate::events::Events;
pub use crate::object::{
    Answer, Answering, Arguments, Call, Context, Description, Emitter, Event, EventEmitter, Method, Object,
    Parameter, Schemas, StateEmitter, no_such_method,
};
pub use crate::proxy::{Items, Proxy};
pub use crate::wire::fault::Fault;

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::Binary;
use crate::proxy::{Request, Response};

/// Type of a parameter that stands for the context of the call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the context of a call",
    label = "taken for the context, because of its name or of `#[arg(context)]`",
    note = "`#[arg(value)]` before a parameter says that its type only has the name `Context`"
)]
pub trait CallContext {
    /// Returns the context as this type.
    fn of(context: &Context) -> &Self;
}

impl CallContext for Context {
    fn of(context: &Context) -> &Self {
        context
    }
}

/// Handling of the parameters and results of type `T`.
///
/// Associated functions of this type have precedence over those of [`AnyType`], so that the compiler decides by the type, whatever
/// it is called, which of them generated code calls.
#[derive(Debug)]
pub struct ByType<T>(PhantomData<fn() -> T>);

/// Optional parameters.
impl<T> ByType<Option<T>> {
    /// Whether a request needs the parameter.
    pub const REQUIRED: bool = false;

    /// Returns whether a request leaves the parameter out if it is the last one.
    pub fn is_absent(value: &Option<T>) -> bool {
        value.is_none()
    }

    /// Returns the schema of the parameter.
    pub fn schema(schemas: &mut Schemas) -> Option<Value>
    where
        T: JsonSchema,
    {
        Some(schemas.of::<T>())
    }

    /// Takes the next parameter.
    ///
    /// # Errors
    ///
    /// -32602 if it is of another type.
    pub fn take(arguments: &mut Arguments) -> Result<Option<T>, Fault>
    where
        T: DeserializeOwned,
    {
        arguments.take_optional()
    }
}

/// Binary parameters and results.
impl ByType<Binary> {
    /// Returns no schema: the parameter is not JSON.
    pub fn schema(_: &mut Schemas) -> Option<Value> {
        None
    }

    /// Takes the next parameter.
    ///
    /// # Errors
    ///
    /// -32602 if it is missing or not binary.
    pub fn take(arguments: &mut Arguments) -> Result<Binary, Fault> {
        arguments.take_binary()
    }

    /// Sets the only parameter of a request.
    pub fn param(request: Request, value: Binary) -> Request {
        request.binary(value.0)
    }

    /// Returns no schema: the result is not JSON.
    pub fn result_schema(_: &mut Schemas) -> Option<Value> {
        None
    }

    /// Converts a result into an answer.
    ///
    /// # Errors
    ///
    /// None.
    pub fn answer(result: Binary) -> Result<Answer, Fault> {
        Ok(Answer::Binary(result.0))
    }

    /// Reads the result of a response.
    ///
    /// # Errors
    ///
    /// The object's own error, or the result is not binary.
    pub fn read(response: Response) -> Result<Binary, CallError> {
        response.bytes().map(Binary)
    }
}

/// Parameters and results of all other types.
pub trait AnyType<T> {
    /// Whether a request needs the parameter.
    const REQUIRED: bool = true;

    /// Returns whether a request leaves the parameter out if it is the last one.
    fn is_absent(_: &T) -> bool {
        false
    }

    /// Returns the schema of the parameter.
    fn schema(schemas: &mut Schemas) -> Option<Value>
    where
        T: JsonSchema,
    {
        Some(schemas.of::<T>())
    }

    /// Takes the next parameter.
    ///
    /// # Errors
    ///
    /// -32602 if it is missing or of another type.
    fn take(arguments: &mut Arguments) -> Result<T, Fault>
    where
        T: DeserializeOwned,
    {
        arguments.take()
    }

    /// Sets the only parameter of a request.
    fn param(request: Request, value: T) -> Request
    where
        T: Serialize,
    {
        request.params((value,))
    }

    /// Returns the schema of the result.
    fn result_schema(schemas: &mut Schemas) -> Option<Value>
    where
        T: JsonSchema,
    {
        Some(schemas.of::<T>())
    }

    /// Converts a result into an answer.
    ///
    /// # Errors
    ///
    /// -32603 if it cannot be serialized.
    fn answer(result: T) -> Result<Answer, Fault>
    where
        T: Serialize,
    {
        Answer::value(&result)
    }

    /// Reads the result of a response.
    ///
    /// # Errors
    ///
    /// The object's own error, or the result is of another type.
    fn read(response: Response) -> Result<T, CallError>
    where
        T: DeserializeOwned,
    {
        response.read()
    }
}

impl<T> AnyType<T> for ByType<T> {}
