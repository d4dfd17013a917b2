//! What a benchmark says on a terminal.

use super::result::{Bench, Configuration, Peer, Told, Verdict};
use super::stats::Estimate;

/// A number with three digits that count.
pub fn number(x: f64) -> String {
    let size = x.abs();
    match () {
        () if !x.is_finite() => "-".into(),
        () if size >= 10_000.0 => {
            let digits = format!("{:.0}", size);
            let first = digits.len() % 3;
            let parts: Vec<&str> = (0..=digits.len() / 3)
                .map(|i| &digits[if i == 0 { 0 } else { first + 3 * (i - 1) }..first + 3 * i])
                .filter(|p| !p.is_empty())
                .collect();
            format!("{}{}", if x < 0.0 { "-" } else { "" }, parts.join(","))
        }
        () if size >= 100.0 => format!("{x:.0}"),
        () if size >= 10.0 => format!("{x:.1}"),
        () if size >= 1.0 || x == 0.0 => format!("{x:.2}"),
        () => {
            let digits = (2 - size.log10().floor() as i32).clamp(0, 12) as usize;
            format!("{x:.digits$}")
        }
    }
}

/// A median with its interval.
pub fn interval(e: &Estimate) -> String {
    match e.rounds.len() {
        1 => format!("{} [one round]", number(e.median)),
        _ => format!("{} [{}, {}]", number(e.median), number(e.low), number(e.high)),
    }
}

/// Lines as columns; the first is the head, and all but the first column are flush right.
pub fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(wide).collect();
    let cell = |(i, text): (usize, &String)| {
        let pad = " ".repeat(widths[i] - text.chars().count());
        if i == 0 { text.clone() + &pad } else { pad + text }
    };
    let line =
        |cells: &Vec<String>| cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_string();
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn told<T>(told: &Told<T>, of: impl Fn(&T) -> String) -> String {
    told.value.as_ref().map_or_else(|| "-".to_string(), of)
}

/// How near a configuration came to a bound.
fn reached(c: &Configuration, name: &str) -> String {
    let bound = c.bounds.iter().find(|b| b.name == name).and_then(|b| b.reached);
    bound.map_or_else(|| "-".to_string(), |share| format!("{:.0}%", 100.0 * share))
}

fn row(c: &Configuration, priced: bool) -> Vec<String> {
    let mark = match c.verdict {
        Verdict::Tolerated => " (~)",
        _ if !c.noise.is_empty() => " (noisy)",
        _ => "",
    };
    let mut cells = vec![
        format!("{}{mark}", c.name),
        c.samples_per_second.as_ref().map_or_else(String::new, interval),
        c.frames_per_second.as_ref().map_or_else(String::new, |e| number(e.median)),
        told(&c.video_hours_per_hour, |e| number(e.median)),
        c.cpu_seconds_per_sample.as_ref().map_or_else(String::new, |e| number(1e3 * e.median)),
        c.outside.map_or_else(String::new, |s| format!("{} s", number(s))),
        reached(c, "decode"),
        c.bottleneck.as_ref().map_or_else(|| "-".into(), |b| b.what.clone()),
    ];
    if priced {
        cells.push(told(&c.cost, |cost| number(cost.per_million_samples.median)));
    }
    cells
}

/// The whole, for people.
pub fn text(bench: &Bench) -> String {
    let mut out = format!("{}\n{}\n", bench.machine.name, bench.sample.text());
    let ranked = bench.ranked();
    let priced = ranked.iter().any(|c| c.cost.value.is_some());
    if ranked.is_empty() {
        out += "\nnothing can be ranked\n";
    } else {
        let mut head = vec![
            "configuration",
            "samples/s [interval]",
            "frames/s",
            "video h/h",
            "CPU ms/sample",
            "start",
            "of decoding",
            "short of",
        ];
        if priced {
            head.push("$/million samples");
        }
        let head: Vec<String> = head.into_iter().map(str::to_string).collect();
        let mut qualities: Vec<&str> = ranked.iter().map(|c| &*c.quality).collect();
        qualities.dedup();
        for quality in &qualities {
            let mut lines = vec![head.clone()];
            lines.extend(ranked.iter().filter(|c| c.quality == *quality).map(|c| row(c, priced)));
            let title = if qualities.len() > 1 {
                format!("\nquality {quality} (other pixels: another job)\n")
            } else {
                "\n".into()
            };
            out += &(title + &columns(&lines) + "\n");
        }
    }
    out += &peers(bench);
    out += &notes(bench);
    out
}

