use super::*;

const LIMITS: FrameLimits = FrameLimits { bytes: 1 << 20 };

/// Written by Pyro5 5.17: a proxy connects, with a correlation id.
const CONNECT_5: &str = "5059524f01f6010100400000000000450000000000112233445566778899aabbccddeeff00004dc5232073657270\
    656e74207574662d3820707974686f6e332e320a7b2768616e647368616b65273a2768656c6c6f272c276f626a656374273a2763616c6375\
    6c61746f72277d";
/// Written by Pyro5 5.17: `add(2, 3.5, c="x")`, with an annotation `ABCD`.
const INVOKE_5: &str = "5059524f01f6040100000007000000400000000a0000000000000000000000000000000000004dc54142434400000002\
    3132232073657270656e74207574662d3820707974686f6e332e320a282763616c63756c61746f72272c27616464272c28322c332e35292c\
    7b2763273a2778277d29";
/// Written by Pyro5 5.17 with `COMPRESSION`: `add("x" * 200)`.
const COMPRESSED_5: &str = "5059524f01f604010002000700000044000000000000000000000000000000000000000000004dc5785e5356284e2d\
    2a48cd2b51282d49d3b55028a82cc9c8cf33d633e2d2504f4ecc492ecd492cc92f52d7514f4c4951d7d150af1826405d4753c72f3f2f5513\
    0017a16f57";
/// Written by Pyro4 4.82: a proxy connects and asks for metadata.
const CONNECT_4: &str = "5059524f0030000100100000000000450001000000003570232073657270656e74207574662d3820707974686f6e33\
    2e320a7b2768616e647368616b65273a2768656c6c6f272c276f626a656374273a2763616c63756c61746f72277d";
/// Written by Pyro4 4.82 with the HMAC key `secret`: `add(2, 3.5)`, with a correlation id.
const INVOKE_4: &str = "5059524f003000040000000700000039000100300000358e434f52520010000102030405060708090a0b0c0d0e0f484d\
    414300146a629a5df3296624893b324e72eba7f916932409232073657270656e74207574662d3820707974686f6e332e320a282763616c63\
    756c61746f72272c27616464272c28322c332e35292c7b7d29";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"secret")
}

fn read(bytes: &[u8], key: Option<&hmac::Key>) -> Frame {
    let (frame, size) = Frame::read(bytes, LIMITS, key).expect("a frame").expect("complete");
    assert_eq!(size, bytes.len());
    frame
}

#[test]
fn frames_of_pyro5_are_read_and_written_as_pyro5_does() {
    let connect = read(&bytes(CONNECT_5), None);
    assert_eq!((connect.version, connect.kind, connect.serializer), (Version::Five, Kind::Connect, 1));
    assert_eq!(connect.correlation.expect("an id")[..3], [0x00, 0x11, 0x22]);
    assert!(connect.data.ends_with(b"{'handshake':'hello','object':'calculator'}"));
    assert_eq!(connect.write(None), bytes(CONNECT_5));
    let invoke = read(&bytes(INVOKE_5), None);
    assert_eq!((invoke.kind, invoke.sequence, invoke.correlation), (Kind::Invoke, 7, None));
    assert_eq!(invoke.annotation(*b"ABCD"), Some(&Bytes::from_static(b"12")));
    assert_eq!(invoke.write(None), bytes(INVOKE_5));
    let inflated = read(&bytes(COMPRESSED_5), None);
    assert!(
        inflated.data.ends_with(format!("('calculator','add',('{}',),None)", "x".repeat(200)).as_bytes())
    );
}

#[test]
fn frames_of_pyro4_are_read_and_written_as_pyro4_does() {
    let connect = read(&bytes(CONNECT_4), None);
    assert_eq!((connect.version, connect.kind), (Version::Four, Kind::Connect));
    assert!(connect.flags.has(Flags::META_ON_CONNECT));
    assert_eq!(connect.write(None), bytes(CONNECT_4));
    let invoke = read(&bytes(INVOKE_4), Some(&key()));
    assert_eq!(invoke.correlation.expect("an id")[..3], [0, 1, 2]);
    assert!(invoke.annotations.is_empty());
    assert_eq!(invoke.write(Some(&key())), bytes(INVOKE_4));
}

