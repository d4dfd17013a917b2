//! Finishing: when every task has its receipt, the dataset's own description and the merged tables.
//!
//! Everything here is a function of plans and receipts, so that finishing again, anywhere, writes the same bytes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::detect::heads::Head;
use crate::error::{Error, Result};
use crate::job::{JobFile, Metadata};
use crate::lease;
use crate::op::Op;
use crate::plan::Plan;
use crate::sink::annotations::{self, Annotations};
use crate::sink::record::output_names;
use crate::sink::{Format, is_records, record, scenes, table};
use crate::store::{Object, Output};
use crate::task::{Ledger, Totals, rolls};

const RECORDS_CSV: &str = "records.csv";
const SCENES_CSV: &str = "scenes.csv";
const RECORDS_SQLITE: &str = "records.sqlite";

/// Writes `dataset.json`, the dataset card and the merged tables, unless tasks are left: then it writes nothing and says
/// which.
///
/// # Errors
/// Interrupted (75) where tasks are left; store errors.
pub fn finish(out: &Output, plans: &[Plan], totals: &Totals) -> Result<()> {
    let [first, ..] = plans else {
        return Err(Error::usage(format!("{out} holds no plan: expected the output of framemill run")));
    };
    if !totals.finished() {
        let done = Ledger::new(out).done(plans.iter().flat_map(Plan::tasks))?;
        let open = plans.iter().flat_map(Plan::tasks).filter(|task| !done.contains(task)).take(10);
        let open: Vec<String> = open.map(|task| task.to_string()).collect();
        let (left, list) = (totals.tasks - totals.done, open.join(", "));
        let text =
            format!("{left} of {} tasks are left ({list}{})", totals.tasks, if left > 10 { ", ..." } else { "" });
        return Err(Error::interrupted(format!("{out}: {text}; run the job again to go on")));
    }
    let job = first.job()?;
    let tables = |of: fn(&str) -> bool| -> Vec<String> {
        totals.objects().filter(|o| of(&o.path)).map(|o| o.path.clone()).collect()
    };
    let (records, scenes) = (tables(is_records), tables(scenes::is_table));
    let objects: Vec<&Object> = totals.objects().collect();
    for form in &job.output.metadata {
        match form {
            Metadata::Parquet => {}
            Metadata::Csv => {
                table::merge_csv(out, &records, RECORDS_CSV)?;
                if !scenes.is_empty() {
                    table::merge_csv(out, &scenes, SCENES_CSV)?;
                }
            }
            Metadata::Sqlite => table::merge_sqlite(out, &records, &scenes, RECORDS_SQLITE)?,
            Metadata::Coco => annotations(first, &job).coco(out, &objects)?,
            Metadata::Yolo => annotations(first, &job).yolo(out, &objects, &first.header.splits)?,
        }
    }
    rolls::finish(out, &totals.receipts, &totals.rolls)?;
    lease::sweep(out)?;
    out.sweep()?;
    let dataset = dataset(first, &job, totals);
    let text = serde_json::to_string_pretty(&dataset).map_err(|e| Error::bug(format!("dataset.json: {e}")))?;
    out.replace("README.md", card(first, &job, totals).as_bytes())?;
    out.replace("dataset.json", (text + "\n").as_bytes())
}

/// How annotations name what detectors found.
fn annotations(plan: &Plan, job: &JobFile) -> Annotations {
    let detectors = plan.header.identity["detect"].as_array().into_iter().flatten();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let labels = |d: &Value| d["labels"].as_array().into_iter().flatten().map(text).collect();
    // What is told of whole pictures, or of others' objects as a whole, is no object of its own.
    let whole = |d: &&Value| text(&d["head"]).parse::<Head>().is_ok_and(|head| head.layout.is_whole());
    let (others, detectors): (Vec<&Value>, Vec<&Value>) = detectors.partition(whole);
    Annotations {
        detectors: detectors.iter().map(|d| (text(&d["name"]), labels(d))).collect(),
        others: others.iter().map(|d| text(&d["name"])).collect(),
        images: job.output.format == Format::Images,
        ext: job.output.encode.unwrap_or_default().ext(),
    }
}

/// The split that an object belongs to: its folder.
fn split_of<'a>(object: &'a Object, splits: &[String]) -> &'a str {
    match object.path.split_once('/') {
        Some((folder, _)) if splits.iter().any(|s| s == folder) => folder,
        _ => "train",
    }
}

fn is_data(object: &Object) -> bool {
    !object.path.ends_with(".parquet")
}

