//! gRPC with tonic. The code corresponds to what protoc generates from:
//!
//! ```proto
//! package rivals;
//! message Text { string text = 1; }
//! service Echo { rpc Echo(Text) returns (Text); }
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use rantai_load::failure::Failure;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::load::{Caller, TEXT};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "rivals.Echo";
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(grpc.unary(Method, request).await)
        })
    }
}

/// Implementation of the method.
struct Method;

impl UnaryService<Text> for Method {
    type Response = Text;
    type Future = Ready<Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// Serves until the process ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    eprintln!("serving on {}", incoming.local_addr()?);
    Server::builder().add_service(EchoServer).serve_with_incoming(incoming).await.map_err(failure)
}

/// Client of the echo service.
#[derive(Clone)]
pub(crate) struct Echo {
    grpc: tonic::client::Grpc<Channel>,
    text: Text,
}

impl Echo {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failure)?;
        let channel = endpoint.tcp_nodelay(true).connect().await.map_err(failure)?;
        Ok(Self { grpc: tonic::client::Grpc::new(channel), text: Text { text: "x".repeat(TEXT) } })
    }
}

impl Caller for Echo {
    async fn call(&self) -> Result<(), Failure> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(failure)?;
        let path = PathAndQuery::from_static("/rivals.Echo/Echo");
        let request = Request::new(self.text.clone());
        let answer = grpc.unary(request, path, ProstCodec::<Text, Text>::default()).await.map_err(failure)?;
        if *answer.get_ref() == self.text { Ok(()) } else { Err(Failure::new("another text came back")) }
    }
}

fn failure(error: impl std::error::Error) -> Failure {
    Failure::new(error.to_string())
}
