//! Models that cannot be used say why; those that can are the same whatever the run's splitting.

use serde_json::{Value, json};

use crate::support::{errors, records, report, tree};
use crate::{framemill, model, picture, runtime};

#[test]
fn what_cannot_be_run_is_told_before_anything_starts() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let input = picture(dir.path(), "a.png", (32, 32), 90);
    std::fs::write(path("garbage.onnx"), "no model").unwrap();
    std::fs::write(path("two.txt"), "cat\ndog\n").unwrap();
    let job = |name: &str, detector: &str, more: &str| {
        let text = format!("[[detect]]\nmodel = {:?}\n{more}\n", model(detector));
        std::fs::write(path(&format!("{name}.toml")), text).unwrap();
        path(&format!("{name}.toml"))
    };
    let fails = |more: &[&str]| {
        let out = path("out");
        let args = [&["run", "-i", &input, "-o", &out], more].concat();
        let output = framemill(&make, &args);
        assert!(!dir.path().join("out").exists(), "{more:?}: something was written");
        (output.status.code().unwrap(), errors(&output))
    };
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--detect", &model("unknown")], 2, &["odd [1, 7, 9]", "yolox", "name the head"]),
        (&["--detect", &model("unknown"), "--detect-head", "yolox"], 2, &["odd [?, 7, 9]", "head yolox"]),
        (&["--detect", &model("unknown"), "--detect-head", "yolo"], 2, &["unknown head \"yolo\""]),
        (
            &["--detect", &model("unknown"), "--detect-head", "yolov8", "--labels", &path("two.txt")],
            2,
            &["2 labels", "3 classes"],
        ),
        (&["--detect", &model("flat")], 2, &["x is [1, 10]", "[N, 3, H, W]"]),
        (&["--detect", &path("garbage.onnx")], 2, &["garbage.onnx", "expected an ONNX model"]),
        (&["--detect", &path("none.onnx")], 2, &["none.onnx", "No such file"]),
        (&["--detect", &model("end2end"), "--labels", "none.txt"], 2, &["none.txt"]),
        (&[&job("size", "end2end", "preprocess = { size = [0, 32] }")], 2, &["preprocess.size", "1 to 16384"]),
        (&[&job("class", "seg8", "classes = [2]")], 2, &["class 2", "2 classes"]),
        (&[&job("then", "seg8", "then = [{ fill = { classes = [2] } }]")], 2, &["class 2", "2 classes"]),
        (&[&job("name", "end2end", "name = \"\"")], 2, &["name of detector 0 is empty"]),
        (&["--detect", &model("end2end"), "--detect-score", "7"], 2, &["expected 0 to 1"]),
        (&["--detect", &model("end2end"), "--provider", "gpu"], 2, &["unknown provider", "cuda"]),
        (&["--detect", &model("end2end"), "--ort", &path("libonnxruntime.so")], 69, &["libonnxruntime.so", "--ort"]),
        (&["--detect", &model("end2end"), "--ort", &input], 69, &["a.png"]),
        (&["--labels", "coco"], 2, &["labels", "no detector"]),
        (&["--detect", &model("end2end"), "--metadata", "yolo"], 2, &["yolo", "--format images"]),
        (&["--detect", &model("end2end"), "--detect", &model("end2end")], 2, &["two detectors"]),
    ];
    for (more, code, words) in cases {
        let (got, text) = fails(more);
        assert_eq!(got, *code, "{more:?}: {text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{more:?}: {text}"));
    }
}

