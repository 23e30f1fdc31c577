//! Connection for the calls that objects make.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::client::{Builder, Client};
use crate::error::CallError;
use crate::proxy::Proxy;
use crate::session::{Options, Status};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::Root;

/// Connection for the calls that objects make. Cheap to clone; all clones share one connection. The first call connects, and a
/// call after the session's end connects again.
///
/// A method that calls others while it serves a request uses [`Context::object`](super::Context::object) instead, which
/// passes deadline, trail and trace on.
#[derive(Clone, Default)]
pub struct Calls {
    shared: Arc<CallsState>,
}

#[derive(Default)]
struct CallsState {
    builder: OnceLock<Builder>,
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    /// Sets the broker and how to connect to it. Only the first call has an effect.
    pub fn bind(&self, builder: Builder) {
        let _ = self.shared.builder.set(builder);
    }

    /// Returns the options of a further session to the same broker as the same user, with a random client id that begins with
    /// `kind`, and the root of its topics; `None` before [`bind`](Self::bind).
    pub fn further_session(&self, kind: &str) -> Option<(Options, Root)> {
        self.shared.builder.get().map(|builder| builder.further_session(kind))
    }

    /// Returns a proxy of an object, with `time` as the deadline of each call. Waits for the connection for at most that time.
    ///
    /// # Errors
    ///
    /// -32005 (busy) if the broker cannot be reached within `time`.
    pub async fn object(&self, name: &str, time: Duration) -> Result<Proxy, Fault> {
        match timeout(time, self.client()).await {
            Ok(client) => Ok(client?.object(name).deadline(time)),
            Err(_) => Err(unreachable("the broker does not answer in time")),
        }
    }

    async fn client(&self) -> Result<Client, Fault> {
        let mut known = self.shared.client.lock().await;
        if let Some(client) = known.as_ref() {
            let status = client.status().borrow().clone();
            let Status::Ended(reason) = status else { return Ok(client.clone()) };
            tracing::warn!("the connection for the objects' own calls has ended: {reason}; making another");
        }
        let builder = self.shared.builder.get().ok_or_else(|| unreachable("nobody has said where"))?;
        let connected = builder.clone().connect().await;
        let client = connected.map_err(|error| unreachable(&error.to_string()))?;
        Ok(known.insert(client).clone())
    }
}

fn unreachable(reason: &str) -> Fault {
    Fault { message: format!("no call of its own can be made: {reason}"), ..Fault::busy(500) }
}

/// Converts the error of a nested call into the fault of the method that made it: the called object's own fault unchanged;
/// -32005 (busy), which names `object`, if it is not served or was not reached; -32000 with kind `outcome_unknown` if it may have
/// executed the call.
pub fn passed_on(object: &str, error: CallError) -> Fault {
    let unknown = |why: &dyn std::fmt::Display| {
        let text = format!("what came of a call of {object}, which this needs, is not known: {why}");
        Fault::failed("outcome_unknown", text)
    };
    match error {
        CallError::Lost => unknown(&error),
        CallError::Fault(fault) if fault.maybe_executed() => unknown(&fault.message),
        CallError::Fault(fault) => match fault.code {
            Code::UNKNOWN_OBJECT | Code::LOST_OBJECT => {
                Fault { message: format!("{object}, which this needs, is not served"), ..Fault::busy(500) }
            }
            _ => *fault,
        },
        error => Fault { message: format!("{object}, which this needs: {error}"), ..Fault::busy(500) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Address, Unsent};

    #[tokio::test]
    async fn nested_call_without_a_broker_is_answered_busy() {
        let calls = Calls::default();
        let second = Duration::from_secs(1);
        assert_eq!(calls.object("x", second).await.expect_err("unbound").code, Code::BUSY);
        // No broker listens on this port.
        calls.bind(Client::builder(Address::local(1)));
        assert_eq!(calls.object("x", second).await.expect_err("no broker").code, Code::BUSY);
    }

    #[test]
    fn fault_of_a_nested_call_is_passed_on_and_an_absent_object_is_named() {
        let away = passed_on("store", Fault::new(Code::UNKNOWN_OBJECT, "no object").into());
        assert!(away.code == Code::BUSY && away.message.contains("store") && away.is_retryable());
        let unsent = CallError::Unsent(Unsent::Offline);
        assert_eq!(passed_on("store", unsent).code, Code::BUSY);
        let lost = Fault::new(Code::LOST_OBJECT, "its node was lost").with_maybe_executed();
        for error in [CallError::Lost, lost.into()] {
            let fault = passed_on("store", error);
            assert_eq!((fault.code, fault.is_retryable()), (Code::FAILED, false));
            assert_eq!(fault.data["kind"], "outcome_unknown");
        }
        let full = Fault::failed("full", "no more");
        assert_eq!(passed_on("store", full.clone().into()), full);
    }
}
