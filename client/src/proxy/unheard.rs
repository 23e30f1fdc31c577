//! Cancels calls whose future is dropped.

use tokio::time::Instant;

use super::{Proxy, Request};
use crate::session::Publish;
use crate::wire::name::{MethodName, ObjectName};
use crate::wire::request::head;
use crate::wire::topic::{CallTopic, Target};

/// Correlation of `rpc.cancel`, whose reply is ignored. Too short for an identity.
const CORRELATION: &[u8] = b"unheard";

/// Guard of a sent request. Dropping it before [`ends`](Self::ends) cancels the call at its node.
#[derive(Debug)]
pub(super) struct Unheard<'a> {
    request: &'a Request,
    object: &'a ObjectName,
    key: u128,
    deadline: Instant,
    is_waited_for: bool,
}

impl<'a> Unheard<'a> {
    /// Guards a request. One with an identity of its caller is not cancelled, because it may be repeated.
    pub(super) fn new(request: &'a Request, object: &'a ObjectName, key: u128, deadline: Instant) -> Self {
        Self { request, object, key, deadline, is_waited_for: request.identity.is_none() }
    }

    /// Disarms the guard.
    pub(super) fn ends(mut self) {
        self.is_waited_for = false;
    }
}

/// Builds `rpc.cancel` for the called node, or for all nodes if it is not known which one executes the call.
pub(super) fn cancellation(
    proxy: &Proxy,
    target: &Target,
    object: &ObjectName,
    key: u128,
    deadline: Instant,
) -> Option<Publish> {
    let left = deadline.saturating_duration_since(Instant::now());
    // At the deadline the node ends the call by itself.
    let ttl_ms = u64::try_from(left.as_millis()).ok().filter(|ttl_ms| *ttl_ms > 0)?;
    let root = proxy.client.root();
    let target = match target {
        Target::Node(node) => Target::Node(node.clone()),
        Target::Any | Target::All => Target::All,
    };
    let method = MethodName::new("rpc.cancel").ok();
    let topic = CallTopic { target, object: object.clone(), method };
    let (topic, properties) = head(root, &topic, proxy.reply_topic.clone(), CORRELATION, ttl_ms);
    Some(Publish {
        topic,
        payload: format!("[\"{key:032x}\",true]").into(),
        properties,
        // The QoS of the request, so that the cancellation does not overtake it.
        qos: proxy.settings.qos,
        retain: false,
        resend: false,
    })
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if self.is_waited_for
            && let proxy = &self.request.proxy
            && let target = &proxy.settings.target
            && let Some(cancellation) = cancellation(proxy, target, self.object, self.key, self.deadline)
        {
            // Without a connection the reply is lost, and the node detects that or ends the call at its deadline.
            let _ = self.request.proxy.client.outlet().send_now(cancellation, 0);
        }
    }
}
