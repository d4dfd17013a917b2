//! Where CPU and GPU are equally fast: the length of a video, and the rate of samples.
//!
//! A run is taken as a start and a time for each second of video; both follow from the whole media and from a short cut of
//! them. How that time depends on the rate follows from the job's own rate and a quarter of it, and is told only between
//! these two, since a decoder that may jump costs less where little is wanted, by no straight line.

use std::time::Instant;

use super::child::Runner;
use super::measure::{Series, price_of};
use super::result::{BreakEven, SampleList, Told};
use super::stats::Estimate;
use super::{Spec, Way};
use crate::job::JobFile;
use crate::sample::Rational;

/// Rounds of each variation: enough for a decisive interval.
const ROUNDS: u32 = 5;
/// Part of the mean video that the short cut keeps.
const CUT: f64 = 0.25;
/// Part of the rate that is measured beside it.
const SPARSER: i64 = 4;

/// A configuration with its seconds for the whole, the short cut and the lower rate.
struct Line {
    start: f64,
    per_second: f64,
    sparse: f64,
}

/// Measures where the fastest configuration on the CPU and the fastest on a GPU are even.
pub(super) fn find(
    series: &[Series],
    runner: &Runner,
    spec: &Spec,
    sample: &SampleList,
    begun: Instant,
    news: &mut dyn FnMut(&str),
) -> Told<BreakEven> {
    let on_cpu = |s: &Series| s.ran_on() == Some("cpu");
    let sound = |s: &&Series| s.ran() && s.fallbacks().is_empty() && s.rate().is_some();
    let speed = |s: &Series| s.rate().map_or(0.0, |r| r.median);
    // Of two qualities the first that was asked for.
    let quality = series.first().map(|s| s.way.quality);
    let fastest = |cpu: bool| {
        let of = series.iter().filter(sound).filter(|s| on_cpu(s) == cpu && Some(s.way.quality) == quality);
        of.max_by(|a, b| speed(a).total_cmp(&speed(b)))
    };
    let (Some(cpu), Some(gpu)) = (fastest(true), fastest(false)) else {
        return Told::not("it needs a ranked configuration on the CPU and one on a GPU");
    };
    if spec.quick {
        return Told::not("not measured with --quick");
    }
    let Some(seconds) = sample.video_seconds.value.filter(|_| sample.photos == 0) else {
        return Told::not("it needs videos of known length, and nothing else");
    };
    if spec.job.sample.end.is_some() || spec.job.sample.start.is_some() {
        return Told::not("the job takes a part of each video: it cannot be cut further");
    }
    if begun.elapsed() + price_of(&[cpu, gpu], ROUNDS + 2) > spec.time_limit {
        return Told::not("the time limit left no room to measure it");
    }
    news(&format!("where {} and {} are even", cpu.way.name, gpu.way.name));
    let measured = lines(&[cpu, gpu], runner, spec, seconds, sample.videos as f64);
    match measured {
        Ok(lines) => told(cpu, gpu, &lines, seconds),
        Err(why) => Told::not(why),
    }
}

/// The job with every video cut short.
fn shorter(job: &JobFile, mean: f64) -> Option<(JobFile, f64)> {
    let end = (mean * CUT * 1e3).round();
    let mut short = job.clone();
    short.sample.end = Some(Rational::new(end as i64, 1000).filter(|e| e.is_positive())?);
    Some((short, end / 1e3))
}

/// The job with a quarter of its rate; none where it has no rate.
fn sparser(job: &JobFile) -> Option<JobFile> {
    let s = &job.sample;
    if s.all || s.keyframes || s.count.is_some() || !s.at.is_empty() {
        return None;
    }
    let step = step(job)?;
    let mut sparse = job.clone();
    sparse.sample.fps = None;
    sparse.sample.every = Some(Rational::new(step.num() * SPARSER, step.den())?);
    Some(sparse)
}

/// Seconds between samples; none where the job has no rate.
fn step(job: &JobFile) -> Option<Rational> {
    match (job.sample.every, job.sample.fps) {
        (Some(every), _) => Some(every),
        (None, Some(rate)) => rate.0.recip(),
        (None, None) => Rational::new(1, 1),
    }
}

