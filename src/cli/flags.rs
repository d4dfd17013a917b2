//! The flags of `run`, `plan` and `retry`: one table gives the command line, the variables and the keys of the job file.
//!
//! A flag wins over a variable `FRAMEMILL_<FLAG>`, a variable over the file. Rules of sampling exclude each other, so one
//! given higher up takes the place of any given lower down.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::job::{JobFile, RULES};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Switch,
    /// Given several times.
    Many,
    /// Parts between commas.
    Commas,
    /// A switch that may have a value.
    Maybe,
}
use Kind::{Commas, Many, Maybe, Number, Switch, Text};

struct Flag {
    name: &'static str,
    short: Option<char>,
    /// Path in the job file.
    key: &'static str,
    kind: Kind,
    value: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, key: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, key, kind, value, help }
}

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    Flag { name: "input", short: Some('i'), key: "input.uri", kind: Many, value: "URI", help: "File, folder, glob, or a list (.txt, .csv, .tsv, .jsonl, .ndjson, .parquet); also s3://, gs://, az://, https://" },
    flag("uri-column", "input.uri_column", Text, "NAME", "Column of a list that holds the URI [default: uri]"),
    flag("id-column", "input.id_column", Text, "NAME", "Column of a list that holds the identity"),
    flag("field", "input.field", Many, "COL=EXT", "Also write a column of the list as KEY.EXT"),
    flag("root", "input.root", Text, "URI", "Identities are relative to this"),
    flag("limit", "input.limit", Number, "N", "Only the first N inputs"),
    flag("shuffle", "input.shuffle", Switch, "", "Order by a hash of seed and asset"),
    flag("split", "input.split", Text, "NAME=SHARE,...", "Splits by asset, each a folder of its own"),
    Flag { name: "output", short: Some('o'), key: "output.uri", kind: Text, value: "URI", help: "Folder, or - for one tar on standard output" },
    flag("keep-raw", "output.keep_raw", Text, "FOLDER", "Also keep the source files, under their identities"),
    flag("all", "sample.all", Switch, "", "Every frame"),
    flag("every", "sample.every", Text, "DUR", "One frame for each step of this length [default: 1s]"),
    flag("fps", "sample.fps", Text, "N", "This many frames a second; rationals allowed"),
    flag("keyframes", "sample.keyframes", Switch, "", "What the container flags as key"),
    flag("count", "sample.count", Number, "K", "This many frames, evenly spread"),
    flag("at", "sample.at", Commas, "T,T,...", "The frames shown at these times"),
    flag("scenes", "sample.scenes", Maybe, "T", "One frame a scene, told from others by a change of T or more [default: 6.5]"),
    flag("pick", "sample.pick", Text, "next|shown|nearest|first|middle", "Which frame stands for a wanted time, or for a scene (first, middle)"),
    flag("clip", "sample.clip", Text, "frames=T,stride=S", "Each chosen frame starts a clip"),
    flag("start", "sample.start", Text, "T", "Start of the part of the media"),
    flag("end", "sample.end", Text, "T", "End of the part of the media"),
    flag("stream", "sample.stream", Number, "N", "Which video stream, counted from 0"),
    flag("op", "ops", Many, "NAME[:k=v,...]", "An operation; repeat in order"),
    flag("format", "output.format", Text, "webdataset|images|tensors", "Form of the data"),
    flag("encode", "output.encode", Text, "jpeg[:q]|png|webp[:q]|npy|safetensors", "Encoding of a sample"),
    flag("shard-samples", "output.shard_samples", Number, "N", "About how many samples a shard holds"),
    flag("shard-bytes", "output.shard_bytes", Text, "SIZE", "About how many bytes a shard holds"),
    flag("metadata", "output.metadata", Commas, "parquet,csv,sqlite,coco,yolo", "Forms of the record table"),
    flag("detect", "detect", Many, "MODEL", "Find objects with this ONNX model"),
    flag("labels", "labels", Text, "FILE|coco", "Names of the model's classes"),
    flag("detect-score", "detect_score", Text, "S", "Least score of an object [default: 0.3]"),
    flag("detect-nms", "detect_nms", Text, "I|soft|none", "Overlap above which the weaker of two boxes goes"),
    flag("detect-max", "detect_max", Number, "N", "Objects a picture, at most [default: 300]"),
    flag("detect-head", "detect_head", Text, "NAME", "How the model's outputs are laid out, where that is not recognised"),
    flag("provider", "provider", Commas, "NAME,...", "Where ONNX Runtime computes, the first that is there: cpu, cuda, ..."),
    flag("ort", "ort", Text, "PATH", "ONNX Runtime's library [default: ORT_DYLIB_PATH, else the usual places]"),
    flag("device", "device", Text, "auto|cpu|wgpu[:n]|cuda[:n|:all]", "Where the operations run"),
    flag("batch", "batch", Number, "N", "Pictures that a device gets at a time, at most [default: as it likes]"),
    flag("decoder", "decoder", Text, "auto|software|nvdec|...", "Where decoding runs"),
    flag("fallback", "fallback", Text, "allow|warn|forbid", "May work demanded of a device run elsewhere"),
    flag("quality", "quality", Text, "exact|fast", "Order of resizing and colour conversion"),
    flag("chroma", "chroma", Text, "linear|nearest", "Chroma interpolation"),
    flag("icc", "icc", Text, "convert|ignore", "Colour profiles of photos"),
    flag("orient", "orient", Text, "apply|ignore", "Stored orientation"),
    flag("deinterlace", "deinterlace", Text, "auto|off|bwdif", "Interlaced frames: deinterlaced, taken as stored, or all deinterlaced"),
    flag("background", "background", Text, "RRGGBB", "Colour behind transparent pictures"),
    flag("square-pixels", "square_pixels", Switch, "", "Resample to square pixels first"),
    flag("seed", "seed", Number, "N", "Seed of all random operations"),
    flag("epoch", "epoch", Number, "N", "Epoch of all random operations"),
    flag("variants", "variants", Number, "K", "Differently augmented samples for each frame"),
    flag("unit", "unit", Text, "DUR", "Cut videos longer than this, where that is sound"),
    flag("max-pixels", "max_pixels", Number, "N", "Largest picture that is decoded"),
    flag("memory", "memory", Text, "SIZE", "Byte budget of everything in flight"),
    flag("scratch-limit", "scratch_limit", Text, "SIZE", "Bytes of temporaries on disk, at most [default: as it takes]"),
    flag("threads", "threads", Number, "N", "CPU threads in all"),
    flag("tasks", "tasks", Text, "i/n|env|any", "Every n-th task from i; from the orchestrator's variables; or what is free, by leases"),
    flag("max-rejects", "max_rejects", Text, "N|P%", "Inputs that may be rejected before the exit code says so"),
    flag("allow-empty", "allow_empty", Switch, "", "No input is a success"),
    flag("stall-timeout", "stall_timeout", Text, "DUR", "CPU time without progress after which an input is given up"),
    flag("grace", "grace", Text, "DUR", "How long a signal leaves to drain"),
    flag("lease", "lease", Text, "DUR", "How long a worker of --tasks any may be silent before others take over"),
    flag("report", "report", Text, "FILE", "Write this process's report here"),
    flag("json", "json", Switch, "", "Print JSON: of a run its report, as the last line of standard output"),
    flag("heartbeat", "heartbeat", Text, "FILE", "Write how far it is here every second: an old file tells a hang"),
    flag("trace", "trace", Text, "FILE", "Write a timeline of what each thread did here: Perfetto and Chrome show it"),
    flag("price-per-hour", "price_per_hour", Text, "X", "What this machine costs an hour: the report tells what the run cost"),
    flag("summary", "summary", Text, "FILE", "Write a small JSON of how the run ended here; in a Kubernetes pod its termination message unless given"),
    flag("metrics", "metrics", Text, "HOST:PORT", "Serve Prometheus metrics here while the run lives; :PORT on all addresses"),
    flag("notice", "notice", Text, "auto|aws|gcp|azure|none", "Whose notices that the machine will be taken away are listened to"),
    flag("notice-endpoint", "notice_endpoint", Text, "URL", "Where to ask for them instead of the cloud's own address"),
    flag("progress", "progress", Text, "auto|bar|lines|json|none", "How to show progress"),
];

