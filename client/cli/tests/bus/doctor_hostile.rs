//! `rantai doctor` on servers that are not brokers, or are malicious: it ends in bounded time and memory, and its
//! report is true.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{ConnectAck, ConnectAckReason, Packet, PublishProperties};

use super::doctor::{Examined, examine};
use super::false_broker::{Peer, refusal, serve};
use super::process::{PATIENCE, finish, rantai};

/// Limit of the address space of an examination, in bytes.
const MEMORY: u64 = 1 << 30;

fn examine_soon(url: &str) -> Examined {
    let began = Instant::now();
    let examined = examine(url, &["--timeout", "2"]);
    assert!(began.elapsed() < 2 * PATIENCE, "{:?}: {examined:#?}", began.elapsed());
    examined
}

/// Returns the items about strangers that are reported as good.
fn safe(examined: &Examined) -> Vec<&str> {
    let items = examined.items.iter();
    items
        .filter(|(id, (state, _))| id.starts_with("stranger-") && state == "ok")
        .map(|(id, _)| &**id)
        .collect()
}

#[test]
fn broker_that_closes_every_connection_is_not_reported_as_safe() {
    let url = serve(|peer| peer.greet(ConnectAck::default()));
    let examined = examine_soon(&url);
    let (state, text) = &examined.items["reachable"];
    assert_eq!((examined.code, &**state), (1, "fails"), "{examined:#?}");
    assert!(text.starts_with("the broker ended the connection instead of sending "), "{text}");
    assert_eq!(safe(&examined), [""; 0], "{examined:#?}");
    assert_eq!(examined.items["stranger-everything"].0, "unknown", "{examined:#?}");
    assert_eq!((&examined.report["works"], examined.report["open"].is_null()), (&false.into(), true));
}

#[test]
fn broker_that_delivers_nothing_is_reported_as_unknown() {
    let url = serve(|peer| {
        peer.greet(ConnectAck::default())?;
        loop {
            let packet = peer.next()?;
            peer.acknowledge(packet)?;
        }
    });
    let examined = examine_soon(&url);
    assert_eq!(examined.code, 1, "{examined:#?}");
    assert!(examined.report["works"].is_null() && examined.report["open"].is_null(), "{examined:#?}");
    assert_eq!(examined.items["reachable"].0, "unknown", "{examined:#?}");
    for (id, (state, text)) in &examined.items {
        let expected: &[&str] = match &**id {
            // These depend on more than messages: the first connection is kept, and $SYS is empty.
            "stranger-client-id" | "stranger-sys" | "encryption" => &["ok"],
            "versions" | "no-subscribers" | "stranger-caller" => &["warning"],
            _ => &["unknown"],
        };
        assert!(expected.contains(&&**state), "{id}: {state} {text}");
    }
}

#[test]
fn missing_suback_is_distinguished_from_a_silent_broker() {
    let url = serve(|peer| {
        peer.greet(ConnectAck::default())?;
        loop {
            match peer.next()? {
                Packet::Subscribe(_) => {}
                packet => peer.acknowledge(packet)?,
            }
        }
    });
    let examined = examine_soon(&url);
    let text = &examined.items["reachable"].1;
    assert_eq!(examined.code, 1, "{examined:#?}");
    assert!(
        text.starts_with("a SUBACK did not come in time, though the broker answers a PINGREQ"),
        "{examined:#?}"
    );

    let url = serve(|peer| {
        peer.greet(ConnectAck::default())?;
        while peer.next().is_ok() {}
        Ok(())
    });
    let examined = examine_soon(&url);
    assert_eq!(examined.code, 1, "{examined:#?}");
    assert!(examined.items["reachable"].1.starts_with("a PUBACK did not come in time; "), "{examined:#?}");
}

/// Sends unsolicited messages until the connection ends.
fn flood(peer: &mut Peer) -> std::io::Result<()> {
    loop {
        peer.send(Packet::Publish(Box::new(Publish {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: "flood/of/messages".into(),
            packet_id: None,
            payload: vec![7; 64 << 10].into(),
            properties: Some(PublishProperties::default()),
        })))?;
    }
}

