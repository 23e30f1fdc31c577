//! `pages`: adds numbers of pages.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use serde::Deserialize;
use serde_json::{Number, Value};

use rantai_nodes::kind::{Building, Configured, Kind, Simple};

/// Adds numbers of pages.
#[interface(version = "1.0.0", tags("library"))]
pub trait Pages {
    /// Returns the sum of two numbers, or two texts concatenated.
    #[method(once)]
    async fn add(&self, x: Value, y: Value) -> Result<Value, Fault>;
}

/// Implementation of [`Pages`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

impl Pages for Counter {
    async fn add(&self, x: Value, y: Value) -> Result<Value, Fault> {
        match (x, y) {
            (Value::Number(x), Value::Number(y)) => sum(&x, &y).map(Value::Number),
            (Value::String(x), Value::String(y)) => Ok(Value::String(x + &y)),
            (Value::Number(_), _) => Err(Fault::wrong_parameter("y", "a number, as `x` is")),
            (Value::String(_), _) => Err(Fault::wrong_parameter("y", "a text, as `x` is")),
            _ => Err(Fault::wrong_parameter("x", "a number or a text")),
        }
    }
}

fn sum(x: &Number, y: &Number) -> Result<Number, Fault> {
    let too_large = || Fault::failed("out_of_range", "the sum is larger than any number");
    if let (Some(x), Some(y)) = (x.as_i128(), y.as_i128()) {
        return Number::from_i128(x + y).ok_or_else(too_large);
    }
    let sum = x.as_f64().zip(y.as_f64()).map(|(x, y)| x + y);
    sum.and_then(Number::from_f64).ok_or_else(too_large)
}

/// Settings of a counter of pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct PagesSettings(pub Simple);

impl Kind for PagesSettings {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        Ok(self.0.serve(building, PagesObject(Counter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn pages_add_sums_numbers_and_joins_texts() {
        for (x, y, expected) in [
            (json!(4), json!(120), json!(124)),
            (json!(4), json!(0.5), json!(4.5)),
            (json!("Kamu sudah membaca 4"), json!(" halaman"), json!("Kamu sudah membaca 4 halaman")),
            (json!(u64::MAX), json!(-1), json!(u64::MAX - 1)),
            (json!(""), json!(""), json!("")),
        ] {
            assert_eq!(Counter.add(x, y).await, Ok(expected));
        }
        for (x, y, path) in
            [(json!(4), json!("4"), "y"), (json!("4"), json!(4), "y"), (json!([]), json!(4), "x")]
        {
            assert_eq!(Counter.add(x, y).await.expect_err("mixed").data["path"], path);
        }
        assert!(Counter.add(json!(u64::MAX), json!(1)).await.is_err());
        assert!(Counter.add(json!(1.7e308), json!(1.7e308)).await.is_err());
    }
}
