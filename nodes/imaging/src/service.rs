//! The imaging object: turns requests into operations, each of which is executed at most once, and completely or not at all.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chrono::{DateTime, SecondsFormat};
use parking_lot::Mutex;
use rantai_client::object::Context;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{Environment, hex, interface};
use serde_json::json;
use tokio::sync::watch;

use super::audit::Audit;
use super::commands::Asked;
use super::locks::{Guard, Locks};
use super::operation::Hands;
use super::reply::{Problem, Reply, Status};
use super::settings::ImagingSettings;
use super::state::ImagingState;
use super::storage::{Folder, Storage, StorageError};
use super::targets::Target;
use super::work::{Telling, Work};
use rantai_commit::{self as commit, DiskError, Opener};

/// Disks for machines: clones images, and exports the clones to nodes.
#[interface(version = "1.0.0", tags("imaging"))]
pub trait Imaging {
    /// Creates a disk for a node as a copy of a snapshot, and exports it.
    #[method(secret)]
    async fn provision(
        &self,
        node_name: String,
        img_name: Option<String>,
        snap_name: Option<String>,
        context: Context,
    ) -> Result<Reply, Fault>;

    /// Removes the disk of a node, with everything that was written to it.
    async fn detach_node(&self, node_name: String, context: Context) -> Result<Reply, Fault>;

    /// Creates a snapshot of an image.
    async fn create_snapshot(
        &self,
        img_name: String,
        snap_name: String,
        context: Context,
    ) -> Result<Reply, Fault>;

    /// Returns the names of all images.
    #[method(read_only)]
    async fn list_all_images(&self, context: Context) -> Result<Reply, Fault>;

    /// Returns the names of an image's snapshots.
    #[method(read_only)]
    async fn list_snaps(&self, img_name: String, context: Context) -> Result<Reply, Fault>;

    /// Removes a snapshot; disks that were created from it are kept.
    async fn remove_snaps(
        &self,
        img_name: String,
        snap_name: String,
        context: Context,
    ) -> Result<Reply, Fault>;

    /// Returns the nodes that have disks, with their disks.
    #[method(read_only)]
    async fn list_nodes(&self, context: Context) -> Result<Reply, Fault>;

    /// Returns size, digest and snapshots of an image.
    #[method(read_only)]
    async fn image_info(&self, img_name: String, context: Context) -> Result<Reply, Fault>;

    /// Copies a file of the folder `incoming` to a new image, named like the file or `img_name`.
    async fn import(&self, file: String, img_name: Option<String>, context: Context) -> Result<Reply, Fault>;

    /// Copies a snapshot to the folder `outgoing`, under its own name or another.
    async fn export(
        &self,
        img_name: String,
        snap_name: String,
        file: Option<String>,
        context: Context,
    ) -> Result<Reply, Fault>;

    /// Renames an image.
    async fn rename(&self, img_name: String, new_name: String, context: Context) -> Result<Reply, Fault>;

    /// Removes an image without snapshots.
    async fn remove_image(&self, img_name: String, context: Context) -> Result<Reply, Fault>;

    /// Calls a method by name with arguments, as on a command line; both are checked here.
    #[method(secret)]
    async fn command(&self, method: String, args: Vec<String>, context: Context) -> Result<Reply, Fault>;
}

/// Imaging server; cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(super) shared: Arc<ServerState>,
}

pub(super) struct ServerState {
    pub(super) settings: ImagingSettings,
    environment: Environment,
    opened: OnceLock<Opened>,
    pub(super) locks: Locks,
    /// Requests in progress, by their keys.
    pub(super) running: Mutex<HashMap<String, Running>>,
    /// Locks of operations that could be neither completed nor undone, held until the process ends.
    pub(super) stuck: Mutex<Vec<Guard>>,
}

pub(super) struct Opened {
    pub(super) hands: Hands,
    pub(super) state: ImagingState,
    pub(super) audit: Audit,
}

#[derive(Clone)]
pub(super) struct Running {
    print: String,
    ended: watch::Receiver<Option<Reply>>,
}

