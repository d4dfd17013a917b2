//! Detectors on videos: every frame of a clip, and the best frames of all.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{errors, fixtures, records, report};
use crate::{framemill, model, runtime};

fn run(make: &impl Fn() -> Command, folder: &Path, name: &str, sample: &str, detect: &str) -> (Value, Vec<Value>) {
    let (job, out) = (folder.join("job.toml"), folder.join(name));
    let text = format!(
        "[input]\nuri = [{:?}]\n[sample]\n{sample}\n[[ops]]\nop = \"resize\"\nw = 32\nh = 32\n[output]\nuri = {out:?}\n\
         format = \"images\"\nencode = \"npy\"\n[[detect]]\n{detect}",
        fixtures().join("clips/h264.mp4")
    );
    std::fs::write(&job, text).unwrap();
    let output = framemill(make, &["run", job.to_str().unwrap(), "--json"]);
    // 3 says that no sample came out.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", errors(&output));
    (report(&output), records(&out))
}

#[test]
fn every_frame_of_a_clip_is_seen_and_hidden() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let clip = "at = [\"0s\", \"0.2s\"]\nclip = \"frames=3,stride=1\"";
    let detect = format!("name = \"m\"\nmodel = {:?}\n", model("tf_ssd"));
    let (_, rows) = run(&make, dir.path(), "first", clip, &detect);
    let objects = rows[0]["detections"].as_array().unwrap();
    assert_eq!((rows.len(), objects.len(), objects[0].get("frame")), (2, 2, None));

    let all = detect + "frames = \"all\"\nthen = [{ fill = { classes = [0], color = \"ff0000\" } }]\n";
    let (_, rows) = run(&make, dir.path(), "all", clip, &all);
    for row in &rows {
        let frames: Vec<i64> =
            row["detections"].as_array().unwrap().iter().map(|d| d["frame"].as_i64().unwrap()).collect();
        assert_eq!(frames, [0, 0, 1, 1, 2, 2]);
        let data =
            std::fs::read(dir.path().join(format!("all/images/000000/{}.npy", row["key"].as_str().unwrap()))).unwrap();
        let pixels = &data[data.len() - 3 * 32 * 32 * 3..];
        for (i, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (i % 32, i / 32 % 32);
            let inside = (8..24).contains(&x) && (8..24).contains(&y);
            assert_eq!(*pixel == [255, 0, 0], inside, "frame {}, ({x}, {y})", i / 1024);
        }
    }
}

#[test]
fn the_best_frames_of_a_video_are_kept() {
    let Some(make) = runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let detect = format!("name = \"m\"\nmodel = {:?}\nlabels = [\"red\", \"green\", \"blue\"]\n", model("classify"));
    let (_, rows) = run(&make, dir.path(), "all", "all = true", &detect);
    let mut ranked: Vec<(f64, &Value)> =
        rows.iter().map(|r| (r["detections"][0]["score"].as_f64().unwrap(), &r["key"])).collect();
    // Of equal ones the earlier.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut expected: Vec<&Value> = ranked[..3].iter().map(|(_, key)| *key).collect();
    expected.sort_by_key(|key| key.as_str());
    assert_ne!(expected, rows[..3].iter().map(|r| &r["key"]).collect::<Vec<_>>(), "the first are the best: no test");
    let best = format!("{detect}then = [{{ best = {{ count = 3 }} }}]\n");
    let (told, kept) = run(&make, dir.path(), "best", "all = true", &best);
    assert_eq!(kept.iter().map(|r| &r["key"]).collect::<Vec<_>>(), expected);
    assert_eq!((&told["samples"], &told["frames"]["sampled"]), (&json!(3), &json!(3)));
    let left_out = rows.len() as u64 - 3;
    assert_eq!(told["frames"]["skipped_by_rule"], left_out, "{told}");
    // What is cut comes from the best, whichever objects they are the best by.
    let several = format!("{detect}max = 3\n");
    let (_, rows) = run(&make, dir.path(), "several", "all = true", &several);
    let red = |row: &Value| {
        let all = row["detections"].as_array().unwrap();
        all.iter().find(|d| d["label"] == "red").unwrap()["score"].as_f64().unwrap()
    };
    let mut ranked: Vec<&Value> = rows.iter().collect();
    ranked.sort_by(|a, b| red(b).total_cmp(&red(a)));
    let mut expected: Vec<&str> = ranked[..2].iter().map(|row| row["key"].as_str().unwrap()).collect();
    expected.sort_unstable();
    assert_ne!(expected, rows[..2].iter().map(|r| r["key"].as_str().unwrap()).collect::<Vec<_>>(), "no test");
    let then =
        "then = [{ best = { count = 2, classes = [\"red\"] } }, { crop = { classes = [\"green\", \"blue\"] } }]\n";
    let (_, kept) = run(&make, dir.path(), "cut", "all = true", &(several + then));
    let expected: Vec<String> = expected.iter().flat_map(|key| [format!("{key}-c0"), format!("{key}-c1")]).collect();
    assert_eq!(kept.iter().map(|r| r["key"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    // None of this class is that sure.
    let none = format!("{detect}then = [{{ best = {{ count = 3, classes = [\"blue\"], score = 0.999 }} }}]\n");
    assert!(run(&make, dir.path(), "none", "count = 5", &none).1.is_empty());
}
