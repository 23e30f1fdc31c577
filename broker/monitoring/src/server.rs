//! HTTP server with a thread of its own, so that it answers also if the broker's thread does not.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rantai_broker::{HttpSettings, Monitor, Readings};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::{Format, text};

/// Time within which the broker's thread has to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Time for which an answer of the broker is used again, so that many requests cost it no more than a few.
const FRESH: Duration = Duration::from_millis(250);
/// Time limit for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time limit for a connection as a whole.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
/// Maximum size of the head of a request, in bytes.
const HEAD_BYTES: usize = 8 << 10;
/// Pause after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);
/// Content type of short answers.
const PLAIN: &str = "text/plain; charset=utf-8";

/// A running server for metrics and health. Dropping it closes its socket.
///
/// Each connection carries one request, and has 15 seconds for it and its answer. The broker is asked four times a second at
/// most, however many requests there are.
#[derive(Debug)]
pub struct MonitoringServer {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl MonitoringServer {
    /// Binds the address, and serves on a thread of its own.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or there is no thread.
    pub fn start(settings: HttpSettings, monitor: Monitor) -> io::Result<Self> {
        let listener = StdListener::bind(settings.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let source = Arc::new(Source { monitor, last: Mutex::default() });
        thread::Builder::new().name("rantai-http".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, source, settings.connections) => {}
                    // An error: the server was dropped.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, _stop: stop })
    }

    /// Returns the address, with the port that was actually bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, source: Arc<Source>, connections: usize) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("no HTTP connection was accepted: {error}");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Without a place it is closed.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let source = source.clone();
        tokio::spawn(async move {
            let _ = timeout(CONNECTION_TIME, serve(stream, source)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, source: Arc<Source>) {
    let service = service_fn(|request: Request<Incoming>| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(source.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("HTTP: {error}");
    }
}

/// Readings, or the reason why there are none.
type Answer = Result<Arc<Readings>, Arc<str>>;

/// The broker, and its last answer.
struct Source {
    monitor: Monitor,
    last: Mutex<Option<(Instant, Answer)>>,
}

impl Source {
    /// Returns readings that are no older than [`FRESH`].
    async fn readings(&self) -> Answer {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match timeout(ANSWER, self.monitor.readings()).await {
            Ok(Ok(readings)) => Ok(Arc::new(readings)),
            Ok(Err(error)) => Err(error.to_string().into()),
            Err(_) => {
                Err(format!("the broker's thread has not answered within {} s", ANSWER.as_secs()).into())
            }
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return reply(StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /healthz and /readyz\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let readings = match self.readings().await {
            Ok(readings) => readings,
            Err(reason) => {
                return reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{reason}\n"));
            }
        };
        match path {
            "/metrics" => {
                let accept = request.headers().get(hyper::header::ACCEPT);
                let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
                reply(StatusCode::OK, format.content_type(), text(&readings, format))
            }
            "/readyz" if !readings.not_ready.is_empty() => {
                let reasons = readings.not_ready.join("\n") + "\n";
                reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reasons)
            }
            _ => reply(StatusCode::OK, PLAIN, "ok\n"),
        }
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
