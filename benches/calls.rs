//! Calls a second that a server of the API answers, whoever made it.
//!
//! ```sh
//! cargo bench --bench calls -- --address 127.0.0.1:50051 --data FILE.jsonl [--bytes 4096] [--in-flight 64]
//! ```
//!
//! sends the texts of a data set, cut into pieces of one size, each in a call of its own, for some seconds, and prints one JSON object: calls (`all` with those that warmed up), seconds,
//! and their latencies in microseconds at two quantiles. It is for comparisons (`bench/compare.sh` has one): server and client have to be bound to cores of
//! their own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may stop at whatever is wrong, and prints its figures"
)]

mod pieces;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use depeche::service::pb;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use serde_json::json;
use tonic::transport::Channel;

use pieces::{all_texts, pieces};

/// What to measure
#[derive(Parser)]
struct Args {
    /// The server's address and port
    #[arg(long)]
    address: String,
    /// Articles with `text`, and any label (which is not looked at)
    #[arg(long)]
    data: PathBuf,
    /// The field that holds a label
    #[arg(long, default_value = "topic")]
    label_field: String,
    /// Bytes of text of each call
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Calls that wait for their answer at any time
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Connections that they share
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// How long to go on
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Calls until the time is over; latencies in seconds.
async fn call(
    mut client: ClassifierServiceClient<Channel>,
    texts: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    end: Instant,
) -> Vec<f64> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let text = texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()].clone();
        let article = pb::Article { text, ..Default::default() };
        let began = Instant::now();
        client.classify(pb::ClassifyRequest { article: Some(article), options: None }).await.unwrap();
        latencies.push(began.elapsed().as_secs_f64());
    }
    latencies
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args = Args::parse();
    let texts = Arc::new(pieces(&all_texts(std::slice::from_ref(&args.data), &args.label_field), args.bytes));
    let mut channels = Vec::new();
    for _ in 0..args.connections {
        channels.push(Channel::from_shared(format!("http://{}", args.address)).unwrap().connect().await.unwrap());
    }
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> =
        (0..args.in_flight).map(|at| ClassifierServiceClient::new(channels[at % channels.len()].clone())).collect();
    let (mut latencies, mut seconds, mut all) = (Vec::new(), 0.0, 0);
    // The first time warms up.
    for share in [0.2, 1.0] {
        let began = Instant::now();
        let end = began + Duration::from_secs_f64(share * args.seconds);
        let mut calls = tokio::task::JoinSet::new();
        for client in &clients {
            calls.spawn(call(client.clone(), Arc::clone(&texts), Arc::clone(&next), end));
        }
        latencies = calls.join_all().await.concat();
        seconds = began.elapsed().as_secs_f64();
        all += latencies.len();
    }
    latencies.sort_by(f64::total_cmp);
    let quantile = |percent: usize| 1e6 * latencies[percent * (latencies.len() - 1) / 100];
    println!("{}", json!({ "all": all, "calls": latencies.len(), "seconds": seconds, "p50": quantile(50), "p99": quantile(99) }));
}