/// What a planned job may be run again with: nothing that a byte depends on.
pub const AGAIN: &[&str] = &[
    "threads",
    "memory",
    "scratch-limit",
    "batch",
    "ort",
    "max-rejects",
    "stall-timeout",
    "grace",
    "report",
    "json",
    "heartbeat",
    "trace",
    "price-per-hour",
    "summary",
    "metrics",
    "notice",
    "notice-endpoint",
    "progress",
];

/// Adds the job's file and flags to a command, but for `others`, which mean another thing there.
pub fn add(command: Command, others: &[&str]) -> Command {
    let command = command.arg(Arg::new("job").value_name("JOB").help("Job file (.toml, .yaml, .json)"));
    add_those(command, |name| !others.contains(&name))
}

/// Adds only the flags `names`.
pub fn add_only(command: Command, names: &[&str]) -> Command {
    add_those(command, |name| names.contains(&name))
}

fn add_those(mut command: Command, wanted: impl Fn(&str) -> bool) -> Command {
    for f in FLAGS.iter().filter(|f| wanted(f.name)) {
        let mut arg = Arg::new(f.name).long(f.name).help(f.help);
        arg = match f.kind {
            Switch => arg.action(ArgAction::SetTrue),
            Maybe => arg.action(ArgAction::Set).num_args(0..=1).default_missing_value("true").value_name(f.value),
            Many => arg.action(ArgAction::Append).value_name(f.value).allow_hyphen_values(true),
            _ => arg.action(ArgAction::Set).value_name(f.value).allow_hyphen_values(true),
        };
        if let Some(short) = f.short {
            arg = arg.short(short);
        }
        command = command.arg(arg);
    }
    command
}

