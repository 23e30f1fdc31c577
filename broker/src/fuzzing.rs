//! The packet layer, opened to the fuzz targets in `fuzz/`.

use bytes::BytesMut;

use crate::codec::{self, Packet, Subscribe, Version};

/// Reads `bytes` as what one client sends: CONNECT first, then as both versions. Whatever comes, it must not
/// panic, and must use up every whole frame.
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

/// Reads `bytes` as what a WebSocket client sends, in pieces of as many bytes as the first one says. Whatever comes, it must
/// not panic, and must be read the same as in one piece.
pub fn websocket(bytes: &[u8]) {
    if let Some((&piece, bytes)) = bytes.split_first() {
        crate::transport::any_bytes::check(bytes, piece.into());
    }
}
