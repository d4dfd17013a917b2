//! The page: one file of HTML that opens from disk, in light and dark and on paper.

mod charts;

use serde_json::Value;

use super::result::{Bench, Bound, Configuration, Told, Verdict};
use super::table::{interval, number};

/// Text as HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

fn section(title: &str, why: &str, inside: &str) -> String {
    format!("<section><h2>{}</h2><p class=\"why\">{}</p>{inside}</section>\n", escape(title), escape(why))
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    format!("<ul class=\"notes\">{items}</ul>")
}

const STATES: &str = "<ul class=\"legend\"><li><i class=\"busy\"></i>busy</li><li><i class=\"blocked\"></i>blocked: waits for \
    room behind it</li><li><i class=\"starved\"></i>starved: waits for input</li><li><i class=\"ended\"></i>not begun, or \
    ended</li></ul>";

/// The whole page.
pub fn html(bench: &Bench) -> String {
    let mut body = header(bench);
    body += &throughput(bench);
    body += &peers(bench);
    body += &costs(bench);
    body += &bottlenecks(bench);
    body += &stages(bench);
    body += &timelines(bench);
    body += &equality(bench);
    body += &machine(bench);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>framemill bench: {}</title><style>\n{}</style></head><body><main>\n{body}</main></body></html>\n",
        escape(&bench.machine.name),
        include_str!("style.css")
    )
}

/// The answer in a sentence, no bolder than the intervals allow.
fn lead(bench: &Bench) -> String {
    let ranked = bench.ranked();
    let Some(first) = ranked.first() else { return "Nothing could be ranked".into() };
    let of = |c: &Configuration| c.samples_per_second.clone();
    let Some(rate) = of(first) else { return "Nothing could be ranked".into() };
    let others = ranked.iter().skip(1).filter(|c| c.quality == first.quality);
    let Some((second, theirs)) = others.filter_map(|c| Some((c, of(c)?))).next() else {
        return format!("{}: {} samples a second", first.name, number(rate.median));
    };
    let times = number(rate.median / theirs.median);
    match rate.apart(&theirs) {
        true => format!(
            "{} is {times} times as fast as {}: {} samples a second",
            first.name,
            second.name,
            number(rate.median)
        ),
        false if !rate.decisive() || !theirs.decisive() => format!(
            "{} gave {} samples a second, {} {}: too few rounds to be sure",
            first.name,
            number(rate.median),
            second.name,
            number(theirs.median)
        ),
        false => format!(
            "No difference shown between {} and {}: {} and {} samples a second",
            first.name,
            second.name,
            number(rate.median),
            number(theirs.median)
        ),
    }
}

/// An operation as on the command line.
fn operation(op: &Value) -> String {
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let parts = op.as_object().into_iter().flatten().filter(|(key, value)| *key != "op" && !value.is_null());
    let parts: Vec<String> = parts.map(|(key, value)| format!("{key}={}", word(value))).collect();
    let name = word(&op["op"]);
    if parts.is_empty() { name } else { format!("{name}:{}", parts.join(",")) }
}

fn header(bench: &Bench) -> String {
    let ops: Vec<String> = bench.job["ops"].as_array().into_iter().flatten().map(operation).collect();
    let ops = if ops.is_empty() { "no operations".to_string() } else { ops.join(", then ") };
    format!(
        "<header><h1>framemill bench</h1><p class=\"lead\">{}</p><p>{}</p><p>{}</p><p>{}</p>{}</header>\n",
        escape(&lead(bench)),
        escape(&bench.machine.name),
        escape(&bench.sample.text()),
        escape(&ops),
        care(bench)
    )
}

/// What has to be known before any number is believed.
fn care(bench: &Bench) -> String {
    if bench.noise.is_empty() {
        return String::new();
    }
    format!("<p class=\"care\">Read with care: {}.</p>", escape(&bench.noise.join("; ")))
}

/// Names with their versions.
fn versions(versions: &Value) -> String {
    let text = |v: &Value| match v {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        _ => "not built in".into(),
    };
    let all = versions.as_object().into_iter().flatten();
    all.map(|(name, v)| format!("{name}: {}", text(v))).collect::<Vec<_>>().join("; ")
}

