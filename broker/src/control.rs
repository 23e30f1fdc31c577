//! Commands to the broker: publishes to topics below `$CONTROL`, which are executed and not routed.

/// Rereads the configuration file. The payload is ignored.
pub(crate) const RELOAD: &str = "$CONTROL/rantai/reload";

/// Checks whether a topic is that of a command.
pub(crate) fn is_command(topic: &str) -> bool {
    topic == RELOAD
}
