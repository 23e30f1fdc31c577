//! Claims a name for an object. The rules are in PROTOCOL.md; time is tokio's.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rantai_client::session::{Filter, Publish, SubscribeError, Unsent};
use rantai_client::wire::entry::{Entry, Mode, VERSION};
use rantai_client::wire::name::{ClientId, MethodName};
use rantai_client::wire::topic::{CallTopic, Target, call_filters};
use tokio::time::{Instant, timeout, timeout_at};

use crate::announcer::{AnnounceError, Announcer};
use crate::contenders::Contenders;
use crate::dispatch::Served;
use crate::serving::{ServeError, ServeOptions};

/// Time for which a claim may be contested before it is settled.
const CONTEST_TIME: Duration = Duration::from_secs(1);
/// Time limit for a holder to give a name up.
const YIELD_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of holders pinged before a claim, one after the other.
const MAX_PINGED: usize = 4;

/// Result of a claim.
pub(crate) enum Claimed {
    /// The name is held by this entry.
    Held(Box<Entry>),
    /// This other node has the better claim.
    Taken(String),
    /// The broker refuses what is needed to serve the object.
    Refused(ServeError),
    /// The connection was lost.
    Lost,
}

/// Object and its claim to its name.
pub(crate) struct Claim {
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) served: Arc<Served>,
    pub(crate) options: ServeOptions,
}

impl Claim {
    pub(crate) fn entry(&self, settled: bool) -> Entry {
        let description = &self.served.description;
        Entry {
            v: VERSION,
            object: self.served.name.to_string(),
            node: self.announcer.id.to_string(),
            epoch: self.announcer.epoch.clone(),
            mode: self.options.mode,
            settled,
            form: None,
            version: description.version.clone(),
            summary: description.summary.clone(),
            tags: description.tags.clone(),
            methods: description.methods.iter().map(|m| m.name.clone()).collect(),
            events: description.events.iter().map(|e| e.name.clone()).collect(),
        }
    }

    /// Claims the name: checks who holds it, announces the claim, waits until it is uncontested, and subscribes to the
    /// calls. With `replace`, asks a holder to give the name up.
    pub(crate) async fn claim(&self, contenders: &mut Contenders, replace: bool) -> Claimed {
        // Discards a request to give the name up that arrived while it was not held.
        pin!(self.served.yielded.notified()).enable();
        let claimed = match self.try_claim(contenders, replace).await {
            Ok(claimed) => claimed,
            Err(SubscribeError::Refused { filter, reason }) => {
                Claimed::Refused(ServeError::Refused(SubscribeError::Refused { filter, reason }))
            }
            Err(_) => Claimed::Lost,
        };
        if matches!(claimed, Claimed::Refused(_)) {
            // The broker may have granted only a part: one filter of the calls, whose requests nobody would answer, or
            // the claim.
            self.withdraw().await;
        }
        claimed
    }

    async fn try_claim(&self, contenders: &mut Contenders, replace: bool) -> Result<Claimed, SubscribeError> {
        let Self { announcer, served, options } = self;
        let name = &served.name;
        contenders.look().await?;
        let unsettled = self.entry(false);
        if let Some(holder) = self.living_rival(&unsettled).await {
            if !(replace && holder.settled && options.mode == Mode::Exclusive) {
                return Ok(Claimed::Taken(holder.node));
            }
            // A holder gives its name up only to a node that claims it in the registry.
            if let Err(error) = announcer.announce(name, &unsettled).await {
                return Ok(self.unannounced(error));
            }
            if let Some(holder) = self.succeed(holder, &unsettled).await {
                self.withdraw().await;
                return Ok(Claimed::Taken(holder));
            }
        }
        if options.mode == Mode::Exclusive {
            if let Err(error) = announcer.announce(name, &unsettled).await {
                return Ok(self.unannounced(error));
            }
            if let Ok(holder) = timeout(CONTEST_TIME, self.contested(&unsettled, contenders)).await {
                self.withdraw().await;
                return Ok(Claimed::Taken(holder));
            }
        }
        // The requests to this node are subscribed to once, for all of its objects.
        let [call, _, all] = call_filters(&announcer.root, &announcer.id, name);
        let filters = [call, all].map(|filter| Filter::new(filter).live().passing());
        announcer.bus.subscribe(filters.to_vec()).await?;
        let settled = self.entry(true);
        *served.entry.lock() = Some(settled.clone());
        if let Err(error) = announcer.announce(name, &settled).await {
            return Ok(self.unannounced(error));
        }
        Ok(Claimed::Held(Box::new(settled)))
    }