fn dataset(plan: &Plan, job: &JobFile, totals: &Totals) -> Value {
    let header = &plan.header;
    let mut splits: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for object in totals.objects().filter(|o| is_data(o)) {
        splits.entry(split_of(object, &header.splits)).or_default().push(&object.path);
    }
    let mut schema: Vec<Value> = record::field_names().into_iter().map(|name| json!({ "name": name })).collect();
    for (name, column) in output_names(&header.columns).into_iter().zip(&header.columns) {
        schema.push(json!({ "name": name, "type": column.kind }));
    }
    json!({
        "version": 1,
        "fingerprint": header.fingerprint,
        "job": header.identity["job"],
        "versions": header.identity["versions"],
        "files": header.identity["files"],
        "format": job.output.format,
        "encode": header.identity["job"]["output"]["encode"],
        "counts": {
            "samples": totals.samples,
            "inputs": totals.inputs,
            "rejected": totals.rejected,
            "frames": totals.frames,
        },
        "schema": schema,
        "splits": splits,
        "shards": totals.objects().collect::<Vec<_>>(),
    })
}

/// Types of a WebDataset's members for `load_dataset`, which otherwise guesses them from the first samples and fails
/// where a field is null there.
fn features(plan: &Plan, job: &JobFile) -> String {
    let encoding = job.output.encode.unwrap_or_default();
    let mut out = String::from("dataset_info:\n  features:\n  - name: __key__\n    dtype: string\n");
    out += "  - name: __url__\n    dtype: string\n";
    match encoding.container() {
        None => out += &format!("  - name: {}\n    dtype: image\n", encoding.ext()),
        // Arrays come as the reader decodes them; their types are not told here.
        Some(_) => return String::new(),
    }
    for field in &job.input.field {
        // What becomes of a field depends on its ending: left to the reader.
        if !["txt", "text"].contains(&field.ext.as_str()) {
            return String::new();
        }
        out += &format!("  - name: {}\n    dtype: string\n", field.ext);
    }
    out += "  - name: json\n    struct:\n";
    let mut member = |name: &str, kind: &str| out += &format!("    - name: {name}\n      {kind}\n");
    let random = job.ops.iter().any(Op::is_random);
    for name in record::field_names() {
        let kind = match name.as_str() {
            "augment" if random => return String::new(),
            "augment" => "dtype: 'null'",
            "bytes" | "pts" | "rotation" | "source_width" | "source_height" | "width" | "height" => "dtype: int64",
            "time_s" => "dtype: float64",
            "keyframe" => "dtype: bool",
            "color_assumed" => "list: string",
            "transform" => "list: float64",
            // They are structures, and null in part: left to the reader.
            "detections" if !job.detect.is_empty() => return String::new(),
            "detections" => "list: 'null'",
            _ => "dtype: string",
        };
        member(&name, kind);
    }
    for (name, column) in output_names(&plan.header.columns).iter().zip(&plan.header.columns) {
        let kind = match column.kind {
            record::ColumnType::Text => "dtype: string",
            record::ColumnType::Integer => "dtype: int64",
            record::ColumnType::Float => "dtype: float64",
            record::ColumnType::Boolean => "dtype: bool",
        };
        member(name, kind);
    }
    out
}

/// A dataset card whose header lets Hugging Face's `load_dataset` find the shards.
fn card(plan: &Plan, job: &JobFile, totals: &Totals) -> String {
    let pattern = match job.output.format {
        Format::Webdataset => "shard-*.tar",
        Format::Images => "images/**",
        Format::Tensors => "shard-*.parquet",
    };
    let mut out = String::from("---\n");
    if totals.samples > 0 {
        out += "configs:\n- config_name: default\n  data_files:\n";
        if plan.header.splits.is_empty() {
            out += &format!("  - split: train\n    path: {pattern}\n");
        }
        for split in &plan.header.splits {
            let any = totals.objects().any(|o| is_data(o) && split_of(o, &plan.header.splits) == split);
            if any {
                out += &format!("  - split: {split}\n    path: {split}/{pattern}\n");
            }
        }
    }
    if totals.samples > 0 && job.output.format == Format::Webdataset {
        out += &features(plan, job);
    }
    out += "tags:\n- framemill\n---\n\n# Dataset\n\n";
    out += &format!(
        "{} samples from {} inputs ({} rejected), written by framemill {}.\n\n",
        totals.samples,
        totals.inputs,
        totals.rejected,
        env!("CARGO_PKG_VERSION")
    );
    if totals.frames.deinterlaced > 0 {
        out += &format!("{} frames were interlaced, and were deinterlaced.\n\n", totals.frames.deinterlaced);
    }
    out += &format!(
        "Fingerprint of the job: `{}`. Counts, schema and digests of the shards are in `dataset.json`; what was left out, \
         and why, is in `_framemill/rejects`.\n",
        plan.header.fingerprint
    );
    out
}

