//! `rantai bench call` and `chain`: repeated calls of one method.

use bytes::Bytes;
use rantai_client::session::QoS;
use rantai_client::{Client, Proxy};
use serde_json::{Value, json};

use super::load::{Measured, Ticket};
use super::options::{Options, Run, SIZE, Sending, text};
use super::report::Report;
use super::tally::{Done, Problem};
use crate::arguments;
use crate::exit::{Exit, Failure};

/// Call a method again and again
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench call                                   echo.echo with a text of 60 bytes
  rantai bench call calculator.add 2 3 --in-flight 1  the latency of one call at a time
  rantai bench call echo.echo --size 1024 --qos 0 --clients 16 --in-flight 16
  rantai bench call --rate 5000 --duration 30s        latencies at 5000 calls a second
")]
pub(super) struct Call {
    /// The object and its method, as in calculator.add
    #[arg(value_name = "OBJECT.METHOD", default_value = "echo.echo")]
    target: String,
    /// Parameters, as for `rantai call`
    #[arg(value_name = "ARGS", allow_negative_numbers = true, conflicts_with = "size")]
    arguments: Vec<String>,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    options: Options,
}

/// Send trips through a chain again and again
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench chain example.chainTopology.bandung          all the way round
  rantai bench chain example.chainTopology.bandung subang   as far as subang
")]
pub(super) struct Chain {
    /// The object the trips enter at
    #[arg(value_name = "OBJECT")]
    entry: String,
    /// The name of the link they end at; without it they go all the way round
    #[arg(value_name = "STOP", conflicts_with = "size")]
    stop: Option<String>,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    options: Options,
}

/// Call that is repeated.
#[derive(Clone, Debug)]
pub(super) struct Repeated {
    pub(super) object: String,
    pub(super) method: String,
    pub(super) payload: Bytes,
    qos: QoS,
}

impl Call {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { target, arguments, sending, options } = self;
        let repeated = Repeated::new(&target, &arguments, &sending)?;
        let run = options.begin()?;
        let report = repeated.report(&run, "call", target, &sending).await?;
        run.conclude(&report)
    }
}

impl Chain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { entry, stop, sending, options } = self;
        let stop = stop.unwrap_or_else(|| text(sending.size.unwrap_or(SIZE)));
        let repeated = Repeated {
            object: entry.clone(),
            method: "process".to_owned(),
            payload: json!([[stop]]).to_string().into(),
            qos: sending.qos(),
        };
        let run = options.begin()?;
        let report = repeated.report(&run, "chain", entry, &sending).await?;
        run.conclude(&report)
    }
}

impl Sending {
    pub(super) fn qos(&self) -> QoS {
        if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
    }
}

impl Repeated {
    /// Creates the call. Without arguments, the payload is a string of the given size; without a size it is empty, except for
    /// `echo.echo`.
    pub(super) fn new(target: &str, arguments: &[String], sending: &Sending) -> Result<Self, Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let (object, method) = arguments::target(target).map_err(usage)?;
        let payload = match sending.size.or_else(|| (target == "echo.echo").then_some(SIZE)) {
            Some(size) if arguments.is_empty() => Value::String(text(size)).to_string().into_bytes(),
            _ => arguments::payload(arguments).map_err(usage)?,
        };
        Ok(Self {
            object: object.to_owned(),
            method: method.to_owned(),
            payload: payload.into(),
            qos: sending.qos(),
        })
    }

    pub(super) async fn report(
        &self,
        run: &Run,
        bench: &'static str,
        what: String,
        sending: &Sending,
    ) -> Result<Report, Failure> {
        let clients = run.clients(sending.clients).await?;
        let in_flight = run.in_flight(64);
        let (measured, warmup_errors) = self.measure(run, &clients, in_flight).await?;
        let mut settings = run.settings(in_flight, sending.clients);
        settings.insert("qos".to_owned(), json!(sending.qos));
        settings.insert("size".to_owned(), json!(self.payload.len()));
        for client in clients {
            client.close().await;
        }
        Ok(Report {
            bench,
            what,
            broker: run.shown(),
            settings,
            measured,
            warmup_errors,
            figures: Vec::new(),
            times: Vec::new(),
        })
    }

    async fn measure(
        &self,
        run: &Run,
        clients: &[Client],
        in_flight: usize,
    ) -> Result<(Measured, u64), Failure> {
        let proxy = |client: &Client| client.object(&self.object).deadline(run.options.timeout).qos(self.qos);
        let proxies: Vec<Proxy> = clients.iter().map(proxy).collect();
        let workers = proxies.len() * in_flight;
        let Self { method, payload, .. } = self.clone();
        let call = move |ticket: Ticket| {
            let request = proxies[ticket.worker % proxies.len()].request(&method).payload(payload.clone());
            async move {
                let response = request.send().await?;
                match response.outcome {
                    Ok(_) => Ok(Done { node: response.node.map(Into::into), bytes: 0 }),
                    Err(fault) => Err(Problem::from(&*fault)),
                }
            }
        };
        run.measure(workers, || {}, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(target: &str, arguments: &[&str], size: Option<usize>) -> String {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let repeated = Repeated::new(target, &arguments, &Sending { clients: 1, size, qos: 1 });
        String::from_utf8(repeated.expect("in order").payload.to_vec()).expect("UTF-8")
    }

    #[test]
    fn payload_has_the_given_arguments_or_size() {
        assert_eq!(payload("echo.echo", &[], None), format!("\"{}\"", "x".repeat(60)));
        assert_eq!(payload("echo.echo", &[], Some(3)), "\"xxx\"");
        assert_eq!(payload("echo.echo", &["7"], None), "7");
        assert_eq!(payload("clock.checkout", &[], None), "", "it takes no parameters");
        assert_eq!(payload("server.welcomeMessage", &[], Some(2)), "\"xx\"");
        assert_eq!(payload("calculator.add", &["2", "3"], None), "[2,3]");
    }
}
