//! Keys are taken by the letter, and those that cannot be addressed are told, whatever else lies beside them.

use serde_json::Value;

use crate::http::rejects;
use crate::server::{S3, program};
use crate::support::*;

fn run(s3: &S3, args: &[&str]) -> (Option<i32>, Value, String) {
    let output = program(s3.port).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (output.status.code(), told, errors(&output))
}

/// Three photos that differ.
fn photos() -> [Vec<u8>; 3] {
    ["progressive.jpg", "gray.jpg", "rgba.png"].map(|name| std::fs::read(fixtures().join("photos").join(name)).unwrap())
}

#[test]
fn listed_keys_name_their_objects_whatever_they_hold() {
    let Some(s3) = S3::start() else { return };
    let [a, b, c] = photos();
    let keys =
        ["a.jpg", "a.jpg?size=large.jpg", "c?versionId=7.jpg", "c?sig=7.jpg", "100%25.jpg", "#1 é.jpg", "[b]*.jpg"];
    for (i, key) in keys.iter().enumerate() {
        let escaped = key.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace('é', "%C3%A9");
        s3.put(&format!("raw/{escaped}"), [&a, &b, &c][i % 3]);
    }
    let dir = tempfile::tempdir().unwrap();
    for (i, input) in ["s3://media/raw/", "s3://media/raw/**", "s3://media/raw/*.jpg"].into_iter().enumerate() {
        let out = dir.path().join(i.to_string());
        let (code, told, said) = run(&s3, &job(&[input], out.to_str().unwrap(), &["--json", "--metadata", "csv"]));
        assert_eq!((code, told["samples"].as_u64()), (Some(0), Some(keys.len() as u64)), "{input}: {said}");
        let records = std::fs::read_to_string(out.join("records.csv")).unwrap();
        for key in keys {
            assert!(records.contains(&format!("s3://media/raw/{key},")), "{key}: {records}");
        }
    }
    // One by one, as a user writes them; what ends like a version has one, if an empty one.
    for key in ["a.jpg?size=large.jpg", "c?versionId=7.jpg?versionId="] {
        let out = dir.path().join(key);
        let input = format!("s3://media/raw/{key}");
        let (code, told, said) = run(&s3, &job(&[&input], out.to_str().unwrap(), &["--json"]));
        assert_eq!((code, told["samples"].as_u64()), (Some(0), Some(1)), "{key}: {said}");
    }
    let (code, ..) = run(&s3, &["plan", "-i", "s3://media/raw/c?versionId=7.jpg"]);
    assert_eq!(code, Some(2), "a version of another object, which is not there");
}

#[test]
fn keys_that_cannot_be_addressed_are_passed_over_by_name() {
    let Some(s3) = S3::start() else { return };
    let [a, b, c] = photos();
    s3.put("raw/a.jpg", &a);
    s3.put("raw/sub/b.jpg", &b);
    for odd in ["raw//dbl.jpg", "raw/%2E/dot.jpg", "raw/tab%09here.jpg"] {
        s3.put(odd, &c);
    }
    let dir = tempfile::tempdir().unwrap();
    for (i, (input, samples, odd)) in [
        ("s3://media/raw/", 2, 3),
        ("s3://media/", 2, 3),
        ("s3://media/raw/**/*.jpg", 2, 3),
        ("s3://media/raw/*.jpg", 1, 3),
    ]
    .into_iter()
    .enumerate()
    {
        let out = dir.path().join(i.to_string());
        let (code, told, said) = run(&s3, &job(&[input], out.to_str().unwrap(), &["--json"]));
        assert_eq!((code, told["samples"].as_u64()), (Some(0), Some(samples)), "{input}: {said}");
        assert!(said.contains(r#"tab\there.jpg""#) && said.contains(r#""raw//"#), "{said}");
        let (_, planned, said) = run(&s3, &["plan", "--json", "-i", input]);
        assert_eq!(planned["ignored"], odd, "{input}: {said}");
    }
    // Beside a dataset as well.
    let (code, _, said) = run(&s3, &job(&["s3://media/raw/a.jpg"], "s3://media/out", &[]));
    assert_eq!(code, Some(0), "{said}");
    s3.put("out//odd", b"x");
    s3.put("out/_framemill//odd", b"x");
    let (code, _, said) = run(&s3, &["verify", "s3://media/out"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = run(&s3, &["plan", "-i", "s3://media/raw//dbl.jpg"]);
    assert!(code == Some(2) && said.contains("cannot be addressed"), "{said}");
}

#[test]
fn a_slash_at_an_end_is_part_of_a_key() {
    let Some(s3) = S3::start() else { return };
    let [a, b, _] = photos();
    s3.put("dup.jpg", &a);
    s3.put("/dup.jpg", &b);
    s3.put("b.jpg", &a);
    s3.put("b.jpg/", b"");
    s3.put("/lone.jpg", &b);
    for input in ["s3://media//dup.jpg", "s3://media//", "s3://media//*.jpg", "s3://media/b.jpg//"] {
        let (code, _, said) = run(&s3, &["plan", "-i", input]);
        assert!(code == Some(2) && said.contains("cannot be addressed"), "{input}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (code, told, said) = run(&s3, &job(&["s3://media/"], out.to_str().unwrap(), &["--json"]));
    assert_eq!((code, told["samples"].as_u64()), (Some(0), Some(2)), "{said}");
    assert!(said.contains("dup.jpg with a slash at an end") && said.contains("b.jpg with a slash"), "{said}");
    let lost = rejects(&out);
    assert!(lost.len() == 1 && lost["lone.jpg"].0 == "missing", "{lost:?}");
    // A row of a list is one input's fault.
    let (list, out) = (dir.path().join("l.txt"), dir.path().join("rows"));
    std::fs::write(&list, "s3://media//dup.jpg\ns3://media/dup.jpg\n").unwrap();
    let (code, told, said) = run(&s3, &job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--json"]));
    assert_eq!((code, told["samples"].as_u64()), (Some(0), Some(1)), "{said}");
    assert_eq!(rejects(&out)["dup.jpg"].0, "unsupported");
}

#[test]
fn empty_prefixes_may_be_allowed() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (i, input) in ["s3://media/nothing/", "s3://media/nothing", "s3://media/nothing/*"].into_iter().enumerate() {
        let out = dir.path().join(i.to_string());
        let (code, _, said) = run(&s3, &job(&[input], out.to_str().unwrap(), &[]));
        assert!(code == Some(2) && said.contains("--allow-empty"), "{input}: {said}");
        let (code, _, said) = run(&s3, &job(&[input], out.to_str().unwrap(), &["--allow-empty"]));
        assert_eq!(code, Some(0), "{input}: {said}");
    }
}