/// What is off with a dataset, nothing when all is well, and what its receipts, each of which is read, say together.
pub fn verify(out: &Output, plans: &[Plan]) -> Result<(Vec<String>, Totals)> {
    let ledger = Ledger::new(out);
    let receipts = ledger.receipts(&plans.iter().flat_map(Plan::tasks).collect::<Vec<_>>())?;
    let receipt = |task: u64| receipts.binary_search_by_key(&task, |receipt| receipt.task).ok().map(|i| &receipts[i]);
    let (mut faults, mut whole) = (Vec::new(), true);
    let mut keys = std::collections::HashMap::new();
    let mut known = std::collections::BTreeSet::new();
    for plan in plans {
        for task in plan.tasks() {
            let Some(receipt) = receipt(task) else {
                faults.push(format!("task {task} has no receipt: the run is not finished"));
                whole = false;
                continue;
            };
            if ledger.decision(task)?.is_none() {
                faults.push(format!("task {task} has a receipt, but what it leaves out was never decided"));
            }
            if receipt.fingerprint != plan.header.fingerprint {
                faults.push(format!("task {task}: its receipt is of another job"));
            }
            for object in &receipt.objects {
                known.insert(object.path.clone());
                match out.measure(&object.path) {
                    Err(e) => faults.push(format!("task {task}: {e}")),
                    Ok(there) if there != *object => faults.push(format!(
                        "{}: {} bytes with sha256 {}, but its receipt says {} bytes with {}",
                        object.path, there.bytes, there.sha256, object.bytes, object.sha256
                    )),
                    Ok(_) if is_records(&object.path) => {
                        let rows = table::read_rows(out.file(&object.path)?.as_ref())?;
                        if rows.len() as u64 != receipt.samples {
                            faults.push(format!(
                                "{}: {} rows, but the receipt says {} samples",
                                object.path,
                                rows.len(),
                                receipt.samples
                            ));
                        }
                        for row in rows {
                            let key = row["key"].as_str().unwrap_or_default().to_string();
                            if let Some(other) = keys.insert(key.clone(), task) {
                                faults.push(format!("the sample {key} is in task {other} and in task {task}"));
                            }
                        }
                    }
                    Ok(_) => {}
                }
            }
        }
    }
    let mut folders = vec![String::new()];
    folders.extend(plans.iter().flat_map(|p| &p.header.splits).map(|s| format!("{s}/")));
    folders.sort();
    folders.dedup();
    for folder in folders {
        for name in out.list(&folder)? {
            if (name.starts_with("shard-") || scenes::is_table(&name)) && !known.contains(&format!("{folder}{name}")) {
                faults.push(format!("{folder}{name}: no receipt names it"));
            }
        }
    }
    faults.extend(rolls::faults(out, &receipts)?);
    let totals = Totals::of(&ledger, plans, receipts)?;
    if let Some(first) = plans.first().filter(|_| whole) {
        faults.extend(undescribed(out, first, &totals)?);
    }
    Ok((faults, totals))
}

/// What is off with the files that a dataset has once all tasks are done.
fn undescribed(out: &Output, plan: &Plan, totals: &Totals) -> Result<Vec<String>> {
    const AGAIN: &str = "framemill finish writes it again";
    let job = plan.job()?;
    let scenes = totals.objects().any(|o| scenes::is_table(&o.path));
    let merged = job.output.metadata.iter().flat_map(|form| match form {
        Metadata::Parquet => vec![],
        Metadata::Csv if scenes => vec![RECORDS_CSV, SCENES_CSV],
        Metadata::Csv => vec![RECORDS_CSV],
        Metadata::Sqlite => vec![RECORDS_SQLITE],
        Metadata::Coco => vec![annotations::COCO],
        Metadata::Yolo => vec![annotations::YOLO],
    });
    let mut faults = Vec::new();
    for name in merged.filter(|_| totals.samples > 0) {
        if out.size(name)?.is_none() {
            faults.push(format!("{name} is not there; {AGAIN}"));
        }
    }
    let Some(bytes) = out.read("dataset.json")? else {
        faults.push(format!("dataset.json is not there; {AGAIN}"));
        return Ok(faults);
    };
    let (there, expected) = (serde_json::from_slice(&bytes).unwrap_or(Value::Null), dataset(plan, &job, totals));
    for part in ["/fingerprint", "/counts/samples", "/counts/inputs", "/counts/rejected", "/splits", "/shards"] {
        if there.pointer(part) != expected.pointer(part) {
            faults.push(format!("dataset.json: {} is not as the receipts say; {AGAIN}", &part[1..]));
        }
    }
    Ok(faults)
}
