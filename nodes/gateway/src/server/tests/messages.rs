//! Requests as bytes: the requirements of RFC 9112 on a server, and the end of refused uploads.

use std::time::Instant;

use super::*;

/// Sends bytes on a new connection, and returns all responses until the gateway closes it.
async fn answers(gateway: &Listening, bytes: &[u8]) -> String {
    let mut stream = gateway.connect().await;
    stream.write_all(bytes).await.expect("sent");
    // No more requests follow, so that a connection that is kept open ends too.
    stream.shutdown().await.expect("shut down");
    rest(stream).await
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]).collect()
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_what_follows_it_is_not_read() {
    let gateway = Listening::without_tls(Limits::default()).await;
    let next = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", "400"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "415"),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\nx", "417"),
        ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", "400"),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ] {
        let answer = answers(&gateway, format!("{request}{next}").as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{request:?}: {answer:?}");
    }
    let preface = answers(&gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(preface, "", "HTTP/2 is not spoken here");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(statuses(&answers(&gateway, many.as_bytes()).await), ["431"]);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD_BYTES));
    assert_eq!(statuses(&answers(&gateway, long.as_bytes()).await), ["431"]);
}

#[tokio::test]
async fn well_formed_requests_are_answered_one_after_the_other() {
    let gateway = Listening::without_tls(Limits::default()).await;
    let next = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (request, expected) in [
        (next, &["200", "200"][..]),
        ("GET http://localhost/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n", &["200", "200"]),
        ("\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &["200", "200"]),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", &["404", "200"]),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nz\r\n0\r\n\r\n",
            &["200", "200"],
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", &["200", "200"]),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &["200"]),
        ("GET / HTTP/1.0\r\n\r\n", &["200"]),
        // RFC 9112, 6.1: the length is ignored, and the connection is closed after the response.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &["200"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n",
            &["200"],
        ),
    ] {
        let answer = answers(&gateway, format!("{request}{next}").as_bytes()).await;
        assert_eq!(statuses(&answer), expected, "{request:?}: {answer:?}");
        assert_eq!(answer.matches("\r\ndate: ").count(), expected.len(), "{request:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_next_request_is_closed() {
    let gateway = Listening::without_tls(Limits { head_ms: 100, ..Limits::default() }).await;
    let mut stream = gateway.connect().await;
    assert!(ask(&mut stream).await.expect("answered").ends_with("served"));
    assert_eq!(rest(stream).await, "", "it says nothing more");
}

/// The client in this test keeps sending as fast as it can.
#[tokio::test]
async fn a_refused_upload_is_read_no_further_than_its_bound() {
    /// Maximum number of bytes sent, including those in the buffers of sockets and system.
    const MAX_SENT_BYTES: usize = 64 << 20;
    let gateway = Listening::without_tls(Limits::default()).await;
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
        "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n",
    ] {
        let mut stream = gateway.connect().await;
        stream.write_all(head.as_bytes()).await.expect("sent");
        let (piece, began) = (vec![b'x'; 64 << 10], Instant::now());
        let mut sent = 0;
        while sent < MAX_SENT_BYTES && began.elapsed() < PATIENCE && stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        assert!(sent < MAX_SENT_BYTES, "{head:?}: {sent} bytes were taken");
    }
}

/// Regression: closing a socket with unread bytes resets the connection, and the response was lost.
#[tokio::test]
async fn the_answer_to_a_refused_upload_arrives() {
    let gateway = Listening::without_tls(Limits { body_bytes: 1_000, ..Limits::default() }).await;
    let body = vec![b'x'; 700_000];
    for (path, status) in [("/", "413"), ("/nothing", "404")] {
        for _ in 0..20 {
            let mut stream = gateway.connect().await;
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.expect("sent");
            stream.write_all(&body).await.expect("taken");
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .expect("it ends")
                .expect("not taken back");
            assert_eq!(statuses(&String::from_utf8_lossy(&answer)), [status]);
        }
    }
}
