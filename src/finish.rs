//! Finishing: when every task has its receipt, the dataset's own description and the merged tables.
//!
//! Everything here is a function of plans and receipts, so that finishing again, anywhere, writes the same bytes. A further
//! generation makes it another function. Promises: `dataset.json` comes last, and says which bytes each table has; who
//! finishes with the plans of an earlier generation, however late it wakes up, gives way. It looks at what it is going to
//! write, then whether there is a further plan, and writes only in place of what it saw; whoever was outrun begins anew with
//! all plans, and looks again at the end. What a folder or a table that goes up in parts leaves to chance (see
//! [`Store::swap`](crate::store::Store::swap)) is mended by that last look, unless its process dies just before: then
//! `verify` tells, and finishing again mends it.

mod card;
mod verify;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::detect::heads::Head;
use crate::error::{Error, Result};
use crate::job::{JobFile, Metadata};
use crate::lease;
use crate::plan::Plan;
use crate::sink::annotations::{self, Annotations};
use crate::sink::record::output_names;
use crate::sink::{Format, is_records, record, scenes, table};
use crate::store::{Object, Output, View, Written};
use crate::task::{Ledger, Totals, rolls};
pub use verify::verify;

const DATASET: &str = "dataset.json";
const CARD: &str = "README.md";
const RECORDS_CSV: &str = "records.csv";
const SCENES_CSV: &str = "scenes.csv";
const RECORDS_SQLITE: &str = "records.sqlite";

/// How often it is begun anew where others write what is to be written.
const TRIES: u32 = 8;

/// What `dataset.json` says of the tables.
#[derive(Debug, Default, Deserialize)]
struct Described {
    tables: Vec<Object>,
}

/// Writes the merged tables, the dataset card and `dataset.json`, where they are not there as they should be, unless tasks
/// are left: then it writes nothing and says which. Gives way to further generations: false where one was planned that is
/// not done yet, whose workers will finish.
///
/// # Errors
/// Interrupted (75) where tasks of `plans` are left; store errors.
pub fn finish(out: &Output, plans: &[Plan], totals: &Totals) -> Result<bool> {
    if plans.is_empty() {
        return Err(Error::usage(format!("{out} holds no plan: expected the output of framemill run")));
    }
    if !totals.finished() {
        let done = Ledger::new(out).done(plans.iter().flat_map(Plan::tasks))?;
        let open = plans.iter().flat_map(Plan::tasks).filter(|task| !done.contains(task)).take(10);
        let open: Vec<String> = open.map(|task| task.to_string()).collect();
        let (left, list) = (totals.tasks - totals.done, open.join(", "));
        let text =
            format!("{left} of {} tasks are left ({list}{})", totals.tasks, if left > 10 { ", ..." } else { "" });
        return Err(Error::interrupted(format!("{out}: {text}; run the job again to go on")));
    }
    if written(out, plans, totals)? {
        return Ok(true);
    }
    for _ in 1..TRIES {
        let plans = Plan::load_all(out)?;
        let totals = Totals::read(&Ledger::new(out), &plans)?;
        if plans.is_empty() || !totals.finished() {
            return Ok(false);
        }
        if written(out, &plans, &totals)? {
            return Ok(true);
        }
    }
    Err(Error::store(format!(
        "{out}: others wrote {DATASET} or the merged tables again and again meanwhile, and otherwise: see what else writes \
         there (workers of different versions of framemill, say), then run framemill finish {out}"
    )))
}

