//! What is off with a dataset: everything that receipts and `dataset.json` name is read.

use serde_json::Value;

use super::{DATASET, Described, dataset, merged};
use crate::error::Result;
use crate::plan::Plan;
use crate::sink::{is_records, scenes, table};
use crate::store::{Object, Output};
use crate::task::{Ledger, Totals, rolls};

const AGAIN: &str = "framemill finish writes it again";

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
    for plan in plans {
        faults.extend(plan.check_table(out).err().map(|e| e.message));
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
    let job = plan.job()?;
    let mut faults = Vec::new();
    let names = merged(&job, totals);
    let Some(bytes) = out.read(DATASET)? else {
        faults.push(format!("{DATASET} is not there; {AGAIN}"));
        return Ok(faults);
    };
    let (there, expected) = (serde_json::from_slice(&bytes).unwrap_or(Value::Null), dataset(plan, &job, totals));
    for part in ["/fingerprint", "/counts/samples", "/counts/inputs", "/counts/rejected", "/splits", "/shards"] {
        if there.pointer(part) != expected.pointer(part) {
            faults.push(format!("{DATASET}: {} is not as the receipts say; {AGAIN}", &part[1..]));
        }
    }
    let tables = serde_json::from_value::<Described>(there).unwrap_or_default().tables;
    faults.extend(altered(out, &names, &tables)?);
    Ok(faults)
}

/// What is off with the merged tables of these names, given those that `dataset.json` names.
pub(super) fn altered(out: &Output, names: &[&str], tables: &[Object]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for name in names.iter().filter(|name| !tables.iter().any(|table| table.path == **name)) {
        faults.push(format!("{DATASET} does not name {name}; {AGAIN}"));
    }
    for table in tables {
        let name = &table.path;
        if !name.ends_with('/') && out.size(name)?.is_none() {
            faults.push(format!("{name} is not there; {AGAIN}"));
            continue;
        }
        match out.measure(name) {
            Err(e) => faults.push(format!("{e}; {AGAIN}")),
            Ok(there) if there != *table => faults.push(format!(
                "{name}: {} bytes with sha256 {}, but {DATASET} says {} bytes with {}; {AGAIN}",
                there.bytes, there.sha256, table.bytes, table.sha256
            )),
            Ok(_) => {}
        }
    }
    Ok(faults)
}
