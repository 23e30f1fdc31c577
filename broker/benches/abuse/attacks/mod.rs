//! Attacks of hostile and careless clients, by name. The function of each describes its full size.

mod attacker;
mod connections;
mod feed;
mod filters;
mod floods;
mod packets;
mod rate;
mod readers;
mod retained;

use std::io;

pub(crate) use attacker::{Attacker, PASSWORD, USER};

/// One attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Description for the report.
    pub(crate) does: &'static str,
    /// Whether the attack also works with mosquitto, which lacks some features and users.
    pub(crate) on_mosquitto: bool,
    pub(crate) run: fn(&Attacker) -> io::Result<()>,
}

const fn attack(name: &'static str, run: fn(&Attacker) -> io::Result<()>, does: &'static str) -> Attack {
    Attack { name, does, on_mosquitto: true, run }
}

const fn ours_alone(name: &'static str, run: fn(&Attacker) -> io::Result<()>, does: &'static str) -> Attack {
    Attack { name, does, on_mosquitto: false, run }
}

/// All attacks, in the order of the report.
pub(crate) const ALL: [Attack; 49] = [
    attack(
        "forgotten-subscriber",
        readers::forgotten_subscriber,
        "a persistent subscriber of `#` at QoS 1 that is away; 20,000 messages/s of 100 B at QoS 1",
    ),
    attack(
        "forgotten-subscriber-large",
        readers::forgotten_subscriber_large,
        "the same with 20 messages/s of 1.9 MB",
    ),
    attack(
        "expiring-messages",
        readers::expiring_messages,
        "the same with 10,000 messages/s that expire after a second",
    ),
    attack(
        "never-reads",
        readers::never_reads,
        "a subscriber of `#` at QoS 1 that reads nothing; 10,000 messages/s",
    ),
    attack(
        "never-reads-qos0",
        readers::never_reads_qos0,
        "the same at QoS 0, with 10,000 messages/s of 1 kB",
    ),
    attack(
        "never-acknowledges",
        readers::never_acknowledges,
        "a subscriber of `#` with Receive Maximum 1 that acknowledges nothing; 20,000 messages/s",
    ),
    attack(
        "trickle-reader",
        readers::trickle_reader,
        "a subscriber of `#` that reads a byte a second; 10,000 messages/s",
    ),
    attack(
        "slow-onlooker",
        readers::slow_onlooker,
        "a subscriber of `#` that takes 1,000 messages/s of 5,000",
    ),
    attack(
        "group-member-never-acknowledges",
        readers::group_member_never_acknowledges,
        "one of two members of a shared group takes and never acknowledges; 2,000 requests/s",
    ),
    attack(
        "absent-group",
        readers::absent_group,
        "a shared group of `#` whose four members are away; 10,000 requests/s",
    ),
    attack(
        "pubrel-unread",
        floods::pubrel_unread,
        "8 MiB/s of PUBREL with unknown ids, whose answers are not read",
    ),
    attack("pingreq-unread", floods::pingreq_unread, "8 MiB/s of PINGREQ, whose answers are not read"),
    attack(
        "subscribe-unread",
        floods::subscribe_unread,
        "2 MiB/s of SUBSCRIBE to one filter, whose answers are not read",
    ),
    attack(
        "publish-unread",
        floods::publish_unread,
        "2 MiB/s of PUBLISH at QoS 1, whose answers are not read",
    ),
    attack("publish-storm-qos0", floods::publish_storm_qos0, "30,000 messages/s at QoS 0 for nobody"),
    attack("publish-storm-qos1", floods::publish_storm_qos1, "20,000 messages/s at QoS 1 for nobody"),
    attack("large-packets", floods::large_packets, "100 messages/s of 1.9 MB for nobody"),
    attack("fan-out", floods::fan_out, "20 messages/s to 1,000 subscribers of its own"),
    attack("qos2-unreleased", floods::qos2_unreleased, "2,000 messages/s at QoS 2, none of them released"),
    attack("alias-churn", floods::alias_churn, "200 topics/s of 60 kB, each under one of ten topic aliases"),
    attack(
        "user-properties",
        floods::user_properties,
        "8 messages/s of 2 MB with 390,000 empty user properties, for a subscriber that is away",
    ),
    attack(
        "random-bytes",
        floods::random_bytes,
        "300 connections/s with 512 random bytes, half of them after CONNECT",
    ),
    attack(
        "share-groups",
        filters::share_groups,
        "four clients with 10,000 shared groups on one filter each, closed again and again",
    ),
    attack("deep-filters", filters::deep_filters, "10,000 filters of 127 levels, closed again and again"),
    attack("many-filters", filters::many_filters, "10,000 filters, closed again and again"),
    attack(
        "overlapping-filters",
        filters::overlapping_filters,
        "1,024 filters that all match a topic; 2,000 messages/s on it",
    ),
    attack(
        "subscription-churn",
        filters::subscription_churn,
        "20,000 filters/s subscribed and unsubscribed again",
    ),
    attack("wildcard-churn", filters::wildcard_churn, "the same with filters of up to 100 wildcards"),
    attack(
        "own-values-churn",
        filters::own_values_churn,
        "the same with `$SYS/#`, whose values come each time",
    ),
    attack("retained-count", retained::retained_count, "10,000 new retained messages/s"),
    attack("retained-bytes", retained::retained_bytes, "10 new retained messages/s of 1.9 MB"),
    attack(
        "retained-churn",
        retained::retained_churn,
        "1,000 retained messages set and cleared, 10,000 times/s",
    ),
    attack(
        "retained-search",
        retained::retained_search,
        "4 SUBSCRIBE/s with 1,000 filters `+/+/+/+/+/nN` each, over 20,000 retained messages",
    ),
    attack(
        "retained-read-unread",
        retained::retained_read_unread,
        "20 SUBSCRIBE/s to `#` over 20,000 retained messages, which are not read",
    ),
    attack("connect-storm", connections::connect_storm, "1,000 connections/s that leave at once"),
    attack("reset-storm", connections::reset_storm, "500 connections/s that subscribe and are reset"),
    ours_alone("wrong-passwords", connections::wrong_passwords, "2,000 CONNECT/s with a wrong password"),
    ours_alone(
        "wrong-passwords-long-ids",
        connections::wrong_passwords_long_ids,
        "500 CONNECT/s with a wrong password and a client id of 65 kB with control characters",
    ),
    attack(
        "long-client-ids",
        connections::long_client_ids,
        "200 connections/s with a client id of 65 kB, held",
    ),
    attack(
        "half-open-connects",
        connections::half_open_connects,
        "2,000 connections with half a CONNECT, held",
    ),
    attack("idle-connections", connections::idle_connections, "4,000 connections, held"),
    attack(
        "trickle-writers",
        connections::trickle_writers,
        "500 clients that write an unfinished PUBLISH, a byte a second",
    ),
    attack("cut-packets", connections::cut_packets, "100 connections/s that end within a PUBLISH"),
    attack("will-storm", connections::will_storm, "500 clients/s that are reset, with a will of 10 kB"),
    attack(
        "delayed-wills",
        connections::delayed_wills,
        "500 persistent clients/s that are reset, whose wills of 10 kB are delayed beyond the attack",
    ),
    attack(
        "session-storm",
        connections::session_storm,
        "500 persistent sessions/s with a filter each, left behind",
    ),
    attack(
        "absent-sessions",
        connections::absent_sessions,
        "200 persistent sessions that are away; 200 messages/s of 1 kB for each of them",
    ),
    attack("takeover-war", connections::takeover_war, "1,000 connections/s with one client id"),
    attack(
        "resumption-storm",
        connections::resumption_storm,
        "a session with 5,000 messages resumed 50 times/s, nothing acknowledged",
    ),
];
