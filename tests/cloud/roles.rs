//! Credentials that a machine or a pod has by its role: the clouds' metadata services are servers of the tests' own.

use std::process::Command;

use crate::server::{Answer, Request, S3, Server, forward, program};
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
