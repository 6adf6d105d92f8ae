//! The whole server, from its start to a clean stop.
//!
//! ```text
//! start   listeners, health NOT_SERVING, calls wait → model loaded, checked, warmed up → SERVING
//! drain   NOT_SERVING to every Watch → a delay, in which balancers take notice and calls still come → no more connections, GOAWAY →
//!         calls in flight end, or the limit has passed
//! ```

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_reflection::pb::{v1, v1alpha};

use super::admin::{AdminGate, AdminHandlers};
use super::admission::{Admission, LightCalls};
use super::classifier::ClassifierHandlers;
use super::connections::{APART, Connections, Front};
use super::errors::chain;
use super::gate::Gate;
use super::health::{HealthHandlers, State};
use super::health_pb::health_server::{self, HealthServer};
use super::limits::Limits;
use super::models::ModelHandlers;
use super::pb::admin_service_server::{self, AdminServiceServer};
use super::pb::classifier_service_server::{self, ClassifierServiceServer};
use super::pb::model_service_server::{self, ModelServiceServer};
use super::reflection::ReflectionHandlers;
use super::reload::{ReloadError, Reloader, Source, Trigger};
use super::served::Served;
use super::telemetry::Metrics;
use super::tls::Tls;
use super::tokens::Tokens;
use super::watch::Watched;

/// Bytes of a request that is neither an article nor a batch. All are a few names.
const SMALL_REQUEST: usize = 16 << 10;

/// Calls of health, reflection and the like for each connection, over all of them: a client may hold a watch and ask something else.
const LIGHT_CALLS: usize = 2;

/// How the server is run.
#[derive(Debug, Default)]
pub struct Config {
    /// What requests and connections must keep to.
    pub limits: Limits,
    /// Where models come from.
    pub source: Source,
    /// Who may call; anybody, where there are none.
    pub tokens: Option<Arc<Tokens>>,
    /// TLS of the main listener.
    pub tls: Option<Arc<Tls>>,
    /// How often files are looked at for changes; never, where there is none.
    pub watch: Option<Duration>,
    /// How the server stops.
    pub drain: Drain,
    /// Whether calls become spans.
    pub traces: bool,
}

/// How the server stops.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long it goes on to take calls after health has said NOT_SERVING, for balancers to take notice.
    pub delay: Duration,
    /// When it ends anyway, from the signal on.
    pub limit: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), limit: Duration::from_secs(25) }
    }
}

/// Where calls come in.
#[derive(Debug)]
pub struct Listeners {
    /// For callers.
    pub main: TcpListener,
    /// For those who operate the server, with the metrics to tell them.
    pub admin: Option<(TcpListener, Registry)>,
    /// For probes: health alone, in plaintext.
    pub health: Option<TcpListener>,
}

/// What the server is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read models, certificates and tokens anew.
    Reload,
    /// Stop, after the delay.
    Drain,
    /// Stop without the delay; while the server is stopping: at once.
    Stop,
}

/// The server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    served: Arc<Served>,
    reloader: Arc<Reloader>,
    admission: Admission,
    metrics: Arc<Metrics>,
    connections: Connections,
    state: watch::Sender<State>,
}

impl Server {
    /// A server that has not started yet.
    #[must_use]
    pub fn new(config: Config, metrics: Metrics) -> Self {
        let metrics = Arc::new(metrics);
        let served = Arc::new(Served::default());
        let admission = Admission::new(&config.limits);
        metrics.observe(admission.clone(), Arc::clone(&served));
        Self {
            reloader: Arc::new(Reloader::new(config.source.clone(), Arc::clone(&served), Arc::clone(&metrics))),
            connections: Connections::new(config.limits.connections, Arc::clone(&metrics)),
            state: watch::channel(State::Starting).0,
            config,
            served,
            admission,
            metrics,
        }
    }

    /// Loads the model; from then on calls are answered and health tells SERVING.
    ///
    /// # Errors
    ///
    /// [`ReloadError`], where there is no model to be had.
    pub async fn load(&self) -> Result<(), ReloadError> {
        self.reloader.reload(Trigger::Start, true, false).await?;
        self.state.send_replace(State::Serving);
        Ok(())
    }

    /// The model that answers; empty before it is loaded.
    #[must_use]
    pub fn model(&self) -> String {
        self.served.loaded().map(|models| models.classifier.model().resource_name()).unwrap_or_default()
    }

