//! Strict parser of the fields of one packet.

use crate::primitive::variable_integer;

/// Violation of the standard by a packet of a server, as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

macro_rules! malformed {
    ($($text:tt)*) => {
        return Err($crate::reader::Malformed::new(format!($($text)*)))
    };
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            $crate::reader::malformed!($($text)*);
        }
    };
}

pub(crate) use {ensure, malformed};

/// Remaining bytes of one packet.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<Reader<'a>, Malformed> {
        self.slice(length).map(Reader::new)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let left = self.bytes.len();
        let Some((head, rest)) = self.bytes.split_at_checked(length) else {
            malformed!("a field of {length} bytes runs past the end of its packet ({left} left)");
        };
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.slice(N)?.try_into().expect("a slice has the length it was taken with"))
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes).to_vec()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<u8, Malformed> {
        let value = self.u8()?;
        ensure!(value <= 1, "a property that is 0 or 1 is {value}");
        Ok(value)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn binary(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = usize::from(self.u16()?);
        Ok(self.slice(length)?.to_vec())
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let Ok(text) = String::from_utf8(self.binary()?) else {
            malformed!("a string of the server is not UTF-8");
        };
        ensure!(!text.contains('\0'), "a string of the server has U+0000: {text:?}");
        Ok(text)
    }

    pub(crate) fn variable_integer(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let shortest = variable_integer(value).len() == index + 1;
                ensure!(shortest, "a variable byte integer is longer than it need be");
                return Ok(value);
            }
        }
        malformed!("a variable byte integer has more than four bytes");
    }

    pub(crate) fn packet_id(&mut self) -> Result<u16, Malformed> {
        let id = self.u16()?;
        ensure!(id != 0, "a packet identifier is zero");
        Ok(id)
    }
}
