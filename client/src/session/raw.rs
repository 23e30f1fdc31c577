//! Byte streams to brokers, for tools that write MQTT packets themselves.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::Address;

/// A byte stream to a broker.
pub trait RawStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> RawStream for S {}

/// Connects to a broker without sending anything. Dropping the stream closes the connection.
///
/// # Errors
///
/// The host cannot be resolved or reached.
pub async fn open(address: &Address) -> io::Result<Box<dyn RawStream>> {
    let stream = TcpStream::connect(address.socket()).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
