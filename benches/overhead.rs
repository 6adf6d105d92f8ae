//! What the service adds to scoring: `cargo bench --bench overhead`.
//!
//! Compares `depeche serve` with a server of the same API whose method does nothing, as tonic makes it, in one run: processor time of the server
//! and latency, a call, for different texts of three sizes, with one call in flight and with 64; and with scoring the same texts in this
//! process. Servers have the first core to themselves, so that clients neither take their turns nor fill their caches; all else runs on the second. Reads
//! processor time from /proc and binds with taskset (util-linux), so it runs on Linux alone.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark tells a person, and fails by panicking")]

mod pieces;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use depeche::model::{Article, Classifier, Options};
use depeche::service::pb;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use depeche::service::pb::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use pieces::{all_texts, pieces};

/// The core that servers are bound to.
const SERVER_CORE: &str = "0";

/// The core that everything else is bound to.
const CLIENT_CORE: &str = "1";

/// Compares the service with one that does nothing.
#[derive(Debug, Parser)]
struct Args {
    /// Calls of each measurement
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Measurements of each kind, in turn; medians are told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sizes of the text in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [600, 4096, 20_480])]
    bytes: Vec<usize>,
    /// Is the server that does nothing
    #[arg(long, hide = true)]
    nothing: bool,
    /// Given by cargo; means nothing
    #[arg(long, hide = true)]
    bench: bool,
}

/// Takes the same requests and answers with nothing.
#[derive(Debug, Default)]
struct Nothing;

#[tonic::async_trait]
impl ClassifierService for Nothing {
    async fn classify(&self, _: Request<pb::ClassifyRequest>) -> Result<Response<pb::ClassifyResponse>, Status> {
        Ok(Response::new(pb::ClassifyResponse::default()))
    }

    async fn batch_classify(&self, _: Request<pb::BatchClassifyRequest>) -> Result<Response<pb::BatchClassifyResponse>, Status> {
        Ok(Response::new(pb::BatchClassifyResponse::default()))
    }

    type StreamClassifyStream = Pin<Box<dyn Stream<Item = Result<pb::StreamClassifyResponse, Status>> + Send>>;

    async fn stream_classify(
        &self,
        _: Request<Streaming<pb::StreamClassifyRequest>>,
    ) -> Result<Response<Self::StreamClassifyStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

async fn serve_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("ready address={} ", listener.local_addr().unwrap());
    let service = ClassifierServiceServer::new(Nothing).max_decoding_message_size(16 << 20);
    Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}

/// A server in a process of its own; ended when dropped.
struct Peer {
    child: Child,
    channels: Vec<Channel>,
}

impl Peer {
    async fn start(mut command: Command, is_log_on_stderr: bool) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output: Box<dyn std::io::Read + Send> =
            if is_log_on_stderr { Box::new(child.stderr.take().unwrap()) } else { Box::new(child.stdout.take().unwrap()) };
        let line = BufReader::new(output).lines().map(Result::unwrap).find(|line| line.contains("ready")).unwrap();
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let mut channels = Vec::new();
        for _ in 0..4 {
            channels.push(Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap());
        }
        Self { child, channels }
    }

    /// Processor time so far. /proc counts in ticks of 10 ms on every Linux that there is.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields after the name, which may hold anything and ends in the last parenthesis: user and system time are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10 * ticks)
    }

    /// Resident memory in MiB.
    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Microseconds a call: of processor time, and of latency in the median.
    async fn measure(&self, texts: &Arc<[String]>, calls: usize, in_flight: usize) -> [f64; 2] {
        let before = self.processor_time();
        let mut tasks = tokio::task::JoinSet::new();
        for first in 0..in_flight {
            let mut client = ClassifierServiceClient::new(self.channels[first % self.channels.len()].clone());
            let texts = Arc::clone(texts);
            tasks.spawn(async move {
                let mut latencies = Vec::with_capacity(calls.div_ceil(in_flight));
                for at in (first..calls).step_by(in_flight) {
                    let article = pb::Article { text: texts[at % texts.len()].clone(), ..Default::default() };
                    let request = pb::ClassifyRequest { article: Some(article), options: None };
                    let started = Instant::now();
                    client.classify(request).await.unwrap();
                    latencies.push(started.elapsed().as_secs_f64());
                }
                latencies
            });
        }
        let mut latencies: Vec<f64> = tasks.join_all().await.concat();
        let spent = self.processor_time() - before;
        let made = latencies.len();
        #[expect(clippy::cast_precision_loss, reason = "far fewer calls than 2^52")]
        let spent = spent.as_secs_f64() / made as f64;
        [1e6 * spent, 1e6 * median(&mut latencies)]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that runs on the servers' core.
fn on_server_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program);
    command
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The texts of the project's own corpus, one behind the other.
fn corpus() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/articles");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    all_texts(&files, "topic")
}

