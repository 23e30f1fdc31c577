//! NATS: request and reply over nats-server, at most once. The text is sent as raw bytes, without any encoding.

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rantai_load::failure::Failure;

use crate::load::{Caller, TEXT};

const SUBJECT: &str = "echo.echo";

/// Echoes requests until the connection ends.
pub(crate) async fn serve(url: &str) -> Result<(), Failure> {
    let client = async_nats::connect(url).await.map_err(failure)?;
    let mut requests = client.subscribe(SUBJECT).await.map_err(failure)?;
    client.flush().await.map_err(failure)?;
    eprintln!("serving {SUBJECT}");
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await.map_err(failure)?;
        }
    }
    Ok(())
}

/// Client of the echo service.
#[derive(Clone)]
pub(crate) struct Echo {
    client: Client,
    text: Bytes,
}

impl Echo {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        let client = async_nats::connect(url).await.map_err(failure)?;
        Ok(Self { client, text: Bytes::from(vec![b'x'; TEXT]) })
    }
}

impl Caller for Echo {
    async fn call(&self) -> Result<(), Failure> {
        let subject = Subject::from_static(SUBJECT);
        let answer = self.client.request(subject, self.text.clone()).await.map_err(failure)?;
        if answer.payload == self.text { Ok(()) } else { Err(Failure::new("another text came back")) }
    }
}

fn failure(error: impl std::error::Error) -> Failure {
    Failure::new(error.to_string())
}
