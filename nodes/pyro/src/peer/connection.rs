//! Connection to a Pyro server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::server::Dialing;
use crate::frame::{CORRELATION, Flags, Frame, FrameError, Kind, STREAM_ID, Version};
use crate::link::Link;
use crate::serializer::{PyArguments, SerializeError, Serializer};
use crate::value::PyValue;

/// Object of every Pyro server, which tells about the others.
pub(super) const DAEMON: &str = "Pyro.Daemon";
/// Time limit for a connection, for the handshake, and for a ping.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of methods of an object that are served on the bus.
const MAX_METHODS: usize = 500;

/// Connection to a Pyro server, for one call at a time.
pub(super) struct PyroConnection {
    link: Link<TcpStream>,
    version: Version,
    sequence: u16,
    limits: crate::settings::PyroLimits,
}

/// What a server says about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) methods: BTreeSet<String>,
    pub(super) oneway: BTreeSet<String>,
    pub(super) attributes: BTreeSet<String>,
}

/// Reply to a call.
#[derive(Debug)]
pub(super) enum PyroReply {
    Value(PyValue),
    Exception(PyValue),
    /// Id of a stream of items.
    Stream(String),
}

/// Error of a connection, which is of no use after it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Serialize(#[from] SerializeError),
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    #[error("the server answers with something else than a reply")]
    Unexpected,
}

impl PeerError {
    /// Returns whether the server may speak the other version.
    pub(super) fn may_be_version(&self) -> bool {
        matches!(self, Self::Frame(_))
    }
}

impl PyroConnection {
    /// Connects, and asks for the metadata of an object.
    pub(super) async fn open(
        address: SocketAddr,
        object: &str,
        version: Version,
        dialing: &Dialing,
    ) -> Result<(Self, Metadata), PeerError> {
        let opened = async {
            let stream = TcpStream::connect(address).await.map_err(PeerError::Connect)?;
            let _ = stream.set_nodelay(true);
            let key = dialing.key.clone().filter(|_| version == Version::Four);
            let link = Link::new(stream, dialing.frames(), key);
            let mut connection = Self { link, version, sequence: 0, limits: dialing.limits };
            let metadata = connection.handshake(object).await?;
            Ok((connection, metadata))
        };
        timeout(PATIENCE, opened).await.map_err(|_| PeerError::TimedOut)?
    }

    /// Returns whether the server has neither closed the connection nor sent anything since the last reply.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        matches!(self.link.stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn handshake(&mut self, object: &str) -> Result<Metadata, PeerError> {
        let hello = PyValue::dict([("handshake", PyValue::text("hello")), ("object", PyValue::text(object))]);
        let flags = match self.version {
            Version::Four => Flags::META_ON_CONNECT,
            Version::Five => Flags::default(),
        };
        let data = Serializer::Serpent.write(&hello)?;
        let reply = self.exchange(Kind::Connect, flags, data, None).await?;
        let value = self.read(&reply)?;
        match reply.kind {
            Kind::ConnectOk => {}
            Kind::ConnectFail => {
                let text = value.as_str().unwrap_or("no reason is given").chars().take(200).collect();
                return Err(PeerError::Refused(text));
            }
            _ => return Err(PeerError::Unexpected),
        }
        if let Some(metadata) = value.get("meta") {
            return Ok(Metadata::read(metadata));
        }
        // A Pyro4 server whose METADATA is off.
        let asked = (vec![PyValue::text(object)], Vec::new());
        match self.invoke(DAEMON, "get_metadata", asked, false, None).await? {
            PyroReply::Value(metadata) => Ok(Metadata::read(&metadata)),
            _ => Err(PeerError::Unexpected),
        }
    }

    /// Calls a method, without a time limit. When cancelled, the connection is of no use any more.
    pub(super) async fn invoke(
        &mut self,
        object: &str,
        method: &str,
        (args, kwargs): PyArguments,
        oneway: bool,
        correlation: Option<[u8; CORRELATION]>,
    ) -> Result<PyroReply, PeerError> {
        let kwargs = kwargs.into_iter().map(|(name, value)| (PyValue::Str(name), value)).collect();
        let call = PyValue::Tuple(vec![
            PyValue::text(object),
            PyValue::text(method),
            PyValue::Tuple(args),
            PyValue::Dict(kwargs),
        ]);
        let data = Serializer::Serpent.write(&call)?;
        if oneway {
            self.send(Kind::Invoke, Flags::ONEWAY, data, correlation).await?;
            return Ok(PyroReply::Value(PyValue::None));
        }
        let reply = self.exchange(Kind::Invoke, Flags::default(), data, correlation).await?;
        if reply.kind != Kind::Result {
            return Err(PeerError::Unexpected);
        }
        if reply.flags.has(Flags::ITEM_STREAM) {
            let id = reply.annotation(STREAM_ID).and_then(|id| std::str::from_utf8(id).ok());
            return id.map(|id| PyroReply::Stream(id.to_owned())).ok_or(PeerError::Unexpected);
        }
        let value = self.read(&reply)?;
        Ok(if reply.flags.has(Flags::EXCEPTION) {
            PyroReply::Exception(value)
        } else {
            PyroReply::Value(value)
        })
    }

    /// Checks whether the server answers.
    pub(super) async fn ping(&mut self) -> Result<(), PeerError> {
        let ping = self.exchange(Kind::Ping, Flags::default(), b"ping".to_vec(), None);
        let reply = timeout(PATIENCE, ping).await.map_err(|_| PeerError::TimedOut)??;
        if reply.kind == Kind::Ping { Ok(()) } else { Err(PeerError::Unexpected) }
    }

    fn read(&self, reply: &Frame) -> Result<PyValue, PeerError> {
        // A server answers in the serializer of the request, but tells of some errors of the protocol in its own.
        Ok(Serializer::of(self.version, reply.serializer)?.read(&reply.data)?)
    }

    async fn send(
        &mut self,
        kind: Kind,
        flags: Flags,
        data: Vec<u8>,
        correlation: Option<[u8; CORRELATION]>,
    ) -> Result<(), PeerError> {
        self.sequence = self.sequence.wrapping_add(1);
        let frame = Frame {
            version: self.version,
            kind,
            serializer: Serializer::Serpent.number(self.version),
            flags,
            sequence: self.sequence,
            correlation,
            annotations: Vec::new(),
            data: data.into(),
        };
        Ok(self.link.write(&frame, self.limits.send()).await?)
    }

    async fn exchange(
        &mut self,
        kind: Kind,
        flags: Flags,
        data: Vec<u8>,
        correlation: Option<[u8; CORRELATION]>,
    ) -> Result<Frame, PeerError> {
        self.send(kind, flags, data, correlation).await?;
        let reply = self.link.read(None, self.limits.frame()).await?;
        if reply.version != self.version || reply.sequence != self.sequence {
            return Err(PeerError::Unexpected);
        }
        Ok(reply)
    }
}

impl Metadata {
    fn read(metadata: &PyValue) -> Self {
        let names = |name: &str| {
            let names = metadata.get(name).and_then(PyValue::items).unwrap_or_default();
            names.iter().filter_map(PyValue::as_str).take(MAX_METHODS).map(ToOwned::to_owned).collect()
        };
        Self { methods: names("methods"), oneway: names("oneway"), attributes: names("attrs") }
    }
}