/// Microseconds that scoring a text takes here, in the mean.
fn scoring(classifier: &Classifier, texts: &[String], calls: usize) -> f64 {
    let started = Instant::now();
    for text in texts.iter().cycle().take(calls) {
        std::hint::black_box(classifier.classify(Article { title: "", text }, &Options::default()).unwrap());
    }
    #[expect(clippy::cast_precision_loss, reason = "far fewer calls than 2^52")]
    let each = started.elapsed().as_secs_f64() / calls as f64;
    1e6 * each
}

#[tokio::main]
async fn main() {
    let Args { calls, rounds, bytes, nothing, .. } = Args::parse();
    if nothing {
        return serve_nothing().await;
    }
    let own = ["-a", "-c", "-p", CLIENT_CORE, &std::process::id().to_string()];
    let bound = Command::new("taskset").args(own).stdout(Stdio::null()).status();
    assert!(bound.is_ok_and(|status| status.success()), "taskset and two cores are needed");
    let mut command = on_server_core(&std::env::current_exe().unwrap());
    command.arg("--nothing");
    let empty = Peer::start(command, false).await;
    let mut command = on_server_core(Path::new(env!("CARGO_BIN_EXE_depeche")));
    command.args(["serve", "--listen", "127.0.0.1:0"]).env_remove("RUST_LOG");
    let corpus = corpus();
    let article = pb::Article { text: pieces(&corpus, 4096)[0].clone(), ..Default::default() };
    let started = Instant::now();
    let depeche = Peer::start(command, true).await;
    let mut client = ClassifierServiceClient::new(depeche.channels[0].clone());
    client.classify(pb::ClassifyRequest { article: Some(article), options: None }).await.unwrap();
    println!("first answer {:.0} ms after exec, four connections included", 1000.0 * started.elapsed().as_secs_f64());
    println!("at rest {:.0} MiB, the one that does nothing {:.0} MiB", depeche.resident(), empty.resident());
    let classifier = Classifier::new(Classifier::built_in_model().unwrap());
    println!("µs a call, medians of {rounds} rounds of {calls} calls");
    println!("  bytes  in flight   nothing  depeche  difference  scoring alone  ratio   latency nothing  depeche");
    for bytes in bytes {
        let texts: Arc<[String]> = pieces(&corpus, bytes).into();
        for in_flight in [1, 64] {
            let (mut ours, mut theirs, mut alone) = ([vec![], vec![]], [vec![], vec![]], vec![]);
            for _ in 0..rounds {
                for (values, found) in [
                    (&mut theirs, empty.measure(&texts, calls, in_flight).await),
                    (&mut ours, depeche.measure(&texts, calls, in_flight).await),
                ] {
                    values[0].push(found[0]);
                    values[1].push(found[1]);
                }
                alone.push(scoring(&classifier, &texts, calls));
            }
            let [theirs, their_latency] = theirs.map(|mut values| median(&mut values));
            let [ours, our_latency] = ours.map(|mut values| median(&mut values));
            let (added, alone) = (ours - theirs, median(&mut alone));
            println!(
                "{bytes:>7} {in_flight:>10} {theirs:>9.1} {ours:>8.1} {added:>11.1} {alone:>14.1} {:>6.2} {their_latency:>17.0} {our_latency:>8.0}",
                added / alone
            );
        }
    }
    println!("under load {:.0} MiB, the one that does nothing {:.0} MiB", depeche.resident(), empty.resident());
}
