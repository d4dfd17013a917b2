//! What is told of pictures and of objects as a whole, and detectors that see what others have found.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::python::python;
use crate::support::{errors, records, tree};
use crate::{framemill, model, picture, runtime};

/// 64 x 64 of one colour, with a square of another in the middle, which is where `end2end` finds a cat.
const AROUND: [u8; 3] = [10, 20, 30];
const SQUARE: [u8; 3] = [180, 60, 120];

fn square(folder: &Path, name: &str) {
    let inside = |x: u32, y: u32| (16..48).contains(&x) && (16..48).contains(&y);
    let pixel = |x, y| image::Rgb(if inside(x, y) { SQUARE } else { AROUND });
    image::RgbImage::from_fn(64, 64, pixel).save(folder.join(name)).unwrap();
}

/// Runs a job on the pictures of `folder`, whose samples are half as large.
fn run(make: &impl Fn() -> Command, folder: &Path, name: &str, detect: &str) -> (Option<i32>, String, Vec<Value>) {
    let (job, out) = (folder.join("job.toml"), folder.join(name));
    let text = format!(
        "[input]\nuri = [{:?}]\n[[ops]]\nop = \"resize\"\nw = 32\nh = 32\n[output]\nuri = {out:?}\nformat = \"images\"\n\
         encode = \"png\"\nmetadata = [\"coco\"]\n[[detect]]\nname = \"m\"\nmodel = {:?}\nlabels = [\"cat\", \"dog\"]\n{detect}",
        folder.join("*.png"),
        model("end2end")
    );
    std::fs::write(&job, text).unwrap();
    let output = framemill(make, &["run", job.to_str().unwrap(), "--threads", "2"]);
    let records = if out.exists() { records(&out) } else { Vec::new() };
    (output.status.code(), errors(&output), records)
}

fn embed(margin: f64) -> String {
    format!("[[detect]]\nname = \"vector\"\nmodel = {:?}\non = \"m\"\nmargin = {margin}\n", model("embed"))
}

fn color() -> String {
    format!(
        "[[detect]]\nname = \"color\"\nmodel = {:?}\non = \"m\"\nlabels = [\"red\", \"green\", \"blue\"]\n",
        model("classify")
    )
}

fn near(vector: &Value, expected: [f64; 3], tolerance: f64) -> bool {
    let vector: Vec<f64> = vector.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    vector.len() == 3 && vector.iter().zip(expected).all(|(v, e)| (v - e).abs() < tolerance)
}

