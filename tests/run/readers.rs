//! Datasets as the programs that people train with see them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::python::python;
use crate::support::*;

const LOAD: &str = r#"
import hashlib, json, sys
from datasets import Image, load_dataset
ext = sys.argv[1]
expected = json.load(open("expected.json"))
data = load_dataset("out", split="train", cache_dir="cache")
assert data.features[ext] == Image(), data.features
assert all(row[ext].size == (48, 32) for row in data)
rows = list(data.cast_column(ext, Image(decode=False)))
for row, want in zip(rows, expected, strict=True):
    assert row["__key__"] == want["key"]
    assert row["json"] == want, [(n, row["json"].get(n), want[n]) for n in want if row["json"].get(n) != want[n]]
    assert hashlib.sha256(row[ext]["bytes"]).hexdigest() == want["sha256"]
print("agrees on", len(rows))
"#;

fn load(python: &Path, folder: &Path, ext: &str, expected: &[Value]) -> Output {
    std::fs::write(folder.join("expected.json"), serde_json::to_vec(expected).unwrap()).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", LOAD, ext]).current_dir(folder).env("HF_HOME", folder.join("home"));
    command.env("HF_HUB_OFFLINE", "1").env("HF_DATASETS_OFFLINE", "1").output().unwrap()
}

#[test]
fn hugging_face_loads_photos_beside_videos() {
    let Some(python) = python() else { return };
    let there = Command::new(&python).args(["-c", "import datasets"]).output().unwrap();
    if !there.status.success() {
        println!("skipped: {} has no datasets: {}", python.display(), errors(&there).trim());
        return;
    }
    let (clips, photos) = (fixtures().join("clips"), fixtures().join("photos"));
    let inputs = [clips.to_str().unwrap(), photos.to_str().unwrap()];
    for (encoding, ext) in [("jpeg:90", "jpg"), ("png", "png"), ("webp", "webp")] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let output = framemill(&job(&inputs, out.to_str().unwrap(), &["--encode", encoding]));
        assert!(output.status.success(), "{}", errors(&output));
        let mut expected = records(&out);
        let kinds: std::collections::BTreeSet<&str> = expected.iter().filter_map(|r| r["media"].as_str()).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["image", "video"]);
        let output = load(&python, dir.path(), ext, &expected);
        assert!(output.status.success(), "{encoding}: {}", errors(&output));
        // A value that differs is noticed.
        let last = expected.last_mut().unwrap();
        last["pts"] = json!(last["pts"].as_i64().unwrap() + 1);
        let output = load(&python, dir.path(), ext, &expected);
        assert!(!output.status.success() && errors(&output).contains("AssertionError"), "{}", errors(&output));
    }
}
