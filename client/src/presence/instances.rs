//! End of a call to every instance of an object.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::timeout;

use super::watch::ObjectWatch;
use crate::client::Client;
use crate::wire::name::ObjectName;

/// Instances of one object, as far as the registry shows them.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    watch: Option<Arc<ObjectWatch>>,
}

impl Instances {
    /// Waits until every node that serves the object is among `nodes`. Never completes without any, or if the registry is not
    /// readable. Cancel safe.
    pub(crate) async fn have_answered(
        &mut self,
        client: &Client,
        object: &ObjectName,
        nodes: &BTreeSet<String>,
    ) {
        if nodes.is_empty() || self.wait_for(client, object, nodes).await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    async fn wait_for(
        &mut self,
        client: &Client,
        object: &ObjectName,
        nodes: &BTreeSet<String>,
    ) -> Option<()> {
        let watch = match &self.watch {
            Some(watch) => watch.clone(),
            None => self.watch.insert(client.presence().watch(client, object).await.ok()?).clone(),
        };
        let mut changes = watch.changes();
        loop {
            watch.follow_nodes(client, None).await.ok()?;
            changes.borrow_and_update();
            // Entries and states that are retained arrive one after the other.
            if let Ok(another) = timeout(watch.quiet(), changes.changed()).await {
                another.ok()?;
                continue;
            }
            let have_answered = watch.look(|watched| {
                let mut serving = watched.view.finishers(object).peekable();
                serving.peek().is_some() && serving.all(|node| nodes.contains(node.as_str()))
            });
            if have_answered {
                return Some(());
            }
            changes.changed().await.ok()?;
        }
    }
}
