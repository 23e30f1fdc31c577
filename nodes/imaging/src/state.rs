//! State of imaging on disk: nodes with their disks, operations in progress, and replies to earlier requests.

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::operation::{Intent, Operation, StepResults};
use super::reply::{Problem, Reply, Status};
use super::settings::Project;
use super::targets::{Access, Handed};
use rantai_commit::{Committer, DiskError, Format, Layout, Opener, Order, common_tables};

const NODES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("nodes");
const OPEN: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("open operations");
/// Number of the next operation.
const NEXT: TableDefinition<'static, (), u64> = TableDefinition::new("next operation");
/// Finished requests, by their keys.
const ENDED: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("ended requests");
/// Time at which each finished request ended, in milliseconds since 1970, with its key.
const ENDS: TableDefinition<'static, (u64, &str), ()> = TableDefinition::new("ends");
/// Records of images, and of snapshots as `image/snapshot`.
const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");

/// Tables of the state's file.
pub const LAYOUT: Layout = Layout {
    file: "state.redb",
    order: Order::Objects,
    format: Format { current: 1, stored: None },
    tables: |tables| {
        tables.table(NODES)?;
        tables.table(OPEN)?;
        tables.table(NEXT)?;
        tables.table(ENDED)?;
        tables.table(ENDS)?;
        tables.table(ABOUT)?;
        common_tables(tables)
    },
};

/// How long the reply to a request is kept, in milliseconds, and maximum number of kept replies.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
const MAX_KEPT: u64 = 100_000;

/// Node that has a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Provisioned {
    pub(super) node: String,
    pub(super) image: String,
    pub(super) snapshot: String,
    pub(super) handed: Handed,
    pub(super) access: Access,
    pub(super) project: Option<String>,
    pub(super) bytes: u64,
    pub(super) since_ms: u64,
}

/// Record of an image or a snapshot that was created by this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) made_ms: u64,
}

/// Finished request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// Method and arguments of the request.
    pub(super) print: String,
    pub(super) reply: Reply,
    ended_ms: u64,
}

#[derive(Debug)]
pub(super) struct ImagingState {
    committer: Committer,
}

impl ImagingState {
    /// Opens the state at `path` by `opener`; tests pass failing disks.
    pub(super) fn open(path: &Path, opener: Opener) -> Result<Self, DiskError> {
        Ok(Self { committer: Committer::open(opener, prepare)?.listed(path, &LAYOUT) })
    }

    /// Stores an operation before its first step, unless it would exceed the quota of the project.
    pub(super) async fn begin(
        &self,
        operation: Operation,
        project: Option<Project>,
    ) -> Result<Result<Operation, Problem>, DiskError> {
        self.committer
            .write(move |transaction| {
                if let Some(problem) = over_quota(transaction, &operation.intent, project.as_ref())? {
                    return Ok(Err(problem));
                }
                let mut next = transaction.open_table(NEXT)?;
                let mut operation = operation.clone();
                operation.id = next.get(())?.map_or(0, |id| id.value());
                next.insert((), operation.id + 1)?;
                transaction.open_table(OPEN)?.insert(operation.id, &*write(&operation))?;
                Ok(Ok(operation))
            })
            .await
    }

    /// Stores the progress of an operation.
    pub(super) async fn update(&self, operation: Operation) -> Result<(), DiskError> {
        self.committer
            .write(move |transaction| {
                transaction.open_table(OPEN)?.insert(operation.id, &*write(&operation))?;
                Ok(())
            })
            .await
    }

    /// Stores the end of an operation: its results and its reply, in one commit. If the disk fails, retries until it
    /// works again, because the steps are done and the operation would otherwise stay open.
    pub(super) async fn end(&self, ended: Ended) -> Result<(), DiskError> {
        self.committer.write_when_possible(move |transaction| end(transaction, &ended)).await
    }

    /// Same as [`end`](Self::end), but blocks: for the start, before requests are served.
    pub(super) fn end_now(&self, ended: Ended) -> Result<(), DiskError> {
        self.committer.write_blocking(move |transaction| end(transaction, &ended))
    }

