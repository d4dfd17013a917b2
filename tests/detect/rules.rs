//! What is done with what was found, on pictures whose objects are known.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{self, errors, records};
use crate::{framemill, model, picture, runtime};

fn boxes(record: &Value) -> Vec<(Value, Value)> {
    let all = record["detections"].as_array().unwrap();
    all.iter().map(|d| (d["box"].clone(), d["source_box"].clone())).collect()
}

#[test]
fn boxes_lie_in_the_sample_and_in_the_source() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    // 64 x 32 lies in the middle of 32 x 32, halved, from y = 8 on: the second object is outside.
    let input = picture(dir.path(), "a.png", (64, 32), 90);
    let run = |name: &str, on: &str, ops: &[&str]| {
        let out = dir.path().join(name);
        let job = dir.path().join("job.toml");
        let text = format!(
            "labels = [\"cat\", \"dog\"]\n[[detect]]\nname = \"m\"\nmodel = {:?}\non = {on:?}",
            model("end2end")
        );
        std::fs::write(&job, text).unwrap();
        let mut args = vec!["run", job.to_str().unwrap(), "-i", &input, "-o", out.to_str().unwrap(), "--encode", "npy"];
        ops.iter().for_each(|op| args.extend(["--op", op]));
        let output = framemill(&make, &args);
        assert!(output.status.success(), "{}", errors(&output));
        records(&out).remove(0)
    };
    let full = (json!([16.0, 0.0, 48.0, 32.0]), json!([16.0, 0.0, 48.0, 32.0]));
    let record = run("plain", "source", &[]);
    assert_eq!(boxes(&record), std::slice::from_ref(&full));
    let d = &record["detections"][0];
    assert_eq!(
        (&d["model"], &d["class"], &d["label"], &d["score"]),
        (&json!("m"), &json!(0), &json!("cat"), &json!(0.9))
    );
    let half = (json!([8.0, 0.0, 24.0, 16.0]), full.1.clone());
    assert_eq!(boxes(&run("half", "source", &["resize:w=32,h=16", "flip:h"])), [half]);
    // The left half: what is cut off is cut off of the box, too, but not of the source's.
    let cut = (json!([16.0, 0.0, 32.0, 32.0]), full.1.clone());
    assert_eq!(boxes(&run("cut", "source", &["crop:x=0,y=0,w=32,h=32"])), [cut]);
    // Seen by itself, the left half is 32 x 32.
    let expected = [
        (json!([8.0, 8.0, 24.0, 24.0]), json!([8.0, 8.0, 24.0, 24.0])),
        (json!([0.0, 0.0, 4.0, 4.0]), json!([0.0, 0.0, 4.0, 4.0])),
    ];
    assert_eq!(boxes(&run("sample", "sample", &["crop:x=0,y=0,w=32,h=32", "normalize:imagenet"]))[..], expected);
}

/// Runs a job on dark pictures of 32 x 32 and a bright one on which the model fails.
fn job(dir: &Path, name: &str, detect: &str, bright: bool) -> Option<(Option<i32>, String, Vec<Value>)> {
    let make = runtime()?;
    picture(dir, "a.png", (32, 32), 90);
    if bright {
        picture(dir, "b.png", (32, 32), 255);
    }
    let (path, out) = (dir.join("job.toml"), dir.join(name));
    let text = format!(
        "[input]\nuri = [{:?}]\n[output]\nuri = {out:?}\nformat = \"images\"\nencode = \"png\"\nmetadata = [\"coco\", \"yolo\"]\n\
         [[detect]]\nmodel = {:?}\nlabels = [\"cat\", \"dog\"]\n{detect}",
        dir.join("*.png"),
        model("end2end")
    );
    std::fs::write(&path, text).unwrap();
    let output = framemill(&make, &["run", path.to_str().unwrap()]);
    let records = if out.exists() { records(&out) } else { Vec::new() };
    Some((output.status.code(), errors(&output), records))
}

fn pixels(out: &Path, record: &Value) -> image::RgbImage {
    let key = record["key"].as_str().unwrap();
    image::open(out.join(format!("images/000000/{key}.png"))).unwrap().to_rgb8()
}

