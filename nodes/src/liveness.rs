//! Checks whether the holder of a name still answers.
//!
//! A node that is lost together with its broker leaves the state `ready`, because nobody publishes its will.

use std::time::Duration;

use rantai_client::object::Calls;
use rantai_client::wire::entry::Entry;
use rantai_client::wire::fault::Code;
use rantai_client::wire::name::ClientId;
use rantai_client::{CallError, Proxy};

/// Time limit of a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns false if the holder answers `rpc.ping` neither at its node nor by its name within [`PING_TIMEOUT`]. A ping that cannot be
/// sent tells nothing, and counts as an answer.
pub(crate) async fn answers(calls: &Calls, holder: &Entry) -> bool {
    let Ok(node) = ClientId::new(&holder.node) else { return true };
    let Ok(proxy) = calls.object(&holder.object, PING_TIMEOUT).await else { return true };
    // Small devices may not serve requests by node.
    let (at_node, by_name) = tokio::join!(ping(proxy.clone().at(node)), ping(proxy));
    at_node || by_name
}

/// Returns false if one of several nodes that serve a name does not answer `rpc.ping` within [`PING_TIMEOUT`]: by the name another one
/// would. A ping that cannot be sent tells nothing, and counts as an answer.
pub(crate) async fn answers_at_node(calls: &Calls, replica: &Entry) -> bool {
    let Ok(node) = ClientId::new(&replica.node) else { return true };
    let Ok(proxy) = calls.object(&replica.object, PING_TIMEOUT).await else { return true };
    ping(proxy.at(node)).await
}

async fn ping(proxy: Proxy) -> bool {
    let fault = match proxy.request("rpc.ping").send().await {
        Ok(response) => match response.outcome {
            Ok(_) => return true,
            // Rantai's broker replies itself if nobody is subscribed.
            Err(fault) => fault,
        },
        Err(CallError::Fault(fault)) => fault,
        Err(_) => return true,
    };
    !matches!(fault.code, Code::EXPIRED | Code::TIMED_OUT | Code::UNKNOWN_OBJECT | Code::LOST_OBJECT)
}