fn lines(pair: &[&Series; 2], runner: &Runner, spec: &Spec, seconds: f64, videos: f64) -> Result<[Line; 2], String> {
    let (short, end) = shorter(&spec.job, seconds / videos).ok_or("the videos are too short to be cut")?;
    let sparse = sparser(&spec.job);
    let time = |way: &Way, job: &JobFile| runner.run(&way.job(job), None).map(|ran| ran.spent.wall);
    let mut walls: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (series, walls) in pair.iter().zip(&mut walls) {
            walls[0].push(time(&series.way, &short)?);
            if let Some(sparse) = &sparse {
                walls[1].push(time(&series.way, sparse)?);
            }
        }
    }
    let line = |series: &Series, [short, sparse]: [Vec<f64>; 2]| {
        let whole = series.wall().ok_or("it was not measured")?;
        let short = Estimate::of(short).ok_or("it was not measured")?;
        if !whole.apart(&short) {
            return Err(format!(
                "{}: the whole and the short cut take the same time: give more media",
                series.way.name
            ));
        }
        let per_second = (whole.median - short.median) / (seconds - end * videos);
        let start = (whole.median - per_second * seconds).max(0.0);
        let sparse = Estimate::of(sparse).map_or(f64::NAN, |e| (e.median - start) / seconds);
        Ok(Line { start, per_second, sparse })
    };
    let [cpu, gpu] = walls;
    Ok([line(pair[0], cpu)?, line(pair[1], gpu)?])
}

fn told(cpu: &Series, gpu: &Series, [c, g]: &[Line; 2], seconds: f64) -> Told<BreakEven> {
    let samples = cpu.samples() as f64 / seconds;
    let (rate, at) = (samples, [c, g]);
    Told::is(BreakEven {
        cpu: cpu.way.name.clone(),
        gpu: gpu.way.name.clone(),
        start: at.map(|l| l.start),
        per_video_second: at.map(|l| l.per_second),
        rates: [rate / SPARSER as f64, rate],
        video_seconds: length(c, g),
        samples_per_video_second: crossing(c, g, rate),
    })
}

/// Seconds of video from which the GPU is faster.
fn length(c: &Line, g: &Line) -> Told<f64> {
    let (start, each) = (g.start - c.start, c.per_second - g.per_second);
    match (start > 0.0, each > 0.0) {
        (true, true) => Told::is(start / each),
        (true, false) => Told::not("the GPU starts later and is no faster behind it: the CPU is faster at any length"),
        (false, true) => Told::not("the GPU starts no later and is faster: it is faster at any length"),
        (false, false) => {
            Told::not("the GPU starts no later but is no faster behind it: it pays for short videos only")
        }
    }
}

/// Samples for each second of video from which the GPU is faster on long videos, between a quarter of `rate` and `rate`.
fn crossing(c: &Line, g: &Line, rate: f64) -> Told<f64> {
    if c.sparse.is_nan() || g.sparse.is_nan() {
        return Told::not("the job has no rate (--every, --fps) that could be changed");
    }
    let low = rate / SPARSER as f64;
    let (at_low, at_rate) = (c.sparse - g.sparse, c.per_second - g.per_second);
    match (at_low > 0.0, at_rate > 0.0) {
        (false, true) => Told::is(low + (rate - low) * -at_low / (at_rate - at_low)),
        (true, true) => {
            Told::not(format!("the GPU is faster on long videos from {low:.3} to {rate:.3} samples a second"))
        }
        (false, false) => {
            Told::not(format!("the CPU is faster on long videos from {low:.3} to {rate:.3} samples a second"))
        }
        (true, false) => {
            Told::not("the GPU is faster at the lower of the two rates only: that is no crossing to rely on")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(start: f64, per_second: f64, sparse: f64) -> Line {
        Line { start, per_second, sparse }
    }

    #[test]
    fn lines_cross_where_they_do() {
        let (cpu, gpu) = (line(0.1, 0.05, 0.03), line(1.1, 0.03, 0.04));
        assert!((length(&cpu, &gpu).value.unwrap() - 50.0).abs() < 1e-9);
        let rate = crossing(&cpu, &gpu, 4.0).value.unwrap();
        assert!((rate - 2.0).abs() < 1e-9, "between 1 and 4, a third of the way: {rate}");
        assert!(length(&cpu, &line(1.0, 0.06, 0.0)).why.unwrap().contains("CPU is faster at any length"));
        assert!(length(&line(2.0, 0.5, 0.0), &gpu).why.unwrap().contains("faster at any length"));
        assert!(crossing(&cpu, &line(0.0, 0.01, 0.01), 4.0).why.unwrap().contains("GPU is faster"));
        assert!(crossing(&line(0.0, 1.0, f64::NAN), &gpu, 4.0).why.unwrap().contains("no rate"));
    }

    #[test]
    fn jobs_are_varied_where_they_can_be() {
        let job = JobFile::default();
        let (short, end) = shorter(&job, 10.0).unwrap();
        assert_eq!((short.sample.end.unwrap().as_f64(), end), (2.5, 2.5));
        assert_eq!(sparser(&job).unwrap().sample.every.unwrap().as_f64(), 4.0);
        let mut all = JobFile::default();
        all.sample.all = true;
        assert!(sparser(&all).is_none());
    }
}
