//! Who may call: TLS, certificates of clients, tokens.

use std::fs;
use std::path::PathBuf;

use depeche::service::health_pb::HealthCheckRequest;
use depeche::service::health_pb::health_client::HealthClient;
use depeche::service::pb;
use depeche::service::pb::admin_service_client::AdminServiceClient;
use depeche::service::pb::classifier_service_client::ClassifierServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request};

use crate::raw::{Raw, frame};
use crate::running::{Running, connect, refusal, request, run};

/// An authority, its certificate in PEM and a folder for files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, folder: tempfile::tempdir().unwrap() }
    }

    /// A certificate for a host until a year, and its key.
    fn signed(&self, host: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn identity(&self, until: i32) -> Identity {
        let (certificate, key) = self.signed("client", until);
        Identity::from_pem(certificate, key)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, content).unwrap();
        file
    }

    /// Files of a server's certificate for localhost.
    fn server_files(&self) -> Vec<String> {
        let (certificate, key) = self.signed("localhost", 2090);
        let files =
            [("--tls-certificate", self.write("server.pem", &certificate)), ("--tls-key", self.write("server.key", &key))];
        files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), file.to_str().unwrap().to_owned()]).collect()
    }

    /// Labels an article as a client that trusts this authority.
    async fn call(&self, server: &Running, identity: Option<Identity>) -> Result<(), String> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem)).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Channel::from_shared(format!("https://{}", server.address())).unwrap().tls_config(tls).unwrap();
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let answered = ClassifierServiceClient::new(channel).classify(request("Un mot.")).await;
        answered.map(drop).map_err(|status| format!("{status:?}"))
    }
}

fn start(args: &[String]) -> Running {
    Running::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_certificates_rotate_without_a_restart() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mut args = first.server_files();
    args.extend(["--health-listen", "127.0.0.1:0"].map(String::from));
    let server = start(&args);
    first.call(&server, None).await.unwrap();
    let error = second.call(&server, None).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    // Plaintext is no TLS.
    assert!(
        Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.is_err() || {
            server.classifier().await.classify(request("Un mot.")).await.is_err()
        }
    );
    let health = connect(&server.address_of("health listener")).await;
    assert!(HealthClient::new(health.clone()).check(HealthCheckRequest::default()).await.is_ok());
    // Probes get health there and nothing else.
    let status = ClassifierServiceClient::new(health).classify(request("Un mot.")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);

    let (certificate, key) = second.signed("localhost", 2090);
    first.write("server.pem", "nothing");
    server.signal("HUP");
    server.log_until("certificates refused");
    first.call(&server, None).await.unwrap();
    first.write("server.pem", &certificate);
    first.write("server.key", &key);
    server.signal("HUP");
    server.log_until("certificates read anew");
    second.call(&server, None).await.unwrap();
    assert!(first.call(&server, None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_certificate_of_the_authority_are_refused() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let mut args = own.server_files();
    args.extend(["--tls-client-ca".to_owned(), own.write("ca.pem", &own.pem).to_str().unwrap().to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Running::start_with(&args, &[("RUST_LOG", "depeche=debug")]);
    own.call(&server, Some(own.identity(2090))).await.unwrap();
    for (identity, reason) in [
        (None, "peer sent no certificates"),
        (Some(other.identity(2090)), "UnknownIssuer"),
        (Some(own.identity(2021)), "certificate expired"),
    ] {
        own.call(&server, identity).await.unwrap_err();
        // In TLS 1.3 a client may see no more than that the connection ends; the server says why.
        let line = server.log_until(reason);
        assert!(line.contains("TLS handshake"), "{line}");
    }
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new("own");
    let files = authority.server_files();
    let serve = |files: &[String]| {
        let args: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"].into_iter().chain(files.iter().map(String::as_str)).collect();
        let (code, error) = run(&args);
        assert_eq!(code, Some(1));
        error
    };
    authority.write("server.pem", "nothing");
    assert!(serve(&files).contains("server.pem: no certificate in it"));
    let error = serve(&[files[0].clone(), "none.pem".into(), files[2].clone(), files[3].clone()]);
    assert!(error.contains("none.pem"), "{error}");
    let error = serve(&[files[0].clone(), files[1].clone(), files[2].clone(), files[1].clone()]);
    assert!(error.contains("server.pem: no private key in it"), "{error}");
    // A certificate and the key of another.
    authority.write("server.pem", &authority.signed("localhost", 2090).0);
    let error = serve(&files);
    assert!(error.contains("server.pem") && error.contains("server.key"), "{error}");
}

const CLASSIFY_TOKEN: &str = "a-token-for-callers";
const ADMIN_TOKEN: &str = "a-token-for-operators";

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_scopes_decide_before_anything_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    fs::write(&file, format!("# callers\nclassify {CLASSIFY_TOKEN}\nadmin {ADMIN_TOKEN}\n")).unwrap();
    let server = Running::start(&["--tokens", file.to_str().unwrap()]);
    let channel = server.channel().await;
    let mut client = ClassifierServiceClient::new(channel.clone());
    let mut admin = AdminServiceClient::new(channel.clone());
    let (invalid, missing) =
        ((Code::Unauthenticated, "TOKEN_INVALID".to_owned()), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));

    assert_eq!(refusal(&client.classify(request("Un mot.")).await.unwrap_err()), invalid);
    assert_eq!(refusal(&client.classify(bearing(request("Un mot."), "a-token-for-nobody")).await.unwrap_err()), invalid);
    assert_eq!(refusal(&client.classify(bearing(request("Un mot."), ADMIN_TOKEN)).await.unwrap_err()), missing);
    client.classify(bearing(request("Un mot."), CLASSIFY_TOKEN)).await.unwrap();

    let report = pb::GetShadowReportRequest {};
    assert_eq!(refusal(&admin.get_shadow_report(report).await.unwrap_err()), invalid);
    assert_eq!(refusal(&admin.get_shadow_report(bearing(report, CLASSIFY_TOKEN)).await.unwrap_err()), missing);
    assert_eq!(refusal(&admin.get_shadow_report(bearing(report, ADMIN_TOKEN)).await.unwrap_err()).1, "NO_SHADOW");

    // What does not exist looks the same as what does.
    let mut raw = Raw::connect(&server.address()).await;
    for path in ["depeche.v1.ClassifierService/Nothing", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert_eq!(refusal(&raw.call(path, &[], frame(&request("a"))).await.status.unwrap()), invalid);
    }
    // Probes carry no token.
    assert!(HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok());

    fs::write(&file, "classify a-token-that-is-new\n").unwrap();
    server.signal("HUP");
    server.log_until("tokens read anew");
    assert_eq!(refusal(&client.classify(bearing(request("Un mot."), CLASSIFY_TOKEN)).await.unwrap_err()), invalid);
    client.classify(bearing(request("Un mot."), "a-token-that-is-new")).await.unwrap();
}
