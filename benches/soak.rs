//! A load test to be left alone: `cargo bench --bench soak -- --minutes 30`.
//!
//! Starts the server with certificates of its own, sends it everything at once for as long as asked (small articles, large pages, batches, streams
//! with readers that take their time, bad input, calls that are cancelled or out of time, clients with wrong certificates, a new model
//! every few seconds) and tells what came of it: calls and errors by kind, latencies, the server's memory over time. Errors that were not
//! provoked make it fail.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a load test tells a person, and fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use depeche::model::{Classifier, Model};
use depeche::service::health_pb::HealthCheckRequest;
use depeche::service::health_pb::health_check_response::ServingStatus;
use depeche::service::health_pb::health_client::HealthClient;
use depeche::service::pb;
use depeche::service::pb::admin_service_client::AdminServiceClient;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A load test of a server of its own.
#[derive(Debug, Parser)]
struct Args {
    /// How long it takes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Given by cargo; means nothing
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came of the calls of one kind.
#[derive(Debug, Default)]
struct Outcomes {
    codes: BTreeMap<String, u64>,
    unexpected: BTreeMap<String, u64>,
    seconds: Vec<f32>,
}

/// What came of all calls.
#[derive(Debug, Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<&'static str, Outcomes>>>);

impl Tally {
    /// A call has ended; `expected` are the codes that it may end with.
    fn note(&self, kind: &'static str, started: Instant, found: Result<(), tonic::Status>, expected: &[Code]) {
        let mut all = self.0.lock().unwrap();
        let outcomes = all.entry(kind).or_default();
        if found.as_ref().is_err_and(crossed) {
            *outcomes.codes.entry(CROSSED.to_owned()).or_default() += 1;
            return;
        }
        let code = found.as_ref().map_or_else(tonic::Status::code, |()| Code::Ok);
        *outcomes.codes.entry(format!("{code:?}")).or_default() += 1;
        if !expected.contains(&code) {
            let message = found.map_or_else(|status| format!("{code:?}: {}", status.message()), |()| "Ok".to_owned());
            *outcomes.unexpected.entry(message).or_default() += 1;
        }
        outcomes.seconds.push(started.elapsed().as_secs_f32());
    }
}

/// The outcome of a call that met the end of its connection's age.
const CROSSED: &str = "crossed a GOAWAY";

/// Whether a call met the end of its connection's age on the wire, and so was not begun. Other clients send it again by themselves; this one
/// tells it by these words.
fn crossed(status: &tonic::Status) -> bool {
    let message = status.message();
    message == "operation was canceled" || status.code() == Code::Internal && message.starts_with("h2 protocol error")
}

/// An authority and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn signed(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// TLS of a client with a certificate of this authority, that trusts `server`.
    fn client(&self, server: &Self) -> ClientTlsConfig {
        let (certificate, key) = self.signed("client");
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&server.pem)).domain_name("localhost");
        tls.identity(Identity::from_pem(certificate, key))
    }
}

/// The server, ended when dropped.
struct Server {
    child: Child,
    main: String,
    admin: String,
}

