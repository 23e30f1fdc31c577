//! Simulated nodes: the calls that they remember, their answers, and requests and answers that are lost, duplicated or
//! delayed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{CallError, Content, Response};
use serde_json::json;
use uuid::Uuid;

use super::fake::{CallResult, NODES, ONCE, SECRET};
use super::world::{Event, World};
use crate::task::Task;

/// Maximum delay of a request or an answer, in milliseconds.
const MAX_DELAY_MS: u64 = 300;
/// Maximum additional delay of an answer's duplicate, in milliseconds.
const MAX_ECHO_MS: u64 = 30_000;
/// Size of a large result, in bytes.
const LARGE_RESULT_BYTES: usize = 3_000;

pub(super) type Outcome = Result<Content, Box<Fault>>;

/// Node, which serves all objects.
#[derive(Debug)]
pub(super) struct FakeNode {
    /// Whether requests and answers are transmitted.
    is_reachable: bool,
    /// Number of starts so far.
    start: u64,
    remembered: BTreeMap<Uuid, Memory>,
}

/// State of a call at a node.
#[derive(Clone, Debug)]
enum Memory {
    /// Running, since this start of the node.
    Working {
        start: u64,
        is_once: bool,
    },
    Done {
        outcome: Outcome,
        is_once: bool,
    },
}

impl Default for FakeNode {
    fn default() -> Self {
        Self { is_reachable: true, start: 1, remembered: BTreeMap::new() }
    }
}

impl FakeNode {
    /// Restarts the node after a kill: only its records of methods marked `once` are on disk.
    fn restart(&mut self) {
        self.start += 1;
        self.remembered.retain(|_, memory| match memory {
            Memory::Working { is_once, .. } | Memory::Done { is_once, .. } => *is_once,
        });
    }
}

impl World {
    fn node(&mut self, node: &str) -> &mut FakeNode {
        self.nodes.get_mut(node).expect("a node")
    }

    fn delay(&self) -> u64 {
        self.now() + 1 + self.below(MAX_DELAY_MS)
    }

    /// Sends the request of a call, and schedules its time limit.
    pub(super) fn send_request(&mut self, number: u64, task: Task) {
        let named = task.node.as_deref();
        let node = NODES.into_iter().find(|node| Some(*node) == named).expect("a node of these");
        let deadline = self.now() + task.options.timeout_ms;
        self.plan(self.delay(), Event::Request { node, task: Box::new(task) });
        let fault = Fault::new(Code::TIMED_OUT, "its time is over").with_maybe_executed();
        self.plan(deadline, Event::GiveUp { number, answer: Err(fault.into()) });
    }

    pub(super) async fn happen(&mut self, event: Event) {
        match event {
            Event::Request { node, task } => self.request_comes(node, task),
            Event::Done { node, start, task } => self.method_ends(node, start, &task),
            Event::Answer { identity, answer } => {
                let number = self.objects.state.lock().waiting_for(identity);
                match number {
                    Some(number) => self.finish(number, answer).await,
                    None => self.record.reached("an answer comes that nobody waits for any more"),
                }
            }
            Event::GiveUp { number, answer } => {
                self.record.reached("a call is given up, and nobody knows what came of it");
                self.finish(number, answer).await;
            }
            Event::NodeGone(node) => self.node_goes(node).await,
            Event::NodeBack(node) => self.node_comes_back(node),
            Event::Crash => {
                self.record.reached("the ledger is killed");
                self.restart().await;
            }
        }
    }

    /// Handles the arrival of a request at a node.
    fn request_comes(&mut self, node: &'static str, task: Box<Task>) {
        let (identity, is_once) = (task.identity(), task.object == ONCE);
        let there = self.node(node);
        let (start, known) = (there.start, there.remembered.get(&identity).cloned());
        if !there.is_reachable {
            return self.record.reached("a request is lost with its node");
        }
        match known {
            Some(Memory::Done { outcome, .. }) => {
                self.record.reached("a node recognises a call that it has carried out");
                self.answer_with(node, &task, outcome, true);
            }
            Some(Memory::Working { start: begun, .. }) if begun == start => {
                self.record.reached("a node recognises a call that it is carrying out");
            }
            Some(Memory::Working { .. }) => {
                self.record.reached("a node does not know what came of a call that it was killed in");
                let unknown = Fault::failed("outcome_unknown", "the node ended meanwhile");
                self.answer_with(node, &task, Err(Box::new(unknown)), true);
            }
            None if self.happens(self.odds.busy) => {
                self.record.reached("a node is busy");
                let busy = Fault::busy(300);
                let busy = if self.happens(50) {
                    Err(busy.into())
                } else {
                    Ok(answer(node, &task, Err(Box::new(busy)), false))
                };
                self.plan(self.delay(), Event::Answer { identity, answer: busy });
            }
            None => {
                self.promises.carried_out(&task);
                self.node(node).remembered.insert(identity, Memory::Working { start, is_once });
                let end = self.now() + 1 + self.below(self.odds.longest_run_ms);
                self.plan(end, Event::Done { node, start, task });
            }
        }
    }

