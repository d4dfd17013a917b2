//! The house rules that a compiler does not check: imports go down the floors, and `unsafe` lives where it may.
//!
//! Source text is read as tokens, with comments, literals and test modules left out. A module may import from its own
//! floor and from lower ones. Modules reach each other across floors only through `crate::`, so a `super::` that climbs
//! to the root counts as one.

use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 7] = [
    &["bytes", "color", "error", "frame", "geometry", "tensor"],
    &["ffi"],
    &["op", "program", "rng"],
    &["backend", "decode", "detect"],
    &["sample", "sink", "store"],
    &["bench", "finish", "input", "job", "lease", "notice", "pipeline", "plan", "report", "supervise", "task", "trace"],
    &["cli"],
];

/// The only places for `unsafe`.
fn may_be_unsafe(path: &str) -> bool {
    path.starts_with("ffi/")
        || path == "ffi.rs"
        || path == "backend/cpu/simd.rs"
        || path.starts_with("backend/cpu/simd/")
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The tokens of Rust source: identifiers, and every other sign by itself. Comments and literals are left out.
fn tokens(source: &str) -> Vec<String> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut i) = (Vec::new(), 0);
    while i < text.len() {
        let c = text[i];
        if c == '/' && at(i + 1) == '/' {
            while i < text.len() && text[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= text.len() {
                    break;
                }
            }
        } else if c == '"' {
            i += 1;
            while i < text.len() && text[i] != '"' {
                i += if text[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' {
            // A lifetime has no closing quote behind its first letter.
            if at(i + 1) == '\\' {
                i += 3;
                while i < text.len() && text[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else {
                i += if at(i + 2) == '\'' { 3 } else { 1 };
            }
        } else if word(c) {
            let from = i;
            while word(at(i)) {
                i += 1;
            }
            let name: String = text[from..i].iter().collect();
            // r"...", r#"..."#, br#"..."#; r#name is an identifier.
            let hashes = (i..).take_while(|n| at(*n) == '#').count();
            if matches!(name.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                i += hashes + 1;
                while i < text.len() && !(text[i] == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                    i += 1;
                }
                i += hashes + 1;
            } else {
                tokens.push(name);
            }
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            i += 1;
        }
    }
    tokens
}

/// Where the group that opens at `tokens[open]` closes.
fn close(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

fn is(tokens: &[String], at: usize, pattern: &[&str]) -> bool {
    tokens.len() >= at + pattern.len() && tokens[at..].iter().zip(pattern).all(|(t, p)| t == p)
}

/// The same without modules behind `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    split_tests(tokens).0
}

/// What is left without test modules, and the names of those that lie in files of their own.
fn split_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut files, mut i) = (Vec::new(), Vec::new(), 0);
    while i < tokens.len() {
        if is(tokens, i, &["#", "[", "cfg", "("]) {
            let end = close(tokens, i + 1);
            let condition = &tokens[i..end];
            let test = is(condition, 4, &["test", ")"]) || is(condition, 4, &["all", "(", "test", ","]);
            if test && is(tokens, end + 1, &["mod"]) {
                // `mod tests;` or `mod tests { ... }`.
                i = if is(tokens, end + 3, &["{"]) {
                    close(tokens, end + 3) + 1
                } else {
                    files.extend(tokens.get(end + 2).cloned());
                    end + 4
                };
                continue;
            }
        }
        kept.push(tokens[i].clone());
        i += 1;
    }
    (kept, files)
}

/// The modules at the root that these tokens name.
fn imports(tokens: &[String], depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        let mut rest = if is(tokens, i, &["crate", ":", ":"]) {
            i + 3
        } else if tokens[i] == "super" && (i < 3 || tokens[i - 3] != "super") {
            let mut next = i;
            while is(tokens, next, &["super", ":", ":"]) {
                next += 3;
            }
            if (next - i) / 3 < depth {
                continue;
            }
            next
        } else {
            continue;
        };
        if !is(tokens, rest, &["{"]) {
            found.extend(tokens.get(rest).cloned());
            continue;
        }
        // crate::{a, b::{c, d}}: the first word of each part.
        let end = close(tokens, rest);
        rest += 1;
        while rest < end {
            found.push(tokens[rest].clone());
            while rest < end && tokens[rest] != "," {
                rest = if tokens[rest] == "{" { close(tokens, rest) } else { rest } + 1;
            }
            rest += 1;
        }
    }
    found
}

