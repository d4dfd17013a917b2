//! Credentials that a machine or a pod has by its role: the clouds' metadata services are servers of the tests' own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::python;
use crate::server::{Answer, Child, Request, S3, Server, forward, program};
use crate::support::*;

/// The program with no credentials of its own.
fn bare(port: u16) -> Command {
    let mut command = program(port);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"] {
        command.env_remove(name);
    }
    command
}

fn keys(id: &str) -> Answer {
    let text = format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"s","Token":"session-{id}","Expiration":"2099-01-01T00:00:00Z"}}"#
    );
    Answer { body: text.into_bytes(), ..Answer::status(200) }
}

/// What an EC2 instance and an EKS pod are told.
fn metadata(request: &Request) -> Answer {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let token = request.headers.get("x-aws-ec2-metadata-token").map(String::as_str);
    match (request.method.as_str(), request.target.as_str()) {
        ("PUT", "/latest/api/token") => Answer { body: b"imds".to_vec(), ..Answer::status(200) },
        ("GET", ROLES) if token == Some("imds") => Answer { body: b"worker".to_vec(), ..Answer::status(200) },
        ("GET", target) if token == Some("imds") && target == format!("{ROLES}worker") => keys("AKIAINSTANCE"),
        ("GET", "/pod") if request.headers.get("authorization").is_some_and(|a| a == "podtoken") => keys("AKIAPOD"),
        _ => Answer::status(401),
    }
}

#[test]
fn roles_of_instances_and_pods_give_the_keys() {
    let Some(s3) = S3::start() else { return };
    s3.put_folder(&fixtures().join("photos"), "raw");
    let port = s3.port;
    let (proxy, service) = (Server::start(move |request| forward(port, request)), Server::start(metadata));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "podtoken").unwrap();
    let plan = ["plan", "-i", "s3://media/raw/"];
    let signed = |id: &str| {
        let requests = proxy.seen.requests();
        let by = |r: &Request| {
            r.headers["authorization"].contains(id) && r.headers["x-amz-security-token"] == format!("session-{id}")
        };
        assert!(!requests.is_empty() && requests.iter().all(by), "{id}: {requests:?}");
        proxy.seen.clear();
    };
    let output = bare(proxy.port).args(plan).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    signed("AKIAINSTANCE");
    let pod = |file: Option<&std::path::Path>| {
        let mut command = bare(proxy.port);
        command.args(plan).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/pod", service.url()));
        file.map(|file| command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file));
        command.output().unwrap()
    };
    let output = pod(Some(&token));
    assert!(output.status.success(), "{}", errors(&output));
    signed("AKIAPOD");
    // Without the file the metadata service would be asked, which is not there.
    let output = pod(None);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(errors(&output).contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), "{}", errors(&output));
}

/// A certificate for this machine, with its key, that is its own authority.
fn certificate(folder: &Path) -> PathBuf {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    let both = std::fs::read_to_string(key).unwrap() + &std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(folder.join("both.pem"), both).unwrap();
    certificate
}

#[test]
fn a_pods_web_identity_gives_the_keys() {
    let (Some(s3), Some(python)) = (S3::start(), python()) else { return };
    s3.put_folder(&fixtures().join("photos"), "raw");
    let port = s3.port;
    let proxy = Server::start(move |request| forward(port, request));
    let dir = tempfile::tempdir().unwrap();
    let (certificate, at) = (certificate(dir.path()), dir.path().join("port"));
    let (token, job, home) = (dir.path().join("token"), dir.path().join("job.toml"), dir.path().join("config"));
    std::fs::write(&token, "identity").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/sts.py");
    let service = Command::new(python).arg(script).arg(dir.path().join("both.pem")).arg(&at).arg(&token).spawn();
    let _service = Child(service.unwrap());
    let begun = std::time::Instant::now();
    let port = loop {
        match std::fs::read_to_string(&at) {
            Ok(port) if !port.is_empty() => break port,
            _ => assert!(begun.elapsed().as_secs() < 60, "the token service did not start"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let url = format!("https://localhost:{port}");
    std::fs::write(&job, "[input.store]\nretry_seconds = 1\n[input]\nuri = ['s3://media/raw/']\n").unwrap();
    let plan = |token: &Path, trusted: bool, named: bool| {
        let mut command = bare(proxy.port);
        command.arg("plan").arg(&job).env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_ENDPOINT_URL_STS", &url);
        command.env("AWS_REGION", "eu-west-1");
        if trusted {
            command.env("SSL_CERT_FILE", &certificate);
        }
        let role = "arn:aws:iam::123456789012:role/worker";
        if named {
            let text = format!("[profile pod]\nrole_arn = {role}\nweb_identity_token_file = {}\n", token.display());
            std::fs::write(&home, text).unwrap();
            command.env("AWS_CONFIG_FILE", &home).env("AWS_PROFILE", "pod");
        } else {
            command.env("AWS_ROLE_ARN", role).env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
        }
        command.output().unwrap()
    };
    for named in [false, true] {
        let output = plan(&token, true, named);
        assert!(output.status.success(), "{named}: {}", errors(&output));
        let requests = proxy.seen.requests();
        let by = |r: &Request| {
            r.headers["authorization"].contains("AKIAIDENTITY")
                && r.headers["x-amz-security-token"] == "session-AKIAIDENTITY"
        };
        assert!(!requests.is_empty() && requests.iter().all(by), "{requests:?}");
        proxy.seen.clear();
    }
    // Another token, and a service that nobody vouches for: no request goes to the store.
    let other = dir.path().join("other");
    std::fs::write(&other, "secret-of-another").unwrap();
    for output in [plan(&other, true, false), plan(&token, false, false)] {
        let said = errors(&output);
        assert!(matches!(output.status.code(), Some(2 | 74)), "{said}");
        assert!(!said.contains("secret-of-another") && proxy.seen.requests().is_empty(), "{said}");
    }
}

#[test]
fn a_service_account_of_googles_machines_gives_the_token() {
    let service = Server::start(|request| {
        let flavour = request.headers.get("metadata-flavor").is_some_and(|f| f == "Google");
        match request.target.split('?').next() {
            Some("/computeMetadata/v1/instance/service-accounts/default/token") if flavour => {
                let body = br#"{"access_token":"gcetoken","expires_in":3600,"token_type":"Bearer"}"#;
                Answer { body: body.to_vec(), ..Answer::status(200) }
            }
            _ => Answer::status(404),
        }
    });
    let store = Server::start(|_| Answer::status(404));
    let dir = tempfile::tempdir().unwrap();
    let job = dir.path().join("job.toml");
    std::fs::write(&job, format!("[input.store]\nendpoint = '{}'\nretry_seconds = 1\n", store.url())).unwrap();
    let output = bare(1)
        .args(["plan", job.to_str().unwrap(), "-i", "gs://media/raw/"])
        .env("GCE_METADATA_HOST", format!("127.0.0.1:{}", service.port))
        .env("HOME", dir.path())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env_remove("CLOUDSDK_CONFIG")
        .output()
        .unwrap();
    assert!(!output.status.success(), "there is nothing there");
    let requests = store.seen.requests();
    let by = |r: &Request| r.headers.get("authorization").is_some_and(|a| a == "Bearer gcetoken");
    assert!(!requests.is_empty() && requests.iter().all(by), "{requests:?} {}", errors(&output));
    assert!(!errors(&output).contains("gcetoken"), "{}", errors(&output));
}
