//! What the tests of outputs share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framemill::store::Output;
use framemill::store::cloud::Settings;

use crate::server::{Answer, Request, Server, forward};
use crate::support::*;

/// An output below the tests' bucket, read by the library past any server that spoils requests. This process has no
/// credentials; moto asks for some and does not look at them.
pub fn output(port: u16, prefix: &str) -> Output {
    let server = Server::start(move |request| {
        let mut request = request.clone();
        request.head += "Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, \
                         SignedHeaders=host, Signature=0\r\n";
        forward(port, &request)
    });
    let settings = Settings { endpoint: Some(server.url()), anonymous: true, ..Settings::default() };
    Output::remote(&format!("s3://media/{prefix}"), &settings).unwrap()
}

/// Every object but the reports, with its digest.
pub fn objects(out: &Output) -> BTreeMap<String, String> {
    fn walk(out: &Output, folder: &str, found: &mut BTreeMap<String, String>) {
        for name in out.list(folder).unwrap() {
            let name = format!("{folder}{name}");
            if !name.ends_with('/') {
                found.insert(name.clone(), out.measure(&name).unwrap().sha256);
            } else if name != "_framemill/reports/" {
                walk(out, &name, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(out, "", &mut found);
    found
}

/// Starts the program; what it says of itself goes to the end of `log`.
pub fn start(mut program: Command, args: &[&str], log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    program.args(args).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// What `log` holds.
pub fn said(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

pub fn signal(pid: u32, name: &str) {
    // The process may have ended by itself.
    let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Waits until `true`, a minute at most.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server between the program and the store that spoils some requests, as `seed` says: it is busy, fails, is slow,
/// breaks off what it answers, or keeps to itself what it has done. How many of a thousand, `per_mille` says.
pub fn spoiling(port: u16, seed: u64, per_mille: u64) -> Server {
    let random = std::sync::Mutex::new(Random(seed));
    Server::start(move |request: &Request| {
        let (kind, spoiled) = {
            let mut random = random.lock().unwrap();
            (random.below(6), random.below(1000) < per_mille)
        };
        match (spoiled, kind) {
            (true, 0) => Answer::status(500),
            (true, 1) => Answer {
                body: b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>".to_vec(),
                ..Answer::status(503)
            },
            (true, 2) => Answer::status(429),
            // Done, but not said.
            (true, 3) => {
                forward(port, request);
                Answer::status(500)
            }
            (true, 4) => {
                let mut answer = forward(port, request);
                answer.cut = Some(answer.body.len() / 2);
                answer
            }
            (true, _) => Answer { delay: Duration::from_millis(300), ..forward(port, request) },
            (false, _) => forward(port, request),
        }
    })
}
