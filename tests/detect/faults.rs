//! Models that fail on some pictures, or say what cannot be: what that costs, and what it does not.

use std::path::Path;

use serde_json::Value;

use crate::support::{errors, records};
use crate::{framemill, model, picture, runtime};

/// Runs a job with one detector; its exit code, what it said, and its records.
fn run(folder: &Path, name: &str, input: &str, detect: &str, more: &[&str]) -> Option<(i32, String, Vec<Value>)> {
    let make = runtime()?;
    let (job, out) = (folder.join("job.toml"), folder.join(name));
    std::fs::write(&job, format!("max_rejects = \"100%\"\n[[detect]]\n{detect}\n")).unwrap();
    let args = ["run", job.to_str().unwrap(), "-i", input, "-o", out.to_str().unwrap()];
    let output = framemill(&make, &[&args[..], more].concat());
    let rows = if out.exists() { records(&out) } else { Vec::new() };
    Some((output.status.code().unwrap(), errors(&output), rows))
}

#[test]
fn a_picture_on_which_a_model_fails_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..12u8 {
        picture(dir.path(), &format!("{i:02}.png"), (32, 32), if i == 5 { 250 } else { 90 + i });
    }
    let input = dir.path().join("*.png").to_str().unwrap().to_string();
    for (name, batch) in [("end2end", "batch = 4"), ("end2end_batch2", "")] {
        for threads in ["1", "3"] {
            let detect = format!("model = {:?}\non_error = \"reject\"\n{batch}", model(name));
            let folder = format!("{name}-{threads}");
            let Some((code, text, rows)) = run(dir.path(), &folder, &input, &detect, &["--threads", threads]) else {
                return;
            };
            assert_eq!((code, rows.len()), (0, 11), "{name}, {threads} threads: {text}");
            assert!(rows.iter().all(|r| !r["uri"].as_str().unwrap().ends_with("05.png")));
            assert!(rows.iter().all(|r| r["detections"].as_array().unwrap().len() == 2));
        }
    }
}

#[test]
fn a_box_without_an_end_is_a_failure_and_never_left_unhidden() {
    let dir = tempfile::tempdir().unwrap();
    picture(dir.path(), "small.png", (32, 32), 10);
    picture(dir.path(), "endless.png", (32, 32), 200);
    let input = dir.path().join("*.png").to_str().unwrap().to_string();
    let detect = format!("model = {:?}\nthen = [{{ fill = {{ color = \"ff0000\" }} }}]", model("endless"));
    let more = ["--format", "images", "--encode", "png"];
    let Some((code, text, rows)) = run(dir.path(), "hidden", &input, &detect, &more) else { return };
    assert_eq!((code, rows.len()), (0, 1), "{text}");
    assert!(rows[0]["uri"].as_str().unwrap().ends_with("small.png") && text.contains("without an end"), "{text}");
    let file = dir.path().join(format!("hidden/images/000000/{}.png", rows[0]["key"].as_str().unwrap()));
    assert!(image::open(file).unwrap().to_rgb8().pixels().all(|p| p.0 == [255, 0, 0]));
    // Where nothing is hidden, the record says what was wrong.
    let (code, text, rows) = run(dir.path(), "kept", &input, &format!("model = {:?}", model("endless")), &[]).unwrap();
    assert_eq!((code, rows.len()), (0, 2), "{text}");
    let failed = rows.iter().find(|r| r["uri"].as_str().unwrap().ends_with("endless.png")).unwrap();
    assert!(failed["warning"].as_str().unwrap().contains("without an end"), "{failed}");
}

#[test]
fn classes_beyond_the_labels_end_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let input = picture(dir.path(), "a.png", (32, 32), 90);
    let end2end = model("end2end");
    let job = |labels: &str| format!("model = {end2end:?}\nlabels = {labels}");
    let more = ["--metadata", "coco"];
    let Some((code, text, _)) = run(dir.path(), "short", &input, &job("[\"cat\"]"), &more) else { return };
    assert!(code == 2 && text.contains("class 1") && text.contains("1 labels"), "{code}: {text}");
    // What is not wanted needs no name.
    let wanted = job("[\"cat\"]\nclasses = [\"cat\"]");
    let (code, text, rows) = run(dir.path(), "wanted", &input, &wanted, &more).unwrap();
    assert_eq!((code, rows[0]["detections"].as_array().unwrap().len()), (0, 1), "{text}");
    let coco = std::fs::read(dir.path().join("wanted/annotations.coco.json")).unwrap();
    let coco: Value = serde_json::from_slice(&coco).unwrap();
    assert_eq!(coco["annotations"].as_array().unwrap().len(), 1);
}