fn throughput(bench: &Bench) -> String {
    let legend = "<ul class=\"legend\"><li><i class=\"bound\"></i>decoding alone: what no configuration can exceed with this \
        decoder and these threads</li></ul>";
    let mut inside = legend.to_string();
    let ranked = bench.ranked();
    let mut qualities: Vec<&str> = bench.configurations.iter().map(|c| &*c.quality).collect();
    qualities.sort_unstable();
    qualities.dedup();
    for quality in &qualities {
        if qualities.len() > 1 {
            inside +=
                &format!("<h3>quality {quality}: other pixels than the other quality, so a ranking of its own</h3>");
        }
        let mut rows: Vec<&Configuration> = ranked.iter().copied().filter(|c| c.quality == *quality).collect();
        rows.extend(bench.configurations.iter().filter(|c| !c.ranked && c.quality == *quality));
        inside += &charts::throughput(&rows);
    }
    inside += &speeds(&ranked);
    section("Throughput", "Whole runs, from start to end. Bars are medians, whiskers their intervals.", &inside)
}

fn peers(bench: &Bench) -> String {
    if bench.peers.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for p in &bench.peers {
        let estimate = |e: &Option<super::stats::Estimate>, by: f64| {
            e.as_ref().map_or("–".into(), |e| interval(&e.map(|x| x * by)))
        };
        let (class, word) = match p.verdict {
            Verdict::Different => ("bad", "other work"),
            Verdict::Failed => ("bad", "failed"),
            _ => ("", "same work"),
        };
        rows += &format!(
            "<tr><td>{}<small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td class=\"words {class}\">{word}<small>{}</small></td></tr>",
            escape(&p.name),
            escape(p.says.as_deref().unwrap_or_default()),
            estimate(&p.samples_per_second, 1.0),
            estimate(&p.ratio, 1.0),
            estimate(&p.cpu_seconds_per_sample, 1e3),
            escape(&p.compared)
        );
    }
    let of = escape(&bench.peers[0].of);
    let table = format!(
        "{}<div class=\"scroll\"><table><tr><th>program</th><th>samples/s</th><th>of {of}</th><th>CPU ms/sample</th>\
         <th style=\"text-align:left\">pictures</th></tr>{rows}</table></div>",
        charts::peers(bench)
    );
    section("Beside other programs", &format!("The same job in the same rounds: {}.", bench.rules.same_work), &table)
}

fn told<T>(told: &Told<T>, of: impl Fn(&T) -> String) -> String {
    match told {
        Told { value: Some(value), .. } => of(value),
        Told { why, .. } => format!("<span title=\"{}\">–</span>", escape(why.as_deref().unwrap_or_default())),
    }
}

