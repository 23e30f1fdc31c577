//! `rantai calc`: calls the calculator over MQTT, REST or SOAP.

use std::time::Instant;

use rantai_client::{CallError, Client};
use serde_json::json;

use crate::arguments::double;
use crate::connection::{Connection, log, note, print, print_json, run};
use crate::exit::{EXIT_CODES, Exit, Failure, of_code};

const EXAMPLES: &str = "\
Examples:
  rantai calc --op add -a 2 -b 3                add(2.0,3.0) = 5.0
  rantai up --config gateway                    serves it by every way
  rantai calc --op all -a 2 -b 3 --via rest
  rantai calc --op both -a 2 -b 3 --via soap --url http://localhost:8000
  rantai calc --op add -a 2 -b 3 --via rest --url https://pi.local:5151 --ca ca.pem
";

/// Operations that `all` runs, in order.
const ALL: [&str; 4] = ["add", "sub", "mul", "div"];

/// Calculate with the object `calculator`, directly or through a gateway.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub(crate) struct Calc {
    /// The operation; `both` is add and mul
    #[arg(long, value_name = "OP", value_parser = ["add", "sub", "mul", "div", "all", "both"])]
    op: String,
    /// The first number
    #[arg(short, value_name = "NUMBER", allow_negative_numbers = true, value_parser = double)]
    a: f64,
    /// The second number
    #[arg(short, value_name = "NUMBER", allow_negative_numbers = true, value_parser = double)]
    b: f64,
    /// The protocol of the calls
    #[cfg_attr(feature = "gateway", arg(long, value_name = "WAY", default_value = "mqtt"))]
    #[cfg_attr(not(feature = "gateway"), arg(skip))]
    via: Via,
    /// Where the gateway is, http:// or https://, with or without the path of the calculator; the ports of the built-in
    /// configuration `gateway` on this machine without it
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

/// Error of an operation: a code of the protocol used, the text of the error, and the exit code.
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
        // Time limit of all operations together.
        let end = Instant::now() + connection.timeout();
        match self.via {
            Via::Mqtt => run(async {
                let client = connection.client().await?;
                let mut result = Ok(());
                for op in operations {
                    result = result.and(
                        self.print_result(op, call(&client, &connection, end, op, [self.a, self.b]).await),
                    );
                }
                client.close().await;
                result
            }),
            #[cfg(feature = "gateway")]
            via => {
                let files = connection.broker.tls_files()?;
                let gateway = http::Gateway::new(via == Via::Soap, self.url.as_deref(), &files, end)?;
                let mut result = Ok(());
                for op in operations {
                    result = result.and(self.print_result(op, gateway.call(op, self.a, self.b)));
                }
                result
            }
        }
    }

    /// Prints a result or an error.
    fn print_result(&self, op: &str, result: Result<f64, Problem>) -> Result<(), Failure> {
        match result {
            Ok(result) if self.connection.json => {
                print_json(&json!({"op": op, "a": self.a, "b": self.b, "result": result}));
                Ok(())
            }
            Ok(result) => {
                let [a, b, result] = [self.a, self.b, result].map(format_number);
                print(&format!("{op}({a},{b}) = {result}"));
                Ok(())
            }
            Err(Problem { code, body, exit }) => {
                if self.connection.json {
                    let error = json!({"code": code, "message": body});
                    print_json(&json!({"op": op, "a": self.a, "b": self.b, "error": error}));
                }
                note(&format!("{op} error {code}: {body}"));
                Err(Failure::reported(exit))
            }
        }
    }
}

async fn call(
    client: &Client,
    connection: &Connection,
    end: Instant,
    op: &str,
    operands: [f64; 2],
) -> Result<f64, Problem> {
    let calculator =
        client.object("calculator").deadline(connection.timeout()).until(end.into()).idempotent();
    calculator.call(op, operands).await.map_err(|error: CallError| match error.code() {
        Some(code) => Problem { code: code.to_string(), body: error.to_string(), exit: of_code(code) },
        None => Problem { code: "-".to_owned(), body: error.to_string(), exit: Exit::Unreachable },
    })
}

/// Formats a number as the older clients do: always with a decimal point or an exponent, which has a sign and two digits.
fn format_number(number: f64) -> String {
    let written = format!("{number:?}");
    let Some((digits, exponent)) = written.split_once('e') else { return written };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, exponent) = (if exponent < 0 { '-' } else { '+' }, exponent.abs());
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    format!("{digits}e{sign}{exponent:02}")
}

#[cfg(feature = "gateway")]
mod http {
    use std::time::{Duration, Instant};

    use rantai_client::session::TlsFiles;
    use rantai_gateway::soap::client::{self, ResponseError};
    use rantai_tls::{CertificateDer, ClientTls};
    use serde_json::Value;
    use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

    use super::{Exit, Failure, Problem};
    use crate::tls::warn_of_open_key;