#[test]
fn objects_are_seen_by_a_second_model() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    square(dir.path(), "a.png");
    let (code, text, rows) = run(&make, dir.path(), "out", &(embed(0.0) + &color()));
    assert_eq!((code, rows.len()), (Some(0), 1), "{text}");
    let all = rows[0]["detections"].as_array().unwrap();
    let names: Vec<(&str, Option<i64>)> =
        all.iter().map(|d| (d["model"].as_str().unwrap(), d["of"].as_i64())).collect();
    let expected =
        [("m", None), ("m", None), ("vector", Some(0)), ("vector", Some(1)), ("color", Some(0)), ("color", Some(1))];
    assert_eq!(names, expected);
    for of in [0, 1] {
        for child in [2 + of, 4 + of] {
            assert_eq!((&all[child]["box"], &all[child]["source_box"]), (&all[of]["box"], &all[of]["source_box"]));
        }
    }
    assert_eq!(
        (&all[2]["box"], &all[2]["source_box"]),
        (&json!([8.0, 8.0, 24.0, 24.0]), &json!([16.0, 16.0, 48.0, 48.0]))
    );
    let unit = |color: [u8; 3]| color.map(|v| (f64::from(v) - 127.5) / 127.5);
    assert!(near(&all[2]["embedding"], unit(SQUARE), 1e-4), "{}", all[2]);
    assert!(near(&all[3]["embedding"], unit(AROUND), 1e-4), "{}", all[3]);
    assert!(all[0]["embedding"].is_null() && all[2]["label"].is_null() && all[4]["embedding"].is_null());
    // torchvision's mean and deviation, then a softmax.
    let share = |color: [u8; 3], class: usize| {
        let values: [f64; 3] =
            std::array::from_fn(|c| (f64::from(color[c]) - [123.675, 116.28, 103.53][c]) / [58.395, 57.12, 57.375][c]);
        values[class].exp() / values.iter().map(|v| v.exp()).sum::<f64>()
    };
    assert_eq!((&all[4]["label"], &all[5]["label"]), (&json!("red"), &json!("blue")));
    assert!((all[4]["score"].as_f64().unwrap() - share(SQUARE, 0)).abs() < 2e-4, "{}", all[4]);
    assert!((all[5]["score"].as_f64().unwrap() - share(AROUND, 2)).abs() < 2e-4, "{}", all[5]);

    // Objects alone are annotated.
    let coco = std::fs::read_to_string(dir.path().join("out/annotations.coco.json")).unwrap();
    let coco: Value = serde_json::from_str(&coco).unwrap();
    let sizes = (coco["annotations"].as_array().unwrap().len(), coco["categories"].as_array().unwrap().len());
    assert_eq!(sizes, (2, 2), "{coco}");

    // Half as much again on each side is all of the picture.
    let (_, text, rows) = run(&make, dir.path(), "margin", &embed(0.5));
    let mean: [f64; 3] = std::array::from_fn(|c| 0.25 * unit(SQUARE)[c] + 0.75 * unit(AROUND)[c]);
    assert!(near(&rows[0]["detections"][2]["embedding"], mean, 0.01), "{text}: {}", rows[0]["detections"]);

    // A crop has its own objects only.
    let (_, text, rows) = run(&make, dir.path(), "crop", &format!("then = [{{ crop = {{}} }}]\n{}", embed(0.0)));
    assert_eq!(rows.len(), 2, "{text}");
    let objects = rows[1]["detections"].as_array().unwrap();
    assert_eq!((objects.len(), &objects[0]["label"], &objects[1]["of"]), (2, &json!("dog"), &json!(0)), "{}", rows[1]);
    assert_eq!(objects[1]["box"], json!([0.0, 0.0, 4.0, 4.0]));
    assert!(near(&objects[1]["embedding"], unit(AROUND), 1e-4));

    let Some(python) = python() else { return };
    let read = "import sys, pyarrow.parquet as p; t = p.read_table(sys.argv[1]); d = t.schema.field('detections').type.value_type\n\
                print(d.field('embedding').type.value_type, d.field('of').type, t['detections'][0][2]['embedding'].as_py()[0])";
    let table = dir.path().join("out/shard-000000.parquet");
    let output = Command::new(python).args(["-c", read, table.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("float int64 0.411"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn whole_pictures_have_a_class_and_a_vector() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    square(dir.path(), "a.png");
    let whole = (color() + &embed(0.0)).replace("on = \"m\"\n", "").replace("margin = 0\n", "max = 2\n");
    let (code, text, rows) =
        run(&make, dir.path(), "out", &whole.replace("labels = [\"red\"", "max = 2\nlabels = [\"red\""));
    assert_eq!(code, Some(0), "{text}");
    let all = &rows[0]["detections"];
    // The strongest first.
    assert_eq!((&all[2]["label"], &all[3]["label"]), (&json!("blue"), &json!("red")), "{all}");
    assert_eq!(
        (&all[2]["box"], &all[4]["source_box"]),
        (&json!([0.0, 0.0, 32.0, 32.0]), &json!([0.0, 0.0, 64.0, 64.0]))
    );
    assert!(all[0].get("of").is_none(), "nothing is told of what no detector has");
    assert!(near(&all[4]["embedding"], [-0.5882, -0.7647, -0.5882], 0.01), "{all}");
}

#[test]
fn what_is_hidden_inside_objects_is_never_shown() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    square(dir.path(), "a.png");
    // The model of the first detector fails on it.
    picture(dir.path(), "b.png", (64, 64), 255);
    let inner =
        format!("on_error = \"keep\"\n[[detect]]\nname = \"inner\"\nmodel = {:?}\non = \"m\"\n", model("end2end"));
    let (code, text, rows) = run(&make, dir.path(), "shown", &inner);
    assert_eq!((code, rows.len()), (Some(0), 2), "{text}");
    let fill = inner + "then = [{ fill = { classes = [0], color = \"ffffff\" } }]\n";
    let (code, text, rows) = run(&make, dir.path(), "hidden", &fill);
    assert_eq!((code, rows.len()), (Some(3), 1), "{text}");
    assert!(rows[0]["uri"].as_str().unwrap().ends_with("a.png"));
    // The middle of the middle, and of the corner where a dog is found.
    let key = rows[0]["key"].as_str().unwrap();
    let seen = image::open(dir.path().join(format!("hidden/images/000000/{key}.png"))).unwrap().to_rgb8();
    for (x, y, pixel) in seen.enumerate_pixels() {
        let within = |from: u32, to: u32| (from..to).contains(&x) && (from..to).contains(&y);
        assert_eq!(pixel.0 == [255; 3], within(12, 20) || within(1, 3), "({x}, {y}): {pixel:?}");
    }
}

#[test]
fn vectors_do_not_depend_on_how_a_run_is_split() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    (0..9u8).for_each(|i| drop(picture(dir.path(), &format!("{i}.png"), (40 + u32::from(i), 50), 20 * i)));
    let (_, text, _) = run(&make, dir.path(), "two", &(embed(0.1) + &color()));
    let job = dir.path().join("job.toml");
    let one = dir.path().join("one");
    let args = ["run", job.to_str().unwrap(), "-o", one.to_str().unwrap(), "--threads", "1"];
    let output = framemill(&make, &args);
    assert!(output.status.success(), "{text}{}", errors(&output));
    assert_eq!(tree(&dir.path().join("two")), tree(&one));
}

#[test]
fn what_detectors_cannot_see_is_told() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    square(dir.path(), "a.png");
    let embed = embed(0.0);
    let cases = [
        (embed.replace("on = \"m\"", "on = \"cars\""), "\"cars\""),
        (embed.replace("on = \"m\"\nmargin = 0", "margin = 0.5"), "margin"),
        (embed.replace("margin = 0", "margin = -1"), "0 or more"),
        (embed.replace("\"vector\"", "\"sample\"") + &color().replace("\"m\"", "\"sample\""), "another name"),
        (embed.replace("margin = 0", "head = \"yolox\""), "head yolox"),
        (embed.clone() + "preprocess = { fit = \"crop\" }\n", "square"),
        (color() + "then = [{ best = {} }]\n", "more than 0"),
        (color() + "then = [{ best = { count = 1 } }, { best = { count = 2 } }]\n", "twice"),
    ];
    for (detect, word) in cases {
        let (code, text, _) = run(&make, dir.path(), "refused", &detect);
        assert!(code == Some(2) && text.contains(word), "{detect}: {text}");
    }
}
