//! Execution of a request: stored on disk, executed step by step, and completed or undone as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rantai_client::object::Context;
use rantai_client::wire::user::User;
use serde_json::json;
use tokio::sync::watch;

use super::audit::AuditEntry;
use super::commands::Asked;
use super::operation::{Hands, Intent, Operation, Step, StepResults};
use super::reply::{Disk, Problem, Reply, Status};
use super::service::{Opened, Server, unkept};
use super::state::Ended;
use super::targets::Access;
use super::wanted::Wanted;

/// Minimum interval between progress reports to a caller.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Request in progress.
pub(super) struct Work {
    pub(super) server: Server,
    pub(super) asked: Asked,
    pub(super) who: String,
    pub(super) user: Option<User>,
    pub(super) key: Option<String>,
    pub(super) print: String,
    pub(super) began: Instant,
    pub(super) told: Option<watch::Sender<Option<Reply>>>,
    pub(super) progress: Telling,
}

impl Work {
    pub(super) async fn carry_out(self) -> Reply {
        let reply = self.reply().await;
        let args: Vec<&str> = self.asked.args.iter().map(String::as_str).collect();
        if let Ok(opened) = self.server.opened() {
            opened.audit.write(&AuditEntry {
                who: &self.who,
                method: &self.asked.method,
                args: &args,
                status: reply.status_code,
                message: reply.msg.as_deref(),
                took_ms: self.began.elapsed().as_millis() as u64,
            });
        }
        if let Some(told) = &self.told {
            told.send_replace(Some(reply.clone()));
        }
        if let Some(key) = &self.key {
            self.server.shared.running.lock().remove(key);
        }
        reply
    }

    async fn reply(&self) -> Reply {
        let refused = |problem: Problem| Reply::from(Err(problem));
        let opened = match self.server.opened() {
            Ok(opened) => opened,
            Err(problem) => return refused(problem),
        };
        let wanted = self.server.wanted(&self.asked, self.user.as_ref());
        let (mut intent, project) = match wanted {
            Ok(Wanted::Answer(answer)) => return Reply::from(Ok(answer)),
            Ok(Wanted::Change(intent, project)) => (*intent, project),
            Err(problem) => return self.refuse(opened, problem).await,
        };
        let guard = match self.server.shared.locks.take(intent.needs()) {
            Ok(guard) => guard,
            // The name may be free at the next attempt, so this reply is not stored.
            Err(name) => return refused(Problem::new(Status::Busy, format!("{name} is busy"))),
        };
        // The checks are made under the locks, because the state may have changed before.
        if let Err(problem) = self.server.possible(opened, &mut intent, project.as_ref()) {
            return self.refuse(opened, problem).await;
        }
        let operation = Operation {
            id: 0,
            key: self.key.clone(),
            print: self.print.clone(),
            who: self.who.clone(),
            began_ms: self.server.now(),
            intent,
            step: 0,
            undoing: false,
        };
        let operation = match opened.state.begin(operation, project).await {
            Ok(Ok(operation)) => operation,
            Ok(Err(problem)) => return self.refuse(opened, problem).await,
            Err(error) => return refused(unkept(&error)),
        };
        match self.steps(opened, operation).await {
            Ok(reply) => reply,
            Err((problem, reply)) => {
                tracing::error!("{} is not ended: {problem}", self.asked.method);
                self.server.shared.stuck.lock().push(guard);
                reply
            }
        }
    }

    /// Stores the reply, so that a repeated request receives it again, and returns it.
    async fn refuse(&self, opened: &Opened, problem: Problem) -> Reply {
        let busy = problem.status == Status::Busy;
        let reply = Reply::from(Err(problem));
        // A busy name, or a busy disk, may be free at the next attempt.
        if let Some(key) = self.key.as_ref().filter(|_| !busy)
            && let Err(error) =
                opened.state.refuse(key.clone(), self.print.clone(), reply.clone(), self.server.now()).await
        {
            tracing::error!("{error}");
        }
        reply
    }

