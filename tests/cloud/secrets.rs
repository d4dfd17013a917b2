//! Nothing that is printed or written holds a secret.

use std::path::Path;
use std::process::Output;

use crate::server::{Answer, S3, SECRET, Server, program};
use crate::support::*;

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

fn assert_silent(output: &Output, out: &Path, secret: &str) {
    assert!(!holds(&output.stdout, secret) && !holds(&output.stderr, secret), "{}", errors(output));
    if out.exists() {
        for name in tree(out).into_keys().chain(reports(out)) {
            // The frozen inputs are what is read later: a signed URL has to be whole in them.
            let frozen = name.starts_with("_framemill/plan-") && name.ends_with(".parquet");
            assert!(frozen || !holds(&std::fs::read(out.join(&name)).unwrap(), secret), "{name}");
        }
    }
}

fn reports(out: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(out.join("_framemill/reports")).into_iter().flatten();
    entries.map(|e| format!("_framemill/reports/{}", e.unwrap().file_name().to_string_lossy())).collect()
}

#[test]
fn keys_are_never_shown() {
    let denied = Server::start(|_| {
        let body = format!(
            "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature does not match</Message>\
             <StringToSign>{SECRET}</StringToSign></Error>"
        );
        Answer { body: body.into_bytes(), ..Answer::status(403) }
    });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for port in [denied.port, 1] {
        let config = dir.path().join("job.toml");
        std::fs::write(&config, "[input.store]\nretry_seconds = 1\n").unwrap();
        let mut args = job(&["s3://media/raw/"], out.to_str().unwrap(), &["-vvv"]);
        args.insert(1, config.to_str().unwrap());
        let output = program(port).args(args).env("FRAMEMILL_LOG", "trace").output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
        assert_silent(&output, &out, SECRET);
    }
    // The control: the test would see it.
    assert!(holds(format!("x{SECRET}y").as_bytes(), SECRET));
}