/// Other programs beside framemill.
fn peers(bench: &Bench) -> String {
    let measured: Vec<&Peer> = bench.peers.iter().filter(|p| p.ratio.is_some()).collect();
    let mut out = String::new();
    if let Some(first) = measured.first() {
        let head = ["peer", "samples/s [interval]", &format!("of {}", first.of), "CPU ms/sample"];
        let mut lines = vec![head.map(str::to_string).to_vec()];
        lines.extend(measured.iter().map(|p| {
            let of =
                |e: &Option<Estimate>, by: f64| e.as_ref().map_or_else(String::new, |e| interval(&e.map(|x| x * by)));
            vec![p.name.clone(), of(&p.samples_per_second, 1.0), of(&p.ratio, 1.0), of(&p.cpu_seconds_per_sample, 1e3)]
        }));
        out += &format!("\n{}\n", columns(&lines));
    }
    for p in &bench.peers {
        let does = if p.ratio.is_some() { "does the same work" } else { "not measured" };
        out += &format!("\n{}: {does}: {}", p.name, p.compared);
    }
    out
}

/// What is not in the table.
fn notes(bench: &Bench) -> String {
    let mut out = String::new();
    for c in bench.configurations.iter().filter(|c| !c.ranked) {
        out += &format!("\nnot ranked: {}: {}", c.name, c.unranked.as_deref().unwrap_or_default());
    }
    for missing in &bench.not_here {
        out += &format!("\nnot here: {}: {}", missing.name, missing.why);
    }
    for c in bench.configurations.iter().filter(|c| c.ranked) {
        if c.verdict != Verdict::Reference {
            out += &format!("\n{}: output {}", c.name, c.compared);
        }
        if let Some(b) = &c.bottleneck {
            out += &format!("\n{}: {} is short: {}; what helps: {}", c.name, b.what, b.because, b.helps.join("; "));
        }
    }
    match &bench.break_even {
        Told { value: Some(even), .. } => {
            let length = told_or_why(&even.video_seconds, |s| format!("from videos of {} s", number(*s)));
            let rate = told_or_why(&even.samples_per_video_second, |r| {
                format!("from {} samples a second of video", number(*r))
            });
            out += &format!("\n{} beats {}: by length: {length}; by rate: {rate}", even.gpu, even.cpu);
        }
        Told { why, .. } => out += &format!("\nbreak-even: {}", why.as_deref().unwrap_or_default()),
    }
    for noise in &bench.noise {
        out += &format!("\nnoise: {noise}");
    }
    out.trim_end().to_string()
}

fn told_or_why<T>(told: &Told<T>, of: impl Fn(&T) -> String) -> String {
    match told {
        Told { value: Some(value), .. } => of(value),
        Told { why, .. } => why.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let all = [0.0, 0.001234, 0.5, 1.239, 12.39, 123.9, 1239.0, 12390.4, 1234567.0, -0.25, f64::NAN];
        let told: Vec<String> = all.into_iter().map(number).collect();
        let expected =
            ["0.00", "0.00123", "0.500", "1.24", "12.4", "124", "1239", "12,390", "1,234,567", "-0.250", "-"];
        assert_eq!(told, expected);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let lines = [vec!["a".to_string(), "rate".into()], vec!["longer".into(), "5".into()]];
        assert_eq!(columns(&lines), "a       rate\nlonger     5");
    }
}
