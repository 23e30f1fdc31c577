//! An outbox over an in-memory stream that accepts a few bytes at a time.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, BytesMut};
use bytestring::ByteString;

use super::flushing::{FLUSH_BYTES, WRITE_BYTES};
use super::*;
use crate::clock::Clock;
use crate::codec::{Protocol, Version};
use crate::config::Config;
use crate::peer::Reach;
use crate::random::Random;

/// Source that appends a byte string each time it is asked, for a limited number of times.
#[derive(Debug)]
struct RepeatingSource {
    left: AtomicUsize,
    client_id: ByteString,
}

impl Refill for RepeatingSource {
    fn client_id(&self) -> &ByteString {
        &self.client_id
    }

    fn refill(self: Arc<Self>, link: &Arc<Link>, _: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        let mut dirty = Dirty::new();
        link.append(b"more ", &mut dirty);
        link.more(&mut dirty);
    }
}

fn link(capacity: usize, source: &Arc<RepeatingSource>, version: Version) -> (Arc<Link>, Transport) {
    let (ours, theirs) = Transport::pair(capacity);
    let peer = Peer {
        number: 0,
        address: ([127, 0, 0, 1], 1).into(),
        reach: Reach::Process,
        connected_at: 0,
        protocol: Protocol::Mqtt5,
        version,
        packet_maximum: 1000,
        receive_maximum: 10,
        alias_maximum: 0,
        problem_information: true,
        bridge: false,
    };
    let source: Weak<RepeatingSource> = Arc::downgrade(source);
    let shared = BrokerState::new(Config::default(), None, Clock::system(), Random::System);
    let link = Link::new(ours, source, (peer, Arc::default()), shared, b"hello ".to_vec());
    (link, theirs)
}

/// Reads until the end of the stream.
async fn read(end: &Transport) -> BytesMut {
    let mut all = BytesMut::new();
    loop {
        end.readable().await.expect("in memory");
        match end.try_read(&mut (&mut all).limit(7)) {
            Ok(0) => return all,
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[tokio::test]
async fn bytes_that_do_not_fit_are_written_later_and_in_order() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(3), client_id: "a".into() });
    let (link, end) = link(4, &source, Version::V3);
    let mut dirty = Dirty::new();
    link.append(&[b'x'; 100], &mut dirty);
    link.more(&mut dirty);
    assert_eq!(dirty.len(), 1, "listed once");
    flush_all(&mut dirty);
    assert!(!link.is_drained(), "four bytes fit");
    let reader = tokio::spawn(async move { read(&end).await });
    while source.left.load(Ordering::Relaxed) > 0 || !link.is_drained() {
        tokio::task::yield_now().await;
    }
    link.close(None);
    let mut read = reader.await.expect("read");
    assert_eq!(read.split_to(6), &b"hello "[..]);
    assert_eq!(read.split_to(100), &[b'x'; 100][..]);
    assert_eq!(read, &b"more more more "[..]);
}

/// Once, a large message for many readers was written in one turn, and other tasks waited until all had it.
#[tokio::test]
async fn a_large_message_for_many_is_written_in_turns() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let links: Vec<_> = (0..5).map(|_| link(4 << 20, &source, Version::V5)).collect();
    let mut dirty = Dirty::new();
    for (link, _) in &links {
        link.append(&vec![b'x'; FLUSH_BYTES / 2], &mut dirty);
    }
    for left in [3, 1, 0, 0] {
        flush_some(&mut dirty);
        assert_eq!(dirty.len(), left);
        let drained = links.iter().filter(|(link, _)| link.is_drained()).count();
        assert_eq!(drained, 5 - left, "those that are left are the ones listed last");
    }
}

/// Once, a small message to a thousand subscribers was written in one turn: a thousand system calls, which take some
/// ten milliseconds.
#[tokio::test]
async fn a_small_message_for_many_is_written_in_turns() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let at_once = FLUSH_BYTES / WRITE_BYTES;
    let links: Vec<_> = (0..=2 * at_once).map(|_| link(4 << 10, &source, Version::V5)).collect();
    let mut dirty = Dirty::new();
    for (link, _) in &links {
        link.append(b"x", &mut dirty);
    }
    for left in [at_once + 1, 1, 0] {
        flush_some(&mut dirty);
        assert_eq!(dirty.len(), left);
    }
}

#[tokio::test]
async fn a_closed_link_sends_its_reason_after_buffered_bytes() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, end) = link(1000, &source, Version::V5);
    link.close(Some(Reason::SERVER_BUSY));
    let mut dirty = Dirty::new();
    link.append(b"too late", &mut dirty);
    assert!(dirty.is_empty() && link.is_closing());
    let mut read = read(&end).await;
    read.advance(6);
    assert_eq!((read[0], read[2]), (0xe0, Reason::SERVER_BUSY.0), "DISCONNECT");
    assert_eq!(read.len(), 2 + usize::from(read[1]), "and nothing after it");
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_link() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, end) = link(4, &source, Version::V5);
    drop(end);
    link.flush();
    assert!(!std::future::poll_fn(|cx| link.poll_readable(cx)).await, "its reader is told of the end");
    assert!(link.is_closing() && !link.room());
}

#[tokio::test]
async fn a_client_is_not_read_until_it_reads_its_answers() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, end) = link(4, &source, Version::V3);
    let limit = link.shared.limits().answer_bytes;
    let mut dirty = Dirty::new();
    link.append(&vec![0; limit], &mut dirty);
    assert!(!link.answers_due(), "no more than the limit");
    link.append(&[0], &mut dirty);
    flush_all(&mut dirty);
    assert!(link.answers_due(), "four bytes are on their way, the others still to be taken");
    let reader = tokio::spawn(async move { read(&end).await });
    assert!(std::future::poll_fn(|cx| link.poll_answers_taken(cx)).await);
    link.close(None);
    assert_eq!(reader.await.expect("read").len(), 6 + limit + 1);
}

#[tokio::test]
async fn messages_do_not_count_as_answers() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, _end) = link(4, &source, Version::V3);
    let mut dirty = Dirty::new();
    let message = Message { topic: "t".into(), payload: vec![0; 900].into(), ..Message::default() };
    for _ in 0..=link.shared.limits().answer_bytes / 900 {
        link.append_publish(&message, Outgoing::default(), 0, None, &mut dirty);
    }
    assert!(!link.room() && !link.answers_due());
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_wait_for_answers() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, end) = link(4, &source, Version::V5);
    let mut dirty = Dirty::new();
    link.append(&vec![0; link.shared.limits().answer_bytes + 1], &mut dirty);
    flush_all(&mut dirty);
    drop(end);
    assert!(!std::future::poll_fn(|cx| link.poll_answers_taken(cx)).await);
}

#[tokio::test]
async fn a_client_that_reads_some_bytes_is_distinguished_from_one_that_reads_none() {
    let source = Arc::new(RepeatingSource { left: AtomicUsize::new(0), client_id: "a".into() });
    let (link, end) = link(4, &source, Version::V5);
    link.flush();
    tokio::task::yield_now().await;
    assert!(!link.has_taken(), "four bytes fit, and nobody has read them");
    assert_eq!(end.try_read(&mut (&mut BytesMut::new()).limit(2)).expect("bytes"), 2);
    while !link.has_taken() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert!(!link.has_taken(), "nothing since");
}
