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
    /// Who asked it to stop: a signal's name, or a cloud's words.
    pub interrupted_by: Option<String>,
}

/// The report as INTERFACE.md describes it.
pub fn report(job: &Job, fingerprint: &str, totals: &Totals, run: &ThisRun) -> Value {
    let timing = &run.finished.outcome.timing;
    let mut seconds = timing["seconds"].clone();
    if !seconds.is_object() {
        seconds = json!({});
    }
    seconds["wall"] = json!((run.wall * 1e3).round() / 1e3);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "job": job.identity()["job"],
        "fingerprint": fingerprint,
        "device": run.finished.outcome.device,
        "device_work": run.finished.outcome.device_work,
        "decoders": timing["decoders"],
        "detectors": job.detectors.iter().map(|d| d.identity()).collect::<Vec<_>>(),
        "inputs": {
            "found": totals.inputs,
            "done": totals.inputs_done,
            "rejected": totals.rejected,
            "missing": totals.missing(),
            "without_samples": totals.without_samples,
        },
        "frames": totals.frames,
        "samples": totals.samples,
        "warnings": totals.warnings,
        "bytes": { "read": totals.bytes_read, "written": totals.bytes_written },
        "bottleneck": bottleneck(&seconds),
        "seconds": seconds,
        "queues": timing["queues"],
        "budget": timing["budget"],
        "cost": cost(job, run),
        "fallbacks": run.finished.outcome.fallbacks,
        "peak_memory": run.finished.peak_memory,
        "tasks": {
            "planned": totals.tasks,
            "done": totals.done,
            "skipped_as_done": run.finished.outcome.skipped,
        },
        "this_run": {
            "samples": run.samples,
            "tasks": run.tasks,
            "packets_fed": timing["packets_fed"].as_u64().unwrap_or(0),
            "interrupted": run.finished.interrupted,
            "interrupted_by": run.interrupted_by.as_ref().filter(|_| run.finished.interrupted),
            "left_open": run.finished.outcome.left,
            "engine_restarts": run.restarts,
        },
    })
}

/// The exit codes, each with its word.
pub const OUTCOMES: [(u8, &str); 8] = [
    (0, "done"),
    (2, "usage"),
    (3, "rejects"),
    (69, "unavailable"),
    (70, "bug"),
    (74, "store"),
    (75, "interrupted"),
    (78, "other_job"),
];

/// What Kubernetes keeps of a termination message, in bytes.
const SUMMARY: usize = 4096;

/// What an orchestrator keeps of a run: one object of at most 4096 bytes, newline included. `report` is the run's; where
/// it ended with an error there is none.
pub fn summary(code: u8, report: Option<&Value>, error: Option<&str>, output: Option<&str>) -> Value {
    let outcome = OUTCOMES.iter().find(|(c, _)| *c == code).map_or("reader_gone", |(_, word)| word);
    let report = report.unwrap_or(&Value::Null);
    let at = |path: &str| report.pointer(path).cloned().unwrap_or_default();
    let count = |path: &str| at(path).as_u64();
    let left = count("/tasks/planned").zip(count("/tasks/done")).map(|(planned, done)| planned - done);
    let by = at("/this_run/interrupted_by");
    let number = |path: &str| count(path).unwrap_or(0);
    let rejects = || match (number("/inputs/rejected"), number("/inputs/found")) {
        (0, found) => format!("no sample came out of {found} inputs"),
        (rejected, found) => format!("{rejected} of {found} inputs were rejected"),
    };
    let message = error.map(str::to_string).or_else(|| by.as_str().map(str::to_string));
    let message = message.or_else(|| (code == 3).then(rejects));
    let mut summary = json!({
        "exit_code": code,
        "outcome": outcome,
        "message": message,
        "version": env!("CARGO_PKG_VERSION"),
        "output": output.map(crate::input::without_query),
        "fingerprint": at("/fingerprint"),
        "device": at("/device"),
        "samples": at("/samples"),
        "inputs": { "found": at("/inputs/found"), "done": at("/inputs/done"), "rejected": at("/inputs/rejected") },
        "frames": { "decoded": at("/frames/decoded"), "sampled": at("/frames/sampled"), "corrupt": at("/frames/corrupt") },
        "bytes": at("/bytes"),
        "tasks": { "planned": at("/tasks/planned"), "done": at("/tasks/done"), "left": left },
        "fallbacks": report["fallbacks"].as_array().map(Vec::len),
        "seconds": at("/seconds/wall"),
        "cost": at("/cost/this_run"),
    });
    // Only what is written by others can be long.
    for key in ["message", "output", "device"] {
        while summary.to_string().len() >= SUMMARY {
            let Some(text) = summary[key].as_str().filter(|text| text.len() > 8) else { break };
            let half = text.char_indices().map(|(i, _)| i).take_while(|i| *i <= text.len() / 2).last().unwrap_or(0);
            summary[key] = json!(format!("{}...", &text[..half]));
        }
    }
    summary
}

/// What this process cost, and a thousand of its samples; null where no price is given.
fn cost(job: &Job, run: &ThisRun) -> Value {
    job.file.price_per_hour.map_or(Value::Null, |price| {
        let cost = price.0 * run.wall / 3600.0;
        let share = (run.samples > 0).then(|| cost * 1000.0 / run.samples as f64);
        json!({ "price_per_hour": price.0, "this_run": cost, "per_1000_samples": share })
    })
}