impl Server {
    fn start(folder: &Path, authority: &Authority) -> Self {
        let (certificate, key) = authority.signed("localhost");
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        for (name, content) in [("server.pem", &certificate), ("server.key", &key), ("ca.pem", &authority.pem)] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--max-response-bytes", "67108864"]);
        command.args(["--model", &file("model"), "--shadow", &file("shadow"), "--keepalive-interval", "5s"]);
        command.args([
            "--tls-certificate",
            &file("server.pem"),
            "--tls-key",
            &file("server.key"),
            "--tls-client-ca",
            &file("ca.pem"),
        ]);
        command.args(["--max-connection-age", "20s"]).env("RUST_LOG", "warn,depeche::cli=info");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |what: &str| {
            let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains(what)).unwrap();
            line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
        };
        let admin = address("admin listener");
        let main = address(" ready ");
        // Its log is kept from filling the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("server: {line}")));
        Self { child, main, admin }
    }

    /// Resident memory in MiB, where the system tells it.
    fn resident(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the traffic is made from.
#[derive(Clone)]
struct Traffic {
    tally: Tally,
    endpoint: Endpoint,
    texts: Arc<Vec<String>>,
    until: Instant,
}

type Client = ClassifierServiceClient<Channel>;

impl Traffic {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn client(&self) -> Client {
        ClassifierServiceClient::new(self.endpoint.connect_lazy()).max_decoding_message_size(64 << 20)
    }

    fn article(&self, at: usize) -> pb::Article {
        pb::Article { article_id: at.to_string(), text: self.texts[at % self.texts.len()].clone(), ..Default::default() }
    }

    fn batch(&self, articles: usize) -> pb::BatchClassifyRequest {
        pb::BatchClassifyRequest { articles: (0..articles).map(|at| self.article(at)).collect(), options: None }
    }

    async fn small(self, from: usize) {
        let mut client = self.client();
        let mut at = from;
        while self.goes_on() {
            at += 7;
            let options = pb::ClassifyOptions { max_contributions: i32::from(at.is_multiple_of(10)) * 20, ..Default::default() };
            let request = pb::ClassifyRequest { article: Some(self.article(at)), options: Some(options) };
            let started = Instant::now();
            let found = client.classify(request).await;
            self.tally.note("small article", started, found.map(drop), &[Code::Ok]);
        }
    }

    async fn large(self) {
        let mut client = self.client();
        let page = self.texts.iter().take(300).fold(String::new(), |page, text| page + text + "\n");
        for size in [60_000, 400_000, 900_000].into_iter().cycle() {
            if !self.goes_on() {
                return;
            }
            let end = (0..=size.min(page.len())).rev().find(|at| page.is_char_boundary(*at)).unwrap();
            let article = pb::Article { text: page[..end].to_owned(), ..Default::default() };
            let started = Instant::now();
            let found = client.classify(pb::ClassifyRequest { article: Some(article), options: None }).await;
            self.tally.note("large page", started, found.map(drop), &[Code::Ok]);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn batches(self) {
        let mut client = self.client();
        while self.goes_on() {
            let started = Instant::now();
            let found = client.batch_classify(self.batch(300)).await;
            self.tally.note("batch of 300", started, found.map(drop), &[Code::Ok]);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A reader that takes its time.
    async fn streams(self) {
        let mut client = self.client();
        while self.goes_on() {
            let items: Vec<_> =
                (0..200).map(|at| pb::StreamClassifyRequest { article: Some(self.article(at)), options: None }).collect();
            let started = Instant::now();
            let found = async {
                let mut answers = client.stream_classify(tokio_stream::iter(items)).await?.into_inner();
                let mut count = 0;
                while answers.message().await?.is_some() {
                    count += 1;
                    sleep(Duration::from_millis(5)).await;
                }
                if count == 200 { Ok(()) } else { Err(tonic::Status::data_loss(format!("{count} of 200 answers"))) }
            };
            self.tally.note("slow stream of 200", started, found.await, &[Code::Ok]);
        }
    }

    async fn bad_input(self) {
        let mut client = self.client();
        let article = |text: &str| pb::Article { text: text.into(), ..Default::default() };
        let options = |encoding, contributions| {
            Some(pb::ClassifyOptions { offset_encoding: encoding, max_contributions: contributions, ..Default::default() })
        };
        let requests = [
            pb::ClassifyRequest::default(),
            pb::ClassifyRequest { article: Some(article(" \n ")), options: None },
            pb::ClassifyRequest { article: Some(article(&"mot ".repeat(300_000))), options: None },
            pb::ClassifyRequest { article: Some(article("Un mot.")), options: options(77, 0) },
            pb::ClassifyRequest { article: Some(article("Un mot.")), options: options(0, -1) },
        ];
        for request in requests.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            let started = Instant::now();
            let found = client.classify(request.clone()).await;
            self.tally.note("bad input", started, found.map(drop), &[Code::InvalidArgument]);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Calls that are given up in their middle, and calls without enough time.
    async fn impatient(self) {
        let mut client = self.client();
        while self.goes_on() {
            let started = Instant::now();
            let given_up = tokio::time::timeout(Duration::from_millis(20), client.batch_classify(self.batch(1000))).await;
            let found = given_up.map_or_else(|_| Err(tonic::Status::cancelled("given up")), |answered| answered.map(drop));
            self.tally.note("batch, given up", started, found, &[Code::Cancelled, Code::Ok]);
            let mut request = tonic::Request::new(self.batch(1000));
            request.metadata_mut().insert("grpc-timeout", "20m".parse().unwrap());
            let started = Instant::now();
            let found = client.batch_classify(request).await;
            // This client may give up a moment before the server does.
            let expected = [Code::DeadlineExceeded, Code::Cancelled, Code::Ok];
            self.tally.note("batch, out of time", started, found.map(drop), &expected);
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn strangers(self, wrong: Endpoint) {
        while self.goes_on() {
            let started = Instant::now();
            let found = match wrong.connect().await {
                Ok(channel) => ClassifierServiceClient::new(channel).classify(pb::ClassifyRequest::default()).await.map(drop),
                Err(error) => Err(tonic::Status::unavailable(error.to_string())),
            };
            // Whether it sees the alert or the end of the connection, it gets no answer.
            self.tally.note("wrong certificate", started, found, &[Code::Unavailable, Code::Cancelled, Code::Unknown]);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn reloads(self, admin: String, folder: std::path::PathBuf, models: [Vec<u8>; 2]) {
        let channel = Channel::from_shared(format!("http://{admin}")).unwrap().connect_lazy();
        let (mut client, mut health) = (AdminServiceClient::new(channel.clone()), HealthClient::new(channel));
        for model in models.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            std::fs::write(folder.join("next"), model).unwrap();
            std::fs::rename(folder.join("next"), folder.join("model")).unwrap();
            let started = Instant::now();
            let found = client.reload_model(pb::ReloadModelRequest::default()).await;
            self.tally.note("reload", started, found.map(drop), &[Code::Ok]);
            let started = Instant::now();
            let found = health.check(HealthCheckRequest::default()).await.map(tonic::Response::into_inner);
            let found = found.map(|answer| answer.status()).and_then(|status| {
                let is_serving = status == ServingStatus::Serving;
                if is_serving { Ok(()) } else { Err(tonic::Status::unavailable(status.as_str_name())) }
            });
            self.tally.note("health", started, found, &[Code::Ok]);
            sleep(Duration::from_secs(3)).await;
        }
    }
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let folder = tempfile::tempdir().unwrap();
    let built_in = Classifier::built_in_model().unwrap();
    let first = built_in.to_bytes().unwrap();
    let second = Model { name: "second".into(), ..built_in }.to_bytes().unwrap();
    for name in ["model", "shadow"] {
        std::fs::write(folder.path().join(name), &first).unwrap();
    }
    let (own, other) = (Authority::new(), Authority::new());
    let server = Server::start(folder.path(), &own);
    let endpoint = Channel::from_shared(format!("https://{}", server.main)).unwrap();
    let wrong = endpoint.clone().tls_config(other.client(&own)).unwrap();
    let endpoint = endpoint.tls_config(own.client(&own)).unwrap();
    let started = Instant::now();
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let traffic = Traffic { tally: Tally::default(), endpoint, texts: Arc::new(texts()), until: started + length };
    let mut tasks = tokio::task::JoinSet::new();
    for from in 0..4 {
        tasks.spawn(traffic.clone().small(from * 1000));
    }
    tasks.spawn(traffic.clone().large());
    tasks.spawn(traffic.clone().batches());
    tasks.spawn(traffic.clone().streams());
    tasks.spawn(traffic.clone().bad_input());
    tasks.spawn(traffic.clone().impatient());
    tasks.spawn(traffic.clone().strangers(wrong));
    tasks.spawn(traffic.clone().reloads(server.admin.clone(), folder.path().to_owned(), [second, first]));
    let mut memory = Vec::new();
    while traffic.goes_on() {
        sleep(length / 60).await;
        memory.extend(server.resident().map(|resident| (started.elapsed(), resident)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    report(&traffic.tally, &memory);
}

/// The texts of the project's own corpus.
fn texts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/articles");
    let files = ["diplomacy", "military", "unrelated"].map(|name| folder.join(format!("{name}.jsonl")));
    let lines =
        files.iter().flat_map(|file| std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["text"].as_str().unwrap().to_owned()).collect()
}

fn report(tally: &Tally, memory: &[(Duration, f64)]) {
    let mut all = tally.0.lock().unwrap();
    println!("{:<20} {:>9}  {:>9} {:>9} {:>9}  outcomes", "kind", "calls", "p50 ms", "p99 ms", "max ms");
    let mut unexpected = Vec::new();
    let (mut calls, mut crossings) = (0, 0);
    for (kind, Outcomes { codes, unexpected: wrong, seconds }) in all.iter_mut() {
        calls += codes.values().sum::<u64>();
        crossings += codes.get(CROSSED).copied().unwrap_or(0);
        if seconds.is_empty() {
            continue;
        }
        seconds.sort_by(f32::total_cmp);
        let at = |numerator: usize| 1000.0 * seconds[(seconds.len() - 1) * numerator / 100];
        let codes = codes.iter().fold(String::new(), |mut text, (code, count)| {
            let _ = write!(text, "{code} {count}  ");
            text
        });
        println!("{kind:<20} {:>9}  {:>9.2} {:>9.2} {:>9.2}  {codes}", seconds.len(), at(50), at(99), at(100));
        unexpected.extend(wrong.iter().map(|(message, count)| format!("{kind}: {count} × {message}")));
    }
    let told: Vec<String> = memory.iter().map(|(at, mib)| format!("{:.0} s {mib:.0}", at.as_secs_f64())).collect();
    println!("resident MiB: {}", told.join(", "));
    assert!(unexpected.is_empty(), "errors that were not provoked:\n{}", unexpected.join("\n"));
    assert!(crossings <= calls / 1000, "{crossings} of {calls} calls crossed a GOAWAY");
    println!("{calls} calls, no error that was not provoked");
}
