//! HTTP server on its own thread, so that it answers even if the broker's thread does not.

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

/// Maximum time to wait for the broker's thread.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which readings are reused, so that frequent requests do not load the broker.
const MAX_READINGS_AGE: Duration = Duration::from_millis(250);
/// Time limit for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a connection as a whole.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Delay after a failure to accept a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(250);
/// Content type of short answers.
const PLAIN: &str = "text/plain; charset=utf-8";

/// Running server for metrics and health. Dropping it closes its socket.
///
/// Each connection serves one request, and is closed after at most 15 seconds. The broker is asked for readings at
/// most four times a second, regardless of the number of requests.
#[derive(Debug)]
pub struct MonitoringServer {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl MonitoringServer {
    /// Binds the address, and serves on its own thread.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or the thread cannot be started.
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
        let source = Arc::new(ReadingsSource { monitor, last: Mutex::default() });
        thread::Builder::new().name("rantai-http".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, source, settings.connections) => {}
                    // Fails if the server was dropped.
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

async fn accept(listener: TcpListener, source: Arc<ReadingsSource>, connections: usize) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("no HTTP connection was accepted: {error}");
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // A connection above the limit is closed.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let source = source.clone();
        tokio::spawn(async move {
            let _ = timeout(CONNECTION_TIMEOUT, serve(stream, source)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, source: Arc<ReadingsSource>) {
    let service = service_fn(|request: Request<Incoming>| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(source.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("HTTP: {error}");
    }
}

/// Readings, or the error message if the broker did not answer.
type ReadingsResult = Result<Arc<Readings>, Arc<str>>;

/// Monitor of the broker, and its last answer.
struct ReadingsSource {
    monitor: Monitor,
    last: Mutex<Option<(Instant, ReadingsResult)>>,
}

impl ReadingsSource {
    /// Returns readings that are no older than [`MAX_READINGS_AGE`].
    async fn readings(&self) -> ReadingsResult {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < MAX_READINGS_AGE
        {
            return answer.clone();
        }
        let answer = match timeout(BROKER_TIMEOUT, self.monitor.readings()).await {
            Ok(Ok(readings)) => Ok(Arc::new(readings)),
            Ok(Err(error)) => Err(error.to_string().into()),
            Err(_) => {
                Err(format!("the broker's thread has not answered within {} s", BROKER_TIMEOUT.as_secs())
                    .into())
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
