//! Keeps one object served: claims its name on every connection and whenever no other node holds it.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::error_chain;
use rantai_client::session::{Status, Unsent};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::announcer::Announcer;
use crate::claim::{Claim, Claimed};
use crate::connection::{connection, over};
use crate::contenders::Contenders;
use crate::dispatch::Served;
use crate::replicas::look_after;
use crate::serving::{ServeError, ServeOptions};

/// Interval at which a node that waits for a name pings its holder.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Interval of claims while the broker has no room for the entry.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps one object served.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

/// Event that a node without the name waits for before it claims the name again.
enum Until {
    /// The next connection.
    Connection,
    /// Room at the broker for its entry, for this long.
    Room,
    /// End of the other holders.
    Vacancy,
    /// Successor, and its end.
    Succession,
}

impl Keeper {
    /// Starts the keeper; the receiver gets the result of the first claim.
    pub(crate) fn start(
        announcer: Arc<Announcer>,
        status: watch::Receiver<Status>,
        served: Arc<Served>,
        options: ServeOptions,
    ) -> (Self, oneshot::Receiver<Result<(), ServeError>>) {
        let (told, first) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let claim = Claim { announcer, served, options };
        let task = tokio::spawn(claim.run(status, told, stopped));
        (Self { stop, task }, first)
    }

    /// Withdraws the object when its calls have finished, or after `patience`.
    pub(crate) async fn stop(self, patience: Duration) {
        if self.stop.send(patience).is_ok() {
            let _ = self.task.await;
        }
    }
}

impl Claim {
    async fn run(
        self,
        mut status: watch::Receiver<Status>,
        told: oneshot::Sender<Result<(), ServeError>>,
        mut stopped: oneshot::Receiver<Duration>,
    ) {
        let mut told = Some(told);
        let mut is_waiting = false;
        loop {
            // The claim begins anew on each connection.
            let connection = tokio::select! {
                biased;
                connection = connection(&mut status) => connection,
                // The broker has published the node as lost, so nothing has to be removed.
                patience = &mut stopped => return idle(&self.served, patience.unwrap_or_default()).await,
            };
            let Some(connection) = connection else {
                if let Some(told) = told.take() {
                    let _ = told.send(Err(ServeError::Ended));
                }
                return;
            };
            let over = || over(status.clone(), connection);
            let _announcement = self.announcer.stands_for(&self.served.name);
            let mut contenders = Contenders::new(self.announcer.clone(), self.served.name.clone());
            let claimed = tokio::select! {
                biased;
                // Only the first claim replaces a holder: two nodes that both replace the other one would otherwise
                // push each other out at every reconnect.
                claimed = self.claim(&mut contenders, self.options.replace && told.is_some()) => claimed,
                () = over() => Claimed::Lost,
                patience = &mut stopped => {
                    return self.leave(patience.unwrap_or_default(), over()).await;
                }
            };
            let until = match claimed {
                Claimed::Lost => {
                    over().await;
                    continue;
                }
                Claimed::Refused(ServeError::Unregistered { source: Unsent::Busy, .. }) => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        let name = &self.served.name;
                        tracing::warn!(
                            "{name}: the broker has no room for its entry in the registry; look at its disk and its limits \
                             (`rantai doctor`): it is served once there is room"
                        );
                    }
                    Until::Room
                }
                Claimed::Refused(error) => {
                    if let Some(told) = told.take() {
                        let _ = told.send(Err(error));
                        return;
                    }
                    tracing::error!("{}: {}", self.served.name, error_chain(&error));
                    Until::Connection
                }
                Claimed::Taken(holder) => {
                    if let Some(told) = told.take() {
                        let object = self.served.name.to_string();
                        let _ = told.send(Err(ServeError::Taken { object, holder }));
                        return;
                    }
                    let name = &self.served.name;
                    tracing::info!("{name} is served by node {holder}; it is claimed here when that ends");
                    Until::Vacancy
                }
                Claimed::Held(entry) => {
                    is_waiting = false;
                    if let Some(told) = told.take() {
                        let _ = told.send(Ok(()));
                    } else {
                        tracing::info!("{}: served again", self.served.name);
                    }
                    let unasked = self.served.begin();
                    tokio::select! {
                        biased;
                        holder = self.contested(&entry, &mut contenders) => {
                            drop(unasked);
                            tracing::info!("{}: gives way to node {holder}", self.served.name);
                            self.withdraw().await;
                            Until::Vacancy
                        }
                        () = self.served.yielded.notified() => {
                            drop(unasked);
                            tracing::warn!("{}: given up, as another node has asked", self.served.name);
                            self.withdraw().await;
                            Until::Succession
                        }
                        never = look_after(&self.announcer, &self.served.name, &entry) => match never {},
                        () = over() => continue,
                        patience = &mut stopped => {
                            drop(unasked);
                            return self.leave(patience.unwrap_or_default(), over()).await;
                        }
                    }
                }
            };
            let free = async {
                match until {
                    Until::Connection => std::future::pending().await,
                    Until::Room => sleep(ROOM_INTERVAL).await,
                    Until::Vacancy => self.vacancy(&mut contenders).await,
                    Until::Succession => {
                        if contenders.succession(self.options.mode).await {
                            self.vacancy(&mut contenders).await;
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = over() => {}
                () = free => {}
                patience = &mut stopped => return idle(&self.served, patience.unwrap_or_default()).await,
            }
        }
    }

    /// Waits until no other node holds the name. Pings the holder periodically, in case it is lost and no broker publishes its
    /// will.
    async fn vacancy(&self, contenders: &mut Contenders) {
        while timeout(PING_INTERVAL, contenders.vacancy(self.options.mode)).await.is_err() {
            let _ = self.living_rival(&self.entry(false)).await;
        }
    }

    /// Accepts no more calls, waits for running ones, and removes the entry. Steps that need the broker end with the
    /// connection.
    async fn leave(&self, patience: Duration, over: impl Future<Output = ()>) {
        tokio::pin!(over);
        let connected = tokio::select! {
            biased;
            () = self.unsubscribe() => true,
            () = &mut over => false,
        };
        idle(&self.served, patience).await;
        if connected {
            tokio::select! {
                biased;
                () = self.withdraw() => {}
                () = over => {}
            }
        }
    }
}

/// Time after which a node that shuts down ends its streams, as they may have no end of their own.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the answers to calls that end with their node.
const ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits until no call of an object runs. Streams are ended before that, and all remaining calls after `patience`;
/// their callers are notified.
pub(crate) async fn idle(served: &Served, patience: Duration) {
    let finished = async |ends_streams: bool| {
        while served.running() > 0 {
            if ends_streams {
                // Repeated, to include streams that begin only now.
                served.end_streams();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let some = patience.min(STREAMS_TIMEOUT);
    if timeout(some, finished(false)).await.is_ok() {
        return;
    }
    if timeout(patience.saturating_sub(some), finished(true)).await.is_err() {
        tracing::warn!("{}: {} calls were still running", served.name, served.running());
        served.end_calls();
        let _ = timeout(ANSWERS_TIMEOUT, finished(false)).await;
    }
}
