//! The report: what the whole job came to, from its receipts, and what this process did of it.

use serde_json::{Value, json};

use crate::job::Job;
use crate::supervise::Finished;
use crate::task::Totals;

/// What is told of this process.
#[derive(Debug, Default)]
pub struct ThisRun {
    /// How its engine ended.
    pub finished: Finished,
    /// Samples and tasks of this process alone.
    pub samples: u64,
    /// Tasks that it committed.
    pub tasks: u64,
    /// Seconds from start to end, planning and finishing included.
    pub wall: f64,
    /// Why engine processes were replaced.
    pub restarts: Vec<String>,
}

/// The report as INTERFACE.md describes it.
pub fn report(job: &Job, fingerprint: &str, totals: &Totals, run: &ThisRun) -> Value {
    let timing = &run.finished.outcome.timing;
    let mut seconds = timing["seconds"].clone();
    if !seconds.is_object() {
        seconds = json!({});
    }
    seconds["wall"] = json!((run.wall * 1e3).round() / 1e3);
    let fallbacks = [job.fallbacks(), run.finished.outcome.fallbacks.clone()].concat();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "job": job.identity()["job"],
        "fingerprint": fingerprint,
        "device": run.finished.outcome.device,
        "decoders": ["software"],
        "inputs": { "found": totals.inputs, "done": totals.inputs_done, "rejected": totals.rejected },
        "frames": totals.frames,
        "samples": totals.samples,
        "warnings": totals.warnings,
        "bytes": { "read": totals.bytes_read, "written": totals.bytes_written },
        "seconds": seconds,
        "queues": timing["queues"],
        "budget": timing["budget"],
        "fallbacks": fallbacks,
        "peak_memory": run.finished.peak_memory,
        "tasks": {
            "planned": totals.tasks,
            "done": totals.done,
            "skipped_as_done": run.finished.outcome.skipped,
        },
        "this_run": {
            "samples": run.samples,
            "tasks": run.tasks,
            "interrupted": run.finished.interrupted,
            "left_open": run.finished.outcome.left,
            "engine_restarts": run.restarts,
        },
    })
}

/// A few lines for people.
pub fn text(report: &Value) -> String {
    let n = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let mut out = format!(
        "{} samples from {} of {} inputs ({} rejected), {} of {} tasks done\n",
        n("/samples"),
        n("/inputs/done"),
        n("/inputs/found"),
        n("/inputs/rejected"),
        n("/tasks/done"),
        n("/tasks/planned"),
    );
    let f = |name: &str| n(&format!("/frames/{name}"));
    out += &format!(
        "frames: {} decoded, {} sampled, {} skipped by rule, {} corrupt, {} failed, {} decoded again\n",
        f("decoded"),
        f("sampled"),
        f("skipped_by_rule"),
        f("corrupt"),
        f("failed"),
        f("redecoded"),
    );
    out += &format!("bytes: {} read, {} written\n", n("/bytes/read"), n("/bytes/written"));
    let seconds = report["seconds"].as_object().cloned().unwrap_or_default();
    for (stage, times) in seconds.iter().filter(|(_, t)| t.is_object()) {
        let t = |name: &str| times[name].as_f64().unwrap_or(0.0);
        out += &format!(
            "{stage:<8} busy {:>8.2} s, starved {:>8.2} s, blocked {:>8.2} s ({} threads)\n",
            t("busy"),
            t("starved"),
            t("blocked"),
            times["threads"]
        );
    }
    for fallback in report["fallbacks"].as_array().into_iter().flatten() {
        let word = |key: &str| fallback[key].as_str().unwrap_or("?");
        let (what, to, from, reason) = (word("what"), word("to"), word("from"), word("reason"));
        out += &format!("fallback: {what}: {to} instead of {from}: {reason}\n");
    }
    out += &format!(
        "{:.2} s on {}, peak memory {} MB",
        report["seconds"]["wall"].as_f64().unwrap_or(0.0),
        report["device"].as_str().unwrap_or("no device"),
        n("/peak_memory") / 1_000_000
    );
    out
}
