//! `rantai bench file`: fetches a file repeatedly.

use std::path::PathBuf;
use std::sync::Arc;

use rantai_client::error_chain;
use rantai_client::files::{FileError, Files};

use super::load::Ticket;
use super::options::{Options, Run};
use super::report::{Figure, Report};
use super::tally::{Done, Problem};
use crate::exit::{Exit, Failure};

/// Fetch a file of a shared folder again and again
///
/// Each time it is written to this host's disk, its digest checked and the disk synced, and then it is taken away.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai up --config library                             serves `books`
  rantai bench file books mytext.txt                     one after the other
  rantai bench file books big.bin --count 5 --warmup 0   five times
  rantai bench file books mytext.txt --in-flight 4       four at a time
")]
pub(super) struct File {
    /// The object that shares the folder
    #[arg(value_name = "OBJECT")]
    object: String,
    /// The file's path there
    #[arg(value_name = "PATH")]
    path: String,
    /// Where to write it [default: a folder for temporary files]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Connections that fetch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    #[command(flatten)]
    options: Options,
}

impl File {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let run = self.options.clone().begin()?;
        let report = self.measure(&run).await?;
        run.conclude(&report)
    }

    async fn measure(&self, run: &Run) -> Result<Report, Failure> {
        let folder = match &self.output {
            None => tempfile::tempdir(),
            Some(folder) => tempfile::tempdir_in(folder),
        };
        let folder = folder.map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        let clients = run.clients(self.clients).await?;
        let files: Vec<Files> = clients
            .iter()
            .map(|client| Files::new(client, &self.object).patience(run.options.timeout))
            .collect();
        let in_flight = run.in_flight(1);
        let workers = files.len() * in_flight;
        let wanted = Arc::new((files, self.path.clone(), folder.path().to_owned()));
        let fetch = move |Ticket { worker, .. }: Ticket| {
            let wanted = wanted.clone();
            async move {
                let (files, path, folder) = &*wanted;
                // A worker has one transfer at a time, so that its file name is unique.
                let target = folder.join(worker.to_string());
                let done = files[worker % files.len()].get(path, &target, &mut |_, _| {}).await;
                // A file that is left over is removed with the folder.
                let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(target)).await;
                done.map(|done| Done { node: None, bytes: done.size - done.resumed }).map_err(problem)
            }
        };
        let (measured, warmup_errors) = run.measure(workers, || {}, fetch).await?;
        for client in clients {
            client.close().await;
        }
        let mut report = Report {
            bench: "file",
            what: format!("{} {}", self.object, self.path),
            broker: run.shown(),
            settings: run.settings(in_flight, self.clients),
            measured,
            warmup_errors,
            figures: Vec::new(),
            times: Vec::new(),
        };
        let mib = report.measured.tally.bytes as f64 / f64::from(1 << 20);
        report.figures = vec![
            Figure { name: "mib", label: "MiB", value: mib },
            Figure { name: "mib_per_second", label: "  a second", value: report.per_second(mib) },
        ];
        Ok(report)
    }
}

fn problem(error: FileError) -> Problem {
    match error {
        FileError::Call(error) => error.into(),
        FileError::Disk { .. } => Problem::new("disk", error_chain(&error)),
        FileError::Busy(_) => Problem::new("busy_file", error.to_string()),
        FileError::Digest { .. } => Problem::new("wrong_digest", error.to_string()),
        _ => Problem::new("other", error.to_string()),
    }
}
