//! Lists, columns, splits, kept sources, job files, and what is refused.

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
    let output = framemill(&["run", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
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
        &["run", "-i", empty, "-o", out, "--detect", "m.onnx"],
        &["run", "--no-such-flag"],
        &["status", empty],
    ] {
        let output = framemill(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", errors(&output));
        assert!(!errors(&output).is_empty());
    }
    assert!(!std::path::Path::new(out).exists(), "nothing was started");
    let forbidden = ["run", "-i", empty, "-o", out, "--device", "cuda", "--fallback", "forbid"];
    assert_eq!(framemill(&forbidden).status.code(), Some(69));
    let allowed = framemill(&["run", "-i", empty, "-o", out, "--allow-empty"]);
    assert!(allowed.status.success(), "{}", errors(&allowed));
}
