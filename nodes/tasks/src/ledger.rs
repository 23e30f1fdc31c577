//! Ledger: opened on a file, and served as the object `tasks`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rantai_client::Environment;
use rantai_client::client::{Builder, draw_id};
use rantai_client::object::{Answering, Call, Description, Emitter, Object};
use rantai_client::shares::ShareReport;
use rantai_client::wire::name::ClientId;
use tokio::task::JoinHandle;

pub use super::interface::{Submission, Summary, Tasks, TasksObject, TasksProxy};
use super::limits::Limits;
use super::owner::Asking;
use super::shared::LedgerState;
use super::store::Store;
use super::{runner, scheduler};
use rantai_commit::DiskError;

/// Error of opening or starting a ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be opened.
    #[error("cannot open the ledger {}", file.display())]
    Store {
        /// Path of the file.
        file: PathBuf,
        /// Error of the database.
        source: DiskError,
    },
    /// The file cannot be written.
    #[error("cannot write the ledger")]
    Write(#[from] DiskError),
}

/// Ledger of all tasks and schedules; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) shared: Arc<LedgerState>,
    /// Caller of the methods.
    pub(super) asking: Asking,
    pub(super) admins: Arc<[String]>,
}

/// Object `tasks`. It executes tasks and follows schedules until it is dropped.
#[derive(Debug)]
pub struct LedgerObject {
    inner: Arc<TasksObject<Ledger>>,
    shared: Arc<LedgerState>,
    admins: Arc<[String]>,
    runner: JoinHandle<()>,
    scheduler: JoinHandle<()>,
}

impl Drop for LedgerObject {
    fn drop(&mut self) {
        self.runner.abort();
        self.scheduler.abort();
    }
}

impl Ledger {
    /// Opens a ledger in a file, which is created if it does not exist. Without a file, the ledger is in memory.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(file: Option<&Path>, limits: Limits) -> Result<Self, LedgerError> {
        let store = Store::open(file).map_err(|source| {
            let file = file.map_or_else(|| PathBuf::from("in memory"), Path::to_owned);
            LedgerError::Store { file, source }
        })?;
        let shared = LedgerState::new(store, limits, Environment::default());
        Ok(Self::of(Arc::new(shared)))
    }

    pub(super) fn of(shared: Arc<LedgerState>) -> Self {
        Self { shared, asking: Asking::nobody(), admins: Arc::default() }
    }

    /// Allows these users to see, cancel, retry and unschedule what belongs to others.
    #[must_use]
    pub fn admins(self, users: Vec<String>) -> Self {
        Self { admins: users.into(), ..self }
    }

    /// Starts to execute tasks, and returns the object to serve. Tasks are called by a client of this builder, with a
    /// client id that is stored in the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub async fn start(self, client: Builder) -> Result<LedgerObject, LedgerError> {
        let draw = || draw_id("tasks", &self.shared.environment);
        let name = self.shared.store.name(draw().to_string()).await?;
        let name = client.own_id(ClientId::new(&name).unwrap_or_else(|_| draw()));
        let runner = tokio::spawn(runner::run(self.shared.clone(), client.client_id(name).patient()));
        let scheduler = tokio::spawn(scheduler::run(self.shared.clone()));
        let (shared, admins) = (self.shared.clone(), self.admins.clone());
        Ok(LedgerObject { inner: Arc::new(TasksObject(self)), shared, admins, runner, scheduler })
    }
}

impl Object for LedgerObject {
    fn description(&self) -> Description {
        self.inner.description()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        let asking = Asking::of(&call.context, &self.admins);
        let ledger = Ledger { shared: self.shared.clone(), asking, admins: self.admins.clone() };
        Arc::new(TasksObject(ledger)).call(call)
    }

    fn shares(&self) -> Vec<ShareReport> {
        self.shared.shares()
    }

    fn attach(&self, emitter: Emitter) {
        let _ = self.shared.emitter.set(emitter);
    }
}