/// Error of opening the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("cannot use the folder of images and disks")]
    Folder(#[from] std::io::Error),
    /// The state cannot be read.
    #[error("cannot open state.redb")]
    State(#[from] DiskError),
    /// The target cannot be started.
    #[error(transparent)]
    Target(#[from] super::targets::TargetError),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.shared.settings.name)
    }
}

impl Server {
    /// Creates a server that is not open yet.
    pub fn new(settings: ImagingSettings) -> Self {
        let shared = ServerState {
            settings,
            environment: Environment::default(),
            opened: OnceLock::new(),
            locks: Locks::default(),
            running: Mutex::default(),
            stuck: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Opens the folder, completes or undoes operations that a crash has interrupted, and exports the disks again. Blocks.
    ///
    /// # Errors
    ///
    /// The folder or the state cannot be used, or the target cannot be started.
    pub fn open(&self) -> Result<(), OpenError> {
        let settings = &self.shared.settings;
        let storage = Arc::new(Folder::open(&settings.folder)?);
        let target = settings.target.start(&settings.folder)?;
        self.open_with(storage, target)
    }

    /// Same as [`open`](Self::open), with another storage and target.
    ///
    /// # Errors
    ///
    /// Same as [`open`](Self::open).
    pub fn open_with(&self, storage: Arc<dyn Storage>, target: Arc<dyn Target>) -> Result<(), OpenError> {
        self.open_on(commit::file(&self.shared.settings.folder.join("state.redb")), storage, target)
    }

    /// Same as [`open_with`](Self::open_with), with another storage of the state.
    pub(super) fn open_on(
        &self,
        state: Opener,
        storage: Arc<dyn Storage>,
        target: Arc<dyn Target>,
    ) -> Result<(), OpenError> {
        let folder: &Path = &self.shared.settings.folder;
        let state = ImagingState::open(&folder.join("state.redb"), state)?;
        let audit = Audit::new(folder.join("audit.log"));
        let opened = Opened { hands: Hands { storage, target }, state, audit };
        for operation in opened.state.open_operations()? {
            let needs = operation.intent.needs();
            if let Err(problem) = opened.recover(&operation, self.now()) {
                tracing::error!("{} is not ended: {problem}", operation.intent.method());
                self.shared.stuck.lock().extend(self.shared.locks.take(needs));
            }
        }
        for node in opened.state.nodes()? {
            let disk = opened.hands.disk(&node.node);
            if let Err(error) = opened.hands.target.export(&node.node, &disk, &node.access) {
                tracing::error!("the disk of {} is not handed out: {error}", node.node);
            }
        }
        let _ = self.shared.opened.set(opened);
        Ok(())
    }

    /// Returns the current time, in milliseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.shared.environment.now_ms()
    }

    pub(super) fn opened(&self) -> Result<&Opened, Problem> {
        let closed = || Problem::new(Status::Failed, "it has not been opened");
        self.shared.opened.get().ok_or_else(closed)
    }

    /// Handles a request, typed or by name.
    async fn handle(&self, asked: Asked, context: &Context) -> Result<Reply, Fault> {
        let began = Instant::now();
        let who = context.caller_text();
        let print = format!("{} {}", asked.method, json!(asked.args));
        let key = context.correlation.as_ref().filter(|bytes| bytes.len() >= 16).map(|bytes| hex(bytes));
        let key = key.filter(|_| asked.changes());
        // The key contains the user, so that users cannot obtain replies to each other's requests, even if they know the
        // correlation.
        let key = key.map(|key| context.caller().map_or_else(|| key.clone(), |user| format!("{user}/{key}")));
        if let Some(key) = &key
            && let Some(reply) = self.before(key, &print).await?
        {
            return Ok(reply);
        }
        // Another task may have registered the same request since the check above: the second one waits for the first.
        let told = match &key {
            Some(key) => match self.first(key, &print) {
                Some(told) => Some(told),
                None => return self.before(key, &print).await?.ok_or_else(|| Fault::busy(100)),
            },
            None => None,
        };
        let work = Work {
            server: self.clone(),
            asked,
            who,
            user: context.caller().cloned(),
            key,
            print,
            began,
            told,
            progress: Telling::new(context.clone()),
        };
        // The operation runs in its own task, so that it is completed even if the caller is gone.
        let done = tokio::spawn(work.carry_out()).await;
        done.map_err(|_| Fault::new(Code::BROKEN_OBJECT, "the method panicked"))
    }

    /// Registers a request in progress, and returns the sender of its reply; `None` if the same key is registered already.
    fn first(&self, key: &str, print: &str) -> Option<watch::Sender<Option<Reply>>> {
        let mut running = self.shared.running.lock();
        if running.contains_key(key) {
            return None;
        }
        let (told, ended) = watch::channel(None);
        running.insert(key.to_owned(), Running { print: print.to_owned(), ended });
        Some(told)
    }

    /// Returns the reply to an earlier request with this key, and waits for it if that request is still in progress.
    async fn before(&self, key: &str, print: &str) -> Result<Option<Reply>, Fault> {
        let other = || Fault::new(Code::IDENTITY_REUSED, "the identity was used for another request");
        let running = self.shared.running.lock().get(key).cloned();
        if let Some(mut running) = running {
            if running.print != print {
                return Err(other());
            }
            let ended = running.ended.wait_for(Option::is_some).await;
            return Ok(ended.ok().and_then(|reply| reply.clone()));
        }
        let Ok(opened) = self.opened() else { return Ok(None) };
        let answered = opened.state.answered(key).map_err(|error| error.fault("the state of imaging"))?;
        match answered {
            Some(answered) if answered.print != print => Err(other()),
            answered => Ok(answered.map(|answered| answered.reply)),
        }
    }
}

pub(super) fn unkept(error: &DiskError) -> Problem {
    tracing::error!("{error}");
    if error.is_retryable() {
        let text = "cannot use the state now: its disk is full or does not work; try again later";
        return Problem::new(Status::Busy, text);
    }
    Problem::new(Status::Failed, "cannot use the state")
}

pub(super) fn time(ms: u64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(i64::try_from(ms).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

macro_rules! ask {
    ($server:expr, $method:literal, $context:expr, [$($argument:expr),*]) => {{
        let given: Vec<Option<String>> = vec![$($argument),*];
        // The first missing argument ends the list, so those after it must be missing too.
        let asked = Asked::typed($method, given)?;
        $server.handle(asked, &$context).await
    }};
}

impl Imaging for Server {
    async fn provision(
        &self,
        node_name: String,
        img_name: Option<String>,
        snap_name: Option<String>,
        context: Context,
    ) -> Result<Reply, Fault> {
        let image = img_name.unwrap_or_else(|| self.shared.settings.image.clone());
        ask!(self, "provision", context, [Some(node_name), Some(image), snap_name])
    }

    async fn detach_node(&self, node_name: String, context: Context) -> Result<Reply, Fault> {
        ask!(self, "detach_node", context, [Some(node_name)])
    }

    async fn create_snapshot(
        &self,
        img_name: String,
        snap_name: String,
        context: Context,
    ) -> Result<Reply, Fault> {
        ask!(self, "create_snapshot", context, [Some(img_name), Some(snap_name)])
    }

    async fn list_all_images(&self, context: Context) -> Result<Reply, Fault> {
        ask!(self, "list_all_images", context, [])
    }

    async fn list_snaps(&self, img_name: String, context: Context) -> Result<Reply, Fault> {
        ask!(self, "list_snaps", context, [Some(img_name)])
    }

    async fn remove_snaps(
        &self,
        img_name: String,
        snap_name: String,
        context: Context,
    ) -> Result<Reply, Fault> {
        ask!(self, "remove_snaps", context, [Some(img_name), Some(snap_name)])
    }

    async fn list_nodes(&self, context: Context) -> Result<Reply, Fault> {
        ask!(self, "list_nodes", context, [])
    }

    async fn image_info(&self, img_name: String, context: Context) -> Result<Reply, Fault> {
        ask!(self, "image_info", context, [Some(img_name)])
    }

    async fn import(&self, file: String, img_name: Option<String>, context: Context) -> Result<Reply, Fault> {
        ask!(self, "import", context, [Some(file), img_name])
    }

    async fn export(
        &self,
        img_name: String,
        snap_name: String,
        file: Option<String>,
        context: Context,
    ) -> Result<Reply, Fault> {
        ask!(self, "export", context, [Some(img_name), Some(snap_name), file])
    }

    async fn rename(&self, img_name: String, new_name: String, context: Context) -> Result<Reply, Fault> {
        ask!(self, "rename", context, [Some(img_name), Some(new_name)])
    }

    async fn remove_image(&self, img_name: String, context: Context) -> Result<Reply, Fault> {
        ask!(self, "remove_image", context, [Some(img_name)])
    }

    async fn command(&self, method: String, args: Vec<String>, context: Context) -> Result<Reply, Fault> {
        self.handle(Asked::new(&method, args)?, &context).await
    }
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Folder(std::io::Error::other(error.to_string()))
    }
}
