use std::io;

use super::*;
use crate::transport::{Socket, memory_pair};

/// Returns a frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(long).expect("a short frame").to_be_bytes());
        }
    }
    let mask = [0x11, 0x83, 0x5A, 0xFE];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Returns a WebSocket after its upgrade, and its client's end.
fn begun(capacity: usize) -> (Web, Socket) {
    let (ours, theirs) = memory_pair(capacity);
    let (ours, theirs) = (Socket::Memory(ours), Socket::Memory(theirs));
    let web = Web::new(Stream::Plain(ours));
    web.begin();
    (web, theirs)
}

fn read(web: &Web) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    web.try_read(&mut (&mut read).limit(64 << 10)).map(|_| read)
}

fn sent(client: &Socket) -> Vec<u8> {
    let mut sent = Vec::new();
    while client.try_read(&mut sent).is_ok_and(|count| count > 0) {}
    sent
}

fn is_blocked<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn payload_does_not_depend_on_the_sizes_of_frames_and_reads() {
    let payload: Vec<u8> = (0..1_000_u32).map(|number| (number % 251) as u8).collect();
    let mut stream = frame(0x02, &payload[..1]);
    stream.extend(frame(0x89, b"between two parts"));
    stream.extend(frame(0x00, &payload[1..400]));
    stream.extend(frame(0x80, &payload[400..403]));
    stream.extend(frame(0x82, &[]));
    stream.extend(frame(0x82, &payload[403..]));
    for piece in [1, 2, 3, 7, 64, stream.len()] {
        let (web, client) = begun(64 << 10);
        let mut got = Vec::new();
        for bytes in stream.chunks(piece) {
            assert_eq!(client.try_write(bytes).expect("room"), bytes.len());
            match read(&web) {
                Ok(bytes) => got.extend(bytes),
                error => assert!(is_blocked(&error), "{error:?}"),
            }
        }
        assert_eq!(got, payload, "in pieces of {piece}");
        assert_eq!(sent(&client), [&[0x8A, 17][..], b"between two parts"].concat());
    }
}

/// Once, a client had as many turns in a row as it sent frames for.
#[test]
fn a_read_that_fills_its_buffer_reports_that_there_may_be_more() {
    let (web, client) = begun(64 << 10);
    assert!(is_blocked(&read(&web)) && !web.may_have_more());
    for (first, payload) in [(0x8A, &[7; 100][..]), (0x82, &[7; 100])] {
        let frames = frame(first, payload).repeat(200);
        client.try_write(&frames).expect("room");
        assert_eq!(is_blocked(&read(&web)), first == 0x8A);
        assert!(web.may_have_more());
        while web.may_have_more() {
            assert_eq!(is_blocked(&read(&web)), first == 0x8A);
        }
        assert!(is_blocked(&read(&web)) && !web.may_have_more());
    }
}

