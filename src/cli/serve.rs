//! `depeche serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::ModelArgs;
use crate::service::{Limits, server};

/// Serves a model over gRPC
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  depeche serve --listen 127.0.0.1:50051\n  grpcurl -plaintext -d '{\"article\": {\"text\": \"Le chef \
                  d’état-major est arrivé à Niamey.\"}}' \\\n    127.0.0.1:50051 depeche.v1.ClassifierService/Classify"
)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes a free one, which the log names
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051", env = "DEPECHE_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let classifier = Arc::new(args.model.classifier()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
        let address = listener.local_addr().context("asking for the address")?;
        let stop = stop_signal()?;
        tracing::info!(%address, model = %classifier.model().resource_name(), "ready");
        server::serve(listener, classifier, Limits::default(), stop).await?;
        tracing::info!("stopped");
        Ok(())
    });
    // Work that outlived the grace period is left behind.
    runtime.shutdown_background();
    served
}

/// Done when the process is asked to stop, by SIGTERM or Ctrl-C. The signals are caught from the call on.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        Ok(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("stopping");
    })
}
