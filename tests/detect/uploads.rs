//! A frame goes to a device once, whatever number of Programs read it there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::adapter::adapter;
use crate::support::{errors, report, tree};
use crate::{model, runtime};

/// So many pictures, each of its own, and the bytes of their pixels.
fn pictures(folder: &Path, count: u32) -> u64 {
    const SIZE: (u32, u32) = (480, 360);
    std::fs::create_dir(folder).unwrap();
    for n in 0..count {
        let pixel = |x: u32, y: u32| image::Rgb([x ^ y, (7 * x) ^ n, (5 * y) ^ x].map(|v| v as u8));
        image::RgbImage::from_fn(SIZE.0, SIZE.1, pixel).save(folder.join(format!("{n:02}.png"))).unwrap();
    }
    u64::from(count * SIZE.0 * SIZE.1 * 3)
}

/// What a run moved up and down, and what it wrote.
struct Run {
    up: u64,
    down: u64,
    tree: BTreeMap<String, String>,
}

/// Runs on `device`, which is lost at batch `lost` where that is not empty.
fn run(make: &impl Fn() -> Command, input: &Path, device: &str, lost: &str, more: &[&str]) -> Run {
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let mut command = make();
    command.args(["run", "--json", "-i", input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--device", device]);
    command.args(["--op", "resize:w=60,h=40", "--op", "random_flip:h", "--shard-samples", "9"]).args(more);
    if !lost.is_empty() {
        command.env("FRAMEMILL_TEST_DEVICE_LOST", lost);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{more:?}: {}", errors(&output));
    let report = report(&output);
    let moved = |what: &str| report["device_work"][what].as_u64().unwrap_or(0);
    let fell = report["fallbacks"].as_array().unwrap().iter().any(|f| f["what"] == "program");
    assert_eq!(fell, lost.ends_with('+'), "{more:?}: {}", report["fallbacks"]);
    Run { up: moved("bytes_up"), down: moved("bytes_down"), tree: tree(&out) }
}

#[test]
fn a_frame_goes_up_once_for_all_that_read_it() {
    let Some(make) = runtime() else { return };
    if !adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (input, more) = (dir.path().join("pictures"), dir.path().join("more"));
    let (pixels, more_pixels) = (pictures(&input, 8), pictures(&more, 16));
    let plain = run(&make, &input, "wgpu", "", &[]);
    assert!(plain.up >= pixels, "{} of {pixels}", plain.up);
    let (end2end, classify) = (model("end2end"), model("classify"));
    let two = ["--detect", &end2end, "--detect", &classify];
    let all = [&two[..], &["--variants", "3"]].concat();
    // So little that a frame is larger than what a batch may have.
    let tight = [&two[..], &["--memory", "14MB", "--threads", "1"]].concat();
    for more in [&two[..2], &["--variants", "3"], &all, &tight] {
        let own = run(&make, &input, "wgpu", "", more);
        // The rest are tables and parameters of each batch.
        assert!(own.up >= pixels && own.up < plain.up + pixels / 5, "{more:?}: {} after {}", own.up, plain.up);
        assert!(own.down > plain.down, "{more:?}: {} after {}", own.down, plain.down);
        assert!(own.tree == run(&make, &input, "cpu", "", more).tree, "{more:?}: not the CPU's bytes");
    }
    // The control: the counter sees what does go up.
    let twice = run(&make, &more, "wgpu", "", &[]);
    assert!(twice.up >= more_pixels && more_pixels == 2 * pixels, "{} of {more_pixels}", twice.up);
}

#[test]
fn a_device_that_is_lost_with_several_programs_costs_no_frame() {
    let Some(make) = runtime() else { return };
    if !adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("pictures");
    pictures(&input, 8);
    let end2end = model("end2end");
    let more = ["--detect", &end2end, "--variants", "2", "--batch", "4", "--fallback", "allow"];
    let expected = run(&make, &input, "cpu", "", &more).tree;
    for lost in ["2", "2+"] {
        assert!(run(&make, &input, "wgpu", lost, &more).tree == expected, "{lost}");
    }
}
