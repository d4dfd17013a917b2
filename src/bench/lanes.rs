//! The first seconds of a run as lanes, from its trace: small enough to stand in a report and to be drawn.

use std::collections::BTreeMap;

use serde_json::Value;

use super::result::Lane;

/// Seconds that are shown, at most.
const SHOWN: f64 = 4.0;
/// Columns that a lane is divided into; what is shorter than a column does not show.
const COLUMNS: usize = 500;

/// Milliseconds of busy, starved and blocked time in one column.
type Column = [f64; 3];

/// The lanes of the first engine process in a trace.
///
/// # Errors
/// In words, what is wrong with the trace.
pub fn read(trace: &Value) -> Result<Vec<Lane>, String> {
    let events = trace["traceEvents"].as_array().ok_or("the trace holds no events")?;
    let engine = || events.iter().filter(|e| e["pid"] == 1);
    let threads: Vec<(u64, &str)> = engine()
        .filter(|e| e["name"] == "thread_name")
        .filter_map(|e| Some((e["tid"].as_u64()?, e["args"]["name"].as_str()?)))
        .collect();
    let number = |e: &Value, key: &str| e[key].as_f64().unwrap_or(0.0) / 1e3;
    let slices = || engine().filter(|e| e["ph"] == "X");
    let zero = slices().map(|e| number(e, "ts")).fold(f64::INFINITY, f64::min);
    let end = slices().map(|e| number(e, "ts") + number(e, "dur")).fold(0.0, f64::max);
    if !zero.is_finite() {
        return Err("nothing ran in an engine".into());
    }
    let shown = (end - zero).min(SHOWN * 1e3);
    let width = shown / COLUMNS as f64;
    let mut columns: BTreeMap<u64, Vec<Column>> = BTreeMap::new();
    for event in slices() {
        let kind = match event["cat"].as_str() {
            Some("busy") => 0,
            Some("starved") => 1,
            _ => 2,
        };
        let lane = columns.entry(event["tid"].as_u64().unwrap_or(0)).or_insert_with(|| vec![[0.0; 3]; COLUMNS]);
        let from = number(event, "ts") - zero;
        paint(lane, width, from, from + number(event, "dur"), kind);
    }
    let lane = |(tid, thread): &(u64, &str)| {
        let slices = columns.get(tid).map(|lane| runs(lane, width)).unwrap_or_default();
        Lane { thread: thread.to_string(), slices }
    };
    Ok(threads.iter().map(lane).collect())
}

/// Adds a slice to the columns that it touches.
fn paint(lane: &mut [Column], width: f64, from: f64, to: f64, kind: usize) {
    let first = (from / width).floor().max(0.0) as usize;
    for (i, column) in lane.iter_mut().enumerate().skip(first) {
        let (left, right) = (i as f64 * width, (i + 1) as f64 * width);
        if left >= to {
            break;
        }
        column[kind] += to.min(right) - from.max(left);
    }
}

/// Neighbouring columns of one kind as one slice; a column is of the kind that has most of it.
fn runs(lane: &[Column], width: f64) -> Vec<(f64, f64, u8)> {
    let kind = |[busy, starved, blocked]: &Column| {
        // Waits lie inside the work that they interrupt.
        let times = [busy - starved - blocked, *starved, *blocked];
        let idle = width - times.iter().map(|t| t.max(0.0)).sum::<f64>();
        let most = (0..3).max_by(|a, b| times[*a].total_cmp(&times[*b]))?;
        (times[most] > idle.max(0.0)).then_some(most as u8)
    };
    let rounded = |ms: f64| (ms * 1e3).round() / 1e3;
    let mut slices: Vec<(f64, f64, u8)> = Vec::new();
    let mut last = None;
    for (i, column) in lane.iter().enumerate() {
        let now = kind(column);
        match (now, slices.last_mut()) {
            (Some(_), Some(slice)) if now == last => slice.1 = rounded((i + 1) as f64 * width - slice.0),
            (Some(kind), _) => slices.push((rounded(i as f64 * width), rounded(width), kind)),
            (None, _) => {}
        }
        last = now;
    }
    slices
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn waits_are_cut_out_of_the_work_around_them() {
        let x = |tid: u64, cat: &str, ts: f64, dur: f64| json!({ "ph": "X", "pid": 1, "tid": tid, "cat": cat, "ts": ts, "dur": dur });
        let name = |tid: u64, name: &str| json!({ "ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": { "name": name } });
        let trace = json!({ "traceEvents": [
            name(1, "decode-0"), name(2, "sink"), name(3, "commit"),
            { "ph": "X", "pid": 0, "tid": 9, "cat": "busy", "ts": 0.0, "dur": 9e9 },
            x(1, "busy", 1e6, 1e6), x(1, "blocked", 1.4e6, 2e5), x(2, "starved", 1e6, 5e5),
        ] });
        let lanes = read(&trace).unwrap();
        assert_eq!(lanes.iter().map(|l| &*l.thread).collect::<Vec<_>>(), ["decode-0", "sink", "commit"]);
        assert_eq!(lanes[0].slices, [(0.0, 400.0, 0), (400.0, 200.0, 2), (600.0, 400.0, 0)]);
        assert_eq!(lanes[1].slices, [(0.0, 500.0, 1)]);
        assert!(lanes[2].slices.is_empty());
        assert!(read(&json!({ "traceEvents": [] })).is_err());
        assert!(read(&json!({})).is_err());
    }
}
