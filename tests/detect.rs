//! Object detection as a user meets it: models that were made to be awkward, and real ones on real photos.
#![cfg(feature = "ort")]

#[path = "detect/clips.rs"]
mod clips;
#[path = "detect/faults.rs"]
mod faults;
#[path = "detect/masks.rs"]
mod masks;
#[path = "detect/models.rs"]
mod models;
#[path = "detect/places.rs"]
mod places;
#[path = "detect/real.rs"]
mod real;
#[path = "detect/rules.rs"]
mod rules;
#[path = "detect/second.rs"]
mod second;
#[cfg(feature = "wgpu")]
#[path = "detect/uploads.rs"]
mod uploads;

#[cfg(feature = "wgpu")]
#[path = "common/adapter.rs"]
mod adapter;
#[path = "common/python.rs"]
mod python;
// What the tests of runs need is more than these do.
#[allow(dead_code)]
#[path = "run/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::program;

/// The program with an ONNX Runtime; says that the test is skipped where there is none.
pub fn runtime() -> Option<impl Fn() -> Command> {
    // The environment of the outside references has one.
    let python = std::env::var_os("FRAMEMILL_PYTHON").map(PathBuf::from);
    let root = python.and_then(|python| Some(python.parent()?.parent()?.to_path_buf()));
    let make = move || {
        let mut command = program();
        if std::env::var_os("VIRTUAL_ENV").is_none()
            && let Some(root) = &root
        {
            command.env("VIRTUAL_ENV", root);
        }
        command
    };
    let devices = make().args(["devices", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&devices.stdout).unwrap();
    if found["onnxruntime"].is_null() {
        println!("skipped: there is no ONNX Runtime here (pip install onnxruntime, or ORT_DYLIB_PATH)");
        return None;
    }
    Some(make)
}

/// The tiny models.
pub fn model(name: &str) -> String {
    let path = support::fixtures().join("models").join(name).with_extension("onnx");
    path.to_str().unwrap().to_string()
}

/// A picture of one value.
pub fn picture(folder: &Path, name: &str, (w, h): (u32, u32), value: u8) -> String {
    let path = folder.join(name);
    image::RgbImage::from_pixel(w, h, image::Rgb([value; 3])).save(&path).unwrap();
    path.to_str().unwrap().to_string()
}

/// Runs the program.
pub fn framemill(make: &impl Fn() -> Command, args: &[&str]) -> Output {
    make().args(args).output().unwrap()
}
