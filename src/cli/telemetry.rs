//! Logs, metrics and traces of a process.

use std::io::{self, IsTerminal};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use opentelemetry::metrics::{Meter, MeterProvider, NoopMeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Human,
    /// An object a line.
    Json,
}

/// What the server tells of itself, and to whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// The form of the log, on stderr; RUST_LOG chooses what is in it: info by default, debug for a line a call
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Human, env = "DEPECHE_LOG_FORMAT")]
    log_format: LogFormat,
    /// Where traces and metrics are sent by OTLP over gRPC, in plaintext, such as http://127.0.0.1:4317; nowhere by default
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// What records metrics and traces; to be ended by [`Telemetry::end`].
#[derive(Debug, Default)]
pub struct Telemetry {
    metrics: Option<SdkMeterProvider>,
    traces: Option<SdkTracerProvider>,
}

impl TelemetryArgs {
    /// Starts logging, and metrics and traces where somebody wants them: `registry` is who asks for metrics. Needs a runtime around it.
    pub fn start(&self, registry: Option<&Registry>) -> anyhow::Result<Telemetry> {
        if let Some(endpoint) = self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) {
            ensure!(endpoint.starts_with("http://"), "--otlp-endpoint {endpoint:?}: only http:// is spoken");
            self.start_with(registry, Some(endpoint)).with_context(|| format!("--otlp-endpoint {endpoint}"))
        } else {
            self.start_with(registry, None)
        }
    }

    fn start_with(&self, registry: Option<&Registry>, endpoint: Option<&str>) -> anyhow::Result<Telemetry> {
        let resource = Resource::builder()
            .with_service_name("depeche")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let traces = endpoint.map(|endpoint| tracer_provider(endpoint, &resource)).transpose()?;
        let metrics =
            (registry.is_some() || endpoint.is_some()).then(|| meter_provider(registry, endpoint, &resource)).transpose()?;
        log(self.log_format, traces.as_ref());
        Ok(Telemetry { metrics, traces })
    }
}

impl Telemetry {
    /// What instruments are made from.
    pub fn meter(&self) -> Meter {
        match &self.metrics {
            Some(provider) => provider.meter("depeche"),
            None => NoopMeterProvider::new().meter("depeche"),
        }
    }

    /// Whether calls are traced.
    pub fn traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Sends what was not sent yet.
    pub fn end(self) {
        let refused = |error| tracing::warn!(%error, "telemetry was not sent to its end");
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            refused(error);
        }
        if let Some(Err(error)) = self.metrics.map(|metrics| metrics.shutdown()) {
            refused(error);
        }
    }
}

fn tracer_provider(endpoint: &str, resource: &Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.clone()).build())
}

fn meter_provider(registry: Option<&Registry>, endpoint: Option<&str>, resource: &Resource) -> anyhow::Result<SdkMeterProvider> {
    let mut builder = SdkMeterProvider::builder().with_resource(resource.clone());
    if let Some(registry) = registry {
        // All instruments are of one scope, which would only make every line longer.
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build()?;
        builder = builder.with_reader(exporter);
    }
    if let Some(endpoint) = endpoint {
        let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        builder = builder.with_reader(PeriodicReader::builder(exporter).build());
    }
    Ok(builder.build())
}

/// Logs for a person, as all subcommands but `serve` do.
pub fn log_for_a_person() {
    log(LogFormat::Human, None);
}

fn log(format: LogFormat, traces: Option<&SdkTracerProvider>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The spans of calls are for the collector; in the log every call has a line of its own.
    let spans = traces.map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer("depeche")));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans.map(|layer| layer.with_filter(spans_of_calls())))
        .init();
}

/// What is sent to the collector: our own spans at level info.
fn spans_of_calls() -> EnvFilter {
    EnvFilter::new("off,depeche=info")
}
