//! Conversion of CONNECTs of MQTT 3.1 and of bridges to MQTT 3.1.1.

use super::frame::Frame;
use super::properties::connect_length;
use super::protocol::Protocol;
use super::publish::put_variable_length;
use super::version::Version;

/// Converts a CONNECT of MQTT 3.1, or of a bridge, to MQTT 3.1.1.
pub(super) fn as_311(protocol: Protocol, frame: Frame, whole: &[u8]) -> (Frame, Vec<u8>) {
    let body = &whole[frame.header..];
    let mut plain = b"\x00\x04MQTT\x04".to_vec();
    plain.extend_from_slice(&body[if protocol == Protocol::Mqtt31 { 9 } else { 7 }..]);
    if protocol == Protocol::Mqtt31 {
        forget_absent_login(&mut plain);
    }
    let mut out = vec![frame.first];
    put_variable_length(&mut out, plain.len());
    let header = out.len();
    out.append(&mut plain);
    (Frame { first: frame.first, header, length: out.len() }, out)
}

/// Clears the flags of an absent user name or password: in MQTT 3.1 they may be set even if the packet ends before
/// these fields, and its length decides (MQTT 3.1, 3.1).
fn forget_absent_login(body: &mut [u8]) {
    const LOGIN: [(u8, bool, bool); 2] = [(0xC0, false, false), (0x40, true, false)];
    let Some(&flags) = body.get(7) else { return };
    let will = flags & 4 != 0;
    for (cleared, user, password) in LOGIN {
        let present = [will, user && flags & 0x80 != 0, password];
        if connect_length(body, Version::V3, present) == Some(body.len()) {
            body[7] = flags & !cleared;
            return;
        }
    }
}
