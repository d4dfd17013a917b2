//! Pillow as a reference, run once for a list of files.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "../common/python.rs"]
mod outside;
pub use outside::python;

const SCRIPT: &str = include_str!("pillow.py");

/// A decoded reference picture.
pub struct Reference {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

/// Writes the synthetic photos into `folder` and gives their paths.
pub fn make(python: &Path, folder: &Path) -> Vec<PathBuf> {
    let out = Command::new(python).args(["-c", SCRIPT, "make"]).arg(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// Asks Pillow (`mode`: decode or icc) for each of `paths` and hands each answer to `check`.
pub fn ask(python: &Path, mode: &str, paths: &[PathBuf], mut check: impl FnMut(&Path, Option<Reference>)) {
    let mut child = Command::new(python)
        .args(["-c", SCRIPT, mode])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let list: String = paths.iter().map(|p| format!("{}\n", p.display())).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(list.as_bytes()));
    let mut stdout = child.stdout.take().unwrap();
    for path in paths {
        let mut head = [0; 8];
        stdout.read_exact(&mut head).unwrap();
        let [width, height] = [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
        let mut rgb = vec![0; width as usize * height as usize * 3];
        stdout.read_exact(&mut rgb).unwrap();
        check(path, (width > 0).then_some(Reference { width, height, rgb }));
    }
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
}
