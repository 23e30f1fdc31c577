//! Counters of the broker, for `$SYS` and for embedding programs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with its topic, its description and its value.
pub(crate) struct Counted {
    pub(crate) name: &'static str,
    /// Its topic below `$SYS/broker/`.
    pub(crate) topics: &'static [&'static str],
    /// Description, with a space at its beginning.
    pub(crate) help: &'static str,
    pub(crate) value: u64,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])* pub(crate) $name: AtomicU64,)*
        }

        /// Counters of a broker since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Returns every counter: its name, topic, description and value.
            pub(crate) fn each(&self) -> impl Iterator<Item = Counted> {
                [$(Counted {
                    name: stringify!($name),
                    topics: &[concat!("counters/", stringify!($name))],
                    help: concat!($($doc),*),
                    value: self.$name,
                },)*]
                .into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections
    /// Clients connected now.
    connected
    /// Maximum number of clients connected at the same time.
    connected_maximum
    /// Sessions ended because their Session Expiry Interval had passed.
    expired_sessions
    /// CONNECT packets refused, for any reason.
    refused_connections
    /// Connections refused because of `limits.connections`.
    refused_over_limit
    /// Connections refused because of `connections` of their listener.
    refused_listener
    /// WebSocket requests refused, or other bytes received in place of one.
    refused_web
    /// PUBLISH packets received.
    messages_received
    /// PUBLISH packets sent.
    messages_sent
    /// Bytes received.
    bytes_received
    /// Bytes sent.
    bytes_sent
    /// Connections ended for protocol errors of the client.
    protocol_errors
    /// Connections ended because no packet came within one and a half keep-alives.
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
    /// Clients disconnected because their queues overflowed: at once (`queue_full = "disconnect"`), or because they
    /// read nothing for `limits.slow_reader`. Also clients that read none of too many answers for that time.
    disconnected_slow
    /// QoS 1 and 2 messages refused because a queue was full, after the publisher had waited.
    refused_queue_full
    /// Times a publisher waited for a full queue.
    publisher_waits
    /// Times sending to a client was throttled because of `limits.total_in_flight_bytes`, until messages were
    /// acknowledged.
    in_flight_capped
    /// Messages refused by access rules.
    refused_access
    /// Subscriptions refused by access rules, or ended because the rules have changed.
    refused_access_filters
    /// Messages not sent to a client whose filter is wider than its read rights.
    withheld_access
    /// Connections refused because their client id, or its session, belongs to another client.
    refused_client_ids
    /// Times that users and rules were reread.
    reloads
    /// Replies refused because there was no request for them, or it was replied to before.
    refused_replies
    /// Requests refused because their caller already waits for its share of `limits.grants` replies, and requests sent
    /// without a grant.
    refused_grants
    /// Requests that no subscriber served, answered by the broker at once.
    unserved
    /// Retained messages refused because of `limits.retained` or `limits.retained_bytes`, or because memory was short.
    refused_retained
    /// Times a publisher or retained wills waited because of `limits.retained_bytes_per_s`.
    retained_paced
    /// Retained messages, subscriptions and connections refused because their owner, a user or an address, holds its
    /// share of a limit.
    refused_shares
    /// Messages not sent because they exceed the client's Maximum Packet Size.
    too_large
    /// Messages that expired before they were sent.
    expired
    /// Messages, subscriptions and sessions refused because the disk has failed or is nearly full.
    refused_store
    /// Clients disconnected because their acknowledgements had waited for a failed disk for `limits.disk_wait`.
    disconnected_store
    /// Connections closed because of `limits.connections_per_address` or `limits.handshakes_per_address`.
    refused_per_address
    /// Connections closed without a CONNECT because of `limits.handshakes`, or for lack of file descriptors.
    refused_handshakes
    /// TLS handshakes completed.
    tls_handshakes
    /// Connections whose TLS handshake failed, or whose client certificate is no longer valid.
    refused_tls
    /// Times a connection could not be accepted, for example for lack of file descriptors.
    accept_errors
    /// Connections ended because an unfinished packet fell behind `limits.packet_bytes_per_s`.
    slow_packets
    /// Times a client's socket was not read until the client had read its answers.
    unread_answers
    /// Passwords delayed because earlier ones were wrong.
    delayed_logins
    /// Passwords not tried because too many waited.
    refused_logins
    /// Passwords that the same client repeated after a failed login, refused without another check.
    repeated_logins
    /// Passwords not checked because `limits.password_queue` of them waited.
    busy_logins
    /// Hashes computed to check passwords.
    hashed_passwords
    /// Passwords accepted without computing their hash, as they were remembered.
    remembered_passwords
    /// Log lines dropped because of `limits.log_lines_per_s`.
    log_lines_left_out
    /// Turns that ended with retained messages still to be read for a client, so that other tasks could run.
    retained_turns
    /// Subscriptions refused because of `limits.subscriptions`, `subscription_bytes`, `total_subscription_bytes`,
    /// `share_groups` or `share_groups_session`, or because memory was short.
    refused_subscriptions
    /// Messages and wills refused, and connections ended or refused for other packets, because of
    /// `limits.user_properties`.
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
    /// Counts a client that has connected.
    pub(crate) fn add_connected(&self) {
        let connected = self.connected.fetch_add(1, Ordering::Relaxed) + 1;
        self.connected_maximum.fetch_max(connected, Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn sub(counter: &AtomicU64, amount: u64) {
        counter.fetch_sub(amount, Ordering::Relaxed);
    }
}
