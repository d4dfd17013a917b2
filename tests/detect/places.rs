//! Models and labels that lie elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{errors, records};
use crate::{framemill, model, picture, runtime};

/// A server of the files in `folder`, whole, for as long as the tests run. It asks for a key.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let target = request.split(' ').nth(1).unwrap_or_default();
            let file = target.strip_suffix("?key=secret").and_then(|path| std::fs::read(folder.join(&path[1..])).ok());
            let (status, body) = file.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Who asked may be gone.
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
        }
    });
    format!("http://{address}")
}

/// Everything that is written but the data.
fn ledger(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.is_dir() {
        true => ledger(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned(),
    };
    files.map(text).collect()
}

#[test]
fn models_and_labels_may_lie_elsewhere() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (input, there) = (picture(dir.path(), "a.png", (32, 32), 90), dir.path().join("with space"));
    std::fs::create_dir(&there).unwrap();
    std::fs::copy(model("end2end"), there.join("cats.onnx")).unwrap();
    std::fs::write(there.join("names.txt"), "\u{feff}cat\r\ndog\r\n").unwrap();
    let server = serve(there.clone());
    let file = format!("file://{}", there.to_str().unwrap().replace(' ', "%20"));
    let run = |name: &str, model: &str, labels: &str| {
        let out = dir.path().join(name);
        let args = ["run", "-i", &input, "-o", out.to_str().unwrap(), "--detect", model, "--labels", labels];
        (framemill(&make, &args), out)
    };
    let places = [
        ("plain", there.join("cats.onnx").to_str().unwrap().to_string(), there.join("names.txt").display().to_string()),
        ("file", format!("{file}/cats.onnx"), format!("{file}/names.txt")),
        ("http", format!("{server}/cats.onnx?key=secret"), format!("{server}/names.txt?key=secret")),
    ];
    for (name, model, labels) in &places {
        let (output, out) = run(name, model, labels);
        assert!(output.status.success(), "{name}: {}", errors(&output));
        let found = records(&out)[0]["detections"].clone();
        assert_eq!((&found[0]["label"], &found[0]["model"]), (&"cat".into(), &"cats".into()), "{name}");
        assert!(!ledger(&out).contains("secret"), "{name}");
    }
    // The job is the same wherever its files lie, and another where they hold something else.
    let mut elsewhere = places.iter().cycle().skip(1).zip(&places);
    assert!(elsewhere.all(|((_, model, labels), (name, ..))| run(name, model, labels).0.status.success()));
    std::fs::write(there.join("names.txt"), "dog\ncat\n").unwrap();
    let (other, _) = run("file", &places[0].1, &places[0].2);
    assert!(other.status.code() == Some(78) && errors(&other).contains("labels"), "{}", errors(&other));
    std::fs::write(there.join("names.txt"), "cat\ndog\n").unwrap();
    // A signature may be another the next time.
    let (again, _) = run("http", &places[2].1, &places[2].2);
    assert!(again.status.success(), "{}", errors(&again));
    let (missing, _) = run("missing", &format!("{server}/cats.onnx?key=other"), "coco");
    let text = errors(&missing);
    assert!(missing.status.code() == Some(2) && text.contains("cats.onnx") && !text.contains("other"), "{text}");
    let inspected = framemill(&make, &["model", "inspect", &places[2].1, "--json"]);
    assert!(inspected.status.success(), "{}", errors(&inspected));
    assert!(!String::from_utf8_lossy(&inspected.stdout).contains("secret"));
}