/// The stage with the thread that was busy the longest, and the wall time over that: near 1 where everything else ran
/// beside it. Null where nothing ran.
fn bottleneck(seconds: &Value) -> Value {
    let stages = seconds.as_object().into_iter().flatten();
    let busy = stages.filter_map(|(name, s)| Some((name, s["busiest_thread"].as_f64()?)));
    let busiest = busy.filter(|(_, busy)| *busy > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    busiest.map_or(Value::Null, |(name, busy)| {
        let over = seconds["wall"].as_f64().map(|wall| (wall / busy * 1e3).round() / 1e3);
        json!({ "stage": name, "busy": busy, "wall_over_busy": over })
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
    if f("incomplete_clips") > 0 {
        out +=
            &format!("{} clips were left incomplete by their video's end, and are no samples\n", f("incomplete_clips"));
    }
    if n("/warnings") > 0 {
        out += &format!("{} inputs are damaged or odd, but something came out of them\n", n("/warnings"));
    }
    if n("/inputs/without_samples") > 0 {
        out += &format!("{} inputs have no frame that answers the rule\n", n("/inputs/without_samples"));
    }
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
    for decoder in report["decoders"].as_array().into_iter().flatten() {
        let name = decoder["decoder"].as_str().unwrap_or("?");
        out += &format!("decoder {name}: {} frames of {} units", decoder["frames"], decoder["units"]);
        if let Some(opened) = decoder["sessions"]["opened"].as_u64() {
            out += &format!(", {opened} sessions opened, one used again {} times", decoder["sessions"]["reused"]);
        }
        out += "\n";
    }
    for fallback in report["fallbacks"].as_array().into_iter().flatten() {
        let word = |key: &str| fallback[key].as_str().unwrap_or("?");
        let (what, to, from, reason) = (word("what"), word("to"), word("from"), word("reason"));
        out += &format!("fallback: {what}: {to} instead of {from}: {reason}\n");
    }
    // The start is the greater part of a short run.
    let long = report["seconds"]["wall"].as_f64() > Some(10.0);
    if let (true, Some(stage)) = (long, report["bottleneck"]["stage"].as_str()) {
        out +=
            &format!("the whole took {} times as long as {stage} was busy\n", report["bottleneck"]["wall_over_busy"]);
    }
    if let Some(cost) = report["cost"]["this_run"].as_f64() {
        out += &format!("cost: {cost:.4}");
        if let Some(share) = report["cost"]["per_1000_samples"].as_f64() {
            out += &format!(", {share:.4} for 1000 samples");
        }
        out += "\n";
    }
    out += &format!(
        "{:.2} s on {}, peak memory {} MB",
        report["seconds"]["wall"].as_f64().unwrap_or(0.0),
        report["device"].as_str().unwrap_or("no device"),
        n("/peak_memory") / 1_000_000
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_small_and_its_codes_are_the_errors() {
        let report = json!({ "samples": 7, "tasks": { "planned": 9, "done": 4 }, "seconds": { "wall": 1.5 },
            "fallbacks": [1], "this_run": { "interrupted_by": "aws: gone at noon" } });
        let small = summary(75, Some(&report), None, Some("out"));
        assert_eq!((&small["outcome"], &small["tasks"]["left"]), (&json!("interrupted"), &json!(5)));
        assert_eq!((&small["message"], &small["fallbacks"]), (&json!("aws: gone at noon"), &json!(1)));
        let rejecting = json!({ "inputs": { "found": 5, "rejected": 2 }, "samples": 9 });
        assert_eq!(summary(3, Some(&rejecting), None, None)["message"], "2 of 5 inputs were rejected");
        // Control characters take six bytes each.
        let long = summary(74, None, Some(&"\u{1}\u{fc}".repeat(9000)), Some(&"o".repeat(3000)));
        assert!(long.to_string().len() < SUMMARY, "{}", long.to_string().len());
        assert!(long["message"].as_str().unwrap().ends_with("...") && long["output"].as_str().unwrap().len() == 3000);
        use crate::error::Error;
        let e = "x";
        let errors = [Error::usage(e), Error::unavailable(e), Error::bug(e), Error::store(e), Error::interrupted(e)];
        for error in errors.iter().chain([&Error::other_job(e)]) {
            assert!(OUTCOMES.iter().any(|(code, _)| *code == error.exit_code()));
        }
    }

    #[test]
    fn the_bottleneck_is_the_busiest_threads_stage() {
        let stage = |threads: u64, busy: f64, busiest: f64| json!({ "threads": threads, "busy": busy, "busiest_thread": busiest });
        // One film in one of two decode threads: their sum is less than that of the encoders.
        let seconds = json!({ "wall": 52.0, "decode": stage(2, 50.0, 50.0), "encode": stage(2, 60.0, 31.0) });
        assert_eq!(bottleneck(&seconds), json!({ "stage": "decode", "busy": 50.0, "wall_over_busy": 1.04 }));
        assert_eq!(bottleneck(&json!({ "wall": 0.1 })), Value::Null);
        let told = |wall: f64| {
            let mut report = json!({ "seconds": seconds, "bottleneck": bottleneck(&seconds), "device": "cpu" });
            report["seconds"]["wall"] = json!(wall);
            text(&report).contains("1.04 times as long as decode was busy")
        };
        assert!(told(52.0) && !told(0.5));
    }
}
