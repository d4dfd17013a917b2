//! Lists, columns, splits, kept sources, job files, and what is refused.

use std::path::Path;

use serde_json::json;

use crate::support::*;

#[test]
fn lists_bring_columns_fields_and_splits() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut photos: Vec<_> =
        std::fs::read_dir(media.join("image/coco/val2017")).unwrap().map(|e| e.unwrap().path()).collect();
    photos.retain(|p| p.extension().is_some_and(|e| e == "jpg"));
    photos.sort();
    let list = dir.path().join("list.csv");
    let mut text = "path,name,label,weight\n".to_string();
    for (i, photo) in photos.iter().take(30).enumerate() {
        text += &format!("{},p{i},{},{}.5\n", photo.display(), i % 3, i);
    }
    std::fs::write(&list, text).unwrap();
    let (out, raw) = (dir.path().join("out"), dir.path().join("raw"));
    let more = [
        "--uri-column",
        "path",
        "--id-column",
        "name",
        "--field",
        "label=cls",
        "--split",
        "train=0.7,val=0.3",
        "--keep-raw",
        raw.to_str().unwrap(),
        "--metadata",
        "parquet,csv,sqlite",
    ];
    let output = framemill(&job(&[list.to_str().unwrap()], out.to_str().unwrap(), &more));
    assert!(output.status.success(), "{}", errors(&output));
    let records = records(&out);
    assert_eq!(records.len(), 30);
    for record in &records {
        let i: usize = record["name"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!((record["label"].as_u64(), record["weight"].as_f64()), (Some(i as u64 % 3), Some(i as f64 + 0.5)));
    }
    assert!(out.join("train/shard-000000.tar").exists());
    assert!(tree(&out).keys().any(|n| n.starts_with("val/shard-")));
    assert_eq!(std::fs::read_dir(&raw).unwrap().count(), 30);
    let header = std::fs::read_to_string(out.join("records.csv")).unwrap();
    assert!(header.lines().next().unwrap().ends_with("name,label,weight") && header.lines().count() == 31);
    assert!(out.join("records.sqlite").exists());
    let tar = std::fs::read(out.join("train/shard-000000.tar")).unwrap();
    let text = String::from_utf8_lossy(&tar);
    assert!(text.contains(".cls"));
}

#[test]
fn a_job_file_says_what_flags_say() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let file = dir.path().join("job.yaml");
    let clips = fixtures().join("clips");
    let text = format!(
        "input: {{ uri: [{}] }}\nsample: {{ every: 500ms }}\nops: [{{ op: resize, w: 48, h: 32 }}]\n\
         output: {{ uri: {}, shard_samples: 12 }}\nmax_rejects: 100%\n",
        clips.display(),
        out.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = program().args(["run", file.to_str().unwrap()]).env("FRAMEMILL_JSON", "1").output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(report(&output)["samples"].as_u64() > Some(0), "a variable is as good as a flag");
    let flags = job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &["--every", "500ms"]);
    let output = framemill(&flags);
    assert!(output.status.success() && errors(&output).contains("done before"), "{}", errors(&output));
    let plan = framemill(&["plan", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains("resize"), "{}", errors(&plan));
    let preview = framemill(&["preview", out.to_str().unwrap(), "-o", dir.path().join("p.png").to_str().unwrap()]);
    assert!(preview.status.success() && dir.path().join("p.png").exists(), "{}", errors(&preview));
    let schema = framemill(&["schema"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&schema.stdout).unwrap()["properties"]["sample"].is_object());
    for args in [&["completions", "bash"][..], &["man"], &["--help"], &["run", "--help"]] {
        let output = framemill(args);
        assert!(output.status.success() && output.stdout.len() > 200, "{args:?}");
    }
}

#[test]
fn the_projects_own_photos_all_decode() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let photos = fixtures().join("photos");
    let output = framemill(
        &job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &["--json", "--max-rejects=0"])
            .into_iter()
            .filter(|a| *a != "--max-rejects" && *a != "100%")
            .collect::<Vec<_>>(),
    );
    assert!(output.status.success(), "{}", errors(&output));
    assert!(report(&output)["samples"].as_u64() >= Some(8));
}

#[test]
fn wrong_use_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    for args in [
        &["run", "-i", empty][..],
        &["run", "-i", empty, "-o", out],
        &["run", "-o", out],
        &["run", "-i", "no/such/file.mp4", "-o", out],
        &["run", "-i", empty, "-o", out, "--op", "blur"],
        &["run", "-i", empty, "-o", out, "--every", "0s"],
        &["run", "-i", empty, "-o", out, "--limit", "0"],
        &["run", "-i", empty, "-o", out, "--detect", "m.onnx"],
        &["run", "--no-such-flag"],
        &["run", "-i", empty, "-o", out, "--allow-empty", "--at", ""],
        &["status", empty],
    ] {
        let output = framemill(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", errors(&output));
        assert!(!errors(&output).is_empty());
    }
    assert!(!Path::new(out).exists(), "nothing was started");
    let forbidden = ["run", "-i", empty, "-o", out, "--device", "cuda", "--fallback", "forbid"];
    assert_eq!(framemill(&forbidden).status.code(), Some(69));
    let allowed = framemill(&["run", "-i", empty, "-o", out, "--allow-empty"]);
    assert!(allowed.status.success(), "{}", errors(&allowed));
}

