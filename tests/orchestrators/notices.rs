//! A cloud that takes the machine away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use crate::support::*;

/// Answers as EC2's metadata service does for a machine that is to be taken away; gives its URL.
pub fn doomed_machine() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let asked = lines.next().unwrap().unwrap_or_default();
            let rest: Vec<String> = lines.map_while(|l| l.ok().filter(|l| !l.is_empty())).collect();
            let known = rest.iter().any(|h| h == "X-aws-ec2-metadata-token: t0k");
            let (status, body) = match asked.trim_end_matches(" HTTP/1.1") {
                "PUT /latest/api/token" => ("200 OK", "t0k"),
                _ if !known => ("401 Unauthorized", ""),
                "GET /latest/meta-data/spot/instance-action" => {
                    ("200 OK", r#"{"action": "terminate", "time": "2026-11-27T18:00:00Z"}"#)
                }
                _ => ("404 Not Found", ""),
            };
            // The run may be over.
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    format!("http://{address}")
}

/// Twenty films in `folder`, so that a notice comes before the last of them.
pub fn many_films(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..4 {
        for clip in std::fs::read_dir(fixtures().join("clips")).unwrap() {
            let clip = clip.unwrap();
            std::fs::copy(clip.path(), folder.join(format!("{i}-{}", clip.file_name().display()))).unwrap();
        }
    }
}

#[test]
fn a_notice_is_a_first_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (films, out, whole) = (dir.path().join("films"), dir.path().join("out"), dir.path().join("whole"));
    many_films(&films);
    let inputs = [films.to_str().unwrap()];
    let more = ["--shard-samples", "1", "--json"];
    let args: Vec<&str> = job(&inputs, out.to_str().unwrap(), &[])
        .into_iter()
        .filter(|a| *a != "--shard-samples" && *a != "12")
        .collect();
    let args = [&args[..], &more].concat();
    // A notice that comes while it plans ends it before there is anything to report.
    let planned = framemill(&[&["plan", "--freeze"], &args[1..]].concat());
    assert!(planned.status.success(), "{}", errors(&planned));
    let url = doomed_machine();
    let output =
        program().args(&args).env("FRAMEMILL_NOTICE_ENDPOINT", &url).env("FRAMEMILL_NOTICE", "aws").output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", errors(&output));
    let told = report(&output);
    let words = "aws: spot instance-action terminate at 2026-11-27T18:00:00Z";
    assert_eq!((told["this_run"]["interrupted_by"].as_str(), told["exit_code"].as_u64()), (Some(words), Some(75)));
    assert!(told["tasks"]["done"].as_u64() < told["tasks"]["planned"].as_u64(), "{}", told["tasks"]);
    assert!(errors(&output).contains(words), "{}", errors(&output));
    assert_eq!(framemill(&["finish", out.to_str().unwrap()]).status.code(), Some(75));

    // Nobody is listened to: the same endpoint changes nothing. What comes out is what an undisturbed run gives.
    let quiet = [&args[..], &["--notice", "none", "--notice-endpoint", &url]].concat();
    let output = framemill(&quiet);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(report(&output)["this_run"]["interrupted_by"].is_null());
    let undisturbed: Vec<&str> =
        args.iter().map(|a| if *a == out.to_str().unwrap() { whole.to_str().unwrap() } else { *a }).collect();
    assert!(framemill(&undisturbed).status.success());
    assert_eq!(tree(&out), tree(&whole));

    let output = framemill(&[&args[..], &["--notice-endpoint", "ftp://x"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("notice_endpoint"), "{}", errors(&output));
    let output = framemill(&[&args[..], &["--notice", "sky"]].concat());
    assert!(output.status.code() == Some(2) && errors(&output).contains("notice"), "{}", errors(&output));
}
