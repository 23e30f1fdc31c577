//! Streams of items that clients read one by one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::Items;
use rantai_client::shares::{HeldPlace, Shares};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::json;
use serde_json::Value;
use uuid::Uuid;

use crate::exception::Raised;
use crate::value::PyValue;

/// Open streams by their ids, which nobody can guess.
#[derive(Debug)]
pub(crate) struct Streams {
    open: Mutex<HashMap<String, Open>>,
    places: Arc<Shares<IpAddr>>,
}

#[derive(Debug)]
struct Open {
    /// Connection whose end closes the stream.
    connection: u64,
    items: Arc<tokio::sync::Mutex<Items<Value>>>,
    _place: HeldPlace<IpAddr>,
}

impl Streams {
    pub(crate) fn new(places: Arc<Shares<IpAddr>>) -> Self {
        Self { open: Mutex::default(), places }
    }

    /// Opens a stream; returns its id.
    ///
    /// # Errors
    ///
    /// The address has its share of the streams.
    pub(crate) fn open(&self, connection: u64, peer: IpAddr, items: Items<Value>) -> Result<String, Raised> {
        let place = self.places.take(&peer).ok_or_else(|| {
            let text = "too many streams are open; read or close others first";
            Raised::from(Fault { message: text.to_owned(), ..Fault::busy(5_000) })
        })?;
        let id = Uuid::new_v4().to_string();
        let items = Arc::new(tokio::sync::Mutex::new(items));
        self.open.lock().insert(id.clone(), Open { connection, items, _place: place });
        Ok(id)
    }

    /// Returns the next item of a stream.
    ///
    /// # Errors
    ///
    /// `StopIteration` after the last item, or the error of the object; both close the stream. The stream is not open.
    pub(crate) async fn next(&self, id: &str) -> Result<PyValue, Raised> {
        let items = self.open.lock().get(id).map(|open| open.items.clone());
        let items = items.ok_or_else(|| Raised::pyro("PyroError", "item stream terminated"))?;
        let next = items.lock().await.next().await;
        match next {
            Some(Ok(item)) => Ok(PyValue::from_json(json::portable(item))),
            Some(Err(error)) => {
                self.close(id);
                Err(error.into())
            }
            None => {
                self.close(id);
                Err(Raised::stop_iteration())
            }
        }
    }

    /// Closes a stream, if it is open; its method is cancelled.
    pub(crate) fn close(&self, id: &str) {
        let closed = self.open.lock().remove(id);
        drop(closed);
    }

    /// Closes the streams of a connection.
    pub(crate) fn close_all_of(&self, connection: u64) {
        let mut open = self.open.lock();
        let closed: Vec<Open> =
            open.extract_if(|_, stream| stream.connection == connection).map(|(_, s)| s).collect();
        drop(open);
        drop(closed);
    }

    /// Returns the number of open streams.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }
}
