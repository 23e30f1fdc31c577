//! Commands to the broker: publishes to topics below `$CONTROL`, which are executed and not routed.

/// Rereads the configuration file. The payload is ignored.
pub(crate) const RELOAD: &str = "$CONTROL/rantai/reload";

/// Topic that stands for the administration of the broker in access rules: who may write it may use the administrative
/// object. Nothing is published on it.
pub(crate) const ADMINISTRATION: &str = "$CONTROL/rantai/admin";

/// Checks whether a topic is that of a command.
pub(crate) fn is_command(topic: &str) -> bool {
    topic == RELOAD
}
