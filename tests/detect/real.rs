//! Real models on real photos, against what their authors' own preprocessing gives and against hand-made labels.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::python::python;
use crate::support::{errors, full, media, records};
use crate::{framemill, runtime};

/// What the models' notes say of the 80 photos of COCO's val2017: mAP50-95 by 101 points, score 0.01.
const ACCURACY: [(&str, f64); 2] = [("yolox_nano", 0.334), ("nanodet_m_416", 0.285)];

fn accuracy(make: &impl Fn() -> Command, media: &Path, python: &Path, model: &str, preprocess: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let (job, out) = (dir.path().join("job.toml"), dir.path().join("out"));
    let text = format!(
        "[input]\nuri = [{:?}]\n[output]\nuri = {out:?}\nmetadata = [\"coco\"]\n\
         [[detect]]\nmodel = {:?}\nlabels = \"coco\"\nscore = 0.01\npreprocess = {{ {preprocess} }}\n",
        media.join("image/coco/val2017"),
        media.join("onnx").join(model).with_extension("onnx"),
    );
    std::fs::write(&job, text).unwrap();
    let output = framemill(make, &["run", job.to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/detect/accuracy.py");
    let labels = media.join("groundtruth/coco/labels/val2017");
    let output = Command::new(python).args([&script, &out, &labels]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{model} {preprocess}: {told}");
    assert_eq!(told["pictures"], 80);
    told["map"].as_f64().unwrap()
}

#[test]
fn accuracy_is_what_the_models_have() {
    let (Some(media), Some(python), Some(make)) = (media(), python(), runtime()) else { return };
    let models = if full() { &ACCURACY[..] } else { &ACCURACY[..1] };
    for (model, expected) in models {
        let map = accuracy(&make, &media, &python, model, "");
        assert!((map - expected).abs() <= 0.003, "{model}: {map}, expected {expected}");
    }
    // The controls: mistakes that are easily made must be seen.
    let (model, expected) = ACCURACY[0];
    let mut mistakes = vec!["channels = \"rgb\""];
    if full() {
        mistakes.extend(["std = [255, 255, 255]", "fit = \"stretch\""]);
    }
    for mistake in mistakes {
        let map = accuracy(&make, &media, &python, model, mistake);
        assert!(map < expected - 0.003, "{mistake} is not seen: {map}");
    }
}

type Objects = HashMap<String, Vec<(i64, f64, [f64; 4])>>;

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |lo: f64, hi: f64| (hi - lo).max(0.0);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
}

/// How many of `these` have their like among `those`, of those that are clearly above the threshold.
fn shared(these: &Objects, those: &Objects, threshold: f64) -> (usize, usize) {
    let (mut like, mut all) = (0, 0);
    for (file, objects) in these {
        for (class, _, bounds) in objects.iter().filter(|(_, score, _)| *score > threshold + 0.08) {
            all += 1;
            let near = |(c, _, b): &&(i64, f64, [f64; 4])| c == class && overlap(b, bounds) > 0.7;
            like += usize::from(those.get(file).into_iter().flatten().any(|o| near(&o)));
        }
    }
    (like, all)
}

#[test]
fn faces_and_plates_are_found_as_by_the_reference() {
    let (Some(media), Some(make)) = (media(), runtime()) else { return };
    let models = [
        ("version-RFB-320", ""),
        // Its one class has a name of its own.
        ("yunet_n_320_320", "classes = [\"face\"]\n"),
        ("RFB-640-masked_face-v2", ""),
        ("y5fu_320x_sim", "head = \"yolov5:points=4\"\npreprocess = { fill = \"000000\" }\n"),
        ("nanodet_m_416", ""),
    ];
    for (model, more) in models {
        let text = std::fs::read(media.join("groundtruth/detections").join(model).with_extension("json")).unwrap();
        let truth: Value = serde_json::from_slice(&text).unwrap();
        let threshold = truth["score_threshold"].as_f64().unwrap();
        let mut expected = Objects::new();
        for (file, objects) in truth["detections"].as_object().unwrap() {
            let numbers = |o: &Value| o.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
            let object = |n: Vec<f64>| (n[0] as i64, n[1], [n[2], n[3], n[4], n[5]]);
            expected.insert(file.clone(), objects.as_array().unwrap().iter().map(|o| object(numbers(o))).collect());
        }
        if !full() {
            let mut files: Vec<String> = expected.keys().cloned().collect();
            files.sort();
            files.into_iter().skip(12).for_each(|file| drop(expected.remove(&file)));
        }
        let dir = tempfile::tempdir().unwrap();
        let (job, out, list) = (dir.path().join("job.toml"), dir.path().join("out"), dir.path().join("list.txt"));
        let files: Vec<&str> = expected.keys().map(String::as_str).collect();
        let lines: Vec<String> = files.iter().map(|f| media.join(f).to_str().unwrap().to_string()).collect();
        std::fs::write(&list, lines.join("\n")).unwrap();
        let text = format!(
            "[input]\nuri = [{list:?}]\n[output]\nuri = {out:?}\n[[ops]]\nop = \"resize\"\nshort = 64\n\
             [[detect]]\nmodel = {:?}\nscore = {threshold}\nnms = {}\nmax = 1000\n{more}",
            media.join("onnx").join(model).with_extension("onnx"),
            truth["nms_iou"]
        );
        std::fs::write(&job, text).unwrap();
        let output = framemill(&make, &["run", job.to_str().unwrap()]);
        assert!(output.status.success(), "{model}: {}", errors(&output));
        let mut found = Objects::new();
        for record in records(&out) {
            let uri = record["uri"].as_str().unwrap();
            let file = files.iter().find(|f| uri.ends_with(*f)).unwrap().to_string();
            let object = |d: &Value| {
                let b: Vec<f64> = d["source_box"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
                (d["class"].as_i64().unwrap(), d["score"].as_f64().unwrap(), [b[0], b[1], b[2], b[3]])
            };
            let objects = record["detections"].as_array().unwrap().iter();
            let points = if model.starts_with("yunet") {
                5
            } else if model.starts_with("y5fu") {
                4
            } else {
                0
            };
            assert!(objects.clone().all(|d| d["landmarks"].as_array().unwrap().len() == points), "{record}");
            found.insert(file, objects.map(object).collect());
        }
        let (ours, theirs) = (shared(&found, &expected, threshold), shared(&expected, &found, threshold));
        println!(
            "{model}: {} of {} found are the reference's, {} of its {} were found",
            ours.0, ours.1, theirs.0, theirs.1
        );
        // The reference shrinks with OpenCV, which skips pixels: small faces of crowds come out otherwise.
        let most = |(like, all): (usize, usize)| all > 0 && like as f64 >= 0.85 * all as f64;
        assert!(most(ours) && most(theirs), "{model}");
    }
}

#[test]
fn people_have_the_vectors_that_the_model_gives_of_pillows_parts() {
    let (Some(media), Some(python), Some(make)) = (media(), python(), runtime()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (job, out) = (dir.path().join("job.toml"), dir.path().join("out"));
    let onnx = media.join("onnx");
    let reid = onnx.join("person-reidentification-retail-0248.onnx");
    let text = format!(
        "icc = \"ignore\"\n[input]\nuri = [{:?}]\nlimit = 16\n[[ops]]\nop = \"resize\"\nshort = 64\n[output]\nuri = {out:?}\n\
         [[detect]]\nname = \"people\"\nmodel = {:?}\nlabels = \"coco\"\nclasses = [\"person\"]\nscore = 0.4\n\
         [[detect]]\nname = \"who\"\nmodel = {reid:?}\nhead = \"embed\"\non = \"people\"\n\
         preprocess = {{ channels = \"bgr\", mean = [0, 0, 0], std = [1, 1, 1] }}\n",
        media.join("image/coco/val2017"),
        onnx.join("yolox_nano.onnx"),
    );
    std::fs::write(&job, text).unwrap();
    let output = framemill(&make, &["run", job.to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/detect/vectors.py");
    let output = Command::new(&python).args([&script, &out, &reid]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{told}");
    let number = |key: &str| told[key].as_f64().unwrap();
    assert!(number("vectors") >= 10.0, "{told}");
    // Half a step of 15 bits, and what builds of the runtime differ by.
    assert!(number("worst") < 1e-4 && number("control") > 1e-2, "{told}");
}
