//! Small reports for tests.

use serde_json::json;

use super::machine::Machine;
use super::result::*;
use super::stats::Estimate;

/// A configuration with these rounds, in samples a second.
pub fn configuration(name: &str, rounds: &[f64]) -> Configuration {
    let json = json!({
        "name": name, "device": "cpu", "decoder": "software", "quality": "exact", "threads": 2, "ran_on": "cpu",
        "decoders": [], "fallbacks": [], "verdict": "reference", "compared": "", "ranked": true, "unranked": null,
        "samples": 100, "frames": 200, "content": "c", "objects": "o", "wall": null, "samples_per_second": null,
        "frames_per_second": null, "video_hours_per_hour": { "value": null, "why": "no video" },
        "cpu_seconds_per_sample": null, "peak_memory": 0, "stages": [], "outside": 0.1,
        "bus": { "value": null, "why": "none" }, "gpu": { "value": null, "why": "none" },
        "joules_per_sample": { "value": null, "why": "none" }, "bounds": [], "bottleneck": null,
        "cost": { "value": null, "why": "none" }, "noise": [], "timeline": [],
    });
    let mut c: Configuration = serde_json::from_value(json).unwrap();
    c.samples_per_second = Estimate::of(rounds.to_vec());
    c.wall = c.samples_per_second.as_ref().map(|e| e.map(|rate| 100.0 / rate));
    c
}

/// A benchmark of these configurations.
pub fn bench(machine: &str, configurations: Vec<Configuration>) -> Bench {
    Bench {
        schema: SCHEMA,
        framemill: "0".into(),
        made: 0,
        seconds: 1.0,
        machine: Machine::here(Some(machine)),
        job: json!({ "seed": 0 }),
        sample: SampleList {
            inputs: 1,
            videos: 1,
            photos: 0,
            bytes: 5,
            video_seconds: Told::is(50.0),
            digest: "0123456789abcdef".into(),
            synthetic: None,
            part: None,
        },
        rules: Rules {
            statistics: String::new(),
            rounds: String::new(),
            equality: String::new(),
            noise: String::new(),
            same_work: String::new(),
        },
        rates: Rates { memory: Told::is(1e10), disk: Told::is(1e8) },
        configurations,
        peers: Vec::new(),
        not_here: Vec::new(),
        break_even: Told::not("not asked"),
        noise: Vec::new(),
    }
}
