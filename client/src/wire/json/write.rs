//! Serialization as JSON that every reader parses exactly.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};
use smallvec::SmallVec;

use super::MAX_SAFE_INTEGER;
use crate::wire::compact;

/// Serializes a value as [`portable`](super::portable) converts it. A short result takes one allocation.
///
/// # Errors
///
/// The value has a map whose keys are not strings or numbers, or its own serialization fails.
pub fn to_bytes(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Bytes> {
    let mut written = SmallVec::<[u8; compact::INLINE]>::new();
    value.serialize(&mut Serializer::with_formatter(&mut written, Portable::default()))?;
    Ok(Bytes::from_owner(written))
}

/// Writes numbers as [`portable`](super::portable) converts them.
#[derive(Default)]
struct Portable {
    /// Whether a member name is written, which is a string already.
    is_in_name: bool,
}

impl Portable {
    fn write_integer<W: io::Write + ?Sized>(
        &self,
        writer: &mut W,
        integer: impl itoa::Integer,
        is_exact: bool,
    ) -> io::Result<()> {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(integer).as_bytes();
        if is_exact || self.is_in_name {
            return writer.write_all(text);
        }
        writer.write_all(b"\"")?;
        writer.write_all(text)?;
        writer.write_all(b"\"")
    }
}

impl Formatter for Portable {
    fn write_i64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.write_integer(writer, value, value.unsigned_abs() <= MAX_SAFE_INTEGER)
    }

    fn write_u64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.write_integer(writer, value, value <= MAX_SAFE_INTEGER)
    }

    fn write_i128<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: i128) -> io::Result<()> {
        self.write_integer(writer, value, value.unsigned_abs() <= MAX_SAFE_INTEGER.into())
    }

    fn write_u128<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: u128) -> io::Result<()> {
        self.write_integer(writer, value, value <= MAX_SAFE_INTEGER.into())
    }

    // Written as the double that readers convert it to.
    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, value.into())
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if !self.is_in_name && value.fract() == 0.0 && value.abs() <= MAX_SAFE_INTEGER as f64 {
            return self.write_i64(writer, value as i64);
        }
        CompactFormatter.write_f64(writer, value)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.is_in_name = true;
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_in_name = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::portable;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn through_value(value: &impl Serialize) -> Vec<u8> {
        let value = serde_json::to_value(value).expect("JSON");
        serde_json::to_vec(&portable(value)).expect("JSON")
    }

    #[test]
    fn writes_what_portable_makes_of_a_value() {
        let value = json!([
            9_007_199_254_740_991_u64, 9_007_199_254_740_992_u64, {"a": -9_007_199_254_740_992_i64, "b": [1.5, 5.0]},
            -0.0, 1e300, -7, null, true, "\"9007199254740993\"", "é\n", {}, [], u64::MAX, i64::MIN,
        ]);
        assert_eq!(
            to_bytes(&value).expect("JSON"),
            serde_json::to_vec(&portable(value.clone())).expect("JSON")
        );
        assert_eq!(to_bytes(&0.1_f32).expect("JSON"), through_value(&0.1_f32));
        assert_eq!(to_bytes(&f64::NAN).expect("JSON"), &b"null"[..]);
        assert_eq!(to_bytes(&(2.0, 3.0, "x")).expect("JSON"), &b"[2,3,\"x\"]"[..]);
        let names = BTreeMap::from([(u64::MAX, 1.0), (3, 2.5)]);
        assert_eq!(to_bytes(&names).expect("JSON"), r#"{"3":2.5,"18446744073709551615":1}"#.as_bytes());
        assert_eq!(to_bytes(&u128::MAX).expect("JSON"), format!("\"{}\"", u128::MAX).as_bytes());
        let refused = to_bytes(&BTreeMap::from([((1, 2), 3)])).expect_err("no name");
        assert!(refused.to_string().contains("key must be a string"), "{refused}");
    }

    #[test]
    fn random_numbers_are_written_as_portable_converts_them() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50_000 {
            let float = f64::from_bits(random.u64(..));
            let (integer, small) = (random.i64(..), random.i64(-1_000..1_000));
            let value = (float, integer, random.u64(..), small as f64, random.f64());
            let written = to_bytes(&value).expect("JSON");
            assert_eq!(written, through_value(&value), "{value:?}");
            assert!(serde_json::from_slice::<Value>(&written).is_ok());
        }
    }
}
