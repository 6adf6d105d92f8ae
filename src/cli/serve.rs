//! `depeche serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{BoolishValueParser, RangedU64ValueParser};
use clap::{Args, value_parser};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::telemetry::TelemetryArgs;
use super::{ModelArgs, Usage, address};
use crate::service::connections::APART;
use crate::service::reload::Source;
use crate::service::server::{Config, Drain, Listeners, Order, Server};
use crate::service::telemetry::Metrics;
use crate::service::tls::{Tls, TlsFiles};
use crate::service::tokens::Tokens;
use crate::service::{ConnectionLimits, Limits};

/// Files that a server has open beside connections: listeners, standard streams, what it reads.
const FILES: usize = 64;

/// Serves a model over gRPC
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  depeche serve --listen 127.0.0.1:50051\nand in another terminal:\n  grpcurl -plaintext -d \
                  '{\"article\": {\"text\": \"Les armées du Niger et de l’Algérie ont signé un accord de formation.\"}}' \\\n    127.0.0.1:50051 depeche.v1.ClassifierService/Classify\n\nSignals: \
                  SIGTERM drains and stops, SIGINT (Ctrl-C) the same without the delay, and at once where it is stopping already;\nSIGHUP reads model, \
                  certificates and tokens anew.")]
pub struct ServeArgs {
    /// Where to listen; port 0 takes a free one, which the log names
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051", value_parser = address, env = "DEPECHE_LISTEN")]
    listen: SocketAddr,
    /// Where to listen for those who operate the server: metrics at http://…/metrics, AdminService, health. Nowhere by default
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, env = "DEPECHE_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Where to listen for health checks alone, always in plaintext and without tokens. Nowhere by default
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, env = "DEPECHE_HEALTH_LISTEN")]
    health_listen: Option<SocketAddr>,
    /// Listen beyond this machine without TLS and without tokens: whoever reaches the port may call
    #[arg(long, value_parser = BoolishValueParser::new(), env = "DEPECHE_INSECURE_LISTEN_ANYWHERE")]
    insecure_listen_anywhere: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    reload: ReloadArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    connections: ConnectionArgs,
    #[command(flatten)]
    drain: DrainArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// New models without a restart.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reload")]
struct ReloadArgs {
    /// Look at the files of model, certificates and tokens this often, and read anew what has changed; 0s: never
    #[arg(long, value_name = "TIME", default_value = "0s", num_args = 0..=1, default_missing_value = "2s",
          value_parser = duration::<0, 86_400>, env = "DEPECHE_WATCH")]
    watch: Duration,
    /// A second model that labels live traffic too; GetShadowReport tells where the two differ
    #[arg(long, value_name = "FILE", env = "DEPECHE_SHADOW")]
    shadow: Option<PathBuf>,
    /// Let a reload bring other labels than those served
    #[arg(long, value_parser = BoolishValueParser::new(), env = "DEPECHE_ALLOW_OTHER_LABELS")]
    allow_other_labels: bool,
}

/// Who may call.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
struct SecurityArgs {
    /// The server's certificate chain, PEM: TLS on the main listener
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "DEPECHE_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", env = "DEPECHE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Authorities, PEM: clients must have a certificate of one of them
    #[arg(long, value_name = "FILE", requires = "tls_certificate", env = "DEPECHE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Bearer tokens, a line "SCOPES TOKEN" each, where scopes are classify, admin or classify,admin: callers must have one
    #[arg(long, value_name = "FILE", env = "DEPECHE_TOKENS")]
    tokens: Option<PathBuf>,
}

/// What requests must keep to. GetModel tells these limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Bytes of an article's text
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = within(1, 64 << 20), env = "DEPECHE_MAX_TEXT_BYTES")]
    max_text_bytes: usize,
    /// Bytes of an article's title
    #[arg(long, value_name = "N", default_value_t = 1 << 16, value_parser = within(1, 1 << 20), env = "DEPECHE_MAX_TITLE_BYTES")]
    max_title_bytes: usize,
    /// Passages of an article's text
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = within(1, 1_000_000), env = "DEPECHE_MAX_PASSAGES")]
    max_passages: usize,
    /// Articles of a batch
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = within(1, 100_000), env = "DEPECHE_MAX_BATCH_ARTICLES")]
    max_batch_articles: usize,
    /// Bytes of a request as a message, after decompression
    #[arg(long, value_name = "N", default_value_t = 16 << 20, value_parser = within(1 << 10, 1 << 30), env = "DEPECHE_MAX_REQUEST_BYTES")]
    max_request_bytes: usize,
    /// Bytes of a response as a message; most clients refuse more than 4 MiB
    #[arg(long, value_name = "N", default_value_t = 4 << 20, value_parser = within(1 << 10, 1 << 30), env = "DEPECHE_MAX_RESPONSE_BYTES")]
    max_response_bytes: usize,
    /// Calls of Classify and BatchClassify in flight; one more is refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = within(1, 1_000_000), env = "DEPECHE_MAX_CALLS")]
    max_calls: usize,
    /// Calls of StreamClassify that are open; one more is refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = within(0, 1_000_000), env = "DEPECHE_MAX_STREAMS")]
    max_streams: usize,
    /// Large texts and batches that are worked on at once; 0: one a core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, 1024), env = "DEPECHE_WORKERS")]
    workers: usize,
    /// Large texts and batches that wait for a worker; one more is refused
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within(0, 1_000_000), env = "DEPECHE_QUEUE")]
    queue: usize,
}