    /// Returns the entry that wins over `mine`, unless it is settled and its node does not answer a ping: the state of such a
    /// node is published as lost.
    pub(crate) async fn living_rival(&self, mine: &Entry) -> Option<Entry> {
        for _ in 0..MAX_PINGED {
            let rival = self.announcer.rival(&self.served.name, mine)?;
            if !rival.settled || self.announcer.bus.answers(&rival).await {
                return Some(rival);
            }
            // The rival may have ended or restarted during the ping.
            if self.announcer.rival(&self.served.name, mine).as_ref() != Some(&rival) {
                continue;
            }
            if let Err(error) = self.announcer.declare_lost(&rival).await {
                let (root, name, node) = (&self.announcer.root, &self.served.name, &rival.node);
                tracing::warn!(
                    "{name}: node {node}, which holds it, does not answer, and its state cannot be set to lost: {error}; clear \
                     its entry as an admin, by `rantai pub --retain {root}/name/{name}/{node}`"
                );
                return Some(rival);
            }
        }
        self.announcer.rival(&self.served.name, mine)
    }

    fn unannounced(&self, error: AnnounceError) -> Claimed {
        match error {
            AnnounceError::Unsent(Unsent::Lost | Unsent::Ended) => Claimed::Lost,
            AnnounceError::Unsent(source) => {
                let object = self.served.name.to_string();
                Claimed::Refused(ServeError::Unregistered { object, source })
            }
            AnnounceError::Entry(error) => Claimed::Refused(error.into()),
        }
    }

    /// Waits until another node has the better claim; returns that node.
    pub(crate) async fn contested(&self, mine: &Entry, contenders: &mut Contenders) -> String {
        contenders.until(|announcer| announcer.rival(&self.served.name, mine).map(|rival| rival.node)).await
    }

    /// Asks the holder of the name to give it up, and waits until it has; returns the node that still has it after
    /// [`YIELD_TIMEOUT`].
    async fn succeed(&self, mut holder: Entry, mine: &Entry) -> Option<String> {
        self.ask_to_yield(&holder).await;
        let deadline = Instant::now() + YIELD_TIMEOUT;
        let mut seen = self.announcer.seen();
        while let Some(still) = self.announcer.rival(&self.served.name, mine) {
            holder = still;
            if timeout_at(deadline, seen.changed()).await.is_err() {
                return Some(holder.node);
            }
        }
        None
    }

    /// Asks the holder of the name to give it up.
    async fn ask_to_yield(&self, holder: &Entry) {
        let (Ok(node), Ok(method)) = (ClientId::new(&holder.node), MethodName::new("rpc.yield")) else {
            return;
        };
        let object = self.served.name.clone();
        let topic = CallTopic { target: Target::Node(node), object, method: Some(method) };
        let mut publish = Publish::new(topic.format(&self.announcer.root), Bytes::new()).once();
        publish.properties.user.push(("oneway".to_owned(), "1".to_owned()));
        let _ = self.announcer.bus.publish(publish).await;
    }

    /// Unsubscribes from the calls.
    pub(crate) async fn unsubscribe(&self) {
        let [call, _, all] = call_filters(&self.announcer.root, &self.announcer.id, &self.served.name);
        let _ = timeout(YIELD_TIMEOUT, self.announcer.bus.unsubscribe(vec![call, all])).await;
    }

    /// Unsubscribes from the calls, and removes the entry.
    pub(crate) async fn withdraw(&self) {
        self.unsubscribe().await;
        *self.served.entry.lock() = None;
        let _ = timeout(YIELD_TIMEOUT, self.announcer.forget_entry(&self.served.name)).await;
    }
}
