//! What a run waited for, and what would help.

use super::result::{Bottleneck, StageTime};

/// What is known of a configuration's runs.
pub struct Facts<'a> {
    /// Its stages.
    pub stages: &'a [StageTime],
    /// Seconds of a run.
    pub wall: f64,
    /// Seconds of it outside the pipeline.
    pub outside: f64,
    /// CPU seconds of all its processes.
    pub cpu: f64,
    /// Cores that it may use.
    pub cores: usize,
    /// The Program ran on the CPU.
    pub on_cpu: bool,
    /// It ran on a program that takes a GPU's place.
    pub software_gpu: bool,
    /// A hardware decoder did the greater part.
    pub hardware_decoder: bool,
    /// exact.
    pub exact: bool,
}

/// From this share of all cores' time they are what is short.
const CORES: f64 = 0.85;

/// What is short, by rule: the start where most of the time is outside the pipeline; else the cores where nearly all of
/// their time is used; else the stage whose threads worked the greatest share of the pipeline's time.
pub fn find(facts: &Facts) -> Option<Bottleneck> {
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    if facts.outside > facts.wall / 2.0 {
        return Some(Bottleneck {
            what: "start".into(),
            because: format!(
                "{} of {:.2} s went into starting, planning, opening devices and finishing",
                percent(facts.outside / facts.wall),
                facts.wall
            ),
            helps: vec!["more media in one run: its speed cannot be judged by so little".into()],
        });
    }
    let used = facts.cpu / (facts.wall * facts.cores as f64);
    let busiest = facts.stages.iter().max_by(|a, b| a.busy.total_cmp(&b.busy))?;
    let work: f64 = facts.stages.iter().map(|s| s.busy).sum();
    if used >= CORES {
        let mut helps = stage(&busiest.stage, facts);
        helps.push("a machine with more cores".into());
        return Some(Bottleneck {
            what: "cores".into(),
            because: format!(
                "{} of the cores' time was used; {} had the greatest part of the work ({})",
                percent(used),
                busiest.stage,
                percent(busiest.busy / work.max(f64::MIN_POSITIVE))
            ),
            helps,
        });
    }
    // Threads that ended early were not short of anything.
    let inside = (facts.wall - facts.outside).max(f64::MIN_POSITIVE);
    let share = |s: &StageTime| s.busy / (inside * s.threads.max(1) as f64);
    let fullest = facts.stages.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    Some(Bottleneck {
        what: fullest.stage.clone(),
        because: format!(
            "its {} threads worked {} of the time, more than any other stage's; {} of the cores' time was used",
            fullest.threads,
            percent(share(fullest)),
            percent(used)
        ),
        helps: stage(&fullest.stage, facts),
    })
}

/// What helps where this stage is short.
fn stage(name: &str, facts: &Facts) -> Vec<String> {
    let all: &[&str] = match name {
        "decode" if facts.hardware_decoder => &[
            "a card with more decoder engines",
            "fewer frames, where the job allows it: --keyframes decodes nothing between key frames",
        ],
        "decode" => &[
            "a hardware decoder (--decoder nvdec) on a machine that has one",
            "fewer frames, where the job allows it: --keyframes decodes nothing between key frames",
        ],
        "compute" if facts.software_gpu => {
            &["a real GPU: this one is a program on the CPU, which --device cpu does without"]
        }
        "compute" if facts.on_cpu && facts.exact => &[
            "--quality fast, which resizes before it converts (other pixels: another job)",
            "a GPU (--device cuda, wgpu)",
        ],
        "compute" if facts.on_cpu => &["a GPU (--device cuda, wgpu)"],
        "compute" if facts.exact => {
            &["--quality fast, which reads less of each frame (other pixels: another job)", "a larger GPU"]
        }
        "compute" => &["a larger GPU"],
        "detect" => &["a smaller model, or a provider on a GPU (--provider cuda)"],
        "encode" => {
            &["an encoding that costs less: jpeg instead of webp or png, or --format tensors", "smaller samples"]
        }
        "sink" | "commit" => &["a faster disk or store", "larger shards (--shard-bytes)"],
        _ => &[],
    };
    all.iter().map(|text| text.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(busy: [f64; 3]) -> Vec<StageTime> {
        ["decode", "compute", "encode"]
            .iter()
            .zip(busy)
            .map(|(name, busy)| StageTime { stage: name.to_string(), threads: 2, busy, starved: 0.0, blocked: 0.0 })
            .collect()
    }

    fn facts(stages: &[StageTime]) -> Facts<'_> {
        Facts {
            stages,
            wall: 10.0,
            outside: 0.0,
            cpu: 8.0,
            cores: 2,
            on_cpu: true,
            software_gpu: false,
            hardware_decoder: false,
            exact: true,
        }
    }

    #[test]
    fn the_stage_that_worked_most_is_named() {
        let slow = stages([2.0, 19.0, 3.0]);
        let found = find(&facts(&slow)).unwrap();
        assert_eq!(found.what, "compute");
        assert!(found.because.contains("95%") && found.helps.iter().any(|h| h.contains("--quality fast")), "{found:?}");
        let fast = find(&Facts { exact: false, ..facts(&slow) }).unwrap();
        assert!(!fast.helps.iter().any(|h| h.contains("--quality fast")));
        let software = find(&Facts { software_gpu: true, on_cpu: false, ..facts(&slow) }).unwrap();
        assert!(software.helps[0].contains("--device cpu"));
    }

    #[test]
    fn cores_and_starts_come_before_stages() {
        let even = stages([15.0, 3.0, 2.0]);
        let found = find(&Facts { cpu: 19.0, ..facts(&even) }).unwrap();
        assert!(
            found.what == "cores" && found.because.contains("decode") && found.because.contains("75%"),
            "{found:?}"
        );
        assert!(found.helps.iter().any(|h| h.contains("nvdec")) && found.helps.iter().any(|h| h.contains("cores")));
        assert_eq!(find(&Facts { outside: 6.0, cpu: 19.0, ..facts(&even) }).unwrap().what, "start");
        assert_eq!(find(&facts(&[])), None);
    }
}
