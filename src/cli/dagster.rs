//! Dagster Pipes: where Dagster started this process, its variables say so, and it is told what it wants to know.
//!
//! Protocol 0.1, as `dagster_pipes` speaks it: two variables hold base64 of zlib of JSON. One says where the context lies,
//! with the assets that this step makes; the other where messages go, one JSON object a line.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::{Error, Result};

const CONTEXT: &str = "DAGSTER_PIPES_CONTEXT";
const MESSAGES: &str = "DAGSTER_PIPES_MESSAGES";
const VERSION: &str = "0.1";
/// More than any context has.
const LARGEST: u64 = 64 << 20;

/// Where messages go.
enum Channel {
    File(PathBuf),
    Stdout,
    Stderr,
    /// Kept to the end, so that nothing comes between them.
    Kept(Vec<String>, bool),
}

/// The way to Dagster.
pub struct Pipes {
    channel: Channel,
    assets: Vec<String>,
}

impl Pipes {
    /// Opens the way where `variable` gives Dagster's variables. `tar` says that standard output is not free.
    ///
    /// # Errors
    /// Usage, where the variables cannot be read or ask for a way that is not known here.
    pub fn open(variable: impl Fn(&str) -> Option<String>, tar: bool) -> Result<Option<Pipes>> {
        let Some(context) = variable(CONTEXT) else { return Ok(None) };
        let context = context_of(&decode(CONTEXT, &context)?)?;
        let messages =
            variable(MESSAGES).ok_or_else(|| Error::usage(format!("{CONTEXT} is set, but not {MESSAGES}")))?;
        let params = decode(MESSAGES, &messages)?;
        let assets = context["asset_keys"].as_array().into_iter().flatten();
        let assets = assets.filter_map(|key| key.as_str().map(str::to_string)).collect();
        let mut pipes = Pipes { channel: channel(&params, tar)?, assets };
        pipes.send("opened", json!({ "extras": {} }));
        Ok(Some(pipes))
    }

    /// A line of Dagster's log; `level` is one of Python's.
    pub fn log(&mut self, level: &str, message: &str) {
        self.send("log", json!({ "message": message, "level": level }));
    }

    /// The run is over. Where it was done well, the step's assets are there: `summary` is told of each, `digest` is their
    /// data version. Dagster learns of a failure from the exit code, and the reason from here.
    pub fn end(&mut self, code: u8, summary: &Value, digest: Option<&str>) {
        self.send("report_custom_message", json!({ "payload": summary }));
        if code == 0 {
            for asset in std::mem::take(&mut self.assets) {
                let params = json!({ "asset_key": asset, "data_version": digest, "metadata": metadata(summary) });
                self.send("report_asset_materialization", params);
            }
            self.send("closed", json!({}));
        } else {
            let message = summary["message"].as_str().or(summary["outcome"].as_str()).unwrap_or_default();
            let name = format!("FramemillExit{code}");
            let exception = json!({ "message": message, "stack": [], "name": name, "cause": null, "context": null });
            self.log("ERROR", &format!("framemill ended with {code}: {message}"));
            self.send("closed", json!({ "exception": exception }));
        }
        if let Channel::Kept(lines, stdout) = &mut self.channel {
            let text: String = std::mem::take(lines).concat();
            let sent = if *stdout {
                std::io::stdout().write_all(text.as_bytes())
            } else {
                std::io::stderr().write_all(text.as_bytes())
            };
            told(sent);
        }
    }

    fn send(&mut self, method: &str, params: Value) {
        let line = json!({ "__dagster_pipes_version": VERSION, "method": method, "params": params }).to_string() + "\n";
        told(match &mut self.channel {
            Channel::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                file.and_then(|mut file| file.write_all(line.as_bytes()))
            }
            Channel::Stdout => std::io::stdout().write_all(line.as_bytes()),
            Channel::Stderr => std::io::stderr().write_all(line.as_bytes()),
            Channel::Kept(lines, _) => {
                lines.push(line);
                Ok(())
            }
        });
    }
}

/// A run goes on without being heard, but says so.
fn told(sent: std::io::Result<()>) {
    if let Err(e) = sent {
        tracing::warn!("a message could not be sent to Dagster: {e}");
    }
}

fn decode(name: &str, text: &str) -> Result<Value> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::usage(format!("{name}: {e}; expected base64 of zlib of JSON, as Dagster gives it"))
    };
    let packed = STANDARD.decode(text.trim()).map_err(|e| wrong(&e))?;
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).take(LARGEST).read_to_end(&mut json).map_err(|e| wrong(&e))?;
    serde_json::from_slice(&json).map_err(|e| wrong(&e))
}

