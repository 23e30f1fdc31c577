//! Data types of MQTT packets (MQTT 5, 1.5).

/// Encodes a variable byte integer (MQTT 5, 1.5.5) in its shortest form.
pub fn variable_integer(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// Encodes a string: its length in two bytes, then the text.
pub fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Encodes binary data: its length in two bytes, then the bytes.
pub fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a test's string fits its length field");
    [length.to_be_bytes().as_slice(), bytes].concat()
}