#[test]
fn signed_urls_and_passwords_are_never_shown() {
    let server = Server::start(|request| match request.target.contains("there") {
        true => Answer::file(request, &std::fs::read(fixtures().join("clips/h264.mp4")).unwrap()[..60_000]),
        false => Answer::status(404),
    });
    let dir = tempfile::tempdir().unwrap();
    let (list, out) = (dir.path().join("l.txt"), dir.path().join("out"));
    let url = server.url();
    let signature = "s1gnatureSECRET";
    let names = ["gone.jpg", "there.mp4", "gone.mp4"];
    let rows: String = names.iter().map(|name| format!("{url}/{name}?X-Amz-Signature={signature}\n")).collect();
    std::fs::write(&list, rows).unwrap();
    let output =
        program(1).args(job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--json", "-vv"])).output().unwrap();
    assert!(server.seen.requests().iter().all(|r| r.target.contains(signature)), "the server got it");
    assert!(out.join("_framemill/rejects").exists(), "{}", errors(&output));
    assert_silent(&output, &out, signature);
    let output = program(1).args(["plan", "-i", "https://user:passw0rd@example.com/a.jpg"]).output().unwrap();
    assert!(output.status.code() == Some(2) && !errors(&output).contains("passw0rd"), "{}", errors(&output));
}

#[test]
fn a_signature_in_the_job_is_used_but_never_shown() {
    let photo = std::fs::read(fixtures().join("photos/progressive.jpg")).unwrap();
    let server = Server::start(move |request| match request.target.split('?').next() {
        Some("/l.csv") => Answer { body: b"uri\nthere.jpg\n".to_vec(), ..Answer::status(200) },
        _ => Answer::file(request, &photo),
    });
    let (dir, url) = (tempfile::tempdir().unwrap(), server.url());
    let go = |args: &[&str]| program(1).args(args).output().unwrap();
    for name in ["a.jpg", "l.csv"] {
        let out = dir.path().join(name);
        let signed = |signature: &str| format!("{url}/{name}?X-Amz-Signature={signature}");
        let run = |signature: &str| go(&job(&[&signed(signature)], out.to_str().unwrap(), &["--json", "-vv"]));
        let output = run("s1gnatureSECRET");
        assert_eq!(report(&output)["samples"], 1, "{}", errors(&output));
        assert_silent(&output, &out, "s1gnatureSECRET");
        let told = std::fs::read_to_string(out.join("dataset.json")).unwrap();
        assert!(told.contains(&format!("{url}/{name}\"")), "{told}");
        // A signature ends, the job does not.
        let again = run("an0therSECRET");
        assert_eq!(report(&again)["fingerprint"], report(&output)["fingerprint"], "{}", errors(&again));
        let plan = go(&["plan", "--json", "-i", &signed("s1gnatureSECRET")]);
        assert!(plan.status.success());
        assert_silent(&plan, &out, "s1gnatureSECRET");
    }
    assert!(server.seen.requests().iter().all(|r| r.target == "/there.jpg" || r.target.contains("SECRET")));
    let signed = format!("{url}/a.jpg?sig=SECRET");
    let (lut, named) = (format!("lut:{signed}"), format!("lut:file={signed}"));
    let elsewhere = "https://x/y?sig=SECRET";
    let cases: [(&[&str], i32); 6] = [
        (&["probe", &signed], 0),
        (&["probe", "--json", &signed], 0),
        (&["plan", "-i", "a.jpg", "--op", &lut], 2),
        (&["plan", "-i", "a.jpg", "--op", &named], 2),
        (&["run", "-i", "a.jpg", "-o", elsewhere, "--json"], 2),
        (&["run", "-i", "a.jpg", "-o", "none", "--notice", "aws", "--notice-endpoint", "http://u:SECRET@host"], 2),
    ];
    for (args, code) in cases {
        let output = go(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", errors(&output));
        assert_silent(&output, &dir.path().join("none"), "SECRET");
    }
}

#[test]
fn profiles_and_processes_give_the_keys() {
    let Some(s3) = S3::start() else { return };
    s3.put_folder(&fixtures().join("photos"), "raw");
    let port = s3.port;
    let proxy = Server::start(move |request| crate::server::forward(port, request));
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    let process = r#"printf '{"Version":1,"AccessKeyId":"AKIAPROCESS","SecretAccessKey":"s"}'"#;
    let text =
        format!("[profile lab]\nregion = eu-north-1\nendpoint_url = {}\ncredential_process = {process}\n", proxy.url());
    std::fs::write(&config, text).unwrap();
    let run = |named: Option<&str>, more: &[&str]| {
        let mut command = program(1);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"] {
            command.env_remove(name);
        }
        command.env("AWS_CONFIG_FILE", &config).env("AWS_EC2_METADATA_DISABLED", "true");
        named.map(|name| command.env("AWS_PROFILE", name));
        command.args(["plan", "-i", "s3://media/raw/"]).args(more).output().unwrap()
    };
    let output = run(Some("lab"), &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let signed = proxy.seen.requests();
    let by = |r: &crate::server::Request| {
        r.headers["authorization"].contains("AKIAPROCESS") && r.headers["authorization"].contains("eu-north-1")
    };
    assert!(!signed.is_empty() && signed.iter().all(by));
    // The same by the job's own settings; and what is said where there is nothing.
    let job = dir.path().join("job.toml");
    std::fs::write(&job, "[input.store]\nprofile = 'lab'\n").unwrap();
    assert!(run(None, &[job.to_str().unwrap()]).status.success());
    std::fs::write(
        &job,
        format!("[input.store]\nanonymous = true\nregion = 'us-east-1'\nendpoint = '{}'\n", proxy.url()),
    )
    .unwrap();
    proxy.seen.clear();
    assert!(run(None, &[job.to_str().unwrap()]).status.success());
    assert!(proxy.seen.requests().iter().all(|r| !r.headers.contains_key("authorization")));
    std::fs::write(&job, "[input.store]\nregion = 'us-east-1'\n").unwrap();
    let output = run(None, &[job.to_str().unwrap()]);
    let said = errors(&output);
    assert!(
        output.status.code() == Some(2) && said.contains("AWS_ACCESS_KEY_ID") && said.contains("anonymous"),
        "{said}"
    );
}