/// What is wrong with a file at `path` (relative to src/) with this text.
fn faults(path: &str, source: &str) -> Vec<String> {
    let tokens = without_tests(&tokens(source));
    let mut faults = Vec::new();
    if tokens.iter().any(|t| t == "unsafe") && !may_be_unsafe(path) {
        faults.push(format!("{path}: unsafe"));
    }
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(parts[..], ["lib" | "main"]) {
        return faults;
    }
    let Some(own) = floor(parts[0]) else {
        faults.push(format!("{path}: on no floor"));
        return faults;
    };
    // How many times `super` leads from here to the root.
    let depth = parts.len() - usize::from(parts.last() == Some(&"mod"));
    for module in imports(&tokens, depth) {
        match floor(&module) {
            Some(floor) if floor <= own => {}
            Some(floor) => faults.push(format!("{path}: floor {own} imports {module} of floor {floor}")),
            None => faults.push(format!("{path}: imports crate::{module}, which is on no floor")),
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The files of the test modules that the file at `path` declares: it is the declaration that makes a file a test, not
/// its name.
fn test_files(path: &str, source: &str) -> Vec<String> {
    let folder = match path.rsplit_once('/') {
        Some((folder, "mod.rs")) => format!("{folder}/"),
        _ if matches!(path, "lib.rs" | "main.rs") => String::new(),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    };
    split_tests(&tokens(source)).1.into_iter().map(|name| format!("{folder}{name}.rs")).collect()
}

#[test]
fn imports_go_down_and_unsafe_stays_in_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut all, mut read, mut crossed) = (Vec::new(), Vec::new(), 0, 0);
    sources(&root, &mut files);
    files.sort();
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            (path, std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    for (path, text) in texts {
        if tests.contains(&path) {
            continue;
        }
        read += 1;
        crossed += imports(&tokens(&text), usize::MAX).len();
        all.extend(faults(&path, &text));
    }
    assert!(read > 50 && crossed > 100, "{read} files with {crossed} imports: the search is broken");
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn every_module_at_the_root_has_a_floor() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let tokens = without_tests(&tokens(&lib));
    let mut declared: Vec<&str> = tokens.windows(2).filter(|w| w[0] == "mod").map(|w| w[1].as_str()).collect();
    let mut floors: Vec<&str> = FLOORS.concat();
    declared.sort_unstable();
    floors.sort_unstable();
    assert_eq!(declared, floors);
}

/// The negative control: text that breaks the rules is caught, and text that only looks so is not.
#[test]
fn a_violation_is_caught() {
    let caught: &[(&str, &str)] = &[
        ("color.rs", "use crate::sink::Sample;"),
        ("sink/mod.rs", "use crate::pipeline::Budget;"),
        ("op.rs", "use crate::{error::{Error, Result}, store};"),
        ("decode/video.rs", "fn f() { crate::cli::main(); }"),
        ("decode/video/seek.rs", "use super::super::super::task;"),
        ("ffi/mod.rs", "use super::decode::image;"),
        ("frame.rs", "let quote = '\"'; use crate::job::Job; let other = \"\";"),
        ("tensor.rs", "#[cfg(test)] mod tests { fn f() {} } use crate::cli;"),
        ("sink/mod.rs", "unsafe { *p }"),
        ("lib.rs", "unsafe fn f() {}"),
        ("backend/cpu.rs", "/* a comment */ unsafe impl Send for X {}"),
        ("stray.rs", "fn f() {}"),
        ("cli/mod.rs", "use crate::stray;"),
    ];
    for (path, text) in caught {
        assert_eq!(faults(path, text).len(), 1, "{path}: {text}: {:?}", faults(path, text));
    }
    let innocent: &[(&str, &str)] = &[
        ("cli/mod.rs", "use crate::{finish, input::{self, Item}, report};"),
        ("op.rs", "use crate::program::Program; use super::error;"),
        ("color.rs", "// use crate::cli;\n/* unsafe /* crate::sink */ */ //! [`crate::job`]\nfn f<'a>(x: &'a str) {}"),
        ("color.rs", "let s = \"\\\" crate::cli unsafe\"; let r = r#\"\" unsafe crate::job\"#; let c = '\\'';"),
        ("color.rs", "#[cfg(test)]\nmod tests { use crate::cli; fn f() { if true {} unsafe {} } }"),
        ("color.rs", "#[cfg(all(test, feature = \"x\"))] mod tests { use crate::cli; }"),
        ("sink/mod.rs", "use super::store; pub(super) fn f() {}"),
        ("decode/video/seek.rs", "use super::super::sink;"),
        ("ffi/av.rs", "unsafe { f() }"),
        ("backend/cpu/simd.rs", "unsafe { f() }"),
        ("lib.rs", "pub use crate::cli::main;"),
    ];
    for (path, text) in innocent {
        assert!(faults(path, text).is_empty(), "{path}: {text}: {:?}", faults(path, text));
    }
    // Only a declaration makes a file a test.
    let declared = "mod tests; #[cfg(test)] mod checks; #[cfg(feature = \"x\")] mod more;";
    assert_eq!(test_files("sample.rs", declared), ["sample/checks.rs"]);
    assert_eq!(test_files("sink/mod.rs", declared), ["sink/checks.rs"]);
    assert_eq!(test_files("lib.rs", declared), ["checks.rs"]);
}
