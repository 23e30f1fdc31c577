//! The device's side of an object: what it publishes comes in here, and requests to it go out.

use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::Mutex;
use rantai_client::object::Emitter;
use rantai_client::session::{Message, Outlet, Publish, Receiver, Unsent};
use rantai_client::wire::Properties;
use rantai_client::wire::device::{DeviceState, DeviceTopic};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::{MethodName, ObjectName, Root};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::events::Events;
use crate::table::{Asked, Said, Table};

/// A device, with the calls to it.
pub(crate) struct Device {
    pub(crate) object: ObjectName,
    table: Mutex<Table>,
    events: Mutex<Events>,
    /// How requests are published, once there is a session.
    link: Mutex<Option<Link>>,
    /// Emits the object's events while this node holds its name; with the number of the task that holds it.
    emitter: Mutex<(u64, Option<Emitter>)>,
}

struct Link {
    outlet: Outlet,
    topic: ByteString,
}

/// Call that waits or is with the device. Dropping it forgets the call.
pub(crate) struct Ticket {
    device: Arc<Device>,
    number: u64,
}

/// Emits the events of the device until it is dropped, unless another one has begun.
pub(crate) struct Emitting {
    device: Arc<Device>,
    number: u64,
}

/// Callbacks of the session by which the node talks with the device.
pub(crate) struct Inbound {
    pub(crate) device: Arc<Device>,
    pub(crate) root: Root,
}

impl Device {
    pub(crate) fn new(object: ObjectName, table: Table, events: Events) -> Arc<Self> {
        let (table, events) = (Mutex::new(table), Mutex::new(events));
        Arc::new(Self { object, table, events, link: Mutex::default(), emitter: Mutex::default() })
    }

    /// Sends a call to the device, now or when it takes one. What comes of it goes to the receiver.
    ///
    /// # Errors
    ///
    /// Those of [`Table::begin`].
    pub(crate) fn begin(self: &Arc<Self>, asked: Asked) -> Result<(Ticket, oneshot::Receiver<Said>), Fault> {
        let (number, said) = self.table.lock().begin(asked)?;
        let ticket = Ticket { device: self.clone(), number };
        self.send();
        Ok((ticket, said))
    }

    /// Publishes requests on `outlet` from now on.
    pub(crate) fn linked(&self, outlet: Outlet, root: &Root) {
        let topic = DeviceTopic::Call.format(root, &self.object).into();
        *self.link.lock() = Some(Link { outlet, topic });
        self.send();
    }

    /// The node cannot talk with the device.
    pub(crate) fn unlinked(&self, reason: &str) {
        *self.link.lock() = None;
        self.table.lock().disappeared(reason);
    }

    /// No state has come by now.
    pub(crate) fn assume_offline(&self) {
        self.table.lock().assume_offline();
    }

    /// Emits its events by `emitter`.
    pub(crate) fn emit_by(self: &Arc<Self>, emitter: Emitter) -> Emitting {
        let mut current = self.emitter.lock();
        *current = (current.0 + 1, Some(emitter));
        Emitting { device: self.clone(), number: current.0 }
    }

    /// Returns what `rpc.stats` says of the device.
    pub(crate) fn report(&self) -> Value {
        let mut report = self.table.lock().report();
        report["events"] = Value::Object(self.events.lock().report());
        report
    }

    /// Publishes what the device takes now.
    fn send(&self) {
        let Some((outlet, topic)) =
            self.link.lock().as_ref().map(|link| (link.outlet.clone(), link.topic.clone()))
        else {
            return;
        };
        loop {
            let Some(outgoing) = self.table.lock().next_request(Instant::now()) else { return };
            let properties = Properties { expiry: Some(outgoing.expiry), ..Properties::default() };
            let publish = Publish::new(topic.clone(), outgoing.payload).properties(properties).once();
            if let Err(error) = outlet.send_now(publish, outgoing.number.into()) {
                // The next state, or the next call, tries again.
                return self.table.lock().settled(outgoing.number, error);
            }
        }
    }

    fn event(&self, event: &MethodName, message: &Message) {
        let Some(emitter) = self.emitter.lock().1.clone() else { return };
        let passed =
            self.events.lock().pass(event.as_str(), &message.payload, message.retain, Instant::now());
        let Some(passed) = passed else { return };
        let sent = if passed.is_state {
            emitter.state(event.as_str(), &passed.value)
        } else {
            emitter.emit(event.as_str(), &passed.value)
        };
        if let Err(fault) = sent {
            tracing::debug!("{}: {fault}", self.object);
        }
    }
}

impl Receiver for Inbound {
    fn disconnected(&mut self) {
        self.device.table.lock().disconnected();
    }

    fn message(&mut self, message: Message) {
        let device = &self.device;
        match DeviceTopic::parse(&self.root, &device.object, &message.topic) {
            Some(DeviceTopic::State) => {
                let state = DeviceState::read(&message.payload);
                tracing::debug!("{}: the device says {state:?}", device.object);
                device.table.lock().changed(state);
            }
            // A retained one is a copy of an old answer.
            Some(DeviceTopic::Reply) if !message.retain => device.table.lock().answered(&message.payload),
            Some(DeviceTopic::Event(event)) => return device.event(&event, &message),
            _ => return,
        }
        device.send();
    }

    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        let Err(error) = result else { return };
        let number = u64::try_from(token).expect("tokens are numbers of calls");
        self.device.table.lock().settled(number, error);
        self.device.send();
    }
}

impl Ticket {
    /// Ends the call, as its time is over, and returns what its caller is told.
    pub(crate) fn run_out(self) -> Fault {
        self.device.table.lock().run_out(self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.device.table.lock().forget(self.number);
        // There may be room for another one.
        self.device.send();
    }
}

impl Drop for Emitting {
    fn drop(&mut self) {
        // The next task of the object may have begun before this one has ended.
        let mut current = self.device.emitter.lock();
        if current.0 == self.number {
            current.1 = None;
        }
    }
}
