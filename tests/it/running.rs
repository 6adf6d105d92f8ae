//! `depeche serve` as a process, for tests. They wait for it, so the connections need threads of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use depeche::service::pb;
use depeche::service::pb::admin_service_client::AdminServiceClient;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A server on free ports; ended when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Lines of the log up to the one that says that it is ready.
    pub(crate) started: Vec<String>,
}

impl Running {
    /// A server with `args`, on an address of its own; waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
        command.arg("serve").args(args).env_remove("RUST_LOG").envs(variables.iter().copied());
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = read(child.stderr.take().unwrap());
        let mut started = Vec::new();
        while let Ok(line) = lines.recv() {
            let is_ready = line.contains(" ready ") || line.contains("\"message\":\"ready\"");
            started.push(line);
            if is_ready {
                break;
            }
        }
        Self { child, lines, started }
    }

    /// The address in the first line of the log that contains `what`.
    pub(crate) fn address_of(&self, what: &str) -> String {
        let line = self.started.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{:?}", self.started));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        address.to_owned()
    }

    /// The address of the main listener.
    pub(crate) fn address(&self) -> String {
        self.address_of(" ready ")
    }

    /// A connection to the main listener.
    pub(crate) async fn channel(&self) -> Channel {
        connect(&self.address()).await
    }

    /// A client of the main listener.
    pub(crate) async fn classifier(&self) -> ClassifierServiceClient<Channel> {
        ClassifierServiceClient::new(self.channel().await)
    }

    /// A client of the admin listener.
    pub(crate) async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(connect(&self.address_of("admin listener")).await)
    }

    /// What Prometheus would read.
    pub(crate) async fn metrics(&self) -> String {
        get(&self.address_of("admin listener"), "/metrics").await.1
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The next line of the log that contains `what`; those before it are left out.
    pub(crate) fn log_until(&self, what: &str) -> String {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv().unwrap_or_else(|_| panic!("no line with {what:?} in {before:?}"));
            if line.contains(what) {
                return line;
            }
            before.push(line);
        }
    }

    /// How the server ended, and the rest of its log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status, self.lines.iter().collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a log, read all the time, so that the server never waits for a reader.
fn read(log: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A connection.
pub(crate) async fn connect(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Status and body of a GET over HTTP/1.1.
pub(crate) async fn get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Runs `depeche` to its end: exit code and stderr.
pub(crate) fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_depeche")).args(args).env_remove("RUST_LOG").output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Code and reason of an error; every one has an ErrorInfo of our domain.
pub(crate) fn refusal(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "depeche.v1");
    (status.code(), info.reason)
}

/// A request for an article.
pub(crate) fn request(text: &str) -> pb::ClassifyRequest {
    pb::ClassifyRequest { article: Some(pb::Article { text: text.into(), ..Default::default() }), options: None }
}

/// A batch that takes some hundred milliseconds in an optimised build.
pub(crate) fn slow_batch() -> pb::BatchClassifyRequest {
    let sentence =
        "Le ministre de la Défense a reçu lundi à Niamey une délégation d'officiers venus d'Alger pour préparer l'exercice. ";
    let article = pb::Article { text: sentence.repeat(130), ..Default::default() };
    pb::BatchClassifyRequest { articles: vec![article; 1000], options: None }
}
