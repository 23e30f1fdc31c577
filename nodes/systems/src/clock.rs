//! `clock`: the time at which a book is checked out.

use chrono::{DateTime, Local, SecondsFormat};
use rantai_client::interface;
use rantai_client::object::Context;
use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use rantai_nodes::kind::Output;
use rantai_nodes::kind::{Building, Configured, Kind};

/// Proof of a checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// Message to the buyer.
    pub text: String,
    /// Time in RFC 3339.
    pub time: String,
}

/// Clock at the exit of the shop.
#[interface(version = "1.0.0", tags("library"))]
pub trait Clock {
    /// Checks a book out at the current time.
    async fn checkout(&self, context: Context) -> Result<Receipt, Fault>;
}

/// Implementation of [`Clock`] at the exit of the shop.
#[derive(Clone)]
pub struct Door {
    /// Message to the buyer; `{time}` is the time.
    pub text: String,
    /// Text printed here; `{caller}` is the caller.
    pub sold: String,
    /// Output of the printed text.
    pub output: Output,
}

impl Clock for Door {
    async fn checkout(&self, context: Context) -> Result<Receipt, Fault> {
        (self.output)(&self.sold.replace("{caller}", &context.caller_text()));
        Ok(receipt(&self.text, &Local::now()))
    }
}

/// Formats the receipt, with the time in the format of C's `ctime`, which the shop's customers expect.
fn receipt(text: &str, now: &DateTime<Local>) -> Receipt {
    let shown = now.format("%a %b %e %H:%M:%S %Y").to_string();
    Receipt { text: text.replace("{time}", &shown), time: now.to_rfc3339_opts(SecondsFormat::Secs, true) }
}

/// Settings of a checkout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Message to the buyer; `{time}` is the time.
    pub text: String,
    /// Text to print; `{caller}` is the caller.
    pub sold: String,
}

impl Kind for CheckoutSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let (text, sold, output) = (self.text.clone(), self.sold.clone(), building.output.clone());
        Ok(building.object(ClockObject(Door { text, sold, output })).replica(self.replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn receipt_has_the_time_in_both_formats() {
        let noon = Local.with_ymd_and_hms(2026, 3, 5, 12, 0, 1).single().expect("a time");
        let receipt = receipt("pada:{time}", &noon);
        assert_eq!(receipt.text, "pada:Thu Mar  5 12:00:01 2026");
        assert_eq!(DateTime::parse_from_rfc3339(&receipt.time).expect("RFC 3339"), noon);
    }
}
