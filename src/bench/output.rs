//! What a run wrote, and whether two runs wrote the same.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::result::Verdict;
use crate::error::Result;
use crate::plan::Plan;
use crate::sink::{is_records, table};
use crate::store;
use crate::task::{Ledger, Totals};

/// How far detections of equal pictures may lie apart: pixels of a box's side, and a score's difference.
const BOX: f64 = 1.0;
const SCORE: f64 = 0.02;

/// What counts as equal, in words, for reports.
pub const EQUALITY: &str = "the digests of all shards and tables, held against the first configuration of the same quality on \
    the CPU with software decoding (else the first); tolerated, and marked, where pictures are equal and each picture's \
    detections have the same classes, boxes within 1 pixel and scores within 0.02; everything else is different, and \
    neither ranked nor priced";

/// One sample, as its record tells it.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    key: String,
    /// Digest of its bytes; none with the tensors format.
    sha256: Option<String>,
    detections: Vec<Value>,
}

/// What a run wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Name and digest of each shard and table.
    pub objects: Vec<(String, String)>,
    samples: Vec<Sample>,
    /// Pixels of all samples; of a clip, those of one frame.
    pub pixels: u64,
}

fn hex(lines: impl Iterator<Item = String>) -> String {
    let mut digest = Sha256::new();
    lines.for_each(|line| digest.update(line + "\n"));
    digest.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Name and digest of each object of the dataset in `out`, by its receipts.
///
/// # Errors
/// Store.
pub fn objects(out: &Path) -> Result<Vec<(String, String)>> {
    let out = store::Output::at(out);
    let totals = Totals::read(&Ledger::new(&out), &Plan::load_all(&out)?)?;
    Ok(totals.objects().map(|object| (object.path.clone(), object.sha256.clone())).collect())
}

impl Output {
    /// Reads the dataset in `out`.
    ///
    /// # Errors
    /// Store.
    pub fn read(out: &Path) -> Result<Output> {
        let objects = objects(out)?;
        let (mut samples, mut pixels) = (Vec::new(), 0);
        for (path, _) in objects.iter().filter(|(path, _)| is_records(path)) {
            let rows = table::read_rows(&out.join(path))?;
            let side = |row: &Value, key: &str| row[key].as_u64().unwrap_or(0);
            pixels += rows.iter().map(|row| side(row, "width") * side(row, "height")).sum::<u64>();
            samples.extend(rows.into_iter().map(|row| Sample {
                key: row["key"].as_str().unwrap_or_default().to_string(),
                sha256: row["sha256"].as_str().map(str::to_string),
                detections: row["detections"].as_array().cloned().unwrap_or_default(),
            }));
        }
        Ok(Output { objects, samples, pixels })
    }

    /// Digest of the names and digests of all that was written.
    pub fn digest(&self) -> String {
        hex(self.objects.iter().map(|(path, sha256)| format!("{path} {sha256}")))
    }

    /// Digest of the samples alone: the same on machines that mount the media elsewhere. Where samples have no digests of
    /// their own, that of the arrays takes their place.
    pub fn content(&self) -> String {
        let arrays = self.objects.iter().filter(|(path, _)| path.ends_with(".npy") || path.ends_with(".safetensors"));
        let arrays = arrays.map(|(path, sha256)| format!("{path} {sha256}"));
        let sample = |s: &Sample| {
            let found = Value::from(s.detections.clone());
            format!("{} {} {found}", s.key, s.sha256.as_deref().unwrap_or("-"))
        };
        hex(self.samples.iter().map(sample).chain(arrays))
    }

    /// How `self` stands to `reference`, with what was found.
    pub fn against(&self, reference: &Output) -> (Verdict, String) {
        if self.objects == reference.objects {
            return (Verdict::Equal, format!("the same bytes in {} files", self.objects.len()));
        }
        let (ours, theirs) = (&self.samples, &reference.samples);
        if ours.len() != theirs.len() {
            return (Verdict::Different, format!("{} samples, not {}", ours.len(), theirs.len()));
        }
        let pairs = || ours.iter().zip(theirs);
        if let Some((a, b)) = pairs().find(|(a, b)| a.key != b.key) {
            return (Verdict::Different, format!("sample {} stands where {} should", a.key, b.key));
        }
        let other: Vec<&str> = pairs().filter(|(a, b)| a.sha256 != b.sha256).map(|(a, _)| &*a.key).collect();
        if let [first, ..] = other[..] {
            return (
                Verdict::Different,
                format!("{} of {} samples have other bytes, the first is {first}", other.len(), ours.len()),
            );
        }
        let changed: Vec<(&Sample, &Sample)> = pairs().filter(|(a, b)| a.detections != b.detections).collect();
        let arrays = ours.iter().any(|s| s.sha256.is_none());
        match changed.iter().find(|(a, b)| !close(&a.detections, &b.detections)) {
            Some((a, _)) => (Verdict::Different, format!("other objects were found in {}", a.key)),
            None if changed.is_empty() || arrays => {
                let differ = self.objects.iter().zip(&reference.objects).find(|(a, b)| a != b);
                let name = differ.map_or("one of the files", |((name, _), _)| name);
                (Verdict::Different, format!("{name} has other bytes"))
            }
            None => (
                Verdict::Tolerated,
                format!(
                    "equal pictures; the detections of {} of {} differ within the tolerance",
                    changed.len(),
                    ours.len()
                ),
            ),
        }
    }
}

/// Whether two pictures' detections are the same within the tolerance, whatever their order.
fn close(ours: &[Value], theirs: &[Value]) -> bool {
    let mut left: Vec<&Value> = theirs.iter().collect();
    ours.len() == theirs.len()
        && ours.iter().all(|a| match left.iter().position(|b| same(a, b)) {
            Some(i) => {
                left.swap_remove(i);
                true
            }
            None => false,
        })
}

fn same(a: &Value, b: &Value) -> bool {
    let near = |a: &Value, b: &Value, most: f64| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= most,
        _ => false,
    };
    a["model"] == b["model"]
        && a["class"] == b["class"]
        && near(&a["score"], &b["score"], SCORE)
        && (0..4).all(|i| near(&a["box"][i], &b["box"][i], BOX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn output(tar: &str, samples: &[(&str, &str, Value)]) -> Output {
        let sample = |(key, sha256, detections): &(&str, &str, Value)| Sample {
            key: key.to_string(),
            sha256: Some(sha256.to_string()),
            detections: detections.as_array().cloned().unwrap(),
        };
        Output {
            objects: vec![("shard-000000.tar".into(), tar.into())],
            samples: samples.iter().map(sample).collect(),
            pixels: 0,
        }
    }

    fn found(class: i64, x: f64, score: f64) -> Value {
        json!({ "model": "m", "class": class, "score": score, "box": [x, 0.0, x + 9.0, 9.0] })
    }

    #[test]
    fn what_differs_is_named() {
        let reference = output("t", &[("a", "1", json!([])), ("b", "2", json!([]))]);
        let against = |other: Output| other.against(&reference);
        assert_eq!(against(reference.clone()).0, Verdict::Equal);
        let (verdict, why) = against(output("u", &[("a", "1", json!([])), ("b", "3", json!([]))]));
        assert_eq!((verdict, &*why), (Verdict::Different, "1 of 2 samples have other bytes, the first is b"));
        assert_eq!(against(output("u", &[("a", "1", json!([]))])).1, "1 samples, not 2");
        assert_eq!(against(output("u", &[("a", "1", json!([])), ("c", "2", json!([]))])).0, Verdict::Different);
        let (verdict, why) = against(output("u", &[("a", "1", json!([])), ("b", "2", json!([]))]));
        assert_eq!((verdict, &*why), (Verdict::Different, "shard-000000.tar has other bytes"));
    }

    #[test]
    fn detections_may_differ_a_little_and_nothing_else() {
        let with = |tar: &str, detections: Value| output(tar, &[("a", "1", detections)]);
        let reference = with("t", json!([found(1, 5.0, 0.9), found(2, 50.0, 0.5)]));
        let verdict = |detections: Value| with("u", detections).against(&reference).0;
        assert_eq!(verdict(json!([found(2, 50.5, 0.51), found(1, 5.0, 0.9)])), Verdict::Tolerated, "in another order");
        assert_eq!(verdict(json!([found(1, 5.0, 0.9), found(2, 52.0, 0.5)])), Verdict::Different, "a box too far");
        assert_eq!(verdict(json!([found(1, 5.0, 0.9), found(2, 50.0, 0.6)])), Verdict::Different, "a score too far");
        assert_eq!(verdict(json!([found(1, 5.0, 0.9), found(3, 50.0, 0.5)])), Verdict::Different, "another class");
        assert_eq!(verdict(json!([found(1, 5.0, 0.9)])), Verdict::Different);
        assert_eq!(verdict(json!([found(1, 5.0, 0.9), found(1, 5.0, 0.9)])), Verdict::Different, "one is not two");
    }

    #[test]
    fn the_content_does_not_know_the_shards() {
        let (a, b) = (output("t", &[("a", "1", json!([]))]), output("u", &[("a", "1", json!([]))]));
        assert_eq!(a.content(), b.content());
        assert_ne!(a.digest(), b.digest());
        assert_ne!(a.content(), output("t", &[("a", "2", json!([]))]).content());
    }
}