/// Runs the examination with a memory limit.
fn examine_in_bounds(url: &str) -> (i32, String) {
    let mut command = Command::new("/bin/sh");
    let script = format!("ulimit -v {}; exec \"$@\"", MEMORY >> 10);
    command.args(["-c", &script, "sh"]).arg(rantai().get_program());
    command.args(["doctor", url, "--timeout", "2", "--json"]).env_clear();
    let began = Instant::now();
    let done = finish(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()));
    assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
    (done.code, done.stdout)
}

#[test]
fn flood_of_messages_is_bounded_in_time_and_memory() {
    let url = serve(|peer| {
        peer.greet(ConnectAck::default())?;
        flood(peer)
    });
    let (code, report) = examine_in_bounds(&url);
    assert!(code == 1 && report.contains("did not come in time"), "{code} {report}");
}

#[test]
fn endless_packets_do_not_block_doctor() {
    for (greets, announced) in [(false, 0x20), (true, 0x30)] {
        let behaviour: super::false_broker::Behaviour = match (greets, announced) {
            (false, _) => |peer| {
                peer.next()?;
                trickle(peer, 0x20)
            },
            _ => |peer| {
                peer.greet(ConnectAck::default())?;
                trickle(peer, 0x30)
            },
        };
        let (code, report) = examine_in_bounds(&serve(behaviour));
        assert!(code == 1 && report.contains("a malformed packet: Max size exceeded"), "{code} {report}");
    }
}

/// Sends the beginning of a packet of the maximum size, and then one byte after the other.
fn trickle(peer: &mut Peer, first: u8) -> std::io::Result<()> {
    peer.stream.write_all(&[first, 0xff, 0xff, 0xff, 0x7f])?;
    loop {
        peer.stream.write_all(&[0])?;
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_broker_for_small_packets_only_is_not_sent_larger_ones() {
    let url = serve(|peer| {
        peer.greet(ConnectAck { max_packet_size: Some(20), ..ConnectAck::default() })?;
        loop {
            let packet = peer.next()?;
            peer.acknowledge(packet)?;
        }
    });
    let examined = examine_soon(&url);
    assert_eq!(examined.code, 1, "{examined:#?}");
    assert!(
        examined.items["reachable"].1.starts_with("it takes packets of 20 bytes at most"),
        "{examined:#?}"
    );
    // These two accept no larger packets.
    assert_eq!(safe(&examined), ["stranger-client-id", "stranger-sys"], "{examined:#?}");
}

#[test]
fn hanging_tls_handshake_costs_one_item_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    for scheme in ["mqtts", "wss", "ws"] {
        let url = format!("{scheme}://{}", silent.local_addr().expect("an address"));
        let examined = examine_soon(&url);
        assert_eq!((examined.code, examined.items.len()), (1, 1), "{examined:#?}");
        let text = &examined.items["reachable"].1;
        assert!(text.starts_with("a connection with ") && text.contains(" did not come in time"), "{text}");
    }
}

#[test]
fn control_characters_of_a_broker_are_escaped_by_doctor() {
    let url = serve(|peer| {
        peer.greet(ConnectAck {
            reason_string: Some(format!("\u{1b}[31mred\u{7}\u{202e}{}", "long ".repeat(5000)).into()),
            ..refusal(ConnectAckReason::NotAuthorized)
        })
    });
    for arguments in [&["--json"][..], &[]] {
        let done = finish(rantai().args(["doctor", &url, "--timeout", "2"]).args(arguments));
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stdout.contains("red"), "{done:?}");
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!done.stdout.contains(steers) && !done.stderr.contains(steers), "{done:?}");
        assert!(done.stdout.len() < 8000, "{done:?}");
    }
}

#[test]
fn server_redirection_is_reported_and_not_followed() {
    let url = serve(|peer| {
        peer.greet(ConnectAck {
            server_reference: Some("elsewhere.example:1883".into()),
            ..refusal(ConnectAckReason::UseAnotherServer)
        })
    });
    let examined = examine_soon(&url);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let text = &examined.items["reachable"].1;
    assert!(
        text.contains("use another server, 0x9c: it names elsewhere.example:1883")
            && text.contains("examine the broker that it names"),
        "{text}"
    );
    assert_eq!(safe(&examined), [""; 0], "{examined:#?}");
}
