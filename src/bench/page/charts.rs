//! Charts as SVG, drawn here: no script, no font, nothing from a network.

use super::super::result::{Bench, Configuration, Lane, StageTime};
use super::super::stats::Estimate;
use super::super::table::{interval, number};
use super::escape;

/// Width of every chart; height follows from what is in it.
const WIDTH: f64 = 900.0;
/// Where bars begin: names stand to the left.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 40.0;

/// A scale from 0 to a round number, with its ticks.
struct Scale {
    most: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// From 0 at `from` to at least `most` at `to`.
    fn new(most: f64, from: f64, to: f64) -> Scale {
        let most = if most > 0.0 { most } else { 1.0 };
        let size = 10f64.powf((most / 5.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * size).find(|s| most / s <= 5.0).unwrap_or(10.0 * size);
        Scale { most: (most / step).ceil() * step, step, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * value / self.most
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=(self.most / self.step).round() as u32).map(|i| f64::from(i) * self.step)
    }

    /// A tick's number, with no more digits than its step needs.
    fn label(&self, value: f64) -> String {
        let fine = |digits: f64| (self.step * digits - (self.step * digits).round()).abs() < 1e-9;
        match () {
            () if fine(1.0) && value >= 10_000.0 => number(value),
            () if fine(1.0) => format!("{value:.0}"),
            () if fine(10.0) => format!("{value:.1}"),
            () if fine(100.0) => format!("{value:.2}"),
            () => number(value),
        }
    }

    /// Lines from `top` to `bottom` with numbers below.
    fn axis(&self, top: f64, bottom: f64, unit: &str) -> String {
        let mut out = String::new();
        for tick in self.ticks() {
            let x = self.at(tick);
            out += &format!("<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
            out += &format!(
                "<text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                self.label(tick)
            );
        }
        let middle = (self.from + self.to) / 2.0;
        out + &format!(
            "<text class=\"soft\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 36.0,
            escape(unit)
        )
    }
}

fn svg(height: f64, label: &str, inside: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">{inside}</svg>", escape(label))
}

fn text(x: f64, y: f64, class: &str, anchor: &str, words: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words))
}

/// A name that fits to the left of the bars; the whole stands in its title.
fn name(y: f64, words: &str) -> String {
    let short: String = match words.chars().count() > 30 {
        true => words.chars().take(29).chain(['…']).collect(),
        false => words.into(),
    };
    format!(
        "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\"><title>{}</title>{}</text>",
        LEFT - 12.0,
        escape(words),
        escape(&short)
    )
}

/// A speed that is shown as a bar.
struct Bar<'a> {
    name: &'a str,
    rate: Option<&'a Estimate>,
    /// What stands there where there is no speed.
    otherwise: &'a str,
    /// What it cannot exceed.
    bound: Option<f64>,
}

/// Samples a second by configuration, with the bound of decoding alone.
pub fn throughput(all: &[&Configuration]) -> String {
    let decode =
        |c: &Configuration| c.bounds.iter().find(|b| b.name == "decode").and_then(|b| b.samples_per_second.value);
    let rows = all.iter().map(|c| Bar {
        name: &c.name,
        rate: c.samples_per_second.as_ref().filter(|_| c.ranked),
        otherwise: "not ranked, see below",
        bound: decode(c),
    });
    bars(&rows.collect::<Vec<_>>(), "samples a second by configuration")
}

/// Samples a second of other programs, below the configuration that they were held against.
pub fn peers(bench: &Bench) -> String {
    let ours = bench.peers.first().and_then(|p| bench.find(&p.of)).into_iter().map(|c| Bar {
        name: &c.name,
        rate: c.samples_per_second.as_ref(),
        otherwise: "not measured",
        bound: None,
    });
    let theirs = bench.peers.iter().map(|p| Bar {
        name: &p.name,
        rate: p.samples_per_second.as_ref(),
        otherwise: "not measured, see below",
        bound: None,
    });
    bars(&ours.chain(theirs).collect::<Vec<_>>(), "samples a second of framemill and other programs")
}

