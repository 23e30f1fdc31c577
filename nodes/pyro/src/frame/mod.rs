//! Frames of Pyro4 and Pyro5: a header, annotations, and data.

mod five;
mod four;

use std::io;

use bytes::Bytes;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use ring::hmac;

/// Length of a correlation id.
pub(crate) const CORRELATION: usize = 16;
/// Maximum number of annotations of a frame.
const MAX_ANNOTATIONS: usize = 32;
/// Maximum size of all annotations of a frame, in bytes.
const MAX_ANNOTATIONS_BYTES: usize = 64 << 10;
/// Annotation with the id of a stream.
pub(crate) const STREAM_ID: [u8; 4] = *b"STRM";

/// Version of Pyro whose protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// Pyro4: protocol version 48.
    Four,
    /// Pyro5: protocol version 502.
    Five,
}

impl Version {
    /// Returns the name of the Python package, which is that of the classes of errors and URIs, too.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Four => "Pyro4",
            Self::Five => "Pyro5",
        }
    }
}

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect = 1,
    ConnectOk = 2,
    ConnectFail = 3,
    Invoke = 4,
    Result = 5,
    Ping = 6,
}

impl Kind {
    fn read(number: u16) -> Result<Self, FrameError> {
        Ok(match number {
            1 => Self::Connect,
            2 => Self::ConnectOk,
            3 => Self::ConnectFail,
            4 => Self::Invoke,
            5 => Self::Result,
            6 => Self::Ping,
            other => return Err(FrameError::Kind(other)),
        })
    }
}

/// Flags of a message, with the bits that Pyro4 gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const EXCEPTION: Self = Self(1);
    const COMPRESSED: Self = Self(1 << 1);
    pub(crate) const ONEWAY: Self = Self(1 << 2);
    pub(crate) const BATCH: Self = Self(1 << 3);
    /// Pyro4 alone: the handshake asks for the metadata of the object. Pyro5 always sends it.
    pub(crate) const META_ON_CONNECT: Self = Self(1 << 4);
    pub(crate) const ITEM_STREAM: Self = Self(1 << 5);
    /// The arguments are a `SerializedBlob`.
    pub(crate) const KEEP_SERIALIZED: Self = Self(1 << 6);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    #[must_use]
    pub(crate) fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    fn without(self, flag: Self) -> Self {
        Self(self.0 & !flag.0)
    }
}

/// Annotation: four ASCII characters and bytes.
pub(crate) type Annotation = ([u8; 4], Bytes);

/// Message, with its data inflated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    /// Serializer of the data, numbered by the version.
    pub(crate) serializer: u16,
    pub(crate) flags: Flags,
    /// Number of the request, which the reply repeats.
    pub(crate) sequence: u16,
    pub(crate) correlation: Option<[u8; CORRELATION]>,
    /// Annotations but those with a correlation id or a message digest.
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) data: Bytes,
}

/// Limits on received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameLimits {
    /// Maximum size of data and annotations as received, and of the inflated data, in bytes.
    pub(crate) bytes: usize,
}

/// Error of reading a frame. The connection is of no use after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("not a message of Pyro")]
    NotPyro,
    #[error("protocol version {0}; versions 48 (Pyro4) and 502 (Pyro5) are supported")]
    Version(u16),
    #[error("the header is damaged")]
    Header,
    #[error("message type {0} is unknown")]
    Kind(u16),
    #[error("a message of {size} bytes; {limit} are the most")]
    TooLarge {
        /// Size of the message.
        size: usize,
        /// Maximum size.
        limit: usize,
    },
    #[error("the annotations are invalid or too large")]
    Annotations,
    #[error("the compressed data are invalid, or more than {0} bytes when inflated")]
    Compressed(usize),
    #[error("the message digest is wrong: client and gateway have different HMAC keys")]
    Digest,
    #[error(
        "the message has no digest: set the HMAC key of the gateway in the client, which has to be Pyro4"
    )]
    NoDigest,
    #[error("the message has a digest, and the gateway has no HMAC key")]
    UnexpectedDigest,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the message did not arrive in time")]
    TimedOut,
    #[error("the connection was closed")]
    Closed,
}

/// Frame as it stands in a buffer.
struct Raw {
    frame: Frame,
    /// Message digest that the frame contains.
    digest: Option<Bytes>,
    /// Size of the whole frame, in bytes.
    size: usize,
}

