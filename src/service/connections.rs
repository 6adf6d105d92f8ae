//! Connections, from the listener to their end.
//!
//! Our own loop over hyper, since tonic's server applies its own deadline, which answers CANCELLED, before ours, and can't exchange
//! certificates. Connections are bounded in number, age and idleness, and closed where they never say a word; told to stop, they say GOAWAY
//! and end with their last call, also those that were still waiting to be accepted.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::admin::AdminGate;
use super::gate::Gate;
use super::limits::ConnectionLimits;
use super::telemetry::Metrics;
use super::tls::Tls;
use super::turns::{Calls, Turns, in_one_piece};

/// How long nothing is accepted after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// How often at most the log tells that the system had no room.
const TELL: Duration = Duration::from_secs(1);

/// Connections at once of probes and of those who operate the server.
pub const APART: usize = 64;

/// How long, once the server is to stop, the first bytes of a connection may still be on their way.
const FIRST_BYTES: Duration = Duration::from_millis(500);

/// What answers on a listener.
#[derive(Debug, Clone)]
pub enum Front {
    /// gRPC alone, for callers.
    Grpc(Arc<Gate>),
    /// Health alone, for probes.
    Health(Arc<Gate>),
    /// gRPC and metrics over HTTP/1.
    Admin(Arc<AdminGate>),
}

impl Front {
    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        match self {
            Self::Grpc(gate) | Self::Health(gate) => gate.call(request).await,
            Self::Admin(gate) => gate.call(request).await,
        }
    }
}

/// Connections of all listeners.
#[derive(Debug, Clone)]
pub struct Connections {
    limits: ConnectionLimits,
    places: Arc<Semaphore>,
    /// For the listeners of probes and of those who operate the server, so that no caller can keep them out.
    places_apart: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    /// Spawns the calls of all connections.
    calls: Calls,
    /// Told when no connection is to be taken any more, and those there are to end with their last call.
    closing: CancellationToken,
    /// Knows when the last listener is closed.
    listening: TaskTracker,
    /// Knows when the last connection has ended.
    open: TaskTracker,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits, metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Semaphore::new(limits.count.min(Semaphore::MAX_PERMITS)));
        let places_apart = Arc::new(Semaphore::new(APART));
        let (listening, open) = (TaskTracker::new(), TaskTracker::new());
        Self {
            limits,
            places,
            places_apart,
            metrics,
            calls: Calls::default(),
            closing: CancellationToken::new(),
            listening,
            open,
        }
    }

    /// Takes connections from `listener` until [`close`](Self::close).
    pub async fn accept(&self, listener: TcpListener, tls: Option<Arc<Tls>>, front: Front) {
        let _listening = self.listening.token();
        let mut told: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                () = self.closing.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.take(stream, tls.clone(), front.clone()),
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() >= TELL) {
                        told = Some(Instant::now());
                        tracing::warn!(%error, "accepting a connection");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        // Connections that nobody has accepted are reset with the listener, and with them calls that a proxy has sent already and so
        // can't send elsewhere. The runtime may not have heard of the last ones; the system has.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                self.take(stream, tls.clone(), front.clone());
            }
        }
    }

    /// Serves a connection apart, if there is a place for it.
    fn take(&self, stream: TcpStream, tls: Option<Arc<Tls>>, front: Front) {
        let places = match front {
            Front::Grpc(_) => &self.places,
            Front::Health(_) | Front::Admin(_) => &self.places_apart,
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            self.metrics.connection("over_limit");
            return;
        };
        let this = self.clone();
        self.open.spawn(async move {
            let _place = place;
            let outcome = this.secure(stream, tls, front).await;
            this.metrics.connection(outcome);
        });
    }

    /// Shakes hands where that is asked for, then serves.
    async fn secure(&self, stream: TcpStream, tls: Option<Arc<Tls>>, front: Front) -> &'static str {
        // Answers are small; waiting to fill packets would only make them late.
        let _ = stream.set_nodelay(true);
        if !self.begins(&stream).await {
            return "silent";
        }
        let Some(tls) = tls else { return self.serve(stream, front).await };
        match timeout(self.limits.handshake, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream, front).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake");
                "handshake_failed"
            }
            Err(_) => "handshake_timeout",
        }
    }

    /// Waits for the first bytes of a connection: whether they come. One that stays silent would keep its place, and hold the stop.
    async fn begins(&self, stream: &TcpStream) -> bool {
        let stopped = async {
            self.closing.cancelled().await;
            sleep(FIRST_BYTES).await;
        };
        let mut first = [0];
        tokio::select! {
            // Being readable would not do, which may be told of a connection that is not.
            peeked = stream.peek(&mut first) => peeked.is_ok_and(|bytes| bytes > 0),
            () = sleep(self.limits.handshake) => false,
            () = stopped => false,
        }
    }

    /// Serves one connection to its end.
    pub async fn serve<IO>(&self, stream: IO, front: Front) -> &'static str
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let only_grpc = !matches!(front, Front::Admin(_));
        let mut turns = Turns::new(match front {
            Front::Grpc(_) => Some(self.calls.clone()),
            // Probes are few, and wait for nobody.
            Front::Health(_) | Front::Admin(_) => None,
        });
        let service = service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.call(request).await) }
        });
        let builder = self.builder(only_grpc);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(in_one_piece(stream)), service));
        let mut end = pin!(until(self.limits.age.map(aged)));
        // Waits for the age first, then for the end of its grace.
        let mut is_closing = false;
        loop {
            tokio::select! {
                ended = poll_fn(|context| turns.poll(connection.as_mut(), context)) => return if ended.is_ok() { "closed" } else { "broken" },
                () = self.closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    end.set(until(None));
                    connection.as_mut().graceful_shutdown();
                }
                () = end.as_mut() => {
                    if is_closing {
                        return "over_age";
                    }
                    is_closing = true;
                    end.set(until(Some(self.limits.age_grace)));
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    fn builder(&self, only_grpc: bool) -> Builder<Calls> {
        let mut builder = Builder::new(self.calls.clone());
        if only_grpc {
            builder = builder.http2_only();
        }
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.calls)
            // Callers may give up all calls that they may have, before any was looked at: by default twenty such end the connection, and all others with it.
            .max_pending_accept_reset_streams(usize::try_from(self.limits.calls).unwrap_or(usize::MAX))
            .max_header_list_size(self.limits.header_bytes)
            .keep_alive_interval(self.limits.keepalive_interval)
            .keep_alive_timeout(self.limits.keepalive_timeout);
        builder
    }

    /// Takes no more connections, and lets those there are end with their last call.
    pub fn close(&self) {
        self.closing.cancel();
        self.listening.close();
        self.open.close();
    }

    /// Done when the last connection has ended, after [`close`](Self::close).
    pub async fn ended(&self) {
        self.listening.wait().await;
        self.open.wait().await;
    }

    /// Connections that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }
}

/// An age give or take a tenth, so that connections made at once don't end at once. What scatters them is the clock, which is as good as chance
/// here.
fn aged(age: Duration) -> Duration {
    let tenth = age / 10;
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    age - tenth + tenth.mul_f64(f64::from(nanos % 1000) / 500.0)
}

async fn until(after: Option<Duration>) {
    match after.and_then(|after| Instant::now().checked_add(after)) {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