#[test]
fn each_violation_is_reported_by_its_status_code() {
    let mut unmasked = frame(0x82, b"mqtt");
    unmasked[1] &= 0x7F;
    let mut endless = vec![0x82, 0xFF];
    endless.extend([0xFF; 12]);
    let cases = [
        (frame(0x81, b"text"), 1003),
        (unmasked, 1002),
        (endless, 1002),
        (frame(0xC2, b"compressed"), 1002),
        (frame(0x80, b"goes on with nothing"), 1002),
        ([frame(0x02, b"begins"), frame(0x82, b"begins again")].concat(), 1002),
        (frame(0x09, b"a ping in parts"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x83, b"unknown"), 1002),
        (frame(0x8B, b"unknown"), 1002),
        (frame(0x88, &[3]), 1002),
    ];
    for (bytes, code) in cases {
        let (web, client) = begun(64 << 10);
        client.try_write(&bytes).expect("room");
        let error = read(&web).expect_err("a violation");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        assert!(web.violation().is_some());
        assert!(read(&web).is_err(), "what follows is not read");
        web.shutdown(Shutdown::Write);
        let close = sent(&client);
        assert_eq!(close[..2], [0x88, 2]);
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{bytes:?}");
        client.try_write(&bytes).expect("room");
        assert!(is_blocked(&read(&web)), "read and forgotten: unread bytes would take back the close frame");
        assert!(
            client.try_write(&vec![0; 64 << 10]).is_ok_and(|count| count == 64 << 10),
            "there is room again"
        );
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_ends_the_stream() {
    for (status, code) in [(&[][..], 1000), (&[0x0B, 0xB8, b'!'], 3000), (&[0x03, 0xED], 1000)] {
        let (web, client) = begun(1 << 10);
        let bytes = [frame(0x82, b"last"), frame(0x88, status), frame(0x82, b"too late")].concat();
        client.try_write(&bytes).expect("room");
        assert_eq!(read(&web).expect("data"), b"last");
        assert_eq!(read(&web).expect("the end"), b"");
        assert!(web.try_write(&[io::IoSlice::new(b"x")]).is_err(), "nothing follows a close frame");
        web.shutdown(Shutdown::Write);
        assert_eq!(sent(&client), [&[0x88, 2][..], &u16::to_be_bytes(code)].concat());
    }
}

/// The client reads the same bytes whatever number the socket accepts at a time, with control frames between data
/// frames.
#[test]
fn frames_are_complete_when_the_socket_accepts_few_bytes() {
    for capacity in 1..40 {
        let (web, client) = begun(capacity);
        let payload: Vec<u8> = (0..200).collect();
        let (mut written, mut got, mut asked) = (0, Vec::new(), 0);
        while written < payload.len() || web.has_unsent() {
            // The client sends a ping in the middle of a frame.
            if capacity >= 7
                && asked < 3
                && client.try_write(&frame(0x89, b"?")).is_ok_and(|count| count == 7)
            {
                asked += 1;
                assert!(is_blocked(&read(&web)));
            }
            let end = payload.len().min(written + 150);
            let pieces = [io::IoSlice::new(&payload[written..end]), io::IoSlice::new(&payload[end..])];
            if written < payload.len() {
                match web.try_write(&pieces) {
                    Ok(count) => written += count,
                    error => assert!(is_blocked(&error), "{error:?}"),
                }
            } else {
                web.try_flush().expect("a stream");
            }
            got.extend(sent(&client));
        }
        web.shutdown(Shutdown::Write);
        while !web.try_flush().expect("a stream") {
            got.extend(sent(&client));
        }
        got.extend(sent(&client));
        let (mut data, mut answered) = (Vec::new(), 0);
        let mut rest = &got[..];
        while rest[0] != 0x88 {
            let (length, header) = match rest[1] {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                short => (usize::from(short), 2),
            };
            let payload = &rest[header..header + length];
            match rest[0] {
                0x82 => data.extend_from_slice(payload),
                0x8A => answered += 1,
                other => panic!("{other:x}"),
            }
            rest = &rest[header + length..];
        }
        assert_eq!(rest, [0x88, 2, 3, 0xE8]);
        assert_eq!(data, payload);
        assert!(answered <= asked && (answered > 0) == (asked > 0), "{answered} of {asked}");
    }
}

/// Seeded run of the fuzz target `websocket`: frames, most of them valid, with some bytes changed.
#[test]
fn arbitrary_bytes_give_the_same_result_in_any_pieces() {
    let mut state = 0x5EED_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 33) as usize % bound
    };
    for _ in 0..3_000 {
        let mut bytes = Vec::new();
        for _ in 0..below(6) {
            let first = [0x82, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88][below(7)];
            let length = [0, 1, 2, 125, 126, 300][below(6)];
            bytes.extend(frame(first, &vec![below(256) as u8; length]));
        }
        for _ in 0..below(4) {
            let at = below(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = below(256) as u8;
            }
        }
        any_bytes::check(&bytes, 1 + below(20));
    }
}
