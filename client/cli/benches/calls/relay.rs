//! The baseline: a TCP relay that forwards whole frames between two clients, and the client at its far end that
//! sends them back. Each is a process of its own: this program, called with [`MARK`].

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::process::ExitCode;

use tokio::net::{TcpListener, TcpStream};

/// Argument that makes the program run as one of these processes.
pub(crate) const MARK: &str = "--relay-child";

/// Size of the response to each request in the role `blocks`, in bytes.
pub(crate) const BLOCK: usize = 64 << 10;
/// Size of a request, in bytes.
pub(crate) const QUESTION: usize = 8;

/// Runs in this role until it is killed.
pub(crate) fn run(role: &str, address: &str) -> ExitCode {
    let result = match role {
        "relay" => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .and_then(|runtime| runtime.block_on(serve())),
        "blocks" => address.parse().map_err(io::Error::other).and_then(hand_out_blocks),
        _ => address.parse().map_err(io::Error::other).and_then(respond),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{role}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Joins the first connection to the second, the third to the fourth, and so on.
async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on {}", listener.local_addr()?);
    loop {
        let (responder, _) = listener.accept().await?;
        let (caller, _) = listener.accept().await?;
        caller.set_nodelay(true)?;
        responder.set_nodelay(true)?;
        tokio::spawn(async move {
            let _ = tokio::try_join!(forward(&caller, &responder), forward(&responder, &caller));
        });
    }
}

async fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        from.readable().await?;
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut written = 0;
        while written < read {
            match to.try_write(&buffer[written..read]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

fn respond(relay: SocketAddr) -> io::Result<()> {
    let mut stream = Blocking::connect(relay)?;
    stream.set_nodelay(true)?;
    eprintln!("listening on {relay}");
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
    }
}

fn hand_out_blocks(relay: SocketAddr) -> io::Result<()> {
    let mut stream = Blocking::connect(relay)?;
    stream.set_nodelay(true)?;
    eprintln!("listening on {relay}");
    let (block, mut questions, mut partial) = (vec![7; BLOCK], vec![0; 64 * QUESTION], 0);
    loop {
        let read = stream.read(&mut questions)?;
        if read == 0 {
            return Ok(());
        }
        partial += read;
        for _ in 0..partial / QUESTION {
            stream.write_all(&block)?;
        }
        partial %= QUESTION;
    }
}