    /// Handles the end of a method.
    fn method_ends(&mut self, node: &'static str, start: u64, task: &Task) {
        if self.node(node).start != start {
            return self.record.reached("a node is killed while it carries out a call");
        }
        let outcome =
            if self.happens(self.odds.fails) { Err(Box::new(self.failure())) } else { Ok(self.result(task)) };
        let done = Memory::Done { outcome: outcome.clone(), is_once: task.object == ONCE };
        self.node(node).remembered.insert(task.identity(), done);
        if self.node(node).is_reachable {
            self.answer_with(node, task, outcome, false);
        } else {
            self.record.reached("an answer is lost with its node");
        }
    }

    fn failure(&self) -> Fault {
        match self.below(5) {
            0 => Fault::wrong_parameter("params[0]", "another number"),
            1 => Fault::new(Code::BROKEN_OBJECT, "it panicked"),
            _ => Fault::new(Code::FAILED, "no paper"),
        }
    }

    /// Returns the result of a run, which identifies the run.
    fn result(&self, task: &Task) -> Content {
        let size = if self.below(10) == 0 { LARGE_RESULT_BYTES } else { 0 };
        Content::Value(json!(format!("{}{}", task.identity(), "x".repeat(size))))
    }

    /// Sends an answer, which arrives, is lost, or arrives twice.
    fn answer_with(&mut self, node: &str, task: &Task, outcome: Outcome, repeated: bool) {
        let (identity, answer) = (task.identity(), Ok(answer(node, task, outcome, repeated)));
        if self.happens(self.odds.loses_answer) {
            let number = self.objects.state.lock().waiting_for(identity);
            if let Some(number) = number {
                self.plan(self.delay(), Event::GiveUp { number, answer: Err(CallError::Lost) });
            }
            return;
        }
        if self.happens(self.odds.repeats_answer) {
            self.record.reached("an answer comes twice");
            let time = self.now() + 1 + self.below(MAX_ECHO_MS);
            self.plan(time, Event::Answer { identity, answer: answer.clone() });
        }
        self.plan(self.delay(), Event::Answer { identity, answer });
    }

    /// Kills a node or cuts it off, and ends the calls to it.
    async fn node_goes(&mut self, node: &'static str) {
        let is_killed = self.happens(self.odds.node_is_killed);
        self.note(&format!("node {node} goes, killed: {is_killed}"));
        self.record.reached(if is_killed { "a node is killed" } else { "a node is cut off" });
        let there = self.node(node);
        there.is_reachable = false;
        if is_killed {
            there.restart();
        }
        let calls: Vec<_> = {
            let mut state = self.objects.state.lock();
            for nodes in state.nodes.values_mut() {
                nodes.remove(node);
            }
            let on_it = state.calls.iter().filter(|(_, call)| call.task.node.as_deref() == Some(node));
            on_it.map(|(number, call)| (*number, call.task.clone(), Arc::clone(&call.lost))).collect()
        };
        for (number, task, lost) in calls {
            self.record.reached("a call is lost with its node");
            self.promises.answered(&task, &Err(CallError::Lost));
            lost.notify_one();
            if !self.run_ends(number).await {
                return;
            }
        }
    }

    /// Makes a node available again.
    pub(super) fn node_comes_back(&mut self, node: &'static str) {
        self.note(&format!("node {node} is back"));
        self.node(node).is_reachable = true;
        for nodes in self.objects.state.lock().nodes.values_mut() {
            nodes.insert(node.to_owned());
        }
        self.executor.look_for_absent();
    }
}

fn answer(node: &str, task: &Task, outcome: Outcome, repeated: bool) -> Response {
    let secret = task.object == SECRET;
    Response { outcome, node: Some(node.into()), repeated, secret }
}

/// Returns the fault in the answer to a run, if any.
pub(super) fn fault_of(answer: &CallResult) -> Option<&Fault> {
    match answer {
        Ok(response) => response.outcome.as_ref().err().map(|fault| &**fault),
        Err(error) => error.fault(),
    }
}
