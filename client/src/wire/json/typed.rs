//! Deserialization by the contract's rules for numbers: 5.0 is accepted as an integer, a string as an integer beyond
//! ±(2^53 − 1), and an integer as a floating-point number only if its value does not change.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

use super::MAX_SAFE_INTEGER;

/// Largest integer that is accepted as an `f64`: beyond it, some integers cannot be represented.
const LARGEST_DOUBLE: u128 = 1 << f64::MANTISSA_DIGITS;
/// Largest integer that is accepted as an `f32`.
const LARGEST_SINGLE: u128 = 1 << f32::MANTISSA_DIGITS;

/// Deserializes a value.
///
/// # Errors
///
/// The value is of another type; an integer is beyond ±2^53 for an `f64`, or beyond ±2^24 for an `f32`.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Typed(value))
}

struct Typed(Value);

impl Typed {
    /// Returns the value as an integer, if it is one by the rules of the contract.
    fn integer(&self) -> Option<i128> {
        match &self.0 {
            Value::Number(number) if number.is_f64() => {
                let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
                (float.abs() <= MAX_SAFE_INTEGER as f64).then_some(float as i128)
            }
            Value::Number(number) => number.as_i128(),
            Value::String(_) => self.large_integer(),
            _ => None,
        }
    }

    /// Returns an integer that is written as a string.
    fn large_integer(&self) -> Option<i128> {
        let digits = self
            .0
            .as_str()
            .filter(|text| text.starts_with(['-', '1', '2', '3', '4', '5', '6', '7', '8', '9']))?;
        digits.parse::<i128>().ok().filter(|integer| integer.unsigned_abs() > MAX_SAFE_INTEGER.into())
    }

    fn visit_integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Some(integer) = self.integer() else { return self.deserialize_any(visitor) };
        if let Ok(integer) = i64::try_from(integer) {
            visitor.visit_i64(integer)
        } else if let Ok(integer) = u64::try_from(integer) {
            visitor.visit_u64(integer)
        } else {
            visitor.visit_i128(integer)
        }
    }

    fn visit_float<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        largest: u128,
        expected: &str,
    ) -> Result<V::Value, Error> {
        let is_float = matches!(&self.0, Value::Number(number) if number.is_f64());
        match self.integer().filter(|_| !is_float) {
            None => self.deserialize_any(visitor),
            Some(integer) if integer.unsigned_abs() <= largest => visitor.visit_f64(integer as f64),
            Some(integer) => {
                let found = format!("integer `{integer}`");
                Err(Error::invalid_value(Unexpected::Other(&found), &expected))
            }
        }
    }
}

impl IntoDeserializer<'_, Error> for Typed {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

type Members = std::iter::Map<serde_json::map::IntoIter, fn((String, Value)) -> (String, Typed)>;

fn members<'de>(map: Map<String, Value>) -> MapDeserializer<'de, Members, Error> {
    let typed: fn((String, Value)) -> (String, Typed) = |(name, value)| (name, Typed(value));
    MapDeserializer::new(map.into_iter().map(typed))
}

impl<'de> Deserializer<'de> for Typed {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Typed));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(map) => {
                let mut members = members(map);
                let value = visitor.visit_map(&mut members)?;
                members.end()?;
                Ok(value)
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) if map.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(members(map)))
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_float(visitor, LARGEST_DOUBLE, "a number that a double holds: integers up to ±2^53")
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_float(
            visitor,
            LARGEST_SINGLE,
            "a number that a float of 32 bits holds: integers up to ±2^24",
        )
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_integer(visitor)
    }

    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        Plain,
        Of(i64),
        Pair(i64, f64),
        Named { n: u64 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Record {
        title: String,
        n: i64,
        x: Option<f64>,
    }

    fn refused<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> String {
        typed::<T>(value).expect_err("refused").to_string()
    }

    #[test]
    fn integers_are_read_in_every_form_of_the_contract() {
        for (value, expected) in [
            (json!(5), 5),
            (json!(5.0), 5),
            (json!(-3.0), -3),
            (json!("9007199254740993"), 9_007_199_254_740_993),
            (json!("-9223372036854775808"), i64::MIN),
        ] {
            assert_eq!(typed::<i64>(value.clone()).expect("an integer"), expected, "{value}");
        }
        for value in
            [json!(0.5), json!("5"), json!(1e17), json!("9223372036854775808"), json!("+9007199254740993")]
        {
            refused::<i64>(value);
        }
        assert_eq!(typed::<u64>(json!("18446744073709551615")).expect("64 bits"), u64::MAX);
        assert_eq!(typed::<u8>(json!(255.0)).expect("8 bits"), 255);
        assert_eq!(typed::<i128>(json!("18446744073709551616")).expect("128 bits"), 1 << 64);
    }

    #[test]
    fn no_integer_is_rounded_to_a_double() {
        for value in [json!(7), json!(9_007_199_254_740_992_u64), json!(1e300), json!(0.1)] {
            assert_eq!(typed::<f64>(value.clone()).ok(), value.as_f64(), "{value}");
        }
        assert_eq!(typed(json!("-9007199254740992")).ok(), Some(-9_007_199_254_740_992.0));
        for value in [
            json!(9_007_199_254_740_993_u64),
            json!(-9_007_199_254_740_993_i64),
            json!("9007199254740993"),
            json!("18446744073709551616"),
        ] {
            assert!(refused::<f64>(value).contains("integers up to ±2^53"));
        }
        assert!(refused::<f32>(json!(16_777_217)).contains("integers up to ±2^24"));
        assert!(refused::<Vec<f64>>(json!([1, 9_007_199_254_740_993_u64])).contains("2^53"));
        assert!(refused::<BTreeMap<String, f64>>(json!({"a": "9007199254740993"})).contains("2^53"));
    }

    #[test]
    fn numbers_nested_in_other_types_follow_the_same_rules() {
        let text = "9007199254740993";
        let record: Record = typed(json!({"title": text, "n": text, "x": 2})).expect("a record");
        assert_eq!(record, Record { title: text.to_owned(), n: 9_007_199_254_740_993, x: Some(2.0) });
        assert_eq!(typed::<Vec<i64>>(json!([1.0, text])).expect("a list"), [1, 9_007_199_254_740_993]);
        assert_eq!(typed::<(i64, f64)>(json!([1.0, 2])).expect("a pair"), (1, 2.0));
        for (value, expected) in [
            (json!("Plain"), Kind::Plain),
            (json!({"Of": text}), Kind::Of(9_007_199_254_740_993)),
            (json!({"Pair": [1.0, 2]}), Kind::Pair(1, 2.0)),
            (json!({"Named": {"n": 5.0}}), Kind::Named { n: 5 }),
        ] {
            assert_eq!(typed::<Kind>(value.clone()).expect("a kind"), expected, "{value}");
        }
        let value = json!({"a": [5.0, text, null, {"b": true}]});
        assert_eq!(typed::<Value>(value.clone()).expect("any value"), value);
    }
}
