//! Nodes of a run: processes that serve the same objects, and end with it.

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

/// Time for a node to serve its objects: a contested name takes a second.
const STARTING: Duration = Duration::from_secs(30);
/// Time for a node to end in order, above the 10 s it gives its calls.
const ENDING: Duration = Duration::from_secs(15);
/// Lines of a node's log that are kept in case it does not start.
const KEPT: usize = 10;

/// What each of them serves.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    /// Objects of the configuration; all nodes serve each of them.
    pub(super) objects: Vec<String>,
    /// The configuration; that of the program without one.
    pub(super) config: Option<PathBuf>,
    /// Whether several may serve them.
    pub(super) replica: bool,
    pub(super) broker: Broker,
}

/// Processes that end in order when this is dropped; [`end`](Self::end) waits for it.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// As long as it is open the node goes on, and it is closed whatever becomes of this process.
    input: Option<ChildStdin>,
    log: Option<Lines<BufReader<ChildStderr>>>,
}

impl Nodes {
    /// Starts so many, and waits until each of them serves.
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
            let text = format!("a node did not serve {} within {STARTING:?}", serving.objects.join(", "));
            Err(Failure::new(Exit::Failed, text))
        };
        if let Err(failure) = timeout(STARTING, ready).await.unwrap_or_else(|_| late()) {
            nodes.end().await;
            return Err(failure);
        }
        Ok(nodes)
    }

    /// Ends them in order, so that nothing of them is left in the registry.
    pub(super) async fn end(mut self) {
        for node in &mut self.running {
            node.input = None;
        }
        for node in &mut self.running {
            if timeout(ENDING, node.child.wait()).await.is_err() {
                // Where even that fails there is nothing left to do.
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
            // What belongs to one node cannot belong to several.
            command.env_remove(name);
        }
        self.broker.hand_over(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C ends the load, and only then the nodes.
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let log = child.stderr.take().expect("piped");
        Ok(Running { input: child.stdin.take(), child, log: Some(BufReader::new(log).lines()) })
    }
}

impl Running {
    /// Waits until it serves every object.
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
            if said.len() > KEPT {
                said.pop_front();
            }
        }
        // Read on, as a full pipe would hold the node up.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(())
    }
}

/// Its own words, or else the last of its log.
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
    fn a_node_that_does_not_start_says_why() {
        let said = |lines: &[&str]| reason(&lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(said(&["serving a on node x", "error: no object \"b\"", "end"]), "no object \"b\"");
        assert_eq!(said(&["one", "two"]), "one; two");
    }
}