/// `onnxruntime` for the CPU has no CUDA; one that has it would make this test say nothing.
#[test]
fn a_provider_that_is_not_there_is_named_or_refused() {
    let Some(make) = runtime() else { return };
    let devices = framemill(&make, &["devices", "--json"]);
    let devices: Value = serde_json::from_slice(&devices.stdout).unwrap();
    if devices["onnxruntime"]["providers"].as_array().unwrap().contains(&json!("cuda")) {
        println!("skipped: this ONNX Runtime may have CUDA");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let input = picture(dir.path(), "a.png", (32, 32), 90);
    let out = dir.path().join("out").to_str().unwrap().to_string();
    let end2end = model("end2end");
    let args = ["run", "-i", &input, "-o", &out, "--detect", &end2end, "--provider", "cuda", "--json"];
    let output = framemill(&make, &[&args[..], &["--fallback", "forbid"]].concat());
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    assert!(errors(&output).contains("onnxruntime-gpu"), "{}", errors(&output));
    let output = framemill(&make, &args);
    assert!(output.status.success(), "{}", errors(&output));
    let report = report(&output);
    assert_eq!(report["detectors"][0]["provider"], "cpu");
    let fallback = &report["fallbacks"][0];
    assert_eq!((fallback["what"].as_str(), fallback["from"].as_str()), (Some("provider"), Some("cuda")), "{report}");
}

#[test]
fn boxes_do_not_depend_on_batches_threads_or_shards() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    for i in 0..20u8 {
        picture(dir.path(), &format!("{i:02}.png"), (30 + u32::from(i), 40), 5 * i);
    }
    let input = dir.path().join("*.png").to_str().unwrap().to_string();
    let run = |name: &str, model: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let args = ["run", "-i", &input, "-o", out.to_str().unwrap(), "--detect", model, "--shard-samples", "7"];
        let output = framemill(&make, &[&args[..], more].concat());
        assert!(output.status.success(), "{}", errors(&output));
        out
    };
    let one = run("one", &model("end2end"), &["--threads", "1"]);
    assert_eq!(tree(&one), tree(&run("four", &model("end2end"), &["--threads", "4"])));
    let objects = |out: &std::path::Path| -> Vec<Value> {
        let mut all: Vec<Value> = records(out).iter().map(|r| r["detections"].clone()).collect();
        for d in all.iter_mut().filter_map(Value::as_array_mut).flatten() {
            d["model"] = Value::Null;
        }
        all
    };
    let (two, half) =
        (run("two", &model("end2end_batch2"), &["--threads", "4"]), run("half", &model("half"), &["--threads", "2"]));
    assert_eq!(objects(&one), objects(&two));
    assert!(records(&one).iter().all(|r| !r["detections"].as_array().unwrap().is_empty()));

    // So does one of half precision, whose scores are what is left of theirs.
    let mut halves = objects(&half);
    for d in halves.iter_mut().filter_map(Value::as_array_mut).flatten() {
        let score = d["score"].as_f64().unwrap();
        assert!(score == 0.8999 || score == 0.6001, "{score}");
        d["score"] = json!((score * 1e3).round() / 1e3);
    }
    assert_eq!(objects(&one), halves);

    // Another model is another job.
    let args = ["run", "-i", &input, "-o", one.to_str().unwrap(), "--shard-samples", "7"];
    let output = framemill(&make, &[&args[..], &["--detect", &model("end2end_batch2")]].concat());
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
    assert!(errors(&output).contains("sha256"), "{}", errors(&output));
}