#[test]
fn globs_and_lists_may_hold_nothing_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let name = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (glob, csv, missing, photos) = (name("*.jpg"), name("list.csv"), name("a.jpg"), fixtures().join("photos"));
    std::fs::write(&csv, "").unwrap();
    for (inputs, code) in [
        (vec![&glob[..]], Some(0)),
        (vec![&csv[..]], Some(0)),
        (vec![&glob[..], &csv[..], photos.to_str().unwrap()], Some(0)),
        // What is named in so many words has to be there.
        (vec![&glob[..], &missing[..]], Some(2)),
    ] {
        let out = name(&format!("out-{}", inputs.len() + inputs.concat().len()));
        let allowed = framemill(&job(&inputs, &out, &["--allow-empty"]));
        assert_eq!(allowed.status.code(), code, "{inputs:?}: {}", errors(&allowed));
        assert_eq!(Path::new(&out).exists(), code == Some(0));
        let refused = framemill(&job(&inputs, &name("refused"), &[]));
        assert_eq!(refused.status.code(), Some(2), "{inputs:?}: {}", errors(&refused));
    }
}

/// Copies some of the project's own media.
fn copy(from: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(fixtures().join(from)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn below_a_root_a_job_goes_on_where_the_data_is_mounted_now() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, out, whole] = ["old", "new", "out", "whole"].map(|name| dir.path().join(name));
    copy("photos", &old.join("photos"));
    copy("clips", &old.join("clips"));
    std::fs::write(old.join("photos/broken.jpg"), [&b"\xff\xd8\xff"[..], &[0; 99]].concat()).unwrap();
    let run = |root: &Path, out: &Path, more: &[&str]| {
        let inputs = ["photos", "clips"].map(|name| root.join(name).to_string_lossy().into_owned());
        let more = [&["--root", root.to_str().unwrap()], more].concat();
        framemill(&job(&[&inputs[0], &inputs[1]], out.to_str().unwrap(), &more))
    };
    assert!(run(&old, &whole, &[]).status.success());
    let output = run(&old, &out, &["--tasks", "0/2"]);
    assert!(output.status.success(), "{}", errors(&output));
    std::fs::rename(&old, &new).unwrap();
    let output = run(&new, &out, &[]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(tree(&out), tree(&whole), "the same bytes, wherever the rest was read");
    // Without a root, where an input lies is part of what the job is.
    let [photos, moved] = [&old, &new].map(|at| at.join("photos").to_string_lossy().into_owned());
    std::fs::create_dir_all(&photos).unwrap();
    let plain = dir.path().join("plain");
    let args = |input| job(&[input], plain.to_str().unwrap(), &["--allow-empty"]);
    assert!(framemill(&args(&photos)).status.success());
    let output = framemill(&args(&moved));
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
    assert!(errors(&output).contains("input.uri"), "{}", errors(&output));
    // What was rejected is tried again where it is now.
    std::fs::copy(new.join("photos/plain.bmp"), new.join("photos/broken.jpg")).unwrap();
    let retry = |more: &[&str]| framemill(&[&["retry", out.to_str().unwrap(), "--json"], more].concat());
    let output = retry(&["--root", new.to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(report(&output)["inputs"]["rejected"], 0);
    let uris: Vec<_> = records(&out).into_iter().map(|r| r["uri"].as_str().unwrap().to_string()).collect();
    let broken = old.join("photos/broken.jpg");
    assert!(uris.iter().any(|uri| uri == broken.to_str().unwrap()), "named as it was planned: {uris:?}");
}

#[test]
fn what_cannot_be_reached_is_a_dead_letter_of_its_own_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (list, out) = (dir.path().join("l.txt"), dir.path().join("out"));
    let photo = fixtures().join("photos/gray.jpg");
    std::fs::write(&list, format!("{}\nftp://host/a.mp4?versionId=7\n", photo.display())).unwrap();
    let args = ["run", "-i", list.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json"];
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert_eq!((&report(&output)["samples"], &report(&output)["inputs"]["rejected"]), (&json!(1), &json!(1)));
    let rejects = report(&framemill(&["rejects", out.to_str().unwrap(), "--json"]));
    let reject = &rejects["kinds"]["unsupported"][0];
    assert_eq!(reject["uri"], "ftp://host/a.mp4");
    assert!(reject["message"].as_str().unwrap().contains("s3://"), "{reject}");
}

#[test]
fn what_is_new_and_what_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    copy("photos", &input);
    let photos = std::fs::read_dir(&input).unwrap().count();
    let args = job(&[input.to_str().unwrap()], out.to_str().unwrap(), &["--json"]);
    let plan = |more: &[&str]| {
        let args: Vec<&str> = ["plan"].iter().chain(&args[1..]).chain(more).copied().collect();
        report(&framemill(&args))
    };
    assert_eq!(plan(&["--freeze"])["inputs"], photos);
    assert_eq!(plan(&[])["since"], json!({ "new": 0, "gone": 0 }));
    std::fs::remove_file(input.join("gray.jpg")).unwrap();
    std::fs::copy(input.join("plain.bmp"), input.join("new.bmp")).unwrap();
    std::fs::copy(input.join("plain.bmp"), input.join("newer.bmp")).unwrap();
    assert_eq!(plan(&[])["since"], json!({ "new": 2, "gone": 1 }));
    let output = framemill(&args);
    let inputs = &report(&output)["inputs"];
    let counts = ["found", "done", "rejected", "missing", "without_samples"].map(|n| inputs[n].as_u64().unwrap());
    assert_eq!(counts, [photos as u64, photos as u64 - 1, 1, 1, 0]);
    let output = framemill(&[&args[..], &["--append"]].concat());
    assert!(errors(&output).contains("2 inputs are new and 1 are gone"), "{}", errors(&output));
    assert_eq!(report(&output)["inputs"]["found"], photos + 2);
    assert_eq!(plan(&[])["since"], json!({ "new": 0, "gone": 1 }));
    std::fs::rename(&input, dir.path().join("elsewhere")).unwrap();
    assert!(plan(&[])["since"]["error"].as_str().unwrap().contains("does not exist"));
}