#[test]
fn digests_are_required_where_there_is_a_key_and_nowhere_else() {
    let refused =
        |hex: &str, key: Option<&hmac::Key>| Frame::read(&bytes(hex), LIMITS, key).expect_err("refused");
    assert!(matches!(refused(INVOKE_4, None), FrameError::UnexpectedDigest));
    assert!(matches!(refused(CONNECT_4, Some(&key())), FrameError::NoDigest));
    assert!(matches!(refused(CONNECT_5, Some(&key())), FrameError::NoDigest), "Pyro5 has no digests");
    let other = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"other");
    assert!(matches!(refused(INVOKE_4, Some(&other)), FrameError::Digest));
    let mut damaged = bytes(INVOKE_4);
    *damaged.last_mut().expect("not empty") ^= 1;
    assert!(matches!(Frame::read(&damaged, LIMITS, Some(&key())), Err(FrameError::Digest)));
}

#[test]
fn a_frame_is_complete_with_its_last_byte_and_wrong_with_its_first() {
    for (hex, key) in [(CONNECT_5, None), (INVOKE_5, None), (CONNECT_4, None), (INVOKE_4, Some(key()))] {
        let whole = bytes(hex);
        for end in 0..whole.len() {
            assert!(matches!(Frame::read(&whole[..end], LIMITS, key.as_ref()), Ok(None)), "{end}");
        }
        let mut two = whole.clone();
        two.extend_from_slice(b"PYRO");
        let (_, size) = Frame::read(&two, LIMITS, key.as_ref()).expect("a frame").expect("complete");
        assert_eq!(size, whole.len());
    }
    for wrong in [&b"G"[..], b"GET / HTTP/1.1", b"PYRx", b"\x16\x03"] {
        assert!(matches!(Frame::read(wrong, LIMITS, None), Err(FrameError::NotPyro)));
    }
    assert!(matches!(Frame::read(b"PYRO\x00\x31", LIMITS, None), Err(FrameError::Version(49))));
}

#[test]
fn frames_beyond_the_limits_are_refused_by_their_header() {
    let small = FrameLimits { bytes: 64 };
    for hex in [CONNECT_5, CONNECT_4] {
        let header = &bytes(hex)[..if hex == CONNECT_5 { 40 } else { 24 }];
        let error = Frame::read(header, small, None).expect_err("69 bytes");
        assert!(matches!(error, FrameError::TooLarge { size: 69, limit: 64 }), "{error}");
    }
    let error = Frame::read(&bytes(COMPRESSED_5), FrameLimits { bytes: 100 }, None).expect_err("inflated");
    assert!(matches!(error, FrameError::Compressed(100)), "{error}");
    let mut annotated = bytes(INVOKE_5);
    annotated[16..20].copy_from_slice(&(1_u32 << 17).to_be_bytes());
    assert!(matches!(Frame::read(&annotated, LIMITS, None), Err(FrameError::Annotations)));
}

#[test]
fn a_bomb_of_compressed_data_ends_at_the_limit() {
    let data = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 64 << 20], 9);
    let mut frame = read(&bytes(CONNECT_5), None);
    frame.data = data.into();
    frame.flags = Flags::COMPRESSED;
    assert!(matches!(Frame::read(&frame.write(None), LIMITS, None), Err(FrameError::Compressed(_))));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(11);
    let golden = [CONNECT_5, INVOKE_5, COMPRESSED_5, CONNECT_4, INVOKE_4].map(bytes);
    let key = key();
    let mut complete = 0;
    for _ in 0..100_000 {
        let mut frame = golden[random.usize(..golden.len())].clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..frame.len());
            frame[at] = random.u8(..);
        }
        frame.truncate(random.usize(..=frame.len()));
        let key = random.bool().then_some(&key);
        complete += usize::from(matches!(Frame::read(&frame, LIMITS, key), Ok(Some(_))));
    }
    assert!(complete > 0);
}
