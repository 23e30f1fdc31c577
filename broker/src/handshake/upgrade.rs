//! HTTP upgrade request of a WebSocket client, and its answer.

use std::net::{Shutdown, SocketAddr};

use bytes::BufMut;

use crate::config::WebSettings;
use crate::connection::linger;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::place::Place;
use crate::transport::{HttpRefusal, Transport, Web, answer_http};

/// Maximum size of a request's head, including cookies, in bytes.
const MAX_REQUEST_BYTES: usize = 8 << 10;
/// End of a request's head.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Answers a client's upgrade request. Returns false if it is refused or the client has closed the connection.
pub(super) async fn upgrade(
    hub: &Hub,
    transport: &Transport,
    (web, settings): (&Web, &WebSettings),
    address: SocketAddr,
    place: &mut Place,
) -> bool {
    let mut head = Vec::new();
    let answer = match receive(hub, transport, &mut head, place).await {
        Ok(()) => answer_http(&head, settings),
        Err(None) => return false,
        Err(Some(RequestError::TooLarge)) => Err(HttpRefusal::TOO_LARGE),
        Err(Some(RequestError::NotHttp(text))) => {
            note_refused(hub, address, text);
            return false;
        }
    };
    match answer {
        Ok(answer) => {
            let is_sent = send(transport, &answer).await;
            web.begin();
            is_sent
        }
        Err(refusal) => {
            note_refused(hub, address, refusal.logged);
            if send(transport, &refusal.encode()).await {
                transport.shutdown(Shutdown::Write);
                linger(transport).await;
            }
            false
        }
    }
}

/// Reason why a request was not read completely.
enum RequestError {
    TooLarge,
    /// The bytes are not an HTTP request; with a description for the log.
    NotHttp(&'static str),
}

/// Reads the head of a request. `Err(None)` means that the client has closed the connection.
async fn receive(
    hub: &Hub,
    transport: &Transport,
    head: &mut Vec<u8>,
    place: &mut Place,
) -> Result<(), Option<RequestError>> {
    loop {
        transport.readable().await.map_err(|_| None)?;
        let before = head.len();
        match transport.try_read(&mut (&mut *head).limit(MAX_REQUEST_BYTES - before)) {
            Ok(0) => return Err(None),
            Ok(count) => Counters::add(&hub.shared.counters.bytes_received, count as u64),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(None),
        }
        place.hold(head.len());
        match head[0] {
            b'A'..=b'Z' => {}
            0x10 => {
                return Err(Some(RequestError::NotHttp("MQTT without WebSocket on a WebSocket listener")));
            }
            0x16 => return Err(Some(RequestError::NotHttp("TLS on a WebSocket listener without it"))),
            _ => return Err(Some(RequestError::NotHttp("no HTTP request on a WebSocket listener"))),
        }
        // Only the new bytes are searched, so that a head in many pieces costs no more than one in a single piece.
        let searched = before.saturating_sub(END_OF_HEAD.len() - 1);
        if head[searched..].windows(END_OF_HEAD.len()).any(|window| window == END_OF_HEAD) {
            return Ok(());
        }
        if head.len() == MAX_REQUEST_BYTES {
            return Err(Some(RequestError::TooLarge));
        }
    }
}

/// Sends an answer, which fits into an empty send buffer. Returns false if the client has closed the connection.
async fn send(transport: &Transport, mut answer: &[u8]) -> bool {
    while !answer.is_empty() {
        if transport.writable().await.is_err() {
            return false;
        }
        match transport.try_write(answer) {
            Ok(count) => answer = &answer[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}

fn note_refused(hub: &Hub, address: SocketAddr, text: &str) {
    Counters::add(&hub.shared.counters.refused_web, 1);
    if hub.shared.may_log(&hub.shared.log_lines.refused) {
        tracing::info!(peer = %address, "refused: {text}");
    }
}
