//! Masks against Ultralytics' formula in NumPy and OpenCV, read by pycocotools.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::python::python;
use crate::support::errors;
use crate::{framemill, model, picture, runtime};

#[test]
fn masks_are_those_of_the_reference() {
    let (Some(make), Some(python)) = (runtime(), python()) else { return };
    let dir = tempfile::tempdir().unwrap();
    picture(dir.path(), "a.png", (64, 64), 90);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/detect/masks.py");
    for (name, op) in [("seg8", "resize:w=64,h=64"), ("seg8", "flip:h"), ("seg5", "resize:w=64,h=64")] {
        let out = dir.path().join(format!("{name}-{}", &op[..4]));
        let (input, out) = (dir.path().join("*.png"), out.to_str().unwrap().to_string());
        let args =
            ["run", "-i", input.to_str().unwrap(), "-o", &out, "--op", op, "--metadata", "coco", "--encode", "png"];
        let output = framemill(&make, &[&args[..], &["--detect", &model(name)]].concat());
        assert!(output.status.success(), "{}", errors(&output));
        let side = if op == "flip:h" { "flipped" } else { "plain" };
        let output = Command::new(&python).args([script.to_str().unwrap(), &out, &model(name), side]).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{name} {op}: {told}");
        assert_eq!((&told["objects"], &told["differ"]), (&2.into(), &0.into()), "{name} {op}");
        assert!(told["pixels"].as_u64().unwrap() > 500, "{told}");
        // The control: a mask that is one pixel off is seen.
        assert!(told["shifted"].as_u64().unwrap() > 20, "{told}");
        let sheet = format!("{out}/sheet.html");
        let output = framemill(&make, &["preview", &out, "-o", &sheet]);
        assert!(output.status.success(), "{}", errors(&output));
        assert!(std::fs::read_to_string(sheet).unwrap().contains("fill-opacity"));
    }
}
