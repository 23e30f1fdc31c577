//! Connections of clients: handshake, calls one after the other, and one-way calls beside them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::exception::Raised;
use crate::frame::{Flags, Frame, FrameError, Kind, STREAM_ID, Version};
use crate::gateway::{Counts, GatewayState, Origin};
use crate::invoke::{Done, Failed};
use crate::link::Link;
use crate::serializer::Serializer;
use crate::value::PyValue;

/// Serves a connection until it ends or `stop` is true. A call that runs then is finished.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    gateway: Arc<GatewayState>,
    stream: S,
    origin: Origin,
    stop: watch::Receiver<bool>,
) -> Result<(), FrameError> {
    let link = Link::new(stream, gateway.frames(), gateway.key.clone());
    let connection = origin.connection;
    let mut session = Session { gateway, link, origin, stop };
    let ended = session.run().await;
    session.gateway.streams.close_all_of(connection);
    ended
}

struct Session<S> {
    gateway: Arc<GatewayState>,
    link: Link<S>,
    origin: Origin,
    stop: watch::Receiver<bool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> Result<(), FrameError> {
        let limit = self.gateway.limits.connect();
        let Some(first) = self.read(Some(limit), limit).await? else { return Ok(()) };
        if first.kind != Kind::Connect {
            return Err(FrameError::NotPyro);
        }
        self.origin.version = first.version;
        let connected = self.connect(&first).await;
        let is_connected = connected.kind == Kind::ConnectOk;
        self.write(&connected).await?;
        if !is_connected {
            return Ok(());
        }
        let (idle, arrival) = (self.gateway.limits.idle(), self.gateway.limits.frame());
        while let Some(frame) = self.read(idle, arrival).await? {
            if frame.version != self.origin.version {
                return Err(FrameError::NotPyro);
            }
            match frame.kind {
                Kind::Ping => {
                    let pong = Frame { data: b"pong"[..].into(), ..reply(&frame, Kind::Ping) };
                    self.write(&pong).await?;
                }
                Kind::Invoke if frame.flags.has(Flags::ONEWAY) => self.oneway(frame).await,
                Kind::Invoke => {
                    let gateway = self.gateway.clone();
                    let answer = tokio::select! {
                        answer = answer(&gateway, &self.origin, &frame) => answer,
                        // Ends the call, too.
                        () = self.link.closed() => return Ok(()),
                    };
                    self.write(&answer).await?;
                }
                _ => return Err(FrameError::NotPyro),
            }
        }
        Ok(())
    }

