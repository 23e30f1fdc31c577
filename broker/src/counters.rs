//! What the broker counts, for `$SYS` and for whoever embeds it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }

        /// What a broker has counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Every counter by name.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections
    /// Clients connected now.
    connected
    /// CONNECT packets refused, for whatever reason.
    refused_connections
    /// Connections refused because of `limits.connections`.
    refused_over_limit
    /// Connections refused because of `connections` of their listener.
    refused_listener
    /// Requests for a WebSocket refused, or something else sent in place of one.
    refused_web
    /// PUBLISH packets received.
    messages_received
    /// PUBLISH packets sent.
    messages_sent
    /// Bytes received.
    bytes_received
    /// Bytes sent.
    bytes_sent
    /// Connections ended for what the client sent.
    protocol_errors
    /// Connections ended because nothing came within one and a half keep-alives.
    keep_alive_timeouts
    /// Sessions taken over by a later connection of the same client id.
    taken_over
    /// QoS 0 messages dropped for slow readers.
    dropped_qos0
    /// QoS 1 and 2 messages dropped for one session whose queue was full.
    dropped_queue_full
    /// Queued messages dropped for absent sessions that held more than their share of `limits.absent_bytes` or
    /// `limits.absent_messages`.
    dropped_absent
    /// Clients disconnected because their queues overflowed: at once (`queue_full = "disconnect"`), or because they took
    /// nothing for `limits.slow_reader`. Also those that took nothing of too many answers for as long.
    disconnected_slow
    /// QoS 1 and 2 messages refused because a queue was full, after the publisher had waited.
    refused_queue_full
    /// Times a publisher waited for a full queue.
    publisher_waits
    /// Times little was sent to a client because of `limits.total_in_flight_bytes`, until messages were acknowledged.
    in_flight_capped
    /// Messages refused by access rules.
    refused_access
    /// Subscriptions refused by access rules, or ended because the rules have changed.
    refused_access_filters
    /// Messages not sent to a client whose filter is wider than what it may read.
    withheld_access
    /// Connections refused because their client id, or the session that it has, is somebody else's.
    refused_client_ids
    /// Times that users and rules were read again.
    reloads
    /// Replies refused because no request asked for them, or was replied to before.
    refused_replies
    /// Requests refused because whoever asks waits for its share of `limits.grants` replies, and those sent without a grant.
    refused_grants
    /// Requests that nobody took, and whose callers were told so at once.
    unserved
    /// Retained messages refused because of `limits.retained` or `limits.retained_bytes`, or because memory was short.
    refused_retained
    /// Times a publisher or retained wills waited because of `limits.retained_bytes_per_s`.
    retained_paced
    /// Retained messages and subscriptions refused because their owner, a user or an address, holds its share of what all may.
    refused_shares
    /// Messages not sent because they are above the client's Maximum Packet Size.
    too_large
    /// Messages that expired before they were sent.
    expired
    /// Messages, subscriptions and sessions refused because what must be kept cannot be written, or the disk is nearly full.
    refused_store
    /// Clients disconnected because their acknowledgements had waited for `limits.disk_wait` for a disk that did not work.
    disconnected_store
    /// Connections closed because of `limits.connections_per_address` or `limits.handshakes_per_address`.
    refused_per_address
    /// Connections closed without a CONNECT because of `limits.handshakes`, or for want of file descriptors.
    refused_handshakes
    /// Handshakes of TLS that came to their end.
    tls_handshakes
    /// Connections whose TLS handshake failed, or whose client certificate is not good any more.
    refused_tls
    /// Times a connection could not be accepted, for want of file descriptors for instance.
    accept_errors
    /// Connections ended because a packet that had begun fell behind `limits.packet_bytes_per_s`.
    slow_packets
    /// Times a client was not read until it had taken its answers.
    unread_answers
    /// Passwords that had to wait because others before them were wrong.
    delayed_logins
    /// Passwords that were not tried because too many waited.
    refused_logins
    /// Passwords of wrong logins that were repeated by the same client, and refused without another check.
    repeated_logins
    /// Passwords that were not checked because `limits.password_queue` of them waited.
    busy_logins
    /// Hashes that were computed to check passwords.
    hashed_passwords
    /// Passwords that were known to be right without computing their hash.
    remembered_passwords
    /// Log lines left out because of `limits.log_lines_per_s`.
    log_lines_left_out
    /// Turns that ended with retained messages still to be read for a client, so that others got theirs.
    retained_turns
    /// Subscriptions refused because of `limits.subscriptions`, `subscription_bytes`, `total_subscription_bytes`,
    /// `share_groups` or `share_groups_session`, or because memory was short.
    refused_subscriptions
    /// Messages and wills refused, and connections ended or refused for other packets, because of `limits.user_properties`.
    refused_properties
    /// Connections refused because of `limits.will_bytes`.
    refused_wills
    /// Connections refused because of `limits.sessions` or `limits.sessions_per_user`.
    refused_sessions
    /// Connections refused because memory was short.
    refused_memory
    /// QoS 0 messages dropped because memory was short.
    dropped_memory
    /// Clients disconnected because memory was short and they held most of it.
    disconnected_memory
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn sub(counter: &AtomicU64, amount: u64) {
        counter.fetch_sub(amount, Ordering::Relaxed);
    }
}
