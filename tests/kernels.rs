//! The CUDA kernels' source: its blocks lie as Rust's do, its constants are Rust's, it computes on integers without a
//! division, and what the program carries is what it compiles to.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "common/blocks.rs"]
#[macro_use]
mod blocks;

use framemill::program::params::{self, Action, Axis, Pass, Source, Taps};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// A program of params.cu and `main`, compiled for the host and run; `None` where there is no compiler.
fn told(main: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("layout.cpp");
    let files = ["params", "convert", "picture", "color", "resize", "blur", "affine"];
    let includes: String = files.iter().map(|f| format!("#include \"{}/{f}.cu\"\n", folder().display())).collect();
    let head = "#include <cstddef>\n#include <cstdio>\n#define __device__\n#define __forceinline__ inline\n#define __noinline__\n";
    std::fs::write(&source, format!("{head}{includes}int main() {{\n{main}}}\n")).unwrap();
    let program = dir.path().join("layout");
    let flags = ["-std=c++17", "-w", "-Wno-unknown-pragmas"];
    match Command::new("g++").args(flags).arg(&source).arg("-o").arg(&program).output() {
        Ok(compiled) => assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr)),
        Err(e) => {
            println!("skipped: g++ tells how the kernels' blocks lie: {e}");
            return None;
        }
    }
    let output = Command::new(program).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

macro_rules! layout {
    ($main:expr, $ours:expr, $block:ident { $($field:ident),* $(,)? }) => {{
        let block = $block::default();
        $(
            let (name, field) = (stringify!($block), stringify!($field));
            $main += &format!(
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));\n"
            );
            let (at, size) = (std::mem::offset_of!($block, $field), size_of_val(&block.$field));
            $ours += &format!("{name}.{field} {at} {size}\n");
        )*
        $main += &format!("printf(\"{0} %zu\\n\", sizeof({0}));\n", stringify!($block));
        $ours += &format!("{} {}\n", stringify!($block), size_of::<$block>());
    }};
}

#[test]
fn blocks_lie_alike() {
    let (mut main, mut ours) = (String::new(), String::new());
    every_block!(layout, main, ours);
    if let Some(theirs) = told(&main) {
        assert_eq!(theirs, ours);
    }
}

#[test]
fn constants_are_the_same() {
    let mut constants: Vec<(&str, i64)> =
        params::KINDS.iter().map(|(name, value)| (*name, i64::from(*value))).collect();
    constants.extend([
        ("NONE", i64::from(params::NONE)),
        ("TONE_CODES", 1 << framemill::program::tonemap::DEPTH),
        ("CUBE_FRACTION", framemill::program::lut::FRACTION.into()),
        ("NODE_FRACTION", framemill::program::lut::NODE_FRACTION.into()),
        ("BLUR_FRACTION", framemill::program::blur::FRACTION.into()),
        ("BLUR_BETWEEN", framemill::program::blur::BETWEEN.into()),
        ("AFFINE_FRACTION", framemill::program::affine::FRACTION.into()),
        ("PRECISION", framemill::program::resample::PRECISION.into()),
        ("HALF", framemill::program::resample::HALF.into()),
    ]);
    let main: String =
        constants.iter().map(|(name, _)| format!("printf(\"{name} %lld\\n\", (long long){name});\n")).collect();
    let ours: String = constants.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    if let Some(theirs) = told(&main) {
        assert_eq!(theirs, ours);
    }
}

/// What could differ between devices in C++: types of floats, divisions, remainders. Comments are left out.
fn faults(source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let code = line.split("//").next().unwrap_or_default();
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let float = words.clone().any(|word| ["float", "double", "__half", "float4"].contains(&word));
        // Instructions are in quotes, and name registers by a percent sign.
        let plain: String = code.split('"').step_by(2).collect();
        if float || plain.contains('/') || plain.contains('%') {
            faults.push(line.to_string());
        }
    }
    faults
}

#[test]
fn only_integers_and_no_division() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "cu") {
            let source = std::fs::read_to_string(&path).unwrap();
            // Other types of floats come from headers.
            assert!(!source.contains("#include"), "{}", path.display());
            assert_eq!(faults(&source), Vec::<String>::new(), "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
    for wrong in ["i32 a = b / 2;", "u32 a = b % 3;", "float x;", "return (double)v;"] {
        assert_eq!(faults(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn the_program_carries_what_the_source_compiles_to() {
    let Ok(python) = std::env::var("FRAMEMILL_PYTHON") else {
        println!("skipped: FRAMEMILL_PYTHON is not set; scripts/test.sh sets it");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kernels.py");
    let output = Command::new(python).arg(script).arg("--check").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("NVRTC is missing") {
        println!("skipped: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    println!("{said}");
}