/// The variables of all flags.
pub fn variables() -> impl Iterator<Item = String> {
    FLAGS.iter().map(|f| named(f.name))
}

fn named(flag: &str) -> String {
    format!("FRAMEMILL_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// The job of a command line: file, variables and flags laid over each other; of flags and variables without `others`.
pub fn job(matches: &ArgMatches, variable: &dyn Fn(&str) -> Option<String>, others: &[&str]) -> Result<JobFile> {
    let mut tables = match matches.get_one::<String>("job") {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Error::usage(format!("{path}: {e}; expected a job file (.toml, .yaml, .json)")))?;
            let mut tables = JobFile::tables(&text, path)?;
            at_home(&mut tables);
            tables
        }
        None => json!({}),
    };
    lay_given(&mut tables, matches, variable, &|name| !others.contains(&name))?;
    JobFile::from_tables(tables)
}

/// Who is to hear of a run whose job is wrong, as far as file, variables and flags can be read.
pub fn telling(matches: &ArgMatches, variable: &dyn Fn(&str) -> Option<String>) -> JobFile {
    let mut job = JobFile::default();
    let mut read = |tables: &Value| {
        let text = |table: &Value, key: &str| table.get(key).and_then(Value::as_str).map(str::to_string);
        job.summary = text(tables, "summary").map(Into::into).or(job.summary.take());
        job.output.uri = tables.get("output").and_then(|output| text(output, "uri")).or(job.output.uri.take());
        job.json |= tables.get("json").and_then(Value::as_bool).unwrap_or_default();
    };
    let path = matches.get_one::<String>("job").map(String::as_str).unwrap_or_default();
    let text = std::fs::read_to_string(path).ok();
    if let Some(mut tables) = text.and_then(|text| JobFile::tables(&text, path).ok()) {
        at_home(&mut tables);
        read(&tables);
    }
    // One by one, since any of them may be what is wrong.
    for wanted in ["summary", "json", "output"] {
        let mut tables = json!({});
        if lay_given(&mut tables, matches, variable, &|name| name == wanted).is_ok() {
            read(&tables);
        }
    }
    job
}

/// `file` with the flags `names` and their variables laid over it.
pub fn over(
    file: &JobFile,
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
    names: &[&str],
) -> Result<JobFile> {
    let mut tables = serde_json::to_value(file).map_err(|e| Error::bug(format!("the job: {e}")))?;
    lay_given(&mut tables, matches, variable, &|name| names.contains(&name))?;
    JobFile::from_tables(tables)
}

/// Lays the variables of the wanted flags over `tables`, and those flags over both.
fn lay_given(
    tables: &mut Value,
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let own = || FLAGS.iter().filter(|f| wanted(f.name));
    let mut level = Vec::new();
    for f in own() {
        let name = named(f.name);
        if let Some(text) = variable(&name) {
            let parts = if f.kind == Many { text.split(';').map(str::to_owned).collect() } else { vec![text] };
            level.push((f, value(f, parts).map_err(|e| e.context(&name))?));
        }
    }
    lay(tables, level);
    let mut level = Vec::new();
    for f in own() {
        let given = match f.kind {
            Switch => matches.get_flag(f.name).then(|| vec!["true".to_string()]),
            _ => matches.get_many::<String>(f.name).map(|v| v.cloned().collect()),
        };
        if let Some(parts) = given {
            level.push((f, value(f, parts).map_err(|e| e.context(format!("--{}", f.name)))?));
        }
    }
    lay(tables, level);
    Ok(())
}

/// Puts keys that stand in another table than their own where they belong: all words of the command line may stand in
/// any table, or at the top.
fn at_home(tables: &mut Value) {
    let Some(top) = tables.as_object_mut() else { return };
    for group in ["run", "pixels", "telling"] {
        if let Some(Value::Object(inner)) = top.remove(group) {
            top.extend(inner);
        }
    }
    let mut moved = Vec::new();
    for f in FLAGS {
        let (home, key) = split(f.key);
        let mut take = |table: &mut Map<String, Value>| {
            if let Some(value) = table.remove(key) {
                moved.push((f.key, value));
            }
        };
        if home.is_some() {
            take(top);
        }
        for table in ["input", "sample", "output"] {
            if home != Some(table)
                && !FLAGS.iter().any(|o| o.key == format!("{table}.{key}"))
                && let Some(Value::Object(inner)) = top.get_mut(table)
            {
                take(inner);
            }
        }
    }
    for (key, value) in moved {
        put(tables, key, value);
    }
}