/// Speeds: a bar for the median, a whisker for its interval, a dashed line for the bound.
fn bars(all: &[Bar], label: &str) -> String {
    const ROW: f64 = 44.0;
    let fastest = all.iter().filter_map(|bar| bar.rate).map(|e| e.high).fold(0.0, f64::max);
    // A bound far beyond would leave no room for the bars.
    let shown = |bound: f64| bound <= 3.0 * fastest;
    let bounds = all.iter().filter_map(|bar| bar.bound).filter(|b| shown(*b));
    let scale = Scale::new(bounds.fold(fastest, f64::max), LEFT, WIDTH - RIGHT - 110.0);
    let bottom = ROW * all.len() as f64;
    let mut out = scale.axis(0.0, bottom, "samples a second");
    for (i, bar) in all.iter().enumerate() {
        let (top, middle) = (ROW * i as f64, ROW * (i as f64 + 0.5));
        out += &name(middle + 4.5, bar.name);
        let Some(rate) = bar.rate else {
            out += &text(LEFT + 8.0, middle + 4.5, "soft", "start", bar.otherwise);
            continue;
        };
        let [x, low, high] = [rate.median, rate.low, rate.high].map(|v| scale.at(v));
        out += &format!(
            "<rect class=\"bar\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"22\" rx=\"3\"><title>{}: {} samples a second</title></rect>",
            middle - 11.0,
            x - LEFT,
            escape(bar.name),
            interval(rate)
        );
        out += &format!(
            "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v12M{high:.1} {:.1}v12\"/>",
            middle - 6.0,
            middle - 6.0
        );
        let mut after = high;
        match bar.bound {
            Some(bound) if shown(bound) => {
                let x = scale.at(bound);
                out += &format!(
                    "<line class=\"bound\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>decoding alone: {}</title></line>",
                    top + 4.0,
                    top + ROW - 4.0,
                    number(bound)
                );
                if (x - after).abs() < 70.0 {
                    after = after.max(x);
                }
            }
            _ => {}
        }
        out += &text(after + 10.0, middle + 4.5, "", "start", &number(rate.median));
    }
    out += &format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"0\" y2=\"{bottom:.1}\"/>");
    svg(bottom + 44.0, label, &out)
}

/// How each stage's threads spent the pipeline's time, as stacked bars.
pub fn stages(c: &Configuration) -> String {
    const ROW: f64 = 26.0;
    let whole = pipeline(&c.stages);
    let (from, to) = (LEFT, WIDTH - RIGHT - 110.0);
    let bottom = ROW * c.stages.len() as f64;
    let mut out = String::new();
    for (i, stage) in c.stages.iter().enumerate() {
        let y = ROW * i as f64;
        out += &name(y + 17.0, &format!("{} × {}", stage.stage, stage.threads));
        let all = (whole * stage.threads as f64).max(stage.alive()).max(f64::MIN_POSITIVE);
        let ended = (all - stage.alive()).max(0.0);
        let mut x = from;
        let parts = [("busy", stage.busy), ("blocked", stage.blocked), ("starved", stage.starved), ("ended", ended)];
        for (class, seconds) in parts {
            let width = (to - from) * seconds / all;
            if width > 0.05 {
                out += &format!(
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\"><title>{}: {class} {:.2} s, {:.0}%</title></rect>",
                    y + 4.0,
                    stage.stage,
                    seconds,
                    100.0 * seconds / all
                );
            }
            x += width;
        }
        out += &text(to + 10.0, y + 17.0, "soft", "start", &format!("{:.0}% busy", 100.0 * stage.busy / all));
    }
    svg(bottom + 4.0, &format!("what the stages of {} did", c.name), &out)
}

/// Seconds that the pipeline ran: the sink's one thread lives as long.
fn pipeline(stages: &[StageTime]) -> f64 {
    stages.iter().find(|s| s.stage == "sink").map_or(0.0, StageTime::alive)
}