#[test]
fn inspect_tells_what_would_be_done() {
    let Some(make) = runtime() else { return };
    let inspect = |name: &str| {
        let output = framemill(&make, &["model", "inspect", &model(name), "--json"]);
        assert!(output.status.success(), "{}", errors(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let told = inspect("tf_ssd");
    assert_eq!((told["head"].as_str(), told["head_recognised"].as_bool()), (Some("tf_ssd"), Some(true)));
    assert_eq!((&told["preprocess"]["element"], &told["preprocess"]["axes"]), (&json!("u8"), &json!("hwc")));
    assert_eq!((&told["provider"], &told["input"]["shape"]), (&json!("cpu"), &json!([1, 32, 32, 3])));
    assert!(told["milliseconds_per_batch"].as_f64().is_some());
    // Open sides are as a job has them; this model takes 32 x 32 of any number.
    let told = inspect("end2end");
    assert_eq!((&told["head"], &told["batch"], &told["nms"]), (&json!("end2end"), &json!(1), &json!("none")));
    let head = |name: &str| (inspect(name)["head"].clone(), inspect(name)["gives"].clone());
    assert_eq!(head("seg8"), (json!("yolov8"), json!("objects with masks")));
    assert_eq!(head("seg5"), (json!("yolov5"), json!("objects with masks")));
    assert_eq!(head("classify"), (json!("classify"), json!("the class of the picture, of 3")));
    assert_eq!(head("embed"), (json!("embed"), json!("a vector of 3")));
    assert_eq!(inspect("half")["preprocess"]["element"], "f16");
    let from = inspect("tf_ssd")["preprocess_from"].clone();
    assert_eq!((&from["size"], &from["fit"], &from["mean"]), (&json!("model"), &json!("head"), &json!("model")));
    let from = inspect("embed")["preprocess_from"].clone();
    assert_eq!((&from["mean"], &from["filter"]), (&json!("head"), &json!("default")));
    let text = framemill(&make, &["model", "inspect", &model("end2end_batch2")]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("images [2, 3, 32, 32]") && text.contains("for a batch of 2"), "{text}");
}

/// Exporters keep large weights in files of their own.
#[test]
fn weights_beside_a_model_are_read_with_it_and_belong_to_the_job() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = picture(dir.path(), "a.png", (32, 32), 90);
    let (copy, weights) = (dir.path().join("outside.onnx"), dir.path().join("outside.onnx.data"));
    std::fs::copy(model("outside"), &copy).unwrap();
    let run = |model: &str, out: &str| {
        let out = dir.path().join(out);
        framemill(&make, &["run", "-i", &input, "-o", out.to_str().unwrap(), "--detect", model])
    };
    let missing = run(copy.to_str().unwrap(), "missing");
    assert_eq!(missing.status.code(), Some(2));
    assert!(errors(&missing).contains("outside.onnx.data: No such file"), "{}", errors(&missing));
    let found = |out: &str| {
        let mut all = records(&dir.path().join(out))[0]["detections"].clone();
        all.as_array_mut().unwrap().iter_mut().for_each(|d| d["model"] = Value::Null);
        all
    };
    let bytes = std::fs::read(model("outside") + ".data").unwrap();
    std::fs::write(&weights, &bytes).unwrap();
    for (model, out) in [(copy.to_str().unwrap(), "outside"), (&model("end2end"), "inside")] {
        let output = run(model, out);
        assert!(output.status.success(), "{}", errors(&output));
    }
    assert_eq!((found("outside"), found("outside").as_array().unwrap().len()), (found("inside"), 2));
    // Other weights are another job.
    let other: Vec<u8> = bytes.iter().rev().copied().collect();
    std::fs::write(&weights, other).unwrap();
    let refused = run(copy.to_str().unwrap(), "outside");
    assert_eq!(refused.status.code(), Some(78), "{}", errors(&refused));
}

#[test]
fn workers_of_another_provider_are_refused_unless_the_job_lets_them_in() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = picture(dir.path(), "a.png", (32, 32), 90);
    let run = |out: &str, mix: &str| {
        let job = dir.path().join("job.toml");
        let uri = dir.path().join(out);
        let text = format!(
            "{mix}\n[input]\nuri = [{input:?}]\n[output]\nuri = {uri:?}\n[[detect]]\nmodel = {:?}\n",
            model("end2end")
        );
        std::fs::write(&job, text).unwrap();
        framemill(&make, &["run", job.to_str().unwrap(), "--tasks", "any"])
    };
    let plan = |out: &str| dir.path().join(out).join("_framemill/plan.json");
    let read = |out: &str| serde_json::from_slice::<Value>(&std::fs::read(plan(out)).unwrap()).unwrap();
    assert!(run("own", "").status.success() && run("mixed", "mix = \"allow\"").status.success());
    let (mut own, mixed) = (read("own"), read("mixed"));
    assert_eq!(
        (&own["identity"]["detect"][0]["provider"], &own["identity"]["job"]["mix"]),
        (&json!("cpu"), &Value::Null)
    );
    let told = (mixed["identity"]["detect"][0].get("provider"), &mixed["identity"]["job"]["mix"]);
    assert_eq!(told, (None, &json!("allow")));
    let output = run("mixed", "mix = \"allow\"\nprovider = [\"cpu\"]");
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(run("own", "provider = [\"cpu\"]").status.code(), Some(78));
    // As a worker with CUDA would have planned it.
    own["identity"]["detect"][0]["provider"] = json!("cuda");
    own["fingerprint"] = json!("0");
    std::fs::write(plan("own"), own.to_string()).unwrap();
    let output = run("own", "");
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
    assert!(errors(&output).contains("cuda"), "{}", errors(&output));
}
