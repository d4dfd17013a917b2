//! Lists of URLs: servers that are slow, busy, broken, or unwilling.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::server::{Answer, Server, program};
use crate::support::*;

fn photo() -> Vec<u8> {
    std::fs::read(fixtures().join("photos/progressive.jpg")).unwrap()
}

/// Runs a job over a list of URLs.
fn go(server: &Server, dir: &Path, names: &[&str], config: &str) -> (Output, std::path::PathBuf) {
    let (list, file, out) = (dir.join("urls.csv"), dir.join("job.toml"), dir.join("out"));
    let rows: String = names.iter().map(|name| format!("{}/{name}\n", server.url())).collect();
    std::fs::write(&list, format!("uri\n{rows}")).unwrap();
    std::fs::write(&file, config).unwrap();
    let mut args = job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--json", "--threads", "2"]);
    args.insert(1, file.to_str().unwrap());
    (program(1).args(args).output().unwrap(), out)
}

/// Kind and message of every rejected input, by the last part of its URI.
pub fn rejects(out: &Path) -> BTreeMap<String, (String, String)> {
    let output = framemill(&["rejects", out.to_str().unwrap(), "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", errors(&output)));
    let of_kind = |(kind, all): (&String, &Value)| {
        let text = |reject: &Value, key: &str| reject[key].as_str().unwrap().to_string();
        let last = |uri: String| uri.rsplit('/').next().unwrap().to_string();
        let one = |reject: &Value| (last(text(reject, "uri")), (kind.clone(), text(reject, "message")));
        all.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    value["kinds"].as_object().unwrap().iter().flat_map(of_kind).collect()
}

#[test]
fn each_answer_has_its_outcome() {
    let (clip, photo) = (std::fs::read(fixtures().join("clips/h264.mp4")).unwrap(), photo());
    let server =
        Server::start(move |request| {
            let name = request.target.trim_start_matches('/').split('?').next().unwrap();
            let fine = || Answer::file(request, &photo);
            match name {
                "busy.jpg" if request.before < 2 => Answer::status(503),
                "throttled.jpg" if request.before < 1 => Answer::status(429).with("Retry-After", "1"),
                "later.jpg" => Answer::status(503).with("Retry-After", "100000"),
                "broken.jpg" => Answer::status(500),
                "cut.jpg" if request.before < 2 => Answer { cut: Some(1000), ..fine() },
                "gone.jpg" => Answer::status(404),
                "closed.jpg" => Answer::status(403),
                "page.jpg" => Answer { body: b"<html>no</html>".to_vec(), ..Answer::status(200) }
                    .with("Content-Type", "text/html"),
                "zipped.mp4" => {
                    Answer { body: vec![0x1F, 0x8B, 8, 0], ..Answer::status(200) }.with("Content-Encoding", "gzip")
                }
                "mislabelled.jpg" => fine().with("Content-Type", "text/html; charset=utf-8"),
                "lie.jpg" => Answer { body: b"<html>no</html>".to_vec(), ..Answer::status(200) }
                    .with("Content-Type", "image/jpeg"),
                "noai.jpg" => fine().with("X-Robots-Tag", "noai, noimageai"),
                "others.jpg" => fine().with("X-Robots-Tag", "googlebot: noindex"),
                "tdm.jpg" => fine().with("TDM-Reservation", "1"),
                "huge.jpg" => Answer { body: photo.repeat(30), ..Answer::status(200) },
                "empty.jpg" => match request.range() {
                    Some(_) => Answer::status(416),
                    None => Answer::status(200),
                },
                "moved.jpg" => Answer::status(302).with("Location", "/fine.jpg"),
                "circle.jpg" => Answer::status(302).with("Location", "/circle.jpg"),
                // A server that knows no ranges, and says no length.
                "whole.mp4" => Answer { body: clip.clone(), ..Answer::status(200) },
                _ => fine(),
            }
        });
    let names = [
        "fine.jpg",
        "busy.jpg",
        "throttled.jpg",
        "later.jpg",
        "broken.jpg",
        "cut.jpg",
        "gone.jpg",
        "closed.jpg",
        "page.jpg",
        "zipped.mp4",
        "mislabelled.jpg",
        "lie.jpg",
        "noai.jpg",
        "others.jpg",
        "tdm.jpg",
        "huge.jpg",
        "empty.jpg",
        "moved.jpg",
        "circle.jpg",
        "whole.mp4",
    ];
    let dir = tempfile::tempdir().unwrap();
    let (output, out) = go(&server, dir.path(), &names, "[input.http]\nmax_bytes = '100kB'\n");
    assert!(output.status.success(), "{}", errors(&output));
    let rejected = rejects(&out);
    let wanted = [
        ("later.jpg", "io"),
        ("broken.jpg", "io"),
        ("gone.jpg", "missing"),
        ("closed.jpg", "forbidden"),
        ("page.jpg", "not_media"),
        ("zipped.mp4", "unsupported"),
        ("noai.jpg", "opt_out"),
        ("tdm.jpg", "opt_out"),
        ("huge.jpg", "too_large"),
        ("empty.jpg", "empty"),
        ("circle.jpg", "missing"),
    ];
    for (name, kind) in wanted {
        assert_eq!(rejected.get(name).map(|r| r.0.as_str()), Some(kind), "{name}: {rejected:?}");
    }
    assert!(rejected.contains_key("lie.jpg"), "what is no picture is none, whatever it is called");
    assert_eq!(rejected.len(), wanted.len() + 1, "{rejected:?}");
    assert!(rejected["page.jpg"].1.contains("text/html") && rejected["huge.jpg"].1.contains("max_bytes"));
    assert_eq!(server.seen.count("GET", "broken.jpg"), 5, "tried again, but not for ever");
    assert_eq!(server.seen.count("GET", "gone.jpg"), 1, "what is bad is not tried again");
    assert_eq!(server.seen.count("GET", "fine.jpg"), 2, "one request a photo, and the one that was redirected");
    let agent = |r: &crate::server::Request| r.headers["user-agent"].starts_with("framemill/");
    assert!(server.seen.requests().iter().all(agent));
    let digests: std::collections::HashSet<_> = records(&out).iter().map(|r| r["source_sha256"].to_string()).collect();
    assert_eq!(digests.len(), 2, "one photo under many names, and none for the video");

    let dir = tempfile::tempdir().unwrap();
    let (output, out) = go(&server, dir.path(), &["noai.jpg", "tdm.jpg"], "[input.http]\nopt_out = 'ignore'\n");
    assert!(output.status.success() && rejects(&out).is_empty(), "{}", errors(&output));
}

#[test]
fn slow_servers_are_waited_for_together_and_politely() {
    let photo = photo();
    let server =
        Server::start(move |request| Answer { delay: Duration::from_millis(150), ..Answer::file(request, &photo) });
    let names: Vec<String> = (0..40).map(|i| format!("{i}.jpg")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (per_host, least) in [(12, 9), (3, 3)] {
        server.seen.most.store(0, Ordering::SeqCst);
        let dir = tempfile::tempdir().unwrap();
        let config = format!("memory = '1GB'\n[input.http]\nper_host = {per_host}\n");
        let (output, _) = go(&server, dir.path(), &names, &config);
        assert!(output.status.success(), "{}", errors(&output));
        let most = server.seen.most.load(Ordering::SeqCst);
        assert!((least..=per_host).contains(&most), "{most} at a time with two threads and per_host {per_host}");
    }
}

#[test]
fn videos_are_read_in_parts_that_belong_together() {
    let Some(media) = media() else { return };
    let film = media.join("video/intel/one-by-one-person-detection.mp4");
    let data = std::fs::read(&film).unwrap();
    let mut other = data.clone();
    other[2_000_000..].iter_mut().for_each(|b| *b ^= 0x55);
    let server = Server::start(move |request| {
        let name = request.target.trim_start_matches('/');
        let beyond = request.range().is_some_and(|(from, _)| from > 0);
        match name {
            // Every part breaks once on its way.
            "cut.mp4" if beyond && request.before % 2 == 1 => {
                Answer { cut: Some(30_000), ..Answer::file(request, &data).with("ETag", "\"1\"") }
            }
            "cut.mp4" | "fine.mp4" => Answer::file(request, &data).with("ETag", "\"1\""),
            // The same name, another file.
            "etag.mp4" if beyond => Answer::file(request, &other).with("ETag", "\"2\""),
            "size.mp4" if beyond => Answer::file(request, &other[..other.len() - 1]),
            "date.mp4" if beyond => {
                Answer::file(request, &other).with("Last-Modified", "Tue, 02 Jan 2024 00:00:00 GMT")
            }
            "condition.mp4" if beyond => {
                assert_eq!(request.headers.get("if-match").map(String::as_str), Some("\"1\""));
                Answer::status(412)
            }
            "date.mp4" => Answer::file(request, &data).with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
            "size.mp4" => Answer::file(request, &data),
            _ => Answer::file(request, &data).with("ETag", "\"1\""),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let names = ["fine.mp4", "cut.mp4", "etag.mp4", "size.mp4", "date.mp4", "condition.mp4"];
    let (output, out) = go(&server, dir.path(), &names, "");
    assert!(output.status.success(), "{}", errors(&output));
    let rejected = rejects(&out);
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["condition.mp4", "date.mp4", "etag.mp4", "size.mp4"]);
    assert!(rejected.values().all(|(kind, _)| kind == "changed"), "{rejected:?}");
    let local = dir.path().join("local");
    let output = framemill(&job(&[film.to_str().unwrap()], local.to_str().unwrap(), &[]));
    assert!(output.status.success(), "{}", errors(&output));
    let digests = |out: &Path, part: &str| -> Vec<String> {
        let of = |r: &&Value| r["uri"].as_str().unwrap().contains(part);
        records(out).iter().filter(of).map(|r| r["sha256"].to_string()).collect()
    };
    let expected = digests(&local, "one-by-one");
    assert!(expected.len() > 3 && digests(&out, "fine.mp4") == expected && digests(&out, "cut.mp4") == expected);
}