/// What connections must keep to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
struct ConnectionArgs {
    /// Connections at once; one more is closed. The listeners of admin and health have 64 of their own
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = within(1, 1_000_000), env = "DEPECHE_MAX_CONNECTIONS")]
    max_connections: usize,
    /// Calls at once on one connection
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = value_parser!(u32).range(1..=65_536),
          env = "DEPECHE_MAX_CONNECTION_CALLS")]
    max_connection_calls: u32,
    /// Bytes of a request's headers
    #[arg(long, value_name = "N", default_value_t = 16 << 10, value_parser = value_parser!(u32).range(1024..=1 << 20),
          env = "DEPECHE_MAX_HEADER_BYTES")]
    max_header_bytes: u32,
    /// Age at which a connection is told to take no more calls, give or take a tenth, so that balancers spread anew; 0s: never
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::<0, 31_536_000>, env = "DEPECHE_MAX_CONNECTION_AGE")]
    max_connection_age: Duration,
    /// How long its calls may then go on
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::<0, 86_400>,
          env = "DEPECHE_MAX_CONNECTION_AGE_GRACE")]
    max_connection_age_grace: Duration,
    /// After so long without a word a client is asked whether it is there; 0s: never
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::<0, 86_400>, env = "DEPECHE_KEEPALIVE_INTERVAL")]
    keepalive_interval: Duration,
    /// Without an answer for so long, its connection is closed
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::<1, 3600>, env = "DEPECHE_KEEPALIVE_TIMEOUT")]
    keepalive_timeout: Duration,
}

/// How the server stops.
#[derive(Debug, Args)]
#[command(next_help_heading = "Drain")]
struct DrainArgs {
    /// How long calls are still taken after SIGTERM, while health says NOT_SERVING, for balancers to take notice
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::<0, 3600>, env = "DEPECHE_DRAIN_DELAY")]
    drain_delay: Duration,
    /// When the server ends anyway, from the signal on
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = duration::<1, 86_400>, env = "DEPECHE_DRAIN_LIMIT")]
    drain_limit: Duration,
}