    /// Least time for a request; 0 would be none at all.
    const SHORTEST: Duration = Duration::from_millis(1);
    /// Maximum size of a response, in bytes.
    const MAX_RESPONSE_BYTES: u64 = 1 << 20;
    /// Namespace of the object `calculator` in its WSDL.
    const NAMESPACE: &str = "urn:rantai:calculator";

    /// Checks whether a URL has no path.
    fn is_base(url: &str) -> bool {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        !rest.contains(['/', '?'])
    }

    /// Checks whether the scheme of a URL is https.
    fn is_secure(url: &str) -> bool {
        url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
    }

    /// Creates the TLS configuration from these files.
    fn tls(files: &TlsFiles) -> Result<TlsConfig, Failure> {
        let unusable = |error: &dyn std::error::Error| Failure::from_error(Exit::Usage, error);
        // Checks that key and certificate match, which would be noticed too late otherwise.
        ClientTls::new(files, "localhost").map_err(|error| unusable(&error))?;
        let owned = |certificates: &[CertificateDer<'static>]| -> Vec<Certificate<'static>> {
            certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        };
        let roots = files.authorities().map_err(|error| unusable(&error))?;
        let mut config = TlsConfig::builder().root_certs(RootCerts::from(owned(&roots)));
        if let Some(identity) = files.identity().map_err(|error| unusable(&error))? {
            let file = files.key.as_ref().or(files.certificate.as_ref()).expect("an identity has files");
            let text = std::fs::read(file).map_err(|error| unusable(&error))?;
            let key = PrivateKey::from_pem(&text).map_err(|error| unusable(&error))?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&owned(&identity.chain), key)));
        }
        Ok(config.unversioned_rustls_crypto_provider(rantai_tls::provider()).build())
    }

    pub(super) struct Gateway {
        agent: ureq::Agent,
        url: String,
        soap: bool,
        /// End of the time limit.
        end: Instant,
        /// Whether the system's authorities are used.
        has_system_authorities: bool,
    }

    impl Gateway {
        pub(super) fn new(
            soap: bool,
            url: Option<&str>,
            files: &TlsFiles,
            end: Instant,
        ) -> Result<Self, Failure> {
            let known = if soap { "http://localhost:8000" } else { "http://localhost:5151" };
            let mut url = url.unwrap_or(known).trim_end_matches('/').to_owned();
            if soap && is_base(&url) {
                url.push_str("/calculator");
            }
            // Gateways do not redirect, and TLS may not be set up for the target of a redirect.
            let mut config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
            if is_secure(&url) {
                warn_of_open_key(files);
                config = config.tls_config(tls(files)?);
            }
            let has_system_authorities = files.ca.is_none();
            Ok(Self { agent: config.build().new_agent(), url, soap, end, has_system_authorities })
        }

        /// Returns what to do if there is no response.
        fn advice(&self, error: &ureq::Error) -> &'static str {
            let is_tls = is_secure(&self.url)
                && match error {
                    ureq::Error::Io(error) => error.get_ref().is_some(),
                    ureq::Error::Rustls(_) => true,
                    _ => false,
                };
            if is_tls && self.has_system_authorities {
                "; where its certificate is of an authority of your own, name that with --ca"
            } else {
                ""
            }
        }

        pub(super) fn call(&self, op: &str, a: f64, b: f64) -> Result<f64, Problem> {
            // Large numbers get an exponent or a fraction, as integers beyond ±2^53 are refused.
            let (a, b) = (format!("{a:?}"), format!("{b:?}"));
            let left = Some(self.end.saturating_duration_since(Instant::now()).max(SHORTEST));
            let answered = if self.soap {
                let body = client::request(NAMESPACE, op, &[("a", &a), ("b", &b)]);
                let request = self.agent.post(&self.url).config().timeout_global(left).build();
                let request = request.header("SOAPAction", format!("\"{op}\""));
                request.content_type("text/xml; charset=utf-8").send(body)
            } else {
                let request =
                    self.agent.get(format!("{}/{op}", self.url)).config().timeout_global(left).build();
                request.query("a", &a).query("b", &b).call()
            };
            let unreachable = |error: ureq::Error| {
                let exit =
                    if matches!(error, ureq::Error::Timeout(_)) { Exit::NoAnswer } else { Exit::Unreachable };
                let body = format!("{}: {error}{}", self.url, self.advice(&error));
                Problem { code: "-".to_owned(), body, exit }
            };
            let mut answer = answered.map_err(unreachable)?;
            let status = answer.status().as_u16();
            let text = answer
                .body_mut()
                .with_config()
                .limit(MAX_RESPONSE_BYTES)
                .read_to_string()
                .map_err(unreachable)?;
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
    fn numbers_are_formatted_as_by_the_older_clients() {
        for (number, text) in [
            (2.0, "2.0"),
            (-1.0, "-1.0"),
            (2.0 / 3.0, "0.6666666666666666"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (123_456_789.25, "123456789.25"),
        ] {
            assert_eq!(format_number(number), text);
        }
    }
}
