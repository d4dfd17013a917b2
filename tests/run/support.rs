//! What the tests of the program share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};

#[path = "../common/media.rs"]
mod outside;
#[path = "../common/random.rs"]
mod random;
// Not every test that has this module uses both.
#[allow(unused_imports)]
pub use outside::{full, media};
#[allow(unused_imports)]
pub use random::Random;

/// The project's own small media.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The program with no variables of a job around it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_framemill"));
    command.env("FRAMEMILL_PROGRESS", "none");
    command
}

/// Runs the program.
pub fn framemill(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// What a process printed on standard error.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `run` of `inputs` into `out` with further arguments, small pictures, few samples a shard.
pub fn job<'a>(inputs: &[&'a str], out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run"];
    inputs.iter().for_each(|i| args.extend(["-i", *i]));
    args.extend(["-o", out, "--op", "resize:w=48,h=32", "--shard-samples", "12", "--max-rejects", "100%"]);
    args.extend(more);
    args
}

/// The report that `--json` prints last.
pub fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {}", errors(output)))
}

/// Every file but the reports, with its digest.
pub fn tree(out: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, base: &Path, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(base).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "_framemill/reports" {
                    walk(&path, base, files);
                }
            } else {
                let digest = Sha256::digest(std::fs::read(&path).unwrap());
                files.insert(name, digest.iter().map(|b| format!("{b:02x}")).collect());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(out, out, &mut files);
    files
}

/// The records of all shards in order.
pub fn records(out: &Path) -> Vec<Value> {
    let mut tables: Vec<PathBuf> = tree(out)
        .into_keys()
        .filter(|n| n.ends_with(".parquet") && n.contains("shard-"))
        .map(|n| out.join(n))
        .collect();
    tables.sort();
    tables.iter().flat_map(|t| framemill::sink::table::read_rows(t).unwrap()).collect()
}

/// Key and digest of every sample.
pub fn samples(out: &Path) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_string();
    records(out).iter().map(|r| (text(&r["key"]), text(&r["sha256"]))).collect()
}