/// A parser of numbers from `least` to `most`.
fn within(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

/// Parses a time of `LEAST` to `MOST` seconds, such as `1m 30s`.
fn duration<const LEAST: u64, const MOST: u64>(text: &str) -> Result<Duration, String> {
    let found = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time is a number and a unit, such as 500ms, 5s or 2m"))?;
    let (least, most) = (Duration::from_secs(LEAST), Duration::from_secs(MOST));
    if (least..=most).contains(&found) {
        return Ok(found);
    }
    Err(format!("{text} is not in {}..={}", humantime::format_duration(least), humantime::format_duration(most)))
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// An error of usage, unless `holds`.
fn usage(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Usage> {
    if holds { Ok(()) } else { Err(Usage(otherwise())) }
}

impl ServeArgs {
    /// Refuses to be reached from other machines without protection by accident.
    fn check_exposure(&self) -> Result<(), Usage> {
        let SecurityArgs { tls_certificate, tokens, .. } = &self.security;
        let is_protected = tls_certificate.is_some() || tokens.is_some() || self.insecure_listen_anywhere;
        usage(is_protected || self.listen.ip().is_loopback(), || {
            let listen = self.listen;
            format!(
                "--listen {listen}: not a loopback address, and there is neither TLS (--tls-certificate) nor are there tokens \
                     (--tokens); --insecure-listen-anywhere listens without"
            )
        })?;
        if let Some(admin) = self.admin_listen {
            usage(tokens.is_some() || self.insecure_listen_anywhere || admin.ip().is_loopback(), || {
                format!(
                    "--admin-listen {admin}: not a loopback address, and there are no tokens (--tokens); \
                         --insecure-listen-anywhere listens without"
                )
            })?;
        }
        Ok(())
    }

    fn limits(&self) -> Result<Limits, Usage> {
        let LimitArgs { max_text_bytes: text_bytes, max_title_bytes: title_bytes, .. } = self.limits;
        let ConnectionArgs { max_connections, max_connection_calls, max_header_bytes, .. } = self.connections;
        let request_bytes = self.limits.max_request_bytes;
        usage(text_bytes.saturating_add(title_bytes) < request_bytes, || {
            format!(
                "--max-request-bytes {request_bytes}: an article of --max-text-bytes {text_bytes} and --max-title-bytes {title_bytes} \
                 does not fit into it"
            )
        })?;
        Ok(Limits {
            text_bytes,
            title_bytes,
            passages: self.limits.max_passages,
            batch_articles: self.limits.max_batch_articles,
            request_bytes,
            response_bytes: self.limits.max_response_bytes,
            calls: self.limits.max_calls,
            streams: self.limits.max_streams,
            workers: self.limits.workers,
            queue: self.limits.queue,
            connections: ConnectionLimits {
                count: max_connections,
                calls: max_connection_calls,
                header_bytes: max_header_bytes,
                age: unless_zero(self.connections.max_connection_age),
                age_grace: self.connections.max_connection_age_grace,
                keepalive_interval: unless_zero(self.connections.keepalive_interval),
                keepalive_timeout: self.connections.keepalive_timeout,
                ..ConnectionLimits::default()
            },
            ..Limits::default()
        })
    }

    fn config(&self, traces: bool) -> anyhow::Result<Config> {
        let SecurityArgs { tls_certificate, tls_key, tls_client_ca, tokens } = &self.security;
        let DrainArgs { drain_delay: delay, drain_limit: limit } = self.drain;
        usage(delay < limit, || format!("--drain-delay {delay:?}: the limit, --drain-limit {limit:?}, would pass before it"))?;
        let tls = match (tls_certificate, tls_key) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca: tls_client_ca.clone() };
                Some(Arc::new(Tls::read(files).context("TLS")?))
            }
            _ => None,
        };
        let tokens = tokens.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
        let source = Source {
            file: self.model.model.clone(),
            priors: self.model.priors.clone(),
            shadow: self.reload.shadow.clone(),
            allow_other_labels: self.reload.allow_other_labels,
        };
        let watch = unless_zero(self.reload.watch);
        Ok(Config { limits: self.limits()?, source, tokens, tls, watch, drain: Drain { delay, limit }, traces })
    }

    async fn listeners(&self, registry: Registry) -> anyhow::Result<Listeners> {
        let admin = match self.admin_listen {
            Some(address) => Some((bind(address).await?, registry)),
            None => None,
        };
        let health = match self.health_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Listeners { main: bind(self.listen).await?, admin, health })
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Lets the process open as many files as connections may need, where the system allows it: on many it would be a thousand. A server without files
/// to open takes no connections and reads no models.
#[cfg(unix)]
fn allow_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = (connections + APART).saturating_add(FILES) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    if raised.is_err() || allowed < wanted {
        tracing::warn!(
            allowed = if raised.is_ok() { Some(allowed) } else { current },
            wanted,
            "the system allows fewer open files (ulimit -n) than --max-connections may need"
        );
    }
}

#[cfg(not(unix))]
fn allow_files(_: usize) {}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    args.check_exposure()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let registry = Registry::new();
    let telemetry = {
        let _entered = runtime.enter();
        args.telemetry.start(args.admin_listen.map(|_| &registry))?
    };
    allow_files(args.connections.max_connections);
    let served = runtime.block_on(serve(args, registry, (Metrics::new(telemetry.meter()), telemetry.traces())));
    telemetry.end();
    // Work that outlived the limit is left behind.
    runtime.shutdown_background();
    served
}

async fn serve(args: &ServeArgs, registry: Registry, (metrics, traces): (Metrics, bool)) -> anyhow::Result<()> {
    let config = args.config(traces)?;
    let listeners = args.listeners(registry).await?;
    let address = |listener: &TcpListener| listener.local_addr().context("asking for the address");
    let main = address(&listeners.main)?;
    let admin = listeners.admin.as_ref().map(|(listener, _)| address(listener)).transpose()?;
    let health = listeners.health.as_ref().map(address).transpose()?;
    let orders = orders()?;
    let server = Server::new(config, metrics);
    let ready = |server: &Server| {
        if let Some(address) = admin {
            tracing::info!(%address, "admin listener");
        }
        if let Some(address) = health {
            tracing::info!(%address, "health listener");
        }
        tracing::info!(address = %main, model = server.model(), "ready");
    };
    server.run(listeners, orders, ready).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What signals tell the server. They are caught from the call on.
fn orders() -> anyhow::Result<mpsc::Receiver<Order>> {
    let (order, orders) = mpsc::channel(4);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).context("catching SIGHUP")?;
        let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        tokio::spawn(async move {
            loop {
                let (name, found) = tokio::select! {
                    _ = hangup.recv() => ("SIGHUP", Order::Reload),
                    _ = terminate.recv() => ("SIGTERM", Order::Drain),
                    _ = interrupt.recv() => ("SIGINT", Order::Stop),
                };
                tracing::info!(signal = name, "{}", if found == Order::Reload { "reading files anew" } else { "stopping" });
                if order.send(found).await.is_err() {
                    return;
                }
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            tracing::info!("stopping");
            if order.send(Order::Stop).await.is_err() {
                return;
            }
        }
    });
    Ok(orders)
}
