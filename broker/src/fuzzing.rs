//! Packet layer, made public for the fuzz targets in `fuzz/`.

use bytes::BytesMut;

use crate::codec::{self, Packet, Subscribe, Version};

/// Decodes `bytes` as packets of one client: first as CONNECT, then in both versions. Must not panic for any input, and
/// must consume every whole frame.
pub fn decode(bytes: &[u8]) {
    for version in [None, Some(Version::V3), Some(Version::V5)] {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(frame)) = codec::frame(&buffer, 1 << 20)
            && frame.length <= buffer.len()
        {
            let before = buffer.len();
            let result = codec::decode(frame, &mut buffer, version, 0, 8);
            assert_eq!(buffer.len(), before - frame.length, "a frame is used up whole");
            match result {
                Ok(
                    Packet::Subscribe(Subscribe { mut filters, .. })
                    | Packet::Unsubscribe { mut filters, .. },
                ) => {
                    while !filters.are_checked() && filters.check_some().is_ok() {}
                    filters.for_each(drop);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

/// Decodes `bytes` as those of a WebSocket client, in pieces of the size given by the first byte. Must not panic for
/// any input, and must give the same result as in one piece.
pub fn websocket(bytes: &[u8]) {
    if let Some((&piece, bytes)) = bytes.split_first() {
        crate::transport::any_bytes::check(bytes, piece.into());
    }
}
