//! `calculator`: arithmetic on two numbers.

use rantai_client::interface;
use rantai_client::wire::fault::Fault;
use serde::Deserialize;

use rantai_nodes::kind::{Building, Configured, Kind, Simple};

/// Arithmetic on two numbers.
#[interface(version = "1.0.0", tags("math"))]
pub trait Calculator {
    /// The sum of `a` and `b`.
    #[method(read_only)]
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault>;

    /// `a` less `b`.
    #[method(read_only)]
    async fn sub(&self, a: f64, b: f64) -> Result<f64, Fault>;

    /// The product of `a` and `b`.
    #[method(read_only)]
    async fn mul(&self, a: f64, b: f64) -> Result<f64, Fault>;

    /// `a` divided by `b`; fails with kind `division_by_zero`.
    #[method(read_only)]
    async fn div(&self, a: f64, b: f64) -> Result<f64, Fault>;
}

/// Calculator that computes with doubles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact;

impl Calculator for Exact {
    async fn add(&self, a: f64, b: f64) -> Result<f64, Fault> {
        finite(a + b)
    }

    async fn sub(&self, a: f64, b: f64) -> Result<f64, Fault> {
        finite(a - b)
    }

    async fn mul(&self, a: f64, b: f64) -> Result<f64, Fault> {
        finite(a * b)
    }

    async fn div(&self, a: f64, b: f64) -> Result<f64, Fault> {
        if b == 0.0 {
            return Err(Fault::failed("division_by_zero", "Division by zero"));
        }
        finite(a / b)
    }
}

/// Returns an error if the result is not finite, because JSON has no infinity.
fn finite(result: f64) -> Result<f64, Fault> {
    if result.is_finite() {
        Ok(result)
    } else {
        Err(Fault::failed("out_of_range", "the result is larger than any number"))
    }
}

/// Settings of a calculator.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct CalculatorSettings(pub Simple);

impl Kind for CalculatorSettings {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        Ok(self.0.serve(building, CalculatorObject(Exact)))
    }
}
