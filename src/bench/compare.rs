//! `bench compare A B`: what changed between two benchmarks; a verdict only where the intervals separate.

use serde_json::{Value, json};

use super::result::{Bench, Configuration};
use super::stats::Estimate;
use super::table::{columns, interval, number};

/// What became of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// faster, slower, same (no difference was shown), or what stands in the way.
    pub verdict: String,
    /// The second's speed over the first's, with the least and the most that the intervals allow.
    pub ratio: Option<[f64; 3]>,
    before: Option<Estimate>,
    after: Option<Estimate>,
}

/// Two benchmarks beside each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is not the same in both, so that a change may come from there.
    pub unlike: Vec<String>,
    /// The configurations that either has.
    pub changes: Vec<Change>,
}

fn change(name: &str, a: Option<&Configuration>, b: Option<&Configuration>, sample: bool) -> Change {
    let mut change = Change { name: name.into(), verdict: String::new(), ratio: None, before: None, after: None };
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, _) => {
            change.verdict = format!("only in the {}", if a.is_some() { "first" } else { "second" });
            return change;
        }
    };
    (change.before, change.after) = (a.samples_per_second.clone(), b.samples_per_second.clone());
    let unranked = |c: &Configuration, which: &str| {
        (!c.ranked).then(|| format!("not ranked in the {which}: {}", c.unranked.as_deref().unwrap_or_default()))
    };
    let obstacle = (!sample).then(|| "not compared: the samples differ".to_string());
    let obstacle = obstacle.or_else(|| unranked(a, "first")).or_else(|| unranked(b, "second"));
    let obstacle =
        obstacle.or_else(|| (a.content != b.content).then(|| "not compared: the outputs differ".to_string()));
    if let Some(why) = obstacle {
        change.verdict = why;
        return change;
    }
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        change.verdict = "not measured".into();
        return change;
    };
    change.ratio = Some([after.low / before.high, after.median / before.median, after.high / before.low]);
    change.verdict = match () {
        () if !before.decisive() || !after.decisive() => "too few rounds to tell (five are the least)".into(),
        () if !before.apart(after) => "same: the intervals overlap".into(),
        () if after.median > before.median => "faster".into(),
        () => "slower".into(),
    };
    change
}

/// Holds `b` against `a`.
pub fn compare(a: &Bench, b: &Bench) -> Comparison {
    let mut unlike = Vec::new();
    let mut hold = |what: &str, a: String, b: String| {
        if a != b {
            unlike.push(format!("{what}: {a}, then {b}"));
        }
    };
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_string();
    hold("samples", short(&a.sample.digest), short(&b.sample.digest));
    hold("machine", a.machine.name.clone(), b.machine.name.clone());
    hold("processor", a.machine.cpu.clone(), b.machine.cpu.clone());
    hold("cores", a.machine.cores.to_string(), b.machine.cores.to_string());
    hold("kernel", a.machine.kernel.clone(), b.machine.kernel.clone());
    hold("optimised build", a.machine.optimized.to_string(), b.machine.optimized.to_string());
    hold("versions", a.machine.versions.to_string(), b.machine.versions.to_string());
    let drivers =
        |m: &Bench| m.machine.gpus.iter().map(|g| format!("{} ({})", g.name, g.driver)).collect::<Vec<_>>().join(", ");
    hold("GPUs", drivers(a), drivers(b));
    for difference in crate::job::differences(&a.job, &b.job) {
        unlike.push(format!("job: {difference}"));
    }
    for (which, bench) in [("first", a), ("second", b)] {
        unlike.extend(bench.noise.iter().map(|noise| format!("noise in the {which}: {noise}")));
    }
    let mut names: Vec<&str> = a.configurations.iter().chain(&b.configurations).map(|c| &*c.name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let sample = a.sample.digest == b.sample.digest;
    let changes = names.into_iter().map(|name| change(name, a.find(name), b.find(name), sample)).collect();
    Comparison { unlike, changes }
}

impl Comparison {
    /// For programs.
    pub fn json(&self) -> Value {
        let change = |c: &Change| json!({ "name": c.name, "verdict": c.verdict, "ratio": c.ratio, "before": c.before, "after": c.after });
        json!({ "unlike": self.unlike, "changes": self.changes.iter().map(change).collect::<Vec<_>>() })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines =
            vec![["configuration", "samples/s before", "after", "ratio", "verdict"].map(str::to_string).to_vec()];
        let show = |e: &Option<Estimate>| e.as_ref().map_or_else(|| "-".into(), interval);
        for c in &self.changes {
            let ratio = c.ratio.map_or_else(
                || "-".into(),
                |[low, mid, high]| format!("{} [{}, {}]", number(mid), number(low), number(high)),
            );
            lines.push(vec![c.name.clone(), show(&c.before), show(&c.after), ratio, c.verdict.clone()]);
        }
        let unlike: String = self.unlike.iter().map(|text| format!("\nunlike: {text}")).collect();
        columns(&lines) + &unlike
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{bench, configuration};
    use super::*;

    fn rounds(from: f64) -> [f64; 6] {
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|x| from + x)
    }

    #[test]
    fn a_verdict_needs_intervals_that_separate() {
        let all = |from: f64| vec![configuration("a", &rounds(from)), configuration("b", &[from; 2])];
        let verdict = |before: f64, after: f64| {
            compare(&bench("m", all(before)), &bench("m", all(after)))
                .changes
                .iter()
                .map(|c| c.verdict.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(verdict(100.0, 120.0)[0], "faster");
        assert_eq!(verdict(120.0, 100.0)[0], "slower");
        assert!(verdict(100.0, 103.0)[0].starts_with("same"));
        assert!(verdict(100.0, 900.0)[1].starts_with("too few"));
    }

    #[test]
    fn what_is_unlike_is_said_and_what_cannot_be_compared_is_not() {
        let a = bench("m", vec![configuration("a", &rounds(100.0)), configuration("gone", &rounds(1.0))]);
        let mut b = bench("n", vec![configuration("a", &rounds(200.0)), configuration("new", &rounds(1.0))]);
        b.job = json!({ "seed": 1 });
        let told = compare(&a, &b);
        assert!(
            told.unlike.iter().any(|u| u == "machine: m, then n") && told.unlike.iter().any(|u| u.contains("seed"))
        );
        let verdicts: Vec<&str> = told.changes.iter().map(|c| &*c.verdict).collect();
        assert_eq!(verdicts, ["faster", "only in the first", "only in the second"]);
        assert!(told.text().contains("faster") && told.json()["changes"][0]["ratio"][1].as_f64() > Some(1.5));
        b.configurations[0].content = "other".into();
        assert!(compare(&a, &b).changes[0].verdict.contains("outputs differ"));
        b.sample.digest = "f".repeat(16);
        assert!(compare(&a, &b).changes[0].verdict.contains("samples differ"));
    }
}