fn speeds(ranked: &[&Configuration]) -> String {
    let mut rows = String::new();
    for c in ranked {
        let estimate = |e: &Option<super::stats::Estimate>, by: f64| {
            e.as_ref().map_or("–".into(), |e| interval(&e.map(|x| x * by)))
        };
        let bus = told(&c.bus, |b| format!("{} up, {} down", megabytes(b.up), megabytes(b.down)));
        let gpu = told(&c.gpu, |g| format!("{:.0}%, {}", 100.0 * g.busy, megabytes(g.memory)));
        rows += &format!(
            "<tr><td>{}<small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{bus}</td><td>{gpu}</td><td>{}</td></tr>",
            escape(&c.name),
            escape(c.ran_on.as_deref().unwrap_or_default()),
            estimate(&c.samples_per_second, 1.0),
            estimate(&c.frames_per_second, 1.0),
            told(&c.video_hours_per_hour, interval),
            estimate(&c.cpu_seconds_per_sample, 1e3),
            megabytes(c.peak_memory),
            told(&c.joules_per_sample, |j| number(*j)),
        );
    }
    format!(
        "<details><summary>All numbers</summary><div class=\"scroll\"><table><tr><th>configuration</th><th>samples/s</th>\
         <th>decoded frames/s</th><th>hours of video/h</th><th>CPU ms/sample</th><th>peak memory</th><th>bus, a run</th>\
         <th>GPU busy, memory</th><th>J/sample</th></tr>{rows}</table></div></details>"
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", number(bytes as f64 / 1e6))
}

fn costs(bench: &Bench) -> String {
    match charts::cost(&bench.ranked()) {
        Some(chart) => section(
            "Throughput against cost",
            "What a million samples cost at the given prices, against how soon they are there. Up and left is better.",
            &chart,
        ),
        None => section(
            "Throughput against cost",
            "No price was given: bench run --price NAME=DOLLARS_PER_HOUR, or bench rank with the reports of several machines.",
            "",
        ),
    }
}

fn bound(all: &[Bound], name: &str) -> String {
    let Some(bound) = all.iter().find(|b| b.name == name) else { return "–".into() };
    let limit = told(&bound.samples_per_second, |limit| {
        let reached = bound.reached.unwrap_or(0.0);
        format!("{}<small>reached {:.0}%</small>", number(*limit), 100.0 * reached)
    });
    format!("<span title=\"{}\">{limit}</span>", escape(&bound.meaning))
}

fn bottlenecks(bench: &Bench) -> String {
    let mut rows = String::new();
    for c in bench.ranked() {
        let (what, because, helps) = match &c.bottleneck {
            Some(b) => (b.what.clone(), b.because.clone(), b.helps.join("; ")),
            None => ("–".into(), "it was not measured".into(), String::new()),
        };
        let cells: String = ["decode", "memory", "disk", "device", "bus"]
            .iter()
            .map(|name| format!("<td>{}</td>", bound(&c.bounds, name)))
            .collect();
        rows += &format!(
            "<tr><td>{}</td><td class=\"words\"><strong>{}</strong><small>{}</small><small>What helps: {}</small></td>{cells}</tr>",
            escape(&c.name),
            escape(&what),
            escape(&because),
            escape(&helps)
        );
    }
    let table = format!(
        "<div class=\"scroll\"><table><tr><th>configuration</th><th style=\"text-align:left\">short of</th><th>decoding alone</th>\
         <th>memory</th><th>disk</th><th>device</th><th>bus</th></tr>{rows}</table></div>"
    );
    let even = match &bench.break_even {
        Told { value: Some(even), .. } => {
            let or = |told: &Told<f64>, of: &dyn Fn(f64) -> String| match told {
                Told { value: Some(x), .. } => of(*x),
                Told { why, .. } => why.clone().unwrap_or_default(),
            };
            let length = or(&even.video_seconds, &|s| format!("from {} s of video in a run", number(s)));
            let rate =
                or(&even.samples_per_video_second, &|r| format!("from {} samples for each second of video", number(r)));
            vec![
                format!("{} is faster than {} by length: {length}", even.gpu, even.cpu),
                format!("by rate: {rate}"),
                format!(
                    "a run's start takes {} s on the CPU and {} s on the GPU; each second of video {} s and {} s",
                    number(even.start[0]),
                    number(even.start[1]),
                    number(even.per_video_second[0]),
                    number(even.per_video_second[1])
                ),
            ]
        }
        Told { why, .. } => vec![why.clone().unwrap_or_default()],
    };
    let inside = format!("{table}<h3>Where CPU and GPU are even</h3>{}", list(&even));
    section(
        "Bounds and what would help",
        "Samples a second that each part would allow by itself, and how near the whole run came.",
        &inside,
    )
}

fn stages(bench: &Bench) -> String {
    let mut inside = STATES.to_string();
    for c in bench.ranked().into_iter().filter(|c| !c.stages.is_empty()) {
        inside += &format!("<figure style=\"margin:0\"><h3>{}</h3>{}</figure>", escape(&c.name), charts::stages(c));
    }
    section(
        "Stages of the pipeline",
        "How the threads of each stage spent the pipeline's time. On few cores busy threads share them: busy is not CPU time.",
        &inside,
    )
}

fn timelines(bench: &Bench) -> String {
    let all: Vec<&Configuration> = bench.ranked().into_iter().filter(|c| !c.timeline.is_empty()).collect();
    if all.is_empty() {
        return String::new();
    }
    let figure = |c: &&Configuration| {
        let label = format!("what the threads of {} did", c.name);
        format!(
            "<figure style=\"margin:0\"><h3>{}</h3>{}</figure>",
            escape(&c.name),
            charts::timeline(&c.timeline, &label)
        )
    };
    let (open, folded) = all.split_at(all.len().min(2));
    let mut inside = STATES.to_string() + &open.iter().map(figure).collect::<String>();
    if !folded.is_empty() {
        let more: String = folded.iter().map(figure).collect();
        inside += &format!("<details><summary>{} more</summary>{more}</details>", folded.len());
    }
    section(
        "The first seconds",
        "What each thread did in the run that warmed up. framemill run --trace FILE writes the whole for Perfetto.",
        &inside,
    )
}

fn equality(bench: &Bench) -> String {
    let mut rows = String::new();
    for c in &bench.configurations {
        let (class, word) = match c.verdict {
            Verdict::Reference => ("", "reference"),
            Verdict::Equal => ("good", "equal"),
            Verdict::Tolerated => ("", "tolerated"),
            Verdict::Different => ("bad", "different"),
            Verdict::Failed => ("bad", "failed"),
        };
        let rank = c.unranked.as_ref().map_or("ranked".to_string(), |why| format!("not ranked: {why}"));
        rows += &format!(
            "<tr><td>{}</td><td class=\"words {class}\">{word}</td><td class=\"words\">{}<small>{}</small></td></tr>",
            escape(&c.name),
            escape(&c.compared),
            escape(&rank)
        );
    }
    for missing in &bench.not_here {
        rows += &format!(
            "<tr><td>{}</td><td class=\"words\">not here</td><td class=\"words\">{}</td></tr>",
            escape(&missing.name),
            escape(&missing.why)
        );
    }
    let table = format!(
        "<div class=\"scroll\"><table><tr><th>configuration</th><th style=\"text-align:left\">output</th>\
         <th style=\"text-align:left\">found</th></tr>{rows}</table></div>"
    );
    section("Is it the same work?", &format!("What was compared: {}.", bench.rules.equality), &table)
}

fn machine(bench: &Bench) -> String {
    let m = &bench.machine;
    let or = |told: &Told<String>| told.value.clone().or_else(|| told.why.clone()).unwrap_or_default();
    let gpus: Vec<String> = m
        .gpus
        .iter()
        .map(|g| format!("{}: {} ({}{})", g.device, g.name, g.driver, if g.software { ", software" } else { "" }))
        .collect();
    let rate = |told: &Told<f64>| match told {
        Told { value: Some(rate), .. } => format!("{} GB/s", number(rate / 1e9)),
        Told { why, .. } => why.clone().unwrap_or_default(),
    };
    let facts = [
        ("Processor", format!("{}, {} cores", m.cpu, m.cores)),
        ("Governor", or(&m.governor)),
        ("Memory", m.memory.value.map_or("–".into(), |b| format!("{} GB", number(b as f64 / 1e9)))),
        ("Copying in memory", rate(&bench.rates.memory)),
        ("Writing to scratch", rate(&bench.rates.disk)),
        ("GPUs", if gpus.is_empty() { "none".into() } else { gpus.join("; ") }),
        ("Energy", or(&m.energy)),
        ("Kernel", m.kernel.clone()),
        ("framemill", format!("{}{}", bench.framemill, if m.optimized { "" } else { ", built without optimisation" })),
        ("Versions", versions(&m.versions)),
        ("Load at start", m.load.value.map_or("–".into(), |l| l.map(|x| format!("{x:.2}")).join(", "))),
        ("Samples", bench.sample.digest.clone()),
    ];
    let rows: String = facts.iter().map(|(k, v)| format!("<tr><th>{k}</th><td>{}</td></tr>", escape(v))).collect();
    let mut noise = bench.noise.clone();
    noise.extend(bench.configurations.iter().flat_map(|c| c.noise.iter().map(move |n| format!("{}: {n}", c.name))));
    if noise.is_empty() {
        noise.push("none was found".into());
    }
    let inside = format!(
        "<div class=\"scroll\"><table class=\"facts\">{rows}</table></div><h3>Noise</h3>{}<h3>How this was measured</h3>{}",
        list(&noise),
        list(&[bench.rules.statistics.clone(), bench.rules.rounds.clone(), bench.rules.noise.clone()])
    );
    section("Machine and method", "What the numbers depend on.", &inside)
}

#[cfg(test)]
mod tests {
    use super::super::examples::{bench, configuration};
    use super::super::result::{Cost, Lane, StageTime};
    use super::super::stats::Estimate;
    use super::*;

    fn page() -> String {
        let mut c = configuration("cpu/<b>&\"", &[10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
        c.stages = vec![StageTime { stage: "sink".into(), threads: 1, busy: 1.0, starved: 2.0, blocked: 1.0 }];
        c.timeline = vec![Lane { thread: "sink".into(), slices: vec![(0.0, 5.0, 0), (5.0, 5.0, 2)] }];
        let each = Estimate::of(vec![3.0; 6]).unwrap();
        c.cost = Told::is(Cost { price_per_hour: 1.0, per_million_samples: each, per_thousand_video_hours: None });
        let slow = configuration("slow", &[1.0, 1.1, 1.2, 1.3, 1.4, 1.5]);
        html(&bench("a box", vec![c, slow]))
    }

    #[test]
    fn the_page_needs_no_network_and_escapes_names() {
        let page = page();
        for forbidden in ["<script", "http://", "https://", "@import", "url(", "<b>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("cpu/&lt;b&gt;&amp;&quot; is 10.0 times as fast as slow"), "{}", &page[..200]);
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<svg").count(), 4, "throughput, cost, stages, timeline");
    }

    #[test]
    fn the_lead_says_no_more_than_the_intervals() {
        let with = |a: &[f64], b: &[f64]| lead(&bench("m", vec![configuration("a", a), configuration("b", b)]));
        assert!(with(&[10.0; 6], &[10.0; 6]).starts_with("No difference shown"));
        assert!(with(&[20.0; 6], &[10.0; 6]).starts_with("a is 2.00 times as fast as b"));
        assert!(with(&[20.0; 2], &[10.0; 2]).ends_with("too few rounds to be sure"));
        assert_eq!(lead(&bench("m", Vec::new())), "Nothing could be ranked");
    }
}
