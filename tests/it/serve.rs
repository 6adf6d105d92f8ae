//! `depeche serve`, as a process. The tests wait for it, so the connections need threads of their own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use depeche::service::health_pb::health_check_response::ServingStatus;
use depeche::service::health_pb::health_client::HealthClient;
use depeche::service::health_pb::{HealthCheckRequest, HealthListRequest};
use depeche::service::pb;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use tonic::transport::Channel;

/// A server on a free port; ended when dropped.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    ready: String,
}

impl Running {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).env_remove("RUST_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut ready = String::new();
        log.read_line(&mut ready).unwrap();
        Self { child, log, ready }
    }

    fn address(&self) -> String {
        let address = self.ready.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        format!("http://{address}")
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.address()).unwrap().connect().await.unwrap()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_when_it_says_so_and_stops_when_told() {
    for signal in ["TERM", "INT"] {
        let mut server = Running::start();
        assert!(
            server.ready.contains(" ready ") && server.ready.contains("model=models/depeche-fr/versions/"),
            "{}",
            server.ready
        );
        assert!(!server.address().ends_with(":0"));
        let article =
            pb::Article { article_id: "1".into(), title: String::new(), text: "Le sommet s'est ouvert à Alger.".into() };
        let request = pb::ClassifyRequest { article: Some(article), options: None };
        let response = ClassifierServiceClient::new(server.channel().await).classify(request).await.unwrap().into_inner();
        assert_eq!(response.article_id, "1");
        assert!(!response.topic.unwrap().label.is_empty());
        server.signal(signal);
        assert!(server.child.wait().unwrap().success());
        let rest: Vec<String> = server.log.by_ref().lines().map(Result::unwrap).collect();
        assert!(rest.last().unwrap().contains("stopped"), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_the_command_line_give_the_same_answer() {
    let page = "Météo du mardi    Le prix du mil recule\n\nAlger et Niamey relancent leur commission de défense\nLes deux \
                ministres ont signé lundi un accord de formation, a indiqué l’état-major algérien.\nPartager\n";
    let server = Running::start();
    let article = pb::Article { article_id: String::new(), title: String::new(), text: page.into() };
    let options = Some(pb::ClassifyOptions { max_contributions: 40, ..Default::default() });
    let request = pb::ClassifyRequest { article: Some(article), options };
    let response = ClassifierServiceClient::new(server.channel().await).classify(request).await.unwrap().into_inner();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), page).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
    let output = command.args(["classify", "--json", "--max-contributions", "40"]).arg(file.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", serde_json::to_string(&response).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_for_each_service() {
    let server = Running::start();
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "depeche.v1.ClassifierService", "depeche.v1.ModelService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let status = health.check(HealthCheckRequest { service: "none".into() }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let listed = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert_eq!(listed.len(), 3);
    assert!(listed.values().all(|state| state.status() == ServingStatus::Serving));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_health_watch_is_told_of_the_stop_and_does_not_hold_it() {
    let mut server = Running::start();
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut unknown = health.watch(HealthCheckRequest { service: "none".into() }).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    server.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap(), None);
    assert!(server.child.wait().unwrap().success());
    let rest: Vec<String> = server.log.by_ref().lines().map(Result::unwrap).collect();
    assert!(!rest.iter().any(|line| line.contains("in flight")), "{rest:?}");
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let server = Running::start();
    let address = server.address().replace("http://", "");
    let output = Command::new(env!("CARGO_BIN_EXE_depeche")).args(["serve", "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with(&format!("error: listening on {address}: ")), "{error}");
}
