//! Commands to the broker: publishes to topics below `$CONTROL`, which are carried out and not routed.

/// Reads the configuration file again. The payload means nothing.
pub(crate) const RELOAD: &str = "$CONTROL/rantai/reload";

/// Whether a topic is one of a command.
pub(crate) fn is_command(topic: &str) -> bool {
    topic == RELOAD
}
