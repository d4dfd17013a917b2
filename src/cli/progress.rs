//! How a long run shows how far it is: a bar on a terminal, lines elsewhere, JSON on request.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::say;
use crate::error::{Error, Result};
use crate::pipeline::Snapshot;

/// Time between lines.
const LINES: Duration = Duration::from_secs(5);

/// The chosen form.
pub enum Progress {
    /// A bar on standard error.
    Bar(ProgressBar),
    /// A line on standard error now and then; the flag means JSON.
    Lines {
        /// JSON instead of text.
        json: bool,
        /// When the last one was.
        last: Instant,
        /// When it began.
        begun: Instant,
        /// How many inputs there are to do.
        total: u64,
        /// The last look.
        seen: Option<Snapshot>,
    },
    /// Nothing.
    None,
}

impl Progress {
    /// `how` is auto, bar, lines, json or none; `total` the inputs to do.
    pub fn new(how: &str, total: u64) -> Result<Progress> {
        let terminal = std::io::stderr().is_terminal();
        let lines = |json| {
            let now = Instant::now();
            Progress::Lines { json, last: now, begun: now, total, seen: None }
        };
        Ok(match how {
            "auto" if terminal => Self::bar(total),
            "bar" => Self::bar(total),
            "auto" | "lines" => lines(false),
            "json" => lines(true),
            "none" => Progress::None,
            other => {
                return Err(Error::usage(format!("--progress {other}: it is one of auto, bar, lines, json, none")));
            }
        })
    }

    fn bar(total: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{bar:32} {pos}/{len} inputs, {msg}, {elapsed} (eta {eta})";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Progress::Bar(bar)
    }

    /// Shows a look at the run.
    pub fn show(&mut self, now: &Snapshot) {
        match self {
            Progress::Bar(bar) => {
                bar.set_message(format!("{} samples, {} rejected", now.samples, now.rejected));
                bar.set_position(now.inputs);
            }
            Progress::Lines { json, last, begun, total, seen } => {
                *seen = Some(now.clone());
                if last.elapsed() < LINES {
                    return;
                }
                *last = Instant::now();
                say(&line(*json, *begun, *total, now));
            }
            Progress::None => {}
        }
    }

    /// Says something beside the progress.
    pub fn note(&self, text: &str) {
        match self {
            Progress::Bar(bar) => bar.suspend(|| say(text)),
            _ => say(text),
        }
    }

    /// Takes the bar away. Whoever reads JSON gets a last line, also of a short run.
    pub fn end(&self) {
        match self {
            Progress::Bar(bar) => bar.finish_and_clear(),
            Progress::Lines { json: true, begun, total, seen: Some(seen), .. } => {
                say(&line(true, *begun, *total, seen))
            }
            _ => {}
        }
    }
}

fn line(json: bool, begun: Instant, total: u64, now: &Snapshot) -> String {
    let seconds = begun.elapsed().as_secs_f64();
    let rate = now.samples as f64 / seconds.max(1e-3);
    let left = (now.inputs > 0).then(|| seconds / now.inputs as f64 * total.saturating_sub(now.inputs) as f64);
    if json {
        return json!({
            "progress": now, "inputs_total": total, "seconds": seconds, "samples_per_second": rate, "seconds_left": left,
        })
        .to_string();
    }
    let left = left.map_or(String::new(), |s| format!(", about {s:.0} s left"));
    format!(
        "framemill: {}/{total} inputs, {} samples ({rate:.1}/s), {} rejected, {seconds:.0} s{left}",
        now.inputs, now.samples, now.rejected
    )
}
