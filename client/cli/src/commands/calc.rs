//! `rantai calc`: the calculator, over MQTT, REST or SOAP.

use rantai_client::{CallError, Client};

use crate::arguments::double;
use crate::connection::{Connection, log, note, print, run};
use crate::exit::{EXIT_CODES, Exit, Failure, of_code};

const EXAMPLES: &str = "\
Examples:
  rantai calc --op add -a 2 -b 3                add(2.0,3.0) = 5.0
  rantai up --config gateway                    serves it by every way
  rantai calc --op all -a 2 -b 3 --via rest
  rantai calc --op both -a 2 -b 3 --via soap --url http://localhost:8000
";

/// The operations in the order of `all`.
const ALL: [&str; 4] = ["add", "sub", "mul", "div"];

/// Calculate with the object `calculator`, directly or through a gateway.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Calc {
    /// Which operation; `both` is add and mul
    #[arg(long, value_name = "OP", value_parser = ["add", "sub", "mul", "div", "all", "both"])]
    op: String,
    /// The first number
    #[arg(short, value_name = "NUMBER", allow_negative_numbers = true, value_parser = double)]
    a: f64,
    /// The second number
    #[arg(short, value_name = "NUMBER", allow_negative_numbers = true, value_parser = double)]
    b: f64,
    /// By which way
    #[cfg_attr(feature = "gateway", arg(long, value_name = "WAY", default_value = "mqtt"))]
    #[cfg_attr(not(feature = "gateway"), arg(skip))]
    via: Via,
    /// Where the gateway is, with or without the path of the calculator; the ports of the built-in configuration
    /// `gateway` on this machine without it
    #[cfg(feature = "gateway")]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    #[default]
    Mqtt,
    #[cfg(feature = "gateway")]
    Rest,
    #[cfg(feature = "gateway")]
    Soap,
}

/// Why there is no result: a code of the way, what was said, and how the program ends.
struct Problem {
    code: String,
    body: String,
    exit: Exit,
}

impl Calc {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(tracing::Level::ERROR);
        let operations: Vec<&str> = match &*self.op {
            "all" => ALL.to_vec(),
            "both" => vec!["add", "mul"],
            one => vec![one],
        };
        let connection = self.connection.clone();
        match self.via {
            Via::Mqtt => run(async {
                let client = connection.client().await?;
                let mut result = Ok(());
                for op in operations {
                    result = result.and(self.told(op, call(&client, &connection, op, self.a, self.b).await));
                }
                client.close().await;
                result
            }),
            #[cfg(feature = "gateway")]
            via => {
                let gateway = http::Gateway::new(via == Via::Soap, self.url.as_deref(), connection.timeout());
                let mut result = Ok(());
                for op in operations {
                    result = result.and(self.told(op, gateway.call(op, self.a, self.b)));
                }
                result
            }
        }
    }

    /// Prints a result, or why there is none.
    fn told(&self, op: &str, result: Result<f64, Problem>) -> Result<(), Failure> {
        match result {
            Ok(result) => {
                let [a, b, result] = [self.a, self.b, result].map(shown);
                print(&format!("{op}({a},{b}) = {result}"));
                Ok(())
            }
            Err(Problem { code, body, exit }) => {
                note(&format!("{op} error {code}: {body}"));
                Err(Failure::told(exit))
            }
        }
    }
}

async fn call(client: &Client, connection: &Connection, op: &str, a: f64, b: f64) -> Result<f64, Problem> {
    let calculator = client.object("calculator").deadline(connection.timeout()).idempotent();
    calculator.call(op, (a, b)).await.map_err(|error: CallError| match error.code() {
        Some(code) => Problem { code: code.to_string(), body: error.to_string(), exit: of_code(code) },
        None => Problem { code: "-".to_owned(), body: error.to_string(), exit: Exit::Unreachable },
    })
}

/// A number as the older clients print it: always with a point or an exponent, which has a sign and two digits.
fn shown(number: f64) -> String {
    let written = format!("{number:?}");
    let Some((digits, exponent)) = written.split_once('e') else { return written };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, exponent) = (if exponent < 0 { '-' } else { '+' }, exponent.abs());
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    format!("{digits}e{sign}{exponent:02}")
}

#[cfg(feature = "gateway")]
mod http {
    use std::time::Duration;

    use rantai_gateway::soap::client::{self, ResponseError};
    use serde_json::Value;

    use super::{Exit, Problem};

    /// The largest answer, in bytes.
    const LARGEST: u64 = 1 << 20;
    /// What the service is called in the WSDL of the object `calculator`.
    const NAMESPACE: &str = "urn:rantai:calculator";

    /// Whether a URL names the gateway alone, and no path of it.
    fn is_base(url: &str) -> bool {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        !rest.contains(['/', '?'])
    }

    pub(super) struct Gateway {
        agent: ureq::Agent,
        url: String,
        soap: bool,
    }

    impl Gateway {
        pub(super) fn new(soap: bool, url: Option<&str>, timeout: Duration) -> Self {
            let known = if soap { "http://localhost:8000" } else { "http://localhost:5151" };
            let mut url = url.unwrap_or(known).trim_end_matches('/').to_owned();
            if soap && is_base(&url) {
                url.push_str("/calculator");
            }
            let config =
                ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false);
            Self { agent: config.build().new_agent(), url, soap }
        }

        pub(super) fn call(&self, op: &str, a: f64, b: f64) -> Result<f64, Problem> {
            // Large ones with an exponent or a fraction: integers beyond ±2^53 are refused.
            let (a, b) = (format!("{a:?}"), format!("{b:?}"));
            let answered = if self.soap {
                let body = client::request(NAMESPACE, op, &[("a", &a), ("b", &b)]);
                let request = self.agent.post(&self.url).header("SOAPAction", format!("\"{op}\""));
                request.content_type("text/xml; charset=utf-8").send(body)
            } else {
                self.agent.get(format!("{}/{op}", self.url)).query("a", &a).query("b", &b).call()
            };
            let unreachable = |error: ureq::Error| {
                let exit =
                    if matches!(error, ureq::Error::Timeout(_)) { Exit::NoAnswer } else { Exit::Unreachable };
                Problem { code: "-".to_owned(), body: format!("{}: {error}", self.url), exit }
            };
            let mut answer = answered.map_err(unreachable)?;
            let status = answer.status().as_u16();
            let text =
                answer.body_mut().with_config().limit(LARGEST).read_to_string().map_err(unreachable)?;
            let problem = |code: String, body: String| Problem { code, body, exit: Exit::Failed };
            let number = if self.soap {
                client::response(op, &text).map_err(|error| match error {
                    ResponseError::Fault { code, text } => problem(code, text),
                    error => problem(status.to_string(), error.to_string()),
                })?
            } else {
                let answer: Option<Value> = serde_json::from_str(&text).ok();
                let result = answer.filter(|_| status == 200).map(|answer| answer["result"].to_string());
                result.ok_or_else(|| problem(status.to_string(), text.trim().to_owned()))?
            };
            number.parse().map_err(|_| problem(status.to_string(), format!("{number:?} is no number")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_they_did() {
        for (number, text) in [
            (2.0, "2.0"),
            (-1.0, "-1.0"),
            (2.0 / 3.0, "0.6666666666666666"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (123_456_789.25, "123456789.25"),
        ] {
            assert_eq!(shown(number), text);
        }
    }
}