impl Frame {
    /// Reads the first frame of a buffer; returns it with its size, or `None` if it is not complete yet.
    ///
    /// # Errors
    ///
    /// The bytes are no frame, whether complete or not, or the frame exceeds a limit, or its digest is wrong.
    pub(crate) fn read(
        buffer: &[u8],
        limits: FrameLimits,
        key: Option<&hmac::Key>,
    ) -> Result<Option<(Self, usize)>, FrameError> {
        let known = buffer.len().min(4);
        if buffer[..known] != b"PYRO"[..known] {
            return Err(FrameError::NotPyro);
        }
        let Some(&[high, low]) = buffer.get(4..6) else { return Ok(None) };
        let raw = match u16::from_be_bytes([high, low]) {
            four::VERSION => four::read(buffer, limits)?,
            five::VERSION => five::read(buffer, limits)?,
            other => return Err(FrameError::Version(other)),
        };
        let Some(Raw { mut frame, digest, size }) = raw else { return Ok(None) };
        match (key, digest) {
            (None, None) => {}
            (Some(key), Some(digest)) => {
                hmac::verify(key, &frame.signed(), &digest).map_err(|_| FrameError::Digest)?;
            }
            (Some(_), None) => return Err(FrameError::NoDigest),
            (None, Some(_)) => return Err(FrameError::UnexpectedDigest),
        }
        if frame.flags.has(Flags::COMPRESSED) {
            let inflated = decompress_to_vec_zlib_with_limit(&frame.data, limits.bytes)
                .map_err(|_| FrameError::Compressed(limits.bytes))?;
            frame.data = inflated.into();
            frame.flags = frame.flags.without(Flags::COMPRESSED);
        }
        Ok(Some((frame, size)))
    }

    /// Writes the frame; `key` is the key of its digest, which Pyro4 alone has.
    pub(crate) fn write(&self, key: Option<&hmac::Key>) -> Vec<u8> {
        match self.version {
            Version::Four => four::write(self, key),
            Version::Five => five::write(self),
        }
    }

    /// Returns an annotation.
    pub(crate) fn annotation(&self, name: [u8; 4]) -> Option<&Bytes> {
        self.annotations.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns what the digest is of: the data, and the annotations in the order of their names.
    fn signed(&self) -> Vec<u8> {
        let mut annotations: Vec<(&[u8], &[u8])> =
            self.annotations.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        if let Some(correlation) = &self.correlation {
            annotations.push((&four::CORRELATION_NAME, correlation));
        }
        annotations.sort_unstable();
        let mut signed = self.data.to_vec();
        for (_, value) in annotations {
            signed.extend_from_slice(value);
        }
        signed
    }
}

/// Checks the sizes in a header; returns the size of the whole frame.
fn size(header: usize, annotations: usize, data: usize, limits: FrameLimits) -> Result<usize, FrameError> {
    let size = annotations.saturating_add(data);
    if size > limits.bytes {
        return Err(FrameError::TooLarge { size, limit: limits.bytes });
    }
    if annotations > MAX_ANNOTATIONS_BYTES {
        return Err(FrameError::Annotations);
    }
    Ok(header + size)
}

/// Reads annotations whose lengths have `width` bytes.
fn annotations(mut bytes: &[u8], width: usize) -> Result<Vec<Annotation>, FrameError> {
    let mut annotations: Vec<Annotation> = Vec::new();
    while !bytes.is_empty() {
        let (name, rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::Annotations)?;
        let (length, rest) = rest.split_at_checked(width).ok_or(FrameError::Annotations)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (value, rest) = rest.split_at_checked(length).ok_or(FrameError::Annotations)?;
        let is_known = annotations.iter().any(|(known, _)| known == name);
        if !name.is_ascii() || is_known || annotations.len() == MAX_ANNOTATIONS {
            return Err(FrameError::Annotations);
        }
        annotations.push((*name, Bytes::copy_from_slice(value)));
        bytes = rest;
    }
    Ok(annotations)
}

/// Removes an annotation; returns its value.
fn take(annotations: &mut Vec<Annotation>, name: [u8; 4]) -> Option<Bytes> {
    let place = annotations.iter().position(|(known, _)| *known == name)?;
    Some(annotations.swap_remove(place).1)
}

#[cfg(test)]
mod tests;