#[test]
fn what_is_hidden_is_hidden_in_everything_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let fill = "then = [{ fill = { classes = [\"cat\"], margin = 0.125, color = \"ff0000\" } }]";
    let Some((code, text, rows)) = job(dir.path(), "fill", fill, true) else { return };
    // The bright picture is rejected: the detector failed on it.
    assert_eq!((code, rows.len()), (Some(3), 1), "{text}");
    let rejects = std::fs::read_to_string(dir.path().join("fill/_framemill/rejects/000000.jsonl")).unwrap();
    let reject: Value = serde_json::from_str(&rejects).unwrap();
    assert!(reject["uri"].as_str().unwrap().ends_with("b.png") && reject["kind"] == "detect", "{reject}");
    assert!(reject["message"].as_str().unwrap().contains("no numbers"), "{reject}");
    assert_eq!(std::fs::read_dir(dir.path().join("fill/images/000000")).unwrap().count(), 1);
    for (x, y, pixel) in pixels(&dir.path().join("fill"), &rows[0]).enumerate_pixels() {
        let inside = (6..26).contains(&x) && (6..26).contains(&y);
        assert_eq!(pixel.0, if inside { [255, 0, 0] } else { [90; 3] }, "({x}, {y})");
    }
    let labels = std::fs::read_dir(dir.path().join("fill/labels/000000")).unwrap().next().unwrap().unwrap().path();
    let expected = "0 0.500000 0.500000 0.500000 0.500000\n1 0.062500 0.062500 0.125000 0.125000\n";
    assert_eq!(std::fs::read_to_string(&labels).unwrap(), expected);
    let yaml = std::fs::read_to_string(dir.path().join("fill/data.yaml")).unwrap();
    assert_eq!(yaml, "train: images\nval: images\nnames:\n  0: \"cat\"\n  1: \"dog\"\n");
    let there = dir.path().join("fill");
    let verified = || support::framemill(&["verify", there.to_str().unwrap()]);
    assert!(verified().status.success(), "{}", String::from_utf8_lossy(&verified().stdout));
    std::fs::write(&labels, "0 0.5 0.5 0.5 0.5\n").unwrap();
    let told = String::from_utf8_lossy(&verified().stdout).into_owned();
    assert!(verified().status.code() == Some(74) && told.starts_with("labels/000000/: 18 bytes"), "{told}");
    assert!(support::framemill(&["finish", there.to_str().unwrap()]).status.success() && verified().status.success());

    // Where nothing is hidden, the picture is kept, and its record says what is wrong.
    let (code, text, rows) = job(dir.path(), "keep", "", true).unwrap();
    assert_eq!((code, rows.len()), (Some(0), 2), "{text}");
    let failed = rows.iter().find(|r| r["uri"].as_str().unwrap().ends_with("b.png")).unwrap();
    assert!(failed["detections"].as_array().unwrap().is_empty());
    assert!(failed["warning"].as_str().unwrap().contains("no numbers"), "{failed}");

    let unsafe_settings = [
        ("on_error = \"keep\"", "unhidden"),
        ("max = 0", "max 0"),
        ("[sample]\nkeep_raw = \"raw\"", "keep_raw"),
        ("[[ops]]\nop = \"normalize\"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n[run]\nencode = \"npy\"", "8-bit"),
        ("[sample]\nclip = \"frames=2,stride=1\"\n[run]\nencode = \"npy\"", "clip"),
    ];
    for (more, word) in unsafe_settings {
        let (code, text, _) = job(dir.path(), "refused", &format!("{fill}\n{more}"), false).unwrap();
        assert!(code == Some(2) && text.contains(word), "{more}: {text}");
        assert!(!dir.path().join("refused").exists());
    }
}

#[test]
fn blurring_leaves_one_colour_a_square() {
    let dir = tempfile::tempdir().unwrap();
    let gradient = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(3 * x) as u8, (3 * y) as u8, 7]));
    gradient.save(dir.path().join("c.png")).unwrap();
    let Some((_, text, rows)) = job(dir.path(), "blur", "then = [{ blur = { classes = [0] } }]", false) else { return };
    let row = rows.iter().find(|r| r["uri"].as_str().unwrap().ends_with("c.png")).expect(&text);
    let seen = pixels(&dir.path().join("blur"), row);
    let inside = seen.enumerate_pixels().filter(|(x, y, _)| (8..24).contains(x) && (8..24).contains(y));
    let colors: std::collections::HashSet<[u8; 3]> = inside.map(|(_, _, p)| p.0).collect();
    // 16 pixels in squares of 3.
    assert_eq!(colors.len(), 36);
    assert_eq!(seen.get_pixel(9, 9).0, [27, 27, 7], "the mean of 8, 9 and 10, three times");
    assert_eq!(seen.get_pixel(7, 8), gradient.get_pixel(7, 8));
}

#[test]
fn pictures_are_kept_dropped_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_, _, rows)) = job(dir.path(), "a", "then = [{ keep = { classes = [\"dog\"], score = 0.5 } }]", false)
    else {
        return;
    };
    assert_eq!(rows.len(), 1);
    let none = |name: &str, then: &str| {
        let (code, text, rows) = job(dir.path(), name, then, false).unwrap();
        assert!(code == Some(3) && rows.is_empty(), "{text}");
    };
    none("b", "then = [{ keep = { classes = [\"dog\"], score = 0.7 } }]");
    none("c", "then = [{ drop = { classes = [\"cat\"] } }]");
    let (_, text, _) = job(dir.path(), "d", "then = [{ drop = { classes = [\"bird\"] } }]", false).unwrap();
    assert!(text.contains("\"bird\" is none of its labels: cat, dog"), "{text}");

    let crop = "then = [{ fill = { classes = [\"dog\"] } }, { crop = { margin = 0.25, square = true, min_size = 5, beside = true } }]";
    let (code, text, rows) = job(dir.path(), "e", crop, false).unwrap();
    assert_eq!((code, rows.len()), (Some(0), 3), "{text}");
    let key = rows[0]["key"].as_str().unwrap();
    assert_eq!(rows[1]["key"], json!(format!("{key}-c0")));
    let (cat, dog) = (pixels(&dir.path().join("e"), &rows[1]), pixels(&dir.path().join("e"), &rows[2]));
    assert_eq!((cat.dimensions(), dog.dimensions()), ((24, 24), (5, 5)));
    assert_eq!((&rows[1]["width"], &rows[1]["transform"]), (&json!(24), &json!([1.0, 0.0, 4.0, 0.0, 1.0, 4.0])));
    assert_eq!(rows[1]["detections"][0]["box"], json!([4.0, 4.0, 20.0, 20.0]));
    assert_eq!(rows[1]["detections"][0]["source_box"], json!([8.0, 8.0, 24.0, 24.0]));
    assert_eq!(rows[1]["detections"].as_array().unwrap().len(), 1);
    assert_eq!((dog.get_pixel(0, 0).0, dog.get_pixel(4, 4).0), ([0; 3], [90; 3]), "it was filled before it was cut");
}