    /// The connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What answers callers.
    #[must_use]
    pub fn main_front(&self) -> Front {
        let limits = self.config.limits;
        let handlers =
            ClassifierHandlers::new((Arc::clone(&self.served), Arc::clone(&self.metrics)), self.admission.clone(), limits);
        let classifier = ClassifierServiceServer::new(handlers)
            .max_decoding_message_size(limits.request_bytes)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Zstd);
        let models = ModelServiceServer::new(ModelHandlers::new(Arc::clone(&self.served), limits));
        let models = models.max_decoding_message_size(SMALL_REQUEST);
        let mut names =
            vec![classifier_service_server::SERVICE_NAME, model_service_server::SERVICE_NAME, health_server::SERVICE_NAME];
        let mut routes = self.health_routes().add_service(classifier).add_service(models);
        // Without tokens anybody could reload.
        if self.config.tokens.is_some() {
            names.push(admin_service_server::SERVICE_NAME);
            routes = routes.add_service(self.admin_service());
        }
        Front::Grpc(Arc::new(self.gate(reflected(routes, &names), self.config.limits.connections.count)))
    }

    /// What answers those who operate the server.
    fn admin_front(&self, registry: Registry) -> Front {
        let names = [admin_service_server::SERVICE_NAME, health_server::SERVICE_NAME];
        let routes = reflected(self.health_routes().add_service(self.admin_service()), &names);
        Front::Admin(Arc::new(AdminGate { gate: self.gate(routes, APART), registry }))
    }

    fn admin_service(&self) -> AdminServiceServer<AdminHandlers> {
        AdminServiceServer::new(AdminHandlers::new(Arc::clone(&self.served), Arc::clone(&self.reloader)))
            .max_decoding_message_size(SMALL_REQUEST)
    }

    fn health_routes(&self) -> Routes {
        let handlers = HealthHandlers::new(self.state.subscribe());
        Routes::new(HealthServer::new(handlers).max_decoding_message_size(SMALL_REQUEST))
    }

    /// What stands before the services of a listener that takes so many connections.
    fn gate(&self, routes: Routes, connections: usize) -> Gate {
        Gate {
            routes: routes.prepare(),
            admission: self.admission.clone(),
            light: LightCalls::new(connections.saturating_mul(LIGHT_CALLS)),
            metrics: Arc::clone(&self.metrics),
            tokens: self.config.tokens.clone(),
            traces: self.config.traces,
        }
    }

    /// Serves until it is told to stop. `ready` is called once calls are answered.
    ///
    /// # Errors
    ///
    /// [`ReloadError`], where there is no model to begin with.
    pub async fn run(
        &self,
        listeners: Listeners,
        mut orders: mpsc::Receiver<Order>,
        ready: impl FnOnce(&Self),
    ) -> Result<(), ReloadError> {
        let Listeners { main, admin, health } = listeners;
        let accept = |listener: TcpListener, tls: Option<Arc<Tls>>, front: Front| {
            let connections = self.connections.clone();
            tokio::spawn(async move { connections.accept(listener, tls, front).await });
        };
        accept(main, self.config.tls.clone(), self.main_front());
        if let Some((listener, registry)) = admin {
            accept(listener, None, self.admin_front(registry));
        }
        if let Some(listener) = health {
            accept(listener, None, Front::Health(Arc::new(self.gate(self.health_routes(), APART))));
        }
        self.load().await?;
        ready(self);
        let stop = self.obey(&mut orders).await;
        self.drain(stop, &mut orders).await;
        Ok(())
    }

    /// Reloads when told to, or when a file changes, until the order to stop.
    async fn obey(&self, orders: &mut mpsc::Receiver<Order>) -> Order {
        let mut models = Watched::new(self.reloader.files(), self.config.watch);
        let mut secrets = Watched::new(self.secret_files(), self.config.watch);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload) => {
                        self.reload_secrets();
                        // The reason of a refusal is in the log by then.
                        let _ = self.reloader.reload(Trigger::Signal, false, false).await;
                    }
                    Some(stop) => return stop,
                    None => return Order::Drain,
                },
                () = models.changed() => {
                    let _ = self.reloader.reload(Trigger::Watch, false, false).await;
                }
                () = secrets.changed() => self.reload_secrets(),
            }
        }
    }

    fn secret_files(&self) -> Vec<PathBuf> {
        let tokens = self.config.tokens.iter().map(|tokens| tokens.file().to_owned());
        self.config.tls.iter().flat_map(|tls| tls.files()).chain(tokens).collect()
    }

    /// Reads certificates and tokens anew; where they are refused, those before go on.
    fn reload_secrets(&self) {
        let refused = |what: &str, error: &dyn std::error::Error| {
            let reason = chain(error);
            tracing::error!(reason, "{what} refused; what was read before goes on");
        };
        if let Some(tls) = &self.config.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("certificates read anew"),
                Err(error) => refused("certificates", &error),
            }
        }
        if let Some(tokens) = &self.config.tokens {
            match tokens.reload() {
                Ok(()) => tracing::info!("tokens read anew"),
                Err(error) => refused("tokens", &error),
            }
        }
    }

    async fn drain(&self, stop: Order, orders: &mut mpsc::Receiver<Order>) {
        let limit = sleep_until(Instant::now() + self.config.drain.limit);
        self.state.send_replace(State::Draining);
        let ended = async {
            if stop == Order::Drain {
                sleep(self.config.drain.delay).await;
            }
            self.connections.close();
            self.connections.ended().await;
        };
        // Whoever sits before it need not wait for a stream that a client leaves open. Those that tell a service to drain may do so to each process of it
        // and then to all, which is no haste.
        let again = async {
            loop {
                match orders.recv().await {
                    Some(Order::Stop) => return,
                    Some(Order::Drain | Order::Reload) => {}
                    None => pending().await,
                }
            }
        };
        tokio::select! {
            () = ended => tracing::debug!("all connections have ended"),
            () = limit => tracing::warn!(connections = self.connections.count(), "the limit has passed; stopped with connections open"),
            () = again => tracing::warn!(connections = self.connections.count(), "told to stop without waiting; stopped with connections open"),
        }
    }
}

/// Routes with reflection on services by their names.
fn reflected(routes: Routes, names: &[&str]) -> Routes {
    let handlers = ReflectionHandlers::new(names);
    routes
        .add_service(
            v1::server_reflection_server::ServerReflectionServer::new(handlers.clone()).max_decoding_message_size(SMALL_REQUEST),
        )
        .add_service(
            v1alpha::server_reflection_server::ServerReflectionServer::new(handlers).max_decoding_message_size(SMALL_REQUEST),
        )
}