    /// Returns the reply to an earlier request.
    pub(super) fn answered(&self, key: &str) -> Result<Option<Answered>, DiskError> {
        self.committer.read(|database| {
            let ended = database.begin_read()?.open_table(ENDED)?;
            Ok(ended.get(key)?.and_then(|bytes| read(bytes.value())))
        })
    }

    /// Stores the reply to a request that was refused before it became an operation.
    pub(super) async fn refuse(
        &self,
        key: String,
        print: String,
        reply: Reply,
        now: u64,
    ) -> Result<(), DiskError> {
        self.committer
            .write(move |transaction| {
                let (print, reply) = (print.clone(), reply.clone());
                answer(transaction, &key, &Answered { print, reply, ended_ms: now })
            })
            .await
    }

    pub(super) fn node(&self, node: &str) -> Result<Option<Provisioned>, DiskError> {
        self.committer.read(|database| {
            let nodes = database.begin_read()?.open_table(NODES)?;
            Ok(nodes.get(node)?.and_then(|bytes| read(bytes.value())))
        })
    }

    pub(super) fn nodes(&self) -> Result<Vec<Provisioned>, DiskError> {
        self.committer.read(|database| {
            let nodes = database.begin_read()?.open_table(NODES)?;
            let mut found = Vec::new();
            for entry in nodes.iter()? {
                found.extend(read(entry?.1.value()));
            }
            Ok(found)
        })
    }

    /// Returns the operations that are in progress.
    pub(super) fn open_operations(&self) -> Result<Vec<Operation>, DiskError> {
        self.committer.read(|database| {
            let open = database.begin_read()?.open_table(OPEN)?;
            let mut found = Vec::new();
            for entry in open.iter()? {
                found.extend(read(entry?.1.value()));
            }
            Ok(found)
        })
    }

    pub(super) fn recorded(&self, name: &str) -> Result<Option<Recorded>, DiskError> {
        self.committer.read(|database| {
            let about = database.begin_read()?.open_table(ABOUT)?;
            Ok(about.get(name)?.and_then(|bytes| read(bytes.value())))
        })
    }
}

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(NODES)?;
    transaction.open_table(OPEN)?;
    transaction.open_table(NEXT)?;
    transaction.open_table(ENDED)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(ABOUT)?;
    Ok(())
}

/// End of an operation.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) operation: Operation,
    /// Results of the steps; `None` if the operation was undone, or is to be repeated.
    pub(super) made: Option<StepResults>,
    pub(super) reply: Reply,
    pub(super) now: u64,
}

fn end(transaction: &WriteTransaction, ended: &Ended) -> Result<(), redb::Error> {
    let Ended { operation, made, reply, now } = ended;
    transaction.open_table(OPEN)?.remove(operation.id)?;
    if let Some(made) = made {
        apply(transaction, &operation.intent, made, *now)?;
    }
    if let Some(key) = &operation.key {
        let answered = Answered { print: operation.print.clone(), reply: reply.clone(), ended_ms: *now };
        answer(transaction, key, &answered)?;
    }
    Ok(())
}

fn answer(transaction: &WriteTransaction, key: &str, answered: &Answered) -> Result<(), redb::Error> {
    let (mut requests, mut ends) = (transaction.open_table(ENDED)?, transaction.open_table(ENDS)?);
    let now = answered.ended_ms;
    // Each new entry removes up to two old ones, so the table returns to its limit soon.
    for _ in 0..2 {
        let full = requests.len()? >= MAX_KEPT;
        let oldest = ends.first()?.map(|(oldest, _)| (oldest.value().0, oldest.value().1.to_owned()));
        let Some((ms, old)) = oldest.filter(|(ms, _)| full || ms.saturating_add(KEPT_MS) < now) else {
            break;
        };
        ends.remove((ms, &*old))?;
        requests.remove(&*old)?;
    }
    requests.insert(key, &*write(answered))?;
    ends.insert((now, key), ())?;
    Ok(())
}