    /// Executes all steps or none. An operation that can be neither completed nor undone stays open.
    async fn steps(&self, opened: &Opened, mut operation: Operation) -> Result<Reply, (Problem, Reply)> {
        let steps = operation.intent.steps();
        let mut made = StepResults::default();
        let mut failure = None;
        for (index, &step) in steps.iter().enumerate() {
            if index > 0 {
                operation.step = index;
                if let Err(error) = opened.state.update(operation.clone()).await {
                    failure = Some((index - 1, unkept(&error)));
                    break;
                }
            }
            halt(operation.intent.method(), step, "before");
            let (hands, intent, telling) =
                (opened.hands.clone(), operation.intent.clone(), self.progress.clone());
            let in_background = tokio::task::spawn_blocking(move || {
                let mut made = made;
                let method = intent.method();
                let progress = |done: u64, total: u64| {
                    halt(method, step, "within");
                    telling.tell(done, total, step);
                };
                let ran = hands.run(&intent, step, &mut made, &progress);
                (made, ran)
            });
            let panicked = || (StepResults::default(), Err(Problem::new(Status::Failed, "a step panicked")));
            let ran;
            (made, ran) = in_background.await.unwrap_or_else(|_| panicked());
            if let Err(problem) = ran {
                failure = Some((index, problem));
                break;
            }
            halt(operation.intent.method(), step, "after");
        }
        let end = |made: Option<StepResults>, reply: Reply| Ended {
            operation: operation.clone(),
            made,
            reply,
            now: self.server.now(),
        };
        let Some((last, problem)) = failure else {
            let reply = Opened::success(&operation.intent, &made);
            let ended = end(Some(made), reply.clone());
            return match opened.state.end(ended).await {
                Ok(()) => Ok(reply),
                Err(error) => {
                    let problem = unkept(&error);
                    Err((problem.clone(), Reply::from(Err(problem))))
                }
            };
        };
        let reply = Reply::from(Err(problem.clone()));
        if problem.status == Status::Busy {
            // A busy reply is not stored.
            operation.key = None;
        }
        let end = |made: Option<StepResults>, reply: Reply| Ended {
            operation: operation.clone(),
            made,
            reply,
            now: self.server.now(),
        };
        if operation.intent.is_resumed() {
            // Removals are not undone: the operation is closed, and a later request can repeat it.
            let ended = end(None, reply.clone());
            return opened.state.end(ended).await.map(|()| reply.clone()).map_err(|e| (unkept(&e), reply));
        }
        let (hands, intent) = (opened.hands.clone(), operation.intent.clone());
        let exists = problem.status == Status::Exists;
        let undone = tokio::task::spawn_blocking(move || undo(&hands, &intent, last, exists)).await;
        match undone.unwrap_or_else(|_| Err(Problem::new(Status::Failed, "a step panicked"))) {
            Ok(()) => {
                let ended = end(None, reply.clone());
                opened.state.end(ended).await.map(|()| reply.clone()).map_err(|e| (unkept(&e), reply))
            }
            Err(stuck) => {
                operation.undoing = true;
                if let Err(error) = opened.state.update(operation).await {
                    tracing::error!("{error}");
                }
                let text = format!("{problem}; what was done of it is not taken back yet: {stuck}");
                Err((stuck, Reply::from(Err(Problem::new(Status::Failed, text)))))
            }
        }
    }
}

/// Undoes the steps in reverse order. A step that failed because the name exists has created nothing.
fn undo(hands: &Hands, intent: &Intent, last: usize, exists: bool) -> Result<(), Problem> {
    let steps = &intent.steps()[..=last];
    for (index, &step) in steps.iter().enumerate().rev() {
        if index == last && exists {
            continue;
        }
        hands.undo(intent, step)?;
    }
    Ok(())
}

impl Opened {
    /// Completes or undoes an operation that a crash has interrupted.
    pub(super) fn recover(&self, operation: &Operation, now: u64) -> Result<(), Problem> {
        let Operation { intent, step, who, began_ms, .. } = operation;
        let (made, reply, how) = if intent.is_resumed() && !operation.undoing {
            let mut made = StepResults::default();
            for &step in intent.steps() {
                self.hands.run(intent, step, &mut made, &|_, _| {})?;
            }
            (Some(made.clone()), Self::success(intent, &made), "it was interrupted, and brought to its end")
        } else {
            undo(&self.hands, intent, *step, false)?;
            let problem = Problem::new(Status::Failed, "it was interrupted, and has been taken back");
            (None, Reply::from(Err(problem)), "it was interrupted, and has been taken back")
        };
        let args = intent.args();
        let mut operation = operation.clone();
        if made.is_none() {
            // No reply was sent and nothing of the operation is left, so the same request may be made again.
            operation.key = None;
        }
        let ended = Ended { operation, made, reply: reply.clone(), now };
        self.state.end_now(ended).map_err(|error| unkept(&error))?;
        self.audit.write(&AuditEntry {
            who,
            method: intent.method(),
            args: &args,
            status: reply.status_code,
            message: Some(how),
            took_ms: now.saturating_sub(*began_ms),
        });
        tracing::warn!("{} {}: {how}", intent.method(), args.join(" "));
        Ok(())
    }

    fn success(intent: &Intent, made: &StepResults) -> Reply {
        let retval = match intent {
            Intent::CreateSnapshot { image, snapshot } => {
                json!({"img_name": image, "snap_name": snapshot, "bytes": made.bytes, "digest": made.digest})
            }
            Intent::Import { image, .. } => {
                json!({"img_name": image, "bytes": made.bytes, "digest": made.digest})
            }
            Intent::Export { file, .. } => json!({"file": file}),
            _ => json!(true),
        };
        let mut reply = Reply::from(Ok(retval));
        if let (Intent::Provision { access, .. }, Some(handed)) = (intent, &made.handed) {
            let Access { initiator, user, secret } = access.clone();
            reply.disk = Some(Disk { handed: handed.clone(), initiator, user, secret });
        }
        reply
    }
}

/// Reports progress to the caller, at most a few times per second.
#[derive(Clone)]
pub(super) struct Telling {
    context: Context,
    last: Arc<Mutex<Instant>>,
}

impl Telling {
    pub(super) fn new(context: Context) -> Self {
        Self { context, last: Arc::new(Mutex::new(Instant::now())) }
    }

    fn tell(&self, done: u64, total: u64, step: Step) {
        let mut last = self.last.lock();
        if last.elapsed() >= MIN_PROGRESS_INTERVAL || done == total {
            *last = Instant::now();
            self.context.progress(done, total, &format!("{step:?}"));
        }
    }
}

/// Aborts the process at the point that a test has selected, like a crash, without any reply.
#[cfg(debug_assertions)]
fn halt(method: &str, step: Step, place: &str) {
    if std::env::var("RANTAI_TEST_HALT").is_ok_and(|at| at == format!("{method}.{step:?}.{place}")) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn halt(_: &str, _: Step, _: &str) {}