fn split(key: &str) -> (Option<&str>, &str) {
    match key.split_once('.') {
        Some((table, key)) => (Some(table), key),
        None => (None, key),
    }
}

fn put(tables: &mut Value, key: &str, value: Value) {
    let (table, key) = split(key);
    let place = match table {
        Some(table) => &mut tables[table],
        None => tables,
    };
    if !place.is_object() {
        *place = json!({});
    }
    place[key] = value;
}

/// Lays one level of settings over what is below it.
fn lay(tables: &mut Value, level: Vec<(&Flag, Value)>) {
    let rule = |f: &Flag| matches!(split(f.key), (Some("sample"), key) if RULES.contains(&key));
    if level.iter().any(|(f, v)| rule(f) && *v != Value::Bool(false))
        && let Some(sample) = tables.get_mut("sample").and_then(Value::as_object_mut)
    {
        RULES.iter().for_each(|key| {
            sample.remove(*key);
        });
    }
    for (f, value) in level {
        put(tables, f.key, value);
    }
}

fn value(f: &Flag, mut parts: Vec<String>) -> Result<Value> {
    match f.kind {
        Many => Ok(parts.into()),
        Commas => {
            let all = parts.iter().flat_map(|p| p.split(',')).map(str::trim).filter(|p| !p.is_empty());
            let all: Vec<_> = all.map(str::to_owned).collect();
            // Without times another rule would choose.
            if all.is_empty() && f.key == "sample.at" {
                return Err(Error::usage("the list of times to sample at is empty"));
            }
            Ok(all.into())
        }
        Text => Ok(parts.pop().unwrap_or_default().into()),
        Number => {
            let text = parts.pop().unwrap_or_default();
            let number = text.trim().parse::<u64>();
            number.map(Value::from).map_err(|_| Error::usage(format!("`{text}` is not a whole number of 0 or more")))
        }
        Switch => match parts.pop().unwrap_or_default().trim() {
            "1" | "true" | "yes" | "on" => Ok(true.into()),
            "" | "0" | "false" | "no" | "off" => Ok(false.into()),
            other => Err(Error::usage(format!("`{other}` is neither true nor false"))),
        },
        Maybe => Ok(match parts.pop().unwrap_or_default().trim() {
            "true" | "yes" | "on" => true.into(),
            "" | "false" | "no" | "off" => false.into(),
            value => value.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<JobFile> {
        let matches = add(Command::new("run"), &[]).try_get_matches_from([&["run"], args].concat()).unwrap();
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        job(&matches, &get, &[])
    }

    #[test]
    fn flags_win_over_variables_and_these_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.toml");
        std::fs::write(&path, "seed = 1\nepoch = 1\nthreads = 1\n[sample]\nfps = 2\n[output]\nquality = \"fast\"")
            .unwrap();
        let path = path.to_str().unwrap();
        let variables = [("FRAMEMILL_SEED", "2"), ("FRAMEMILL_EPOCH", "2"), ("FRAMEMILL_INPUT", "a;b")];
        let job = read(&[path, "--seed", "3", "--all", "--op", "flip:h"], &variables).unwrap();
        assert_eq!((job.seed, job.epoch, job.threads), (3, 2, 1));
        assert_eq!(job.input.uri, ["a", "b"]);
        assert!(job.sample.all && job.sample.fps.is_none(), "the rule takes the place of the file's");
        assert_eq!(job.quality, crate::program::Quality::Fast, "a key in another table is understood");
        assert_eq!(job.ops.len(), 1);
    }

    #[test]
    fn what_is_wrong_names_its_flag() {
        let fails = |args: &[&str]| read(args, &[]).unwrap_err().message;
        assert!(fails(&["--seed", "x"]).contains("--seed"));
        assert!(fails(&["--scenes", "job.toml"]).contains("before --scenes"));
        assert!(fails(&["--detect", "m.onnx", "--detect-score", "much"]).contains("detect_score"));
        assert!(fails(&["--detect", "m.onnx", "--detect-nms", "7"]).contains("detect_nms"));
        assert!(fails(&["none.toml"]).contains("none.toml"));
        let variable = read(&[], &[("FRAMEMILL_LIMIT", "many")]).unwrap_err();
        assert!(variable.message.contains("FRAMEMILL_LIMIT"), "{variable}");
    }

    #[test]
    fn every_key_is_the_jobs() {
        let schema = JobFile::schema();
        for f in FLAGS {
            let (table, key) = split(f.key);
            let at = match table {
                None => schema["properties"].get(key).is_some(),
                Some(table) => {
                    schema.to_string().contains(&format!("\"{key}\"")) && schema["properties"].get(table).is_some()
                }
            };
            assert!(at, "{}", f.key);
        }
    }
}