/// Writes all that is missing; false where others outran it, with a further plan or other content.
fn written(out: &Output, plans: &[Plan], totals: &Totals) -> Result<bool> {
    let (first, job) = (&plans[0], plans[0].job()?);
    let names = merged(&job, totals);
    // What is looked at here is replaced later only if it is still the same, so this comes before the look for plans.
    let description = View::of(out, DATASET)?;
    let views = names.iter().map(|name| View::of(out, name)).collect::<Result<Vec<_>>>()?;
    if Plan::outdated(out, plans)? {
        return Ok(false);
    }
    let mut dataset = dataset(first, &job, totals);
    if described(out, &mut dataset, &names)? {
        return tidied(out, totals).map(|()| true);
    }
    let view = |name: &str| views.iter().zip(&names).find(|(_, of)| **of == name).map(|(view, _)| view);
    let view = |name: &str| view(name).ok_or_else(|| Error::bug(format!("{name} is no table of this job")));
    let (mut tables, mut all) = (Vec::new(), Vec::new());
    let (records, scenes) = (names_of(totals, is_records), names_of(totals, scenes::is_table));
    let objects: Vec<&Object> = totals.objects().collect();
    for form in &job.output.metadata {
        let made = match form {
            Metadata::Parquet => continue,
            Metadata::Csv => {
                if !scenes.is_empty() {
                    let Some(made) = table::merge_csv(view(SCENES_CSV)?, &scenes)? else { return Ok(false) };
                    all.push(made);
                }
                table::merge_csv(view(RECORDS_CSV)?, &records)?
            }
            Metadata::Sqlite => table::merge_sqlite(view(RECORDS_SQLITE)?, &records, &scenes)?,
            Metadata::Coco => annotations(first, &job).coco(view(annotations::COCO)?, &objects)?,
            Metadata::Yolo => {
                let made = annotations(first, &job).yolo(view(annotations::YOLO)?, &objects, &first.header.splits)?;
                made.map(|(folders, written)| {
                    tables.extend(folders);
                    written
                })
            }
        };
        let Some(made) = made else { return Ok(false) };
        all.push(made);
    }
    let Some(made) = view(CARD)?.write(card::card(first, &job, totals).as_bytes())? else { return Ok(false) };
    all.push(made);
    tables.extend(all.iter().map(|written: &Written| written.object.clone()));
    dataset["tables"] = json!(tables);
    // What workers of a further generation keep there is theirs.
    if Plan::outdated(out, plans)? {
        return Ok(false);
    }
    tidied(out, totals)?;
    let Some(made) = description.write(text(&dataset)?.as_bytes())? else { return Ok(false) };
    all.push(made);
    if Plan::outdated(out, plans)? {
        return Ok(false);
    }
    all.iter().try_fold(true, |all, written| Ok(all && written.stands(out)?))
}

/// Removes what only those need who are at work on a job, and leaves its rolls.
fn tidied(out: &Output, totals: &Totals) -> Result<()> {
    rolls::finish(out, &totals.receipts, &totals.rolls)?;
    lease::sweep(out)?;
    out.sweep()
}

/// Whether `dataset.json` says what `dataset` does, and the tables are as it says.
fn described(out: &Output, dataset: &mut Value, names: &[&str]) -> Result<bool> {
    let Some(there) = out.read(DATASET)? else { return Ok(false) };
    let Ok(Described { tables }) = serde_json::from_slice(&there) else { return Ok(false) };
    dataset["tables"] = json!(tables);
    Ok(text(dataset)?.as_bytes() == there && verify::altered(out, names, &tables)?.is_empty())
}

fn text(dataset: &Value) -> Result<String> {
    serde_json::to_string_pretty(dataset).map(|text| text + "\n").map_err(|e| Error::bug(format!("{DATASET}: {e}")))
}

/// The names of those objects of which `is` says so.
fn names_of(totals: &Totals, is: fn(&str) -> bool) -> Vec<String> {
    totals.objects().filter(|object| is(&object.path)).map(|object| object.path.clone()).collect()
}

/// The names of the merged tables of a job that is done, and of its card.
fn merged(job: &JobFile, totals: &Totals) -> Vec<&'static str> {
    let scenes = totals.objects().any(|o| scenes::is_table(&o.path));
    let of = |form: &Metadata| match form {
        Metadata::Parquet => vec![],
        Metadata::Csv if scenes => vec![RECORDS_CSV, SCENES_CSV],
        Metadata::Csv => vec![RECORDS_CSV],
        Metadata::Sqlite => vec![RECORDS_SQLITE],
        Metadata::Coco => vec![annotations::COCO],
        Metadata::Yolo => vec![annotations::YOLO],
    };
    job.output.metadata.iter().flat_map(of).chain([CARD]).collect()
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

#[cfg(test)]
mod tests;