fn apply(
    transaction: &WriteTransaction,
    intent: &Intent,
    made: &StepResults,
    now: u64,
) -> Result<(), redb::Error> {
    let mut nodes = transaction.open_table(NODES)?;
    let mut about = transaction.open_table(ABOUT)?;
    let recorded = || {
        let digest = made.digest.clone().unwrap_or_default();
        write(&Recorded { digest, bytes: made.bytes, made_ms: now })
    };
    match intent {
        Intent::Provision { node, image, snapshot, access, project, bytes } => {
            let provisioned = Provisioned {
                node: node.clone(),
                image: image.clone(),
                snapshot: snapshot.clone(),
                handed: made.handed.clone().unwrap_or(Handed {
                    target: None,
                    portal: None,
                    lun: None,
                    file: None,
                }),
                access: access.clone(),
                project: project.clone(),
                bytes: *bytes,
                since_ms: now,
            };
            nodes.insert(&**node, &*write(&provisioned))?;
        }
        Intent::DetachNode { node } => {
            nodes.remove(&**node)?;
        }
        Intent::CreateSnapshot { image, snapshot } => {
            about.insert(&*format!("{image}/{snapshot}"), &*recorded())?;
        }
        Intent::RemoveSnaps { image, snapshot } => {
            about.remove(&*format!("{image}/{snapshot}"))?;
        }
        Intent::Import { image, .. } => {
            about.insert(&**image, &*recorded())?;
        }
        Intent::RemoveImage { image } => {
            about.remove(&**image)?;
        }
        Intent::Export { .. } => {}
        Intent::Rename { image, to } => {
            let mut moved = Vec::new();
            for entry in about.iter()? {
                let (name, bytes) = entry?;
                let rest = name.value().strip_prefix(&**image);
                if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                    moved.push((name.value().to_owned(), format!("{to}{rest}"), bytes.value().to_vec()));
                }
            }
            for (old, new, bytes) in moved {
                about.remove(&*old)?;
                about.insert(&*new, &*bytes)?;
            }
            let mut of_it: Vec<Provisioned> = Vec::new();
            for entry in nodes.iter()? {
                of_it.extend(read::<Provisioned>(entry?.1.value()).filter(|node| node.image == *image));
            }
            for node in of_it {
                let node = Provisioned { image: to.clone(), ..node };
                nodes.insert(&*node.node, &*write(&node))?;
            }
        }
    }
    Ok(())
}

/// Returns the problem if the project would exceed its quota, which counts existing disks and those in progress.
fn over_quota(
    transaction: &WriteTransaction,
    intent: &Intent,
    project: Option<&Project>,
) -> Result<Option<Problem>, redb::Error> {
    let (Intent::Provision { bytes, .. }, Some(project)) = (intent, project) else { return Ok(None) };
    let (mut disks, mut all) = (1_u64, *bytes);
    for entry in transaction.open_table(NODES)?.iter()? {
        if let Some(node) = read::<Provisioned>(entry?.1.value())
            && node.project.as_ref() == Some(&project.name)
        {
            (disks, all) = (disks + 1, all.saturating_add(node.bytes));
        }
    }
    for entry in transaction.open_table(OPEN)?.iter()? {
        let operation = read::<Operation>(entry?.1.value());
        if let Some(Operation { intent: Intent::Provision { bytes, project: of, .. }, .. }) = operation
            && of.as_ref() == Some(&project.name)
        {
            (disks, all) = (disks + 1, all.saturating_add(bytes));
        }
    }
    let most = |most: Option<u64>, asked: u64| most.filter(|most| asked > *most);
    let text = match (most(project.disks, disks), most(project.bytes, all)) {
        (Some(most), _) => format!("project {} may have {most} disks", project.name),
        (_, Some(most)) => format!("project {} may have {most} bytes of disks", project.name),
        _ => return Ok(None),
    };
    Ok(Some(Problem::new(Status::OutOfRange, text)))
}

fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what is kept is JSON")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(bytes);
    read.inspect_err(|error| tracing::error!("a record that cannot be read is passed over: {error}")).ok()
}