fn context_of(params: &Value) -> Result<Value> {
    if params["data"].is_object() {
        return Ok(params["data"].clone());
    }
    let path = params["path"].as_str().ok_or_else(|| unknown(CONTEXT, params, "path or data"))?;
    let text = std::fs::read(path).map_err(|e| Error::usage(format!("{CONTEXT}: {path}: {e}")))?;
    serde_json::from_slice(&text).map_err(|e| Error::usage(format!("{CONTEXT}: {path}: {e}")))
}

fn channel(params: &Value, tar: bool) -> Result<Channel> {
    if let Some(path) = params["path"].as_str() {
        return Ok(Channel::File(path.into()));
    }
    let stream = ["stdio", "buffered_stdio"].into_iter().find_map(|key| Some((key, params[key].as_str()?)));
    let channel = match stream {
        Some(("stdio", "stdout")) => Channel::Stdout,
        Some(("stdio", "stderr")) => Channel::Stderr,
        Some((_, "stdout")) => Channel::Kept(Vec::new(), true),
        Some((_, "stderr")) => Channel::Kept(Vec::new(), false),
        _ => return Err(unknown(MESSAGES, params, "path, stdio or buffered_stdio")),
    };
    if tar && matches!(channel, Channel::Stdout | Channel::Kept(_, true)) {
        return Err(Error::usage(format!("{MESSAGES} wants standard output, which is the tar's with --output -")));
    }
    Ok(channel)
}

fn unknown(name: &str, params: &Value, expected: &str) -> Error {
    let keys: Vec<&String> = params.as_object().into_iter().flatten().map(|(key, _)| key).collect();
    Error::usage(format!(
        "{name} asks for {keys:?}: expected {expected}; take a PipesSubprocessClient or PipesK8sClient, or a message \
         reader that works with one of these"
    ))
}

/// The summary with Dagster's types.
fn metadata(summary: &Value) -> Value {
    let mut metadata = serde_json::Map::new();
    for (key, value) in flat(summary) {
        let kind = match &value {
            Value::Number(n) if n.is_f64() => "float",
            Value::Number(_) => "int",
            Value::Bool(_) => "bool",
            Value::String(text) if key == "output" && !text.contains("://") => "path",
            Value::String(_) => "text",
            Value::Null => continue,
            _ => "json",
        };
        metadata.insert(key, json!({ "raw_value": value, "type": kind }));
    }
    metadata.into()
}

/// One level of `table.key` for what lies in tables.
fn flat(summary: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (key, value) in summary.as_object().into_iter().flatten() {
        match value {
            Value::Object(table) => all.extend(table.iter().map(|(k, v)| (format!("{key}.{k}"), v.clone()))),
            other => all.push((key.clone(), other.clone())),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(value: &Value) -> String {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(value.to_string().as_bytes()).unwrap();
        STANDARD.encode(packed.finish().unwrap())
    }

    fn open(context: &Value, messages: &Value, tar: bool) -> Result<Option<Pipes>> {
        let (context, messages) = (encode(context), encode(messages));
        Pipes::open(|name| Some(if name == CONTEXT { context.clone() } else { messages.clone() }), tar)
    }

    #[test]
    fn what_dagster_asks_for_is_understood_or_refused() {
        let context = json!({ "data": { "asset_keys": ["a"], "run_id": "1" } });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("messages");
        let mut pipes = open(&context, &json!({ "path": file }), true).unwrap().unwrap();
        pipes.end(75, &json!({ "outcome": "interrupted", "message": "taken away" }), None);
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let methods: Vec<&str> = lines.iter().map(|line| line["method"].as_str().unwrap()).collect();
        assert_eq!(methods, ["opened", "report_custom_message", "log", "closed"]);
        assert_eq!(lines[3]["params"]["exception"]["message"], "taken away");

        assert!(Pipes::open(|_| None, false).unwrap().is_none());
        let fails = |context: &Value, messages: &Value, tar| open(context, messages, tar).err().unwrap().message;
        assert!(fails(&context, &json!({ "bucket": "b", "key_prefix": "k" }), false).contains("bucket"));
        assert!(fails(&context, &json!({ "stdio": "stdout" }), true).contains("--output -"));
        assert!(fails(&json!({ "path": "/none/context" }), &json!({ "path": file }), false).contains("/none/context"));
        let torn = Pipes::open(|_| Some("no base64!".into()), false).err().unwrap();
        assert!(torn.exit_code() == 2 && torn.message.contains(CONTEXT), "{torn}");
    }
}
