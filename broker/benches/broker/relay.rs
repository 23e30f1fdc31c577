//! Baseline: a TCP relay that forwards complete length-prefixed frames between two clients. It uses the same runtime
//! as the broker, so that the ratio shows the cost of MQTT.

use std::io;

use rantai_load::packet::Framing;
use tokio::net::{TcpListener, TcpStream};

/// Connects the first connection to the second, the third to the fourth, and so on, forever.
pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (caller, _) = listener.accept().await?;
        let (responder, _) = listener.accept().await?;
        caller.set_nodelay(true)?;
        responder.set_nodelay(true)?;
        tokio::spawn(async move {
            // A failed pair ends only itself; its clients detect the failure.
            let _ = tokio::try_join!(forward(&caller, &responder), forward(&responder, &caller));
        });
    }
}

/// Forwards complete frames in one direction: all frames of a read in one write.
async fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut end = 0;
    loop {
        from.readable().await?;
        match from.try_read(&mut buffer[end..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => end += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut whole = 0;
        while let Some((_, length)) = Framing::Length.measure(&buffer[whole..end]) {
            if whole + length > end {
                break;
            }
            whole += length;
        }
        let mut written = 0;
        while written < whole {
            match to.try_write(&buffer[written..whole]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        buffer.copy_within(whole..end, 0);
        end -= whole;
        if end == buffer.len() {
            buffer.resize(end * 2, 0);
        }
    }
}
