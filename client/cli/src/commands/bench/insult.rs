//! `rantai bench insult`: measures the insult services on one worker, on two, and so on.

use super::options::{Options, Sending};
use super::replicas::Replicas;
use crate::exit::Failure;

/// The insult services on one node, on two, and so on
///
/// Starts the nodes itself, with one store for all of them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench insult                        InsultService.add_insult on 1, 2 and 3 nodes
  rantai bench insult --filter --count 1000  InsultFilterService.add_text, a thousand texts each
")]
pub(super) struct Insults {
    /// Send texts to be filtered instead of insults to be registered
    #[arg(long)]
    filter: bool,
    /// How many nodes serve it, one run after the other
    #[arg(long = "replicas", value_name = "N,…", value_delimiter = ',', default_value = "1,2,3",
          value_parser = clap::value_parser!(u8).range(1..=64))]
    counts: Vec<u8>,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    options: Options,
}

impl Insults {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (target, text) = if self.filter {
            ("InsultFilterService.add_text", "Eres un tonto, y tu vecino un bobo.")
        } else {
            ("InsultService.add_insult", "tonto")
        };
        let replicas = Replicas {
            target: target.to_owned(),
            arguments: vec![text.to_owned()],
            counts: self.counts,
            config: Some("insult".into()),
            with: Vec::new(),
            beside: vec!["InsultStore".to_owned()],
            sending: self.sending,
            options: self.options,
        };
        replicas.run().await
    }
}
