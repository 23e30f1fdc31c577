//! `rantai doctor` reports about strangers only what a stranger was allowed or refused.

use rantai_testing::{Authority, Layers, Tunnel};
use rmqtt_codec::v5::{ConnectAckReason, Packet};

use super::doctor::{Examined, broker_of, examine};
use super::doctor_faults::{Change, from_broker, proxy};
use super::users::users;

/// Examines, as an admin, a broker that keeps strangers out, with modified answers to strangers.
fn by_admin(change: Change) -> Examined {
    let (_broker, url) = broker_of(&users(&[("root", "roles = ['admin']")]));
    let url = proxy(&url, from_broker(change)).replace("mqtt://", "mqtt://root:root@");
    examine(&url, &["--trusted"])
}

fn refusing(mut packets: Vec<Packet>, reason: ConnectAckReason) -> Vec<Packet> {
    for packet in &mut packets {
        if let Packet::ConnectAck(answer) = packet
            && answer.reason_code == ConnectAckReason::NotAuthorized
        {
            answer.reason_code = reason;
        }
    }
    packets
}

#[test]
fn refusal_for_another_reason_is_not_reported_as_safe() {
    let changes: [(&str, Change); 5] = [
        ("busy, 0x89", |packets| refusing(packets, ConnectAckReason::ServerBusy)),
        ("banned, 0x8a", |packets| refusing(packets, ConnectAckReason::Banned)),
        ("quota exceeded, 0x97", |packets| refusing(packets, ConnectAckReason::QuotaExceeded)),
        ("unsupported version, 0x84", |packets| {
            refusing(packets, ConnectAckReason::UnsupportedProtocolVersion)
        }),
        ("use another server, 0x9c", |packets| refusing(packets, ConnectAckReason::UseAnotherServer)),
    ];
    for (text, change) in changes {
        let examined = by_admin(change);
        assert_eq!((examined.code, &examined.report["works"]), (2, &true.into()), "{examined:#?}");
        assert!(examined.report["open"].is_null(), "{examined:#?}");
        for (id, state) in examined.states("stranger-") {
            assert!(state == "unknown" && examined.items[id].1.contains(text), "{id}: {examined:#?}");
        }
    }
}

#[test]
fn stranger_counts_as_refused_only_while_users_are_accepted() {
    let examined = by_admin(|packets| {
        let is_refusal = |packet: &Packet| matches!(packet, Packet::ConnectAck(answer) if answer.reason_code == ConnectAckReason::NotAuthorized);
        packets.into_iter().filter(|packet| !is_refusal(packet)).collect()
    });
    assert_eq!(examined.code, 0, "{examined:#?}");
    for (id, state) in examined.states("stranger-") {
        let text = &examined.items[id].1;
        assert!(state == "ok" && text.contains("and user root is let in"), "{id}: {examined:#?}");
    }
}

#[test]
fn strangers_connect_without_the_client_certificate() {
    let (_broker, url) = broker_of("");
    let broker = url.trim_start_matches("mqtt://").parse().expect("an address");
    let authority = Authority::new("lab");
    let (server, client) = (authority.issue(&["localhost"]), authority.issue(&["ada"]));
    let tunnel = Tunnel::start(Layers::Tls(server.server(Some(&authority))), broker).expect("a tunnel");
    let url = format!("mqtts://localhost:{}", tunnel.port());
    let ca = authority.file();
    let [ca, certificate, key] =
        [&ca, &client.certificate, &client.key].map(|file| file.to_str().expect("a path"));
    let examined = examine(&url, &["--ca", ca, "--cert", certificate, "--key", key]);
    // The broker behind it accepts everybody with a certificate, and nobody else.
    assert_eq!(examined.code, 2, "{examined:#?}");
    for (id, state) in examined.states("stranger-") {
        let text = &examined.items[id].1;
        assert!(state == "ok" && text.contains("is not let in without a certificate"), "{id}: {examined:#?}");
    }
    assert_eq!(examined.state("user-everything"), "fails", "{examined:#?}");
    assert!(examined.items["user-everything"].1.starts_with("the user of the certificate"), "{examined:#?}");

    let examined = examine(&url, &["--ca", ca]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let text = &examined.items["reachable"].1;
    assert!(text.contains("a certificate; name yours with --cert and --key"), "{examined:#?}");
}

#[test]
fn hardened_broker_has_good_findings_only() {
    let config =
        format!("hardened = true\n{}", users(&[("root", "roles = ['admin']"), ("pi", "roles = ['node']")]));
    let (_broker, url) = broker_of(&config);
    for user in ["root", "pi"] {
        let url = url.replace("mqtt://", &format!("mqtt://{user}:{user}@"));
        let examined = examine(&url, &["--trusted"]);
        assert_eq!(examined.code, 0, "{examined:#?}");
        assert!(examined.states("").values().all(|state| *state == "ok"), "{examined:#?}");
    }
}