/// What each thread did in the first seconds.
pub fn timeline(lanes: &[Lane], label: &str) -> String {
    const ROW: f64 = 20.0;
    let end = lanes.iter().flat_map(|l| &l.slices).map(|(start, length, _)| start + length).fold(0.0, f64::max);
    let scale = Scale::new(end / 1e3, LEFT, WIDTH - RIGHT);
    let bottom = ROW * lanes.len() as f64;
    let mut out = scale.axis(0.0, bottom, "seconds since the pipeline began");
    for (i, lane) in lanes.iter().enumerate() {
        let y = ROW * i as f64 + 3.0;
        out += &name(y + 11.5, &lane.thread);
        let width = scale.at(end / 1e3) - LEFT;
        out += &format!("<rect class=\"lane\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"14\"/>");
        // One path for each kind, since there are thousands of pieces.
        for (kind, class) in ["busy", "starved", "blocked"].iter().enumerate() {
            let pieces: String = lane
                .slices
                .iter()
                .filter(|s| usize::from(s.2) == kind)
                .map(|(start, length, _)| {
                    let (x, to) = (scale.at(start / 1e3), scale.at((start + length) / 1e3));
                    format!("M{x:.1} {y:.0}H{to:.1}v14H{x:.1}z")
                })
                .collect();
            if !pieces.is_empty() {
                out += &format!("<path class=\"{class}\" d=\"{pieces}\"/>");
            }
        }
    }
    svg(bottom + 44.0, label, &out)
}

/// Speed against cost, for configurations with a price; none where there is no price.
pub fn cost(all: &[&Configuration]) -> Option<String> {
    const TOP: f64 = 24.0;
    const BOTTOM: f64 = 300.0;
    let points: Vec<(&Configuration, &Estimate, &Estimate)> = all
        .iter()
        .filter_map(|c| Some((*c, &c.cost.value.as_ref()?.per_million_samples, c.samples_per_second.as_ref()?)))
        .collect();
    if points.is_empty() {
        return None;
    }
    let most = |of: fn(&(&Configuration, &Estimate, &Estimate)) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let (left, right) = (80.0, WIDTH - 190.0);
    let x = Scale::new(most(|p| p.1.high), left, right);
    let y = Scale::new(most(|p| p.2.high), BOTTOM, TOP);
    let mut out = x.axis(TOP, BOTTOM, "cost of a million samples, in the unit of the prices (less is better)");
    for tick in y.ticks() {
        let at = y.at(tick);
        out += &format!("<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        out += &text(left - 8.0, at + 4.0, "soft", "end", &y.label(tick));
    }
    out += &format!(
        "<text class=\"soft\" transform=\"translate(22 {:.1}) rotate(-90)\" text-anchor=\"middle\">samples a second (more is better)</text>",
        (TOP + BOTTOM) / 2.0
    );
    let mut labels: Vec<(f64, f64)> = Vec::new();
    for (c, cost, rate) in &points {
        let [px, x1, x2] = [cost.median, cost.low, cost.high].map(|v| x.at(v));
        let [py, y1, y2] = [rate.median, rate.low, rate.high].map(|v| y.at(v));
        out += &format!("<path class=\"whisker\" d=\"M{x1:.1} {py:.1}H{x2:.1}M{px:.1} {y1:.1}V{y2:.1}\"/>");
        out += &format!(
            "<circle class=\"dot\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"7\"><title>{}: {} for a million samples at {} an hour</title></circle>",
            escape(&c.name),
            interval(cost),
            c.cost.value.as_ref().map_or(0.0, |v| v.price_per_hour)
        );
        let mut at = py + 4.5;
        // Above what stands there already.
        while labels.iter().any(|(x, y)| (x - px).abs() < 180.0 && (y - at).abs() < 15.0) {
            at -= 16.0;
        }
        labels.push((px, at));
        out += &text(px + 13.0, at, "", "start", &c.name);
    }
    Some(svg(BOTTOM + 44.0, "speed against cost", &out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (most, end, step) in
            [(97.0, 100.0, 20.0), (1.0, 1.0, 0.2), (11.0, 12.5, 2.5), (0.0, 1.0, 0.2), (4321.0, 5000.0, 1000.0)]
        {
            let scale = Scale::new(most, 0.0, 100.0);
            assert!(
                (scale.most - end).abs() < 1e-9 && (scale.step - step).abs() < 1e-9,
                "{most}: {} {}",
                scale.most,
                scale.step
            );
            assert_eq!((scale.at(0.0), scale.at(scale.most)), (0.0, 100.0));
        }
        let labels = |most: f64| {
            let scale = Scale::new(most, 0.0, 1.0);
            scale.ticks().map(|t| scale.label(t)).collect::<Vec<_>>()
        };
        assert_eq!(labels(1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(40_000.0), ["0", "10,000", "20,000", "30,000", "40,000"]);
    }
}
