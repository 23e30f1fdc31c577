//! Subscriptions to messages on any topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::session::{Message, Outlet};
use crate::wire::topic::matches;

/// Maximum number of messages queued for a slow reader.
const MAX_QUEUED_MESSAGES: usize = 4_096;

/// Routes received messages to subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: Mutex<Vec<Listener>>,
    last: AtomicU64,
}

#[derive(Debug)]
struct Listener {
    number: u64,
    filters: Vec<String>,
    sink: Sink,
}

/// Receiver of the messages of one subscription.
#[derive(Debug)]
pub(crate) enum Sink {
    Channel { sender: mpsc::Sender<Message>, missed: Arc<AtomicU64> },
    View(Arc<dyn Follow>),
}

/// View of retained messages. Called by the task that reads the socket: must not block.
pub(crate) trait Follow: std::fmt::Debug + Send + Sync {
    /// Handles a message on one of its topics.
    fn message(&self, message: &Message);

    /// Handles the loss of the connection: the view starts anew on the next one.
    fn disconnected(&self);
}

/// Registration of a listener. Dropping it removes the listener, and unsubscribes from filters that no other listener needs.
#[derive(Debug)]
pub(crate) struct ListenerPlace {
    listeners: Arc<Listeners>,
    outlet: Outlet,
    number: u64,
}

impl Drop for ListenerPlace {
    fn drop(&mut self) {
        let mut list = self.listeners.list.lock();
        let Some(index) = list.iter().position(|l| l.number == self.number) else { return };
        let gone = list.swap_remove(index);
        let unused = gone.filters.into_iter().filter(|f| !list.iter().any(|l| l.filters.contains(f)));
        let unused: Vec<String> = unused.collect();
        drop(list);
        self.outlet.unsubscribe_now(unused);
    }
}

impl Listeners {
    pub(crate) fn add(self: &Arc<Self>, outlet: Outlet, filters: Vec<String>, sink: Sink) -> ListenerPlace {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.list.lock().push(Listener { number, filters, sink });
        ListenerPlace { listeners: self.clone(), outlet, number }
    }

    /// Adds filters to an existing listener.
    pub(crate) fn extend(&self, place: &ListenerPlace, filters: &[String]) {
        if let Some(listener) = self.list.lock().iter_mut().find(|l| l.number == place.number) {
            listener.filters.extend_from_slice(filters);
        }
    }

    pub(crate) fn message(&self, message: &Message) {
        for listener in self.list.lock().iter() {
            if !listener.filters.iter().any(|filter| matches(filter, &message.topic)) {
                continue;
            }
            match &listener.sink {
                Sink::View(view) => view.message(message),
                Sink::Channel { sender, missed } => {
                    // Copied, because a small queued message must not keep the whole buffer it was read into.
                    let message = Message {
                        topic: String::from(&*message.topic).into(),
                        payload: message.payload.to_vec().into(),
                        ..message.clone()
                    };
                    if sender.try_send(message).is_err() {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Handles the loss of the connection: views start anew on the next one.
    pub(crate) fn disconnected(&self) {
        for listener in self.list.lock().iter() {
            if let Sink::View(view) = &listener.sink {
                view.disconnected();
            }
        }
    }
}

/// Stream of the messages on some topics, in order, across reconnects.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) receiver: mpsc::Receiver<Message>,
    pub(crate) missed: Arc<AtomicU64>,
    pub(crate) _place: ListenerPlace,
}

impl Subscription {
    pub(crate) fn channel() -> (Sink, mpsc::Receiver<Message>, Arc<AtomicU64>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let missed = Arc::new(AtomicU64::new(0));
        (Sink::Channel { sender, missed: missed.clone() }, receiver, missed)
    }

    /// Returns the next message; `None` when the client has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }

    /// Returns the next message if it is queued already.
    pub fn try_next(&mut self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Returns the number of messages dropped because 4,096 were queued.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}
