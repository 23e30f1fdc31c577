//! The object `Pyro.Daemon`: metadata and streams.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::arguments::bind;
use crate::exception::Raised;
use crate::gateway::{GatewayState, Origin};
use crate::nameserver;
use crate::serializer::PyArguments;
use crate::value::PyValue;

/// Name of the object.
pub(crate) const NAME: &str = "Pyro.Daemon";
/// Its methods.
pub(crate) const METHODS: [&str; 6] =
    ["registered", "ping", "info", "get_metadata", "get_next_stream_item", "close_stream"];

/// Calls a method.
pub(crate) async fn call(
    gateway: &GatewayState,
    origin: &Origin,
    method: &str,
    arguments: PyArguments,
) -> Result<PyValue, Raised> {
    let text = |value: &PyValue| {
        let text = value.as_str().map(ToOwned::to_owned);
        text.ok_or_else(|| Raised::builtin("TypeError", format!("{method}() takes a text")))
    };
    match method {
        "ping" => bind(method, [], 0, arguments).map(|[]| PyValue::None),
        "registered" => {
            let [] = bind(method, [], 0, arguments)?;
            let served = gateway.catalog.served().await.into_keys();
            let names = [NAME, nameserver::NAME].map(ToOwned::to_owned).into_iter().chain(served);
            Ok(PyValue::List(names.map(PyValue::Str).collect()))
        }
        "info" => bind(method, [], 0, arguments).map(|[]| PyValue::Str(info(gateway, origin))),
        "get_metadata" => {
            // Pyro4 asks for lists instead of sets, which they are anyway.
            let [object, _] = bind(method, ["objectId", "as_lists"], 1, arguments)?;
            gateway.metadata(&text(&object)?).await
        }
        "get_next_stream_item" => {
            let [stream] = bind(method, ["streamId"], 1, arguments)?;
            gateway.streams.next(&text(&stream)?).await
        }
        "close_stream" => {
            let [stream] = bind(method, ["streamId"], 1, arguments)?;
            gateway.streams.close(&text(&stream)?);
            Ok(PyValue::None)
        }
        other => Err(unknown(NAME, other)),
    }
}

/// Creates the error of a method that one of the gateway's own objects does not have.
pub(crate) fn unknown(object: &str, method: &str) -> Raised {
    Raised::builtin("AttributeError", format!("object {object:?} has no method {method:?}"))
}

fn info(gateway: &GatewayState, origin: &Origin) -> String {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &gateway.counts;
    format!(
        "Rantai's gateway for Pyro on {}: {} connections, {} streams, {} calls, of which {} failed; refused: {} calls of busy \
         clients, {} connections, {} without TLS, {} malformed messages, {} late ones",
        origin.local,
        read(&counts.connections),
        gateway.streams.count(),
        read(&counts.calls),
        read(&counts.failed),
        gateway.refused.count(),
        read(&counts.turned_away),
        read(&counts.handshakes),
        read(&counts.malformed),
        read(&counts.too_slow),
    )
}
