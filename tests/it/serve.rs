//! `depeche serve`: start, health, answers and a clean stop.

use std::process::Command;

use depeche::service::health_pb::health_check_response::ServingStatus;
use depeche::service::health_pb::health_client::HealthClient;
use depeche::service::health_pb::{HealthCheckRequest, HealthListRequest};
use depeche::service::pb;

use crate::running::{Running, connect, request, run, slow_batch};

#[tokio::test(flavor = "multi_thread")]
async fn serves_when_it_says_so_and_stops_when_told() {
    for signal in ["TERM", "INT"] {
        let mut server = Running::start(&["--drain-delay", "0s"]);
        let ready = server.started.last().unwrap();
        assert!(ready.contains(" ready ") && ready.contains("model=\"models/depeche-fr/versions/"), "{ready}");
        assert!(!server.address().ends_with(":0"));
        let response = server.classifier().await.classify(request("Le sommet s'est ouvert à Alger.")).await.unwrap().into_inner();
        assert!(!response.topic.unwrap().label.is_empty());
        server.signal(signal);
        let (status, rest) = server.wait();
        assert_eq!(status.code(), Some(0));
        assert!(rest.last().unwrap().contains("stopped"), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_the_command_line_give_the_same_answer() {
    let page = "Météo du mardi    Le prix du mil recule\n\nAlger et Niamey relancent leur commission de défense\nLes deux \
                ministres ont signé lundi un accord de formation, a indiqué l’état-major algérien.\nPartager\n";
    let server = Running::start(&["--drain-delay", "0s"]);
    let article = pb::Article { article_id: String::new(), title: String::new(), text: page.into() };
    let options = Some(pb::ClassifyOptions { max_contributions: 40, ..Default::default() });
    let request = pb::ClassifyRequest { article: Some(article), options };
    let response = server.classifier().await.classify(request).await.unwrap().into_inner();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), page).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
    let output = command.args(["classify", "--json", "--max-contributions", "40"]).arg(file.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", serde_json::to_string(&response).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_for_each_service() {
    let server = Running::start(&["--drain-delay", "0s"]);
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
    let mut server = Running::start(&["--drain-delay", "0s"]);
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut unknown = health.watch(HealthCheckRequest { service: "none".into() }).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    server.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap(), None);
    let (status, rest) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!rest.iter().any(|line| line.contains("connections open")), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_does_not_hold_the_stop() {
    let mut server = Running::start(&["--drain-delay", "0s"]);
    let silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    // It has been accepted once a later one is answered.
    assert!(server.classifier().await.classify(request("Un mot.")).await.is_ok());
    server.signal("TERM");
    let (status, rest) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!rest.iter().any(|line| line.contains("connections open")), "{rest:?}");
    drop(silent);
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let server = Running::start(&["--drain-delay", "0s"]);
    let address = server.address();
    let (code, error) = run(&["serve", "--listen", &address]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with(&format!("error: listening on {address}: ")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_calls_for_its_delay_and_finishes_those_in_flight() {
    let mut server =
        Running::start(&["--drain-delay", "1s", "--health-listen", "127.0.0.1:0", "--max-response-bytes", "100000000"]);
    let mut client = server.classifier().await.max_decoding_message_size(100_000_000);
    let mut health = HealthClient::new(connect(&server.address_of("health listener")).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let open = server.channel().await;
    server.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // Balancers have not taken notice yet: what they send on is answered, on old connections and new ones.
    assert!(client.classify(request("Un mot.")).await.is_ok());
    assert!(server.classifier().await.classify(request("Un mot.")).await.is_ok());
    // This one is in flight when the delay is over.
    let batch = tokio::spawn(async move { client.batch_classify(slow_batch()).await });
    assert_eq!(batch.await.unwrap().unwrap().into_inner().responses.len(), 1000);
    drop(open);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_limit_or_when_told_twice() {
    for (limit, is_told_twice) in [("1s", false), ("600s", true)] {
        let mut server = Running::start(&["--drain-delay", "0s", "--drain-limit", limit]);
        let mut client = server.classifier().await;
        // A stream that its client leaves open.
        let _open = client.stream_classify(tokio_stream::pending()).await.unwrap();
        server.signal("TERM");
        server.log_until("stopping");
        if is_told_twice {
            // The one is told by whoever has told so already; the other by whoever won't wait.
            server.signal("TERM");
            server.log_until("stopping");
            server.signal("INT");
        }
        let (status, rest) = server.wait();
        assert_eq!(status.code(), Some(0));
        let why = if is_told_twice { "told to stop without waiting" } else { "the limit has passed" };
        assert!(rest.iter().any(|line| line.contains(why) && line.contains("stopped with connections open")), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_is_told_to_go_and_its_calls_end() {
    let server = Running::start(&["--max-connection-age", "200ms", "--max-connection-age-grace", "60s"]);
    let mut raw = crate::raw::Raw::connect(&server.address()).await;
    let path = "depeche.v1.ClassifierService/Classify";
    let body = crate::raw::frame(&request("Un mot."));
    assert_eq!(raw.call(path, &[], body.clone()).await.status.unwrap().code(), tonic::Code::Ok);
    // GOAWAY: sooner or later no more calls are taken on this connection.
    while let Ok(send) = raw.send.clone().ready().await {
        raw.send = send;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(server.classifier().await.classify(request("Un mot.")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_is_dropped_and_one_that_pings_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Running::start(&["--keepalive-interval", "100ms", "--keepalive-timeout", "1s"]);
    // A preface and empty settings, then silence: the server's pings are never answered.
    let mut silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // One that asks the server by itself, far more often than 20 s.
    let interval = std::time::Duration::from_millis(50);
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", server.address())).unwrap();
    let channel = endpoint.http2_keep_alive_interval(interval).keep_alive_while_idle(true).connect_lazy();
    let mut client = depeche::service::pb::classifier_service_client::ClassifierServiceClient::new(channel);
    let mut open = client.stream_classify(tokio_stream::pending()).await.unwrap().into_inner();
    let mut received = Vec::new();
    // Done when the server has closed the connection.
    let _ = silent.read_to_end(&mut received).await;
    tokio::select! {
        ended = open.message() => panic!("the one that pings was dropped: {ended:?}"),
        () = tokio::time::sleep(2 * interval) => {}
    }
}

#[test]
fn wrong_values_are_refused_with_the_range() {
    for (flag, value, expected) in [
        ("--max-calls", "0", "0 is not in 1..=1000000"),
        ("--max-text-bytes", "67108865", "67108865 is not in 1..=67108864"),
        ("--max-header-bytes", "12", "12 is not in 1024..=1048576"),
        ("--drain-delay", "2h", "2h is not in 0s..=1h"),
        ("--keepalive-timeout", "5", "a time is a number and a unit, such as 500ms, 5s or 2m"),
        ("--log-format", "xml", "possible values: human, json"),
    ] {
        let (code, error) = run(&["serve", flag, value]);
        assert_eq!(code, Some(2), "{flag}");
        assert!(error.contains(flag) && error.contains(expected), "{flag}: {error}");
    }
    for (args, expected) in [
        (&["--drain-delay", "30s"][..], "--drain-delay 30s: the limit, --drain-limit 25s, would pass before it"),
        (&["--max-request-bytes", "2000"], "--max-request-bytes 2000: an article of --max-text-bytes 1048576"),
        (&["--otlp-endpoint", "https://collector"], "only http:// is spoken"),
        (&["--tls-certificate", "none.pem"], "--tls-key"),
    ] {
        let (code, error) = run(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        assert_ne!(code, Some(0), "{args:?}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn other_machines_are_kept_out_unless_that_is_said_in_so_many_words() {
    let (code, error) = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("--listen 0.0.0.0:0: not a loopback address") && error.contains("--insecure-listen-anywhere"),
        "{error}"
    );
    let (code, error) = run(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "[::]:0"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--admin-listen [::]:0: not a loopback address"), "{error}");
    let server = Running::start(&["--listen", "0.0.0.0:0", "--insecure-listen-anywhere"]);
    assert!(server.address().starts_with("0.0.0.0:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_flags_and_variables_and_are_told() {
    use depeche::service::pb::model_service_client::ModelServiceClient;
    let flags = ["--max-batch-articles", "7", "--max-connection-age", "1m 30s", "--keepalive-interval", "0s", "--workers", "3"];
    let server = Running::start_with(&flags, &[("DEPECHE_MAX_STREAMS", "5"), ("DEPECHE_QUEUE", "9")]);
    let described = ModelServiceClient::new(server.channel().await).get_model(pb::GetModelRequest::default()).await.unwrap();
    let limits = described.into_inner().limits.unwrap();
    let told = (limits.batch_articles, limits.streams, limits.queue, limits.workers, limits.calls, limits.header_bytes);
    assert_eq!(told, (7, 5, 9, 3, 256, 16_384));
    let seconds = |duration: Option<prost_types::Duration>| duration.map(|duration| duration.seconds);
    assert_eq!((seconds(limits.connection_age), seconds(limits.keepalive_interval)), (Some(90), None));
    assert_eq!(seconds(limits.connection_age_grace), Some(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_their_number_is_closed() {
    use tokio::io::AsyncReadExt;
    let server = Running::start(&["--max-connections", "1", "--health-listen", "127.0.0.1:0"]);
    let mut client = server.classifier().await;
    assert!(client.classify(request("Un mot.")).await.is_ok());
    let mut second = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(second.read(&mut [0; 64]).await.unwrap_or(0), 0);
    assert!(client.classify(request("Un mot.")).await.is_ok());
    // Callers keep no probe out.
    let mut health = HealthClient::new(connect(&server.address_of("health listener")).await);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status(), ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn light_calls_are_bounded_in_number_and_size() {
    let server = Running::start(&["--max-connections", "2", "--admin-listen", "127.0.0.1:0"]);
    let mut health = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(health.watch(HealthCheckRequest::default()).await.unwrap());
    }
    let refused = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("4 calls of health"), "{}", refused.message());
    let mut apart = HealthClient::new(connect(&server.address_of("admin listener")).await);
    let long = HealthCheckRequest { service: "x".repeat(20_000) };
    assert_eq!(apart.check(long).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    assert!(apart.check(HealthCheckRequest::default()).await.is_ok());
    watches.clear();
    // A place is given back when its watch has gone, soon after.
    while health.check(HealthCheckRequest::default()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