    /// Reads a frame; `None` if the client has ended the connection, or the gateway ends.
    async fn read(&mut self, idle: Option<Duration>, arrival: Duration) -> Result<Option<Frame>, FrameError> {
        let read = tokio::select! {
            read = self.link.read(idle, arrival) => read,
            _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
        };
        match read {
            Ok(frame) => Ok(Some(frame)),
            Err(FrameError::Closed) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), FrameError> {
        self.link.write(frame, self.gateway.limits.send()).await
    }

    /// Creates the reply to a handshake.
    async fn connect(&self, frame: &Frame) -> Frame {
        match self.handshake(frame).await {
            Ok(connected) => connected,
            Err(raised) => {
                // In a serializer that every client has, as that of the client may be refused.
                let text = Serializer::Serpent.write(&PyValue::Str(raised.message)).unwrap_or_default();
                let serializer = Serializer::Serpent.number(frame.version);
                Frame { serializer, data: text.into(), ..reply(frame, Kind::ConnectFail) }
            }
        }
    }

    async fn handshake(&self, frame: &Frame) -> Result<Frame, Raised> {
        let serializer = Serializer::of(frame.version, frame.serializer)?;
        let hello = serializer.read(&frame.data)?;
        let handshake = PyValue::text("hello");
        if frame.version == Version::Four && !frame.flags.has(Flags::META_ON_CONNECT) {
            let data = serializer.write(&handshake)?.into();
            return Ok(Frame { data, ..reply(frame, Kind::ConnectOk) });
        }
        let object = hello.get("object").and_then(PyValue::as_str);
        let object = object.ok_or_else(|| Raised::pyro("ProtocolError", "the handshake names no object"))?;
        let metadata = self.gateway.metadata(object).await?;
        let data = serializer.write(&PyValue::dict([("handshake", handshake), ("meta", metadata)]))?.into();
        let flags = match frame.version {
            Version::Four => Flags::META_ON_CONNECT,
            Version::Five => Flags::default(),
        };
        Ok(Frame { flags, data, ..reply(frame, Kind::ConnectOk) })
    }

    /// Starts a one-way call; waits while as many run as may. It goes on when the connection ends.
    async fn oneway(&mut self, frame: Frame) {
        let oneways = self.gateway.oneways.clone();
        let place = oneways.acquire_owned().await.expect("the places are never closed");
        let (gateway, origin) = (self.gateway.clone(), self.origin);
        tokio::spawn(async move {
            let _place = place;
            let Ok(serializer) = Serializer::of(frame.version, frame.serializer) else { return };
            if let Err((raised, place)) = gateway.carry_out(&origin, serializer, &frame).await {
                tracing::debug!("a one-way call failed: {place}: {}", raised.message);
            }
        });
    }
}

/// Carries out the call of a message; returns the reply.
async fn answer(gateway: &GatewayState, origin: &Origin, frame: &Frame) -> Frame {
    let serializer = match Serializer::of(frame.version, frame.serializer) {
        Ok(serializer) => serializer,
        Err(error) => {
            return failed(frame, Serializer::Serpent, (error.into(), "the Pyro gateway".to_owned()));
        }
    };
    let (value, flags) = match gateway.carry_out(origin, serializer, frame).await {
        Ok(Done::Value(value)) => (value, Flags::default()),
        Ok(Done::Batch(results)) => (results, Flags::BATCH),
        Ok(Done::Stream(id)) => {
            // An exception for clients that know no streams, as Pyro does.
            let raised = Raised::pyro("ProtocolError", "result of call is an iterator");
            let mut answer = failed(frame, serializer, (raised, "the Pyro gateway".to_owned()));
            answer.flags = answer.flags.with(Flags::ITEM_STREAM);
            answer.annotations.push((STREAM_ID, id.into_bytes().into()));
            return answer;
        }
        Err(error) => return failed(frame, serializer, error),
    };
    match serializer.write(&value) {
        Ok(data) => Frame { flags, data: data.into(), ..reply(frame, Kind::Result) },
        Err(error) => failed(frame, serializer, (error.into(), "the Pyro gateway".to_owned())),
    }
}

/// Creates the reply that lets the client raise an exception.
fn failed(frame: &Frame, serializer: Serializer, (raised, place): Failed) -> Frame {
    let exception = raised.to_python(frame.version, &place);
    // Everything in it comes from JSON, and so every serializer can write it.
    let data = serializer.write(&exception).unwrap_or_default().into();
    let serializer = serializer.number(frame.version);
    Frame { serializer, flags: Flags::EXCEPTION, data, ..reply(frame, Kind::Result) }
}

/// Creates an empty reply to a message.
fn reply(frame: &Frame, kind: Kind) -> Frame {
    Frame { kind, flags: Flags::default(), annotations: Vec::new(), data: bytes::Bytes::new(), ..*frame }
}

/// Counts an error that ended a connection; returns whether it is the fault of the client.
pub(crate) fn count(counts: &Counts, error: &FrameError) -> bool {
    match error {
        FrameError::Io(_) | FrameError::Closed => false,
        FrameError::TimedOut => {
            Counts::one(&counts.too_slow);
            true
        }
        _ => {
            Counts::one(&counts.malformed);
            true
        }
    }
}
