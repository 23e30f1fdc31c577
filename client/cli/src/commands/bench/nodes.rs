//! Nodes of a run: child processes that serve the same objects, and end with the run.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rantai_client::client::{own_id, random_id};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use crate::connection::Broker;
use crate::exit::{Exit, Failure};

/// Time limit for a node to serve its objects: claiming a contested name takes a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a node to shut down; longer than the 10 s that it gives its calls.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Lines of a node's log that are kept in case it does not start.
const KEPT_LOG_LINES: usize = 10;

/// Objects that each node serves.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    /// Names of the objects; all nodes serve each of them.
    pub(super) objects: Vec<String>,
    /// Configuration file; `None` for the built-in one.
    pub(super) config: Option<PathBuf>,
    /// Whether the nodes serve the objects as replicas.
    pub(super) replica: bool,
    pub(super) broker: Broker,
}

/// Child processes, which shut down when this is dropped; [`end`](Self::end) waits for that.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The node shuts down when this is closed, which happens even if this process is killed.
    input: Option<ChildStdin>,
    log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Nodes {
    /// Starts `count` nodes, and waits until each serves its objects.
    pub(super) async fn start(serving: &Serving, count: usize) -> Result<Self, Failure> {
        let mut nodes = Self::default();
        for _ in 0..count {
            nodes.running.push(serving.start()?);
        }
        let ready = async {
            for node in &mut nodes.running {
                node.ready(&serving.objects).await?;
            }
            Ok(())
        };
        let late = || {
            let text =
                format!("a node did not serve {} within {START_TIMEOUT:?}", serving.objects.join(", "));
            Err(Failure::new(Exit::Failed, text))
        };
        if let Err(failure) = timeout(START_TIMEOUT, ready).await.unwrap_or_else(|_| late()) {
            nodes.end().await;
            return Err(failure);
        }
        Ok(nodes)
    }

    /// Shuts the nodes down and waits for it, so that no registry entries are left behind.
    pub(super) async fn end(mut self) {
        for node in &mut self.running {
            node.input = None;
        }
        for node in &mut self.running {
            if timeout(END_TIMEOUT, node.child.wait()).await.is_err() {
                // Nothing more can be done if killing fails.
                let _ = node.child.kill().await;
            }
        }
    }
}

impl Serving {
    fn start(&self) -> Result<Running, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot start a node: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        let name = own_id(self.broker.address()?.user(), random_id("replica"));
        command.args(["serve", "--quiet", "--while-input", "--node"]).arg(name.as_str());
        if self.replica {
            command.arg("--replica");
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(&self.objects);
        for name in ["RANTAI_NODE", "RANTAI_DATA_DIR"] {
            // The node's name and data folder belong to one node only.
            command.env_remove(name);
        }
        self.broker.hand_over(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A process group of its own: Ctrl-C must end the load before the nodes.
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let log = child.stderr.take().expect("piped");
        Ok(Running { input: child.stdin.take(), child, log: Some(BufReader::new(log).lines()) })
    }
}

impl Running {
    /// Waits until the node serves every object.
    async fn ready(&mut self, objects: &[String]) -> Result<(), Failure> {
        let mut log = self.log.take().expect("it has not been waited for");
        let mut left: Vec<String> =
            objects.iter().map(|object| format!("serving {object} on node ")).collect();
        let mut said = VecDeque::new();
        while !left.is_empty() {
            let Ok(Some(line)) = log.next_line().await else {
                return Err(Failure::new(Exit::Failed, format!("a node did not start: {}", reason(&said))));
            };
            left.retain(|wanted| !line.starts_with(wanted));
            said.push_back(line);
            if said.len() > KEPT_LOG_LINES {
                said.pop_front();
            }
        }
        // Keeps reading the log, as a full pipe would block the node.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(())
    }
}

/// Returns the error in a node's log, or else its last lines.
fn reason(said: &VecDeque<String>) -> String {
    match said.iter().find_map(|line| line.strip_prefix("error: ")) {
        Some(error) => error.to_owned(),
        None => said.iter().map(String::as_str).collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_node_that_does_not_start_is_reported() {
        let said = |lines: &[&str]| reason(&lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(said(&["serving a on node x", "error: no object \"b\"", "end"]), "no object \"b\"");
        assert_eq!(said(&["one", "two"]), "one; two");
    }
}
