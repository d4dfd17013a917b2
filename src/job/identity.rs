//! What a job is: all that can change a byte of its result. Workers, re-runs and plans know each other by it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Job, Mix, detectors};
use crate::detect::Detector;
use crate::input;
use crate::sample::Rule;

impl Job {
    /// Everything that can change a byte of the result, and nothing else.
    pub fn identity(&self) -> Value {
        let mut value = serde_json::to_value(&self.file).unwrap_or_default();
        if let Some(top) = value.as_object_mut() {
            for key in [
                "device",
                "batch",
                "decoder",
                "fallback",
                "memory",
                "scratch_limit",
                "threads",
                "tasks",
                "max_rejects",
                "allow_empty",
                "stall_timeout",
                "grace",
                "lease",
                "report",
                "json",
                "summary",
                "metrics",
                "notice",
                "notice_endpoint",
                "progress",
                "verbose",
                "log_format",
                "heartbeat",
                "trace",
                "price_per_hour",
                // Its version is told with the detectors.
                "ort",
            ] {
                top.remove(key);
            }
            top.insert("input".into(), json!(self.portable));
            // They may be signed, and what they name is in its digests.
            detectors::each_file(top, |uri| input::without_query(uri).into());
            if let (Rule::Scenes(_), Some(sample)) = (&self.sampling.rule, top.get_mut("sample")) {
                sample["pick"] = json!(self.sampling.pick);
            }
            if self.file.mix == Mix::Allow {
                // Whose provider it is does not matter then.
                let own = top.get_mut("detect").and_then(Value::as_array_mut).into_iter().flatten();
                own.filter_map(Value::as_object_mut).for_each(|detector| drop(detector.remove("provider")));
                top.remove("provider");
            }
            if let Some(output) = top.get_mut("output").and_then(Value::as_object_mut) {
                output.remove("uri");
                output.remove("keep_raw");
                output.remove("store");
                output.insert("encode".into(), json!(self.encoding));
            }
        }
        let mut identity = json!({ "job": value, "versions": versions() });
        let files: Map<String, Value> =
            self.program.files().map(|(file, digest)| (file.into(), digest.into())).collect();
        // A job that names no file has the identity that it had before there were such operations.
        if !files.is_empty() {
            identity["files"] = files.into();
        }
        if !self.detectors.is_empty() {
            let told = |detector: &Arc<Detector>| {
                let mut identity = detector.identity();
                if let (Mix::Allow, Some(own)) = (self.file.mix, identity.as_object_mut()) {
                    own.remove("provider");
                }
                identity
            };
            identity["detect"] = self.detectors.iter().map(told).collect();
        }
        identity
    }

    /// Digest of [`Job::identity`].
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.identity())
    }
}

/// SHA-256 of an identity with its keys in order. Where the files lie that a job names is not in it, only what is in them:
/// machines may have them at different places.
pub fn fingerprint(identity: &Value) -> String {
    let digest = Sha256::digest(sorted(&placeless(identity)).to_string());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// An identity with the digests of tables of colours in place of their files. What is in models and labels is told with the
/// detectors.
fn placeless(identity: &Value) -> Value {
    let mut identity = identity.clone();
    let files = identity.as_object_mut().and_then(|top| top.remove("files"));
    if let Some(job) = identity.get_mut("job").and_then(Value::as_object_mut) {
        detectors::each_file(job, |_| Value::Null);
        let ops = job.get_mut("ops").and_then(Value::as_array_mut).into_iter().flatten();
        for file in ops.filter_map(|op| op.get_mut("file")) {
            let digest = files.as_ref().and_then(|files| files.get(file.as_str()?)).cloned();
            *file = digest.unwrap_or_default();
        }
    }
    identity
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|k| (k.clone(), sorted(&map[k]))).collect())
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The settings in which two identities differ, as `key: theirs, here ours`.
pub fn differences(theirs: &Value, ours: &Value) -> Vec<String> {
    let (mut a, mut b) = (Map::new(), Map::new());
    flatten("", theirs, &mut a);
    flatten("", ours, &mut b);
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let show = |v: Option<&Value>| v.map_or("not set".to_string(), Value::to_string);
    keys.into_iter()
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| format!("{}: {}, here {}", k.trim_start_matches("job."), show(a.get(k)), show(b.get(k))))
        .collect()
}

fn flatten(path: &str, value: &Value, out: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, out);
            }
        }
        other => {
            out.insert(path.into(), other.clone());
        }
    }
}

/// Versions of what decides bytes.
pub fn versions() -> Value {
    #[cfg(feature = "ffmpeg")]
    let ffmpeg = json!(crate::ffi::av::versions());
    #[cfg(not(feature = "ffmpeg"))]
    let ffmpeg = Value::Null;
    json!({
        "framemill": env!("CARGO_PKG_VERSION"),
        "ffmpeg": ffmpeg,
        "heif": crate::decode::image::heif_version(),
    })
}
