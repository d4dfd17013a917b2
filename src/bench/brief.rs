//! What `--quick` takes of media that would keep a run busy for longer than a minute.

use super::result::{SampleList, Told};
use crate::job::JobFile;
use crate::sample::{Rational, Rule, Sampling};

/// Inputs that are taken, at most.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Videos, and what may be one.
    pub videos: usize,
    /// Photos.
    pub photos: usize,
}

/// With `--quick`.
pub const MOST: Most = Most { videos: 12, photos: 1000 };
/// Seconds of video, of all together.
const SECONDS: u32 = 60;
/// Steps of `--every` that are left of each video, at least.
const STEPS: u32 = 4;

/// Cuts `job` to the inputs in `sample`, and their videos to [`SECONDS`] in all; tells what is left, where that is less.
pub fn cut(job: &mut JobFile, sampling: &Sampling, sample: &SampleList) -> Option<String> {
    if sample.part.is_some() {
        job.input.limit = Some(sample.inputs);
    }
    let parts: Vec<String> = sample.part.clone().into_iter().chain(shorten(job, sampling, sample)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Tells how much of each video is left. Named times stay as they are.
fn shorten(job: &mut JobFile, sampling: &Sampling, sample: &SampleList) -> Option<String> {
    let Told { value: Some(seconds), .. } = sample.video_seconds else { return None };
    if seconds <= f64::from(SECONDS) || matches!(sampling.rule, Rule::At(_)) {
        return None;
    }
    let mut each = Rational::new(SECONDS.into(), i64::try_from(sample.videos.max(1)).ok()?)?;
    if let Rule::Every(step) = sampling.rule {
        each = each.max(Rational::new(step.num().checked_mul(STEPS.into())?, step.den())?);
    }
    if each.as_f64() >= seconds {
        return None;
    }
    let end = job.sample.start.unwrap_or(Rational::ZERO).checked_add(each)?;
    if job.sample.end.is_some_and(|given| given <= end) {
        return None;
    }
    job.sample.end = Some(end);
    Some(format!("up to {:.1} s of each video", each.as_f64()))
}

#[cfg(test)]
mod tests {
    use super::super::examples::bench;
    use super::*;
    use crate::job::Job;

    fn shortened(seconds: f64, sample: &str) -> (Option<String>, Option<Rational>) {
        let text = format!("[input]\nuri = [\"clips\"]\n[sample]\n{sample}");
        let mut file = JobFile::from_tables(JobFile::tables(&text, "j.toml").unwrap()).unwrap();
        let sampling = Job::resolve(file.clone()).unwrap().sampling;
        let list = SampleList { videos: 4, video_seconds: Told::is(seconds), ..bench("box", Vec::new()).sample };
        (shorten(&mut file, &sampling, &list), file.sample.end)
    }

    #[test]
    fn long_videos_are_cut_to_a_minute_in_all() {
        let seconds = |n, d| Rational::new(n, d);
        assert_eq!(shortened(60.0, "all = true"), (None, None));
        assert_eq!(shortened(7200.0, "all = true").1, seconds(15, 1));
        assert_eq!(shortened(7200.0, "all = true\nstart = \"0.5\"").1, seconds(31, 2));
        assert_eq!(shortened(7200.0, "all = true\nend = \"10\""), (None, seconds(10, 1)));
        assert_eq!(shortened(7200.0, "every = \"10s\"").1, seconds(40, 1));
        assert_eq!(shortened(7200.0, "every = \"2h\""), (None, None));
        assert_eq!(shortened(7200.0, "at = [\"1000\"]"), (None, None));
        assert!(shortened(7200.0, "fps = 1").0.unwrap().contains("15.0 s of each video"));
    }
}
