//! Parts and single frames of every container against the whole film: the same frames with the same pixels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::support::*;

/// Parts of each film, and lists of times; more with `FRAMEMILL_TEST_FULL=1`.
fn rounds() -> u64 {
    if full() { 12 } else { 2 }
}

/// Films that decode without a message, by their paths, short ones where not all are asked for.
fn films(media: &Path) -> Vec<PathBuf> {
    let truth = std::fs::read_to_string(media.join("groundtruth/decode_summary.tsv")).unwrap();
    let clean = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let frames: u64 = cells[4].parse().unwrap_or(0);
        let (most, bytes) = if full() { (1500, u64::MAX) } else { (160, 300_000) };
        let small = std::fs::metadata(media.join(cells[0])).is_ok_and(|m| m.len() < bytes);
        let wanted = small && (1..=most).contains(&frames) && cells[8] == "0" && cells[9] == "0";
        (wanted && !cells[0].contains("corrupt/")).then(|| media.join(cells[0]))
    };
    let clips = std::fs::read_dir(fixtures().join("clips")).unwrap().map(|e| e.unwrap().path());
    truth.lines().filter(|l| !l.starts_with('#')).skip(1).filter_map(clean).chain(clips).collect()
}

/// Frames by file: time in seconds and digest.
type Films = BTreeMap<String, Vec<(f64, String)>>;

fn run(list: &Path, out: &Path, more: &[&str]) -> Vec<serde_json::Value> {
    let small = ["--op", "resize:w=48,h=32", "--encode", "png"];
    let args = ["run", "-i", list.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let output = framemill(&[&args, &small[..], more].concat());
    assert!(output.status.success(), "{}", errors(&output));
    let told = report(&framemill(&["status", out.to_str().unwrap(), "--json"]));
    assert_eq!(told["inputs"]["rejected"], 0, "{told}");
    // The ledger of all of them.
    let frames = &told["frames"];
    let count = |name: &str| frames.pointer(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let reasons =
        ["discarded", "hidden", "leading", "unwanted", "damaged"].map(|reason| count(&format!("/lost/{reason}")));
    let lost = reasons.iter().sum::<u64>();
    assert_eq!(count("/packets") + count("/extra"), count("/decoded") + count("/lead_in") + lost, "{frames}");
    records(out)
}

fn write(path: &Path, rows: &[String]) {
    std::fs::write(path, rows.join("\n") + "\n").unwrap();
}

fn whole(dir: &Path, films: &[PathBuf]) -> Films {
    let list = dir.join("whole.txt");
    write(&list, &films.iter().map(|f| f.display().to_string()).collect::<Vec<_>>());
    by_film(&run(&list, &dir.join("whole"), &["--all"]))
}

fn by_film(records: &[serde_json::Value]) -> Films {
    let mut all = Films::new();
    for r in records {
        let (uri, digest) = (r["uri"].as_str().unwrap(), r["sha256"].as_str().unwrap());
        all.entry(uri.into()).or_default().push((r["time_s"].as_f64().unwrap(), digest.into()));
    }
    all
}

#[test]
fn parts_hold_the_frames_of_the_whole() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let whole = whole(dir.path(), &films(&media));
    let (mut random, mut rows, mut parts) = (Random(23), vec!["uri,part,start,end".to_string()], BTreeMap::new());
    for (uri, frames) in &whole {
        let last = frames.last().unwrap().0;
        for round in 0..rounds() {
            // Between the frames' times, which decimals need not hit; the last part is open.
            let at = |random: &mut Random| random.below((last * 1e6) as u64 + 2) as f64 / 1e6 + 3.3e-7;
            let (a, b) = (at(&mut random), at(&mut random));
            let (start, end) = (a.min(b), if round == 0 { f64::INFINITY } else { a.max(b) + 0.1 });
            let id = format!("part{}", parts.len());
            let mut row = format!("{uri},{id},{start:.7},");
            if end.is_finite() {
                write!(row, "{end:.7}").unwrap();
            }
            rows.push(row);
            let inside = frames.iter().filter(|f| f.0 >= start && f.0 < end).map(|f| f.1.clone());
            parts.insert(id, inside.collect::<Vec<_>>());
        }
    }
    let list = dir.path().join("parts.csv");
    write(&list, &rows);
    for threads in if full() { vec!["1", "3"] } else { vec!["3"] } {
        let out = dir.path().join(threads);
        let mut found: BTreeMap<String, Vec<String>> = parts.keys().map(|id| (id.clone(), Vec::new())).collect();
        for r in run(&list, &out, &["--all", "--threads", threads]) {
            found.get_mut(r["part"].as_str().unwrap()).unwrap().push(r["sha256"].as_str().unwrap().into());
        }
        let wrong: Vec<_> = parts.iter().filter(|(id, frames)| found[*id] != **frames).map(|(id, _)| id).collect();
        let told: Vec<_> = rows.iter().filter(|row| wrong.iter().any(|id| row.contains(&format!(",{id},")))).collect();
        assert!(wrong.is_empty(), "{} parts differ: {told:?}", wrong.len());
    }
    let frames: usize = parts.values().map(Vec::len).sum();
    // The control: a part that is one frame longer is another.
    let told = parts.values().filter(|frames| frames.len() > 1 && frames[1..] != frames[..frames.len() - 1]).count();
    println!("{} films, {} parts, {frames} frames", whole.len(), parts.len());
    assert!(whole.len() > 30 && frames > 1000 && told > 40, "{} films, {frames} frames, {told}", whole.len());
}

#[test]
fn single_frames_are_those_of_the_whole() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let films = films(&media);
    let whole = whole(dir.path(), &films);
    let (mut random, mut compared) = (Random(29), 0);
    for round in 0..rounds() {
        // Most films are short.
        let times: BTreeSet<u64> = (0..8).map(|i| random.below(if i < 4 { 900_000 } else { 9_000_000 })).collect();
        let text: Vec<String> = times.iter().map(|t| format!("{}us", t)).collect();
        let out = dir.path().join(format!("at-{round}"));
        let found = by_film(&run(&dir.path().join("whole.txt"), &out, &["--at", &text.join(",")]));
        for (uri, frames) in &whole {
            let mut sorted = frames.clone();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            // Before the first frame there is only that one to show.
            let shown = |t: &u64| sorted.iter().rev().find(|f| f.0 <= *t as f64 / 1e6).or(sorted.first());
            // How long the last frame is shown is the container's word, so it is left out.
            let last = sorted[sorted.len() - 1].0;
            let mut expected: Vec<_> = times.iter().filter_map(shown).cloned().collect();
            expected.dedup();
            expected.retain(|f| f.0 < last);
            let mut ours = found.get(uri).cloned().unwrap_or_default();
            ours.retain(|f| f.0 < last);
            assert_eq!(ours, expected, "{uri} at {text:?}");
            compared += expected.len();
        }
    }
    println!("{} films, {compared} frames", whole.len());
    assert!(compared > 100, "{compared}");
}
