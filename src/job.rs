//! The job: what a user asks for, parsed, validated and resolved before anything starts.
//!
//! A [`JobFile`] is the specification as written; flags and variables are laid over the file's tables before it is read,
//! so that all three speak one language. [`Job::resolve`] checks what the types cannot. [`Job::identity`] holds every
//! setting that can change a byte of the result, with the versions of the libraries whose output reaches data files;
//! [`Job::fingerprint`] is its digest.

mod detectors;
mod file;
mod identity;
pub mod values;

use std::sync::Arc;

use crate::backend::device::{self, Device};
use crate::decode::hardware;
use crate::decode::image::PhotoOptions;
use crate::decode::route::Demand;
use crate::detect::spec::{Frames, On};
use crate::detect::{Act, Detector};
use crate::error::{Error, Result};
use crate::input::{InputSpec, local_path};
use crate::op;
use crate::program::{Program, Settings};
use crate::sample::{Pick, Rational, Rule, Sampling};
use crate::sink::Format;
use crate::sink::encode::Encoding;
use crate::sink::record::Details;
use crate::store::Output;
use crate::store::cloud::{Place, Settings as StoreSettings};
use values::Rate;

pub use file::*;
pub use identity::{differences, fingerprint, versions};

/// Most threads that a job may ask for; a machine has room for so many stacks.
const MAX_THREADS: usize = 4096;

/// The output that `uri` means: a folder, or a prefix of an object store.
///
/// # Errors
/// Usage errors for other URIs, and for object stores where this build has none.
pub fn output(uri: &str, settings: &StoreSettings) -> Result<Output> {
    match Place::of(uri) {
        Some(_) => Output::remote(uri, settings),
        None => Ok(Output::at(&local_path(uri)?)),
    }
}

/// A job that can be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// As written.
    pub file: JobFile,
    /// Which frames.
    pub sampling: Sampling,
    /// What is done to them.
    pub program: Program,
    /// How photos are read.
    pub photo: PhotoOptions,
    /// How samples are encoded.
    pub encoding: Encoding,
    /// CPU threads.
    pub threads: usize,
    /// What goes in, wherever it is mounted.
    portable: InputSpec,
    /// Where the operations run.
    pub device: Device,
    /// What decodes.
    pub decoder: Demand,
    /// What finds objects.
    pub detectors: Vec<Arc<Detector>>,
}

impl Job {
    /// Checks a job and compiles its parts.
    ///
    /// # Errors
    /// Usage, naming the setting; unavailable where a demanded device or decoder is missing and falling back forbidden.
    pub fn resolve(file: JobFile) -> Result<Job> {
        let sampling = sampling(&file.sample)?;
        let background = op::rgb(&file.background).map_err(|e| e.context("background"))?;
        let settings = Settings {
            quality: file.quality,
            chroma: file.chroma,
            seed: file.seed,
            epoch: file.epoch,
            background,
            square_pixels: file.square_pixels,
        };
        let program = Program::compile(&file.ops, settings)?;
        let dtype = program.output().0;
        let encoding = file.output.encode.unwrap_or_else(|| match sampling.clip {
            Some(_) if file.output.format != Format::Tensors => Format::Tensors.default_encoding(dtype),
            _ => file.output.format.default_encoding(dtype),
        });
        file.output.format.check(&encoding, dtype, sampling.clip.is_some())?;
        if file.output.format == Format::Tensors {
            one_size(&program)?;
        } else if let Some(field) = file.input.field.iter().find(|f| f.ext.eq_ignore_ascii_case(encoding.ext())) {
            let ext = &field.ext;
            return Err(Error::usage(format!(
                "--field {field}: KEY.{ext} is the sample itself: choose another ending"
            )));
        }
        let positive = [
            ("limit", file.input.limit.unwrap_or(1)),
            ("variants", u64::from(file.variants)),
            ("shard_samples", file.output.shard_samples),
            ("max_pixels", file.max_pixels),
            ("batch", file.batch.map_or(1, |batch| batch as u64)),
            ("scratch_limit", file.scratch_limit.map_or(1, |limit| limit.0)),
            ("unit", file.unit.is_positive().into()),
            ("stall_timeout", file.stall_timeout.is_positive().into()),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return Err(Error::usage(format!("{name}: expected more than 0")));
        }
        file.output.store.check()?;
        if file.grace.num() < 0 {
            return Err(Error::usage("grace: expected 0 or more"));
        }
        if file.lease < Rational::seconds(1) {
            return Err(Error::usage("lease: expected 1s or more"));
        }
        let photo = PhotoOptions {
            max_pixels: file.max_pixels,
            icc_convert: file.icc == Icc::Convert,
            apply_orientation: file.orient == Orient::Apply,
            background,
        };
        if file.threads > MAX_THREADS {
            return Err(Error::usage(format!("threads: {}; expected at most {MAX_THREADS}", file.threads)));
        }
        let threads = match file.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let device: Device = file.device.parse()?;
        if file.fallback == Fallback::Forbid {
            device::check(device).map_err(|e| e.context(format!("device {device}")))?;
        }
        let decoder: Demand = file.decoder.parse()?;
        if let (Fallback::Forbid, Demand::Hardware(kind)) = (file.fallback, decoder) {
            hardware::find(kind).map_err(|why| Error::unavailable(format!("decoder {decoder}: {why}")))?;
        }
        let portable = file.input.portable()?;
        let detectors = detectors::open(&file, settings, sampling.clip.is_some(), program.output().0)?;
        Ok(Job { sampling, program, photo, encoding, threads, device, decoder, detectors, portable, file })
    }

    /// Where the result goes.
    ///
    /// # Errors
    /// Usage errors where there is none, or its URI or settings cannot be.
    pub fn output(&self) -> Result<Output> {
        let uri = self.file.output.uri.as_deref();
        let uri =
            uri.ok_or_else(|| Error::usage("no output: give --output FOLDER, or - for a tar on standard output"))?;
        output(uri, &self.file.output.store)
    }

    /// Where the sources are kept, if they are.
    ///
    /// # Errors
    /// Usage errors where its URI cannot be.
    pub fn raw(&self) -> Result<Option<Output>> {
        self.file.output.keep_raw.as_deref().map(|uri| output(uri, &self.file.output.store)).transpose()
    }

    /// What records tell of objects beyond what all do.
    pub fn details(&self) -> Details {
        let any = |is: fn(&Detector) -> bool| self.detectors.iter().any(|d| is(d));
        Details {
            masks: any(Detector::masks),
            embeddings: any(Detector::embeds),
            parents: any(|d| matches!(d.on, On::Objects(_))),
            frames: self.sampling.clip.is_some() && any(|d| d.frames == Frames::All),
        }
    }

    /// How many samples of each input are kept, before they are cut, where only the best are.
    pub fn best(&self) -> Option<usize> {
        let count = |rule: &Act| if let Act::Best { count, .. } = rule { Some(*count) } else { None };
        self.detectors.iter().flat_map(|d| &d.rules).find_map(count)
    }
}

fn sampling(spec: &SampleSpec) -> Result<Sampling> {
    let mut rules = Vec::new();
    if spec.all {
        rules.push(Rule::All);
    }
    if let Some(step) = spec.every {
        rules.push(Rule::Every(step));
    }
    if let Some(Rate(rate)) = spec.fps {
        rules.push(Rule::Every(rate.recip().ok_or_else(|| Error::usage(format!("fps: a rate of {rate}")))?));
    }
    if spec.keyframes {
        rules.push(Rule::Keyframes);
    }
    rules.extend(spec.count.map(Rule::Count));
    if !spec.at.is_empty() {
        rules.push(Rule::At(spec.at.clone()));
    }
    rules.extend(spec.scenes.0.map(Rule::Scenes));
    if rules.len() > 1 {
        return Err(Error::usage(format!("give one of {}, not several", RULES.join(", "))));
    }
    let default = Sampling::default();
    let rule = rules.pop().unwrap_or(default.rule);
    let clip = spec.clip.map(|c| c.0);
    let pick = match (&rule, spec.pick) {
        // What is not given.
        (Rule::Scenes(_), Pick::Next) => Pick::First,
        (_, pick) => pick,
    };
    let sampling = Sampling { rule, pick, start: spec.start, end: spec.end, clip };
    sampling.validate()?;
    Ok(sampling)
}

/// Refuses a list of operations whose output size depends on the input's: an array has one shape.
fn one_size(program: &Program) -> Result<()> {
    use crate::geometry::Orientation;
    let size = |w, h| program.resolve((w, h), Orientation::UPRIGHT, (1, 1), &Default::default()).map(|s| s.size());
    match (size(1920, 1080), size(1001, 1333)) {
        (Ok(a), Ok(b)) if a != b => Err(Error::usage(
            "format tensors needs every sample to have one size, but here it depends on the input: end with a resize to \
             w and h, a center_crop, a crop or a letterbox",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::values::ByteSize;
    use super::*;

    fn toml() -> JobFile {
        JobFile::from_tables(JobFile::tables(file::TOML, "job.toml").unwrap()).unwrap()
    }

    #[test]
    fn the_fingerprint_covers_bytes_and_nothing_else() {
        let base = Job::resolve(toml()).unwrap();
        let with = |change: fn(&mut JobFile)| {
            let mut file = toml();
            change(&mut file);
            Job::resolve(file).unwrap().fingerprint()
        };
        assert_eq!(base.fingerprint(), with(|f| f.threads = 9));
        assert_eq!(base.fingerprint(), with(|f| f.output.uri = Some("elsewhere".into())));
        assert_eq!(base.fingerprint(), with(|f| f.memory = ByteSize(5)));
        assert_eq!(base.fingerprint(), with(|f| f.scratch_limit = Some(ByteSize(5))));
        assert_eq!(base.fingerprint(), with(|f| f.batch = Some(5)));
        assert_ne!(base.fingerprint(), with(|f| f.seed = 1));
        assert_ne!(base.fingerprint(), with(|f| f.ops.clear()));
        assert_ne!(base.fingerprint(), with(|f| f.output.shard_samples = 7));
        let at = |mount: &str| {
            let mut file = toml();
            (file.input.uri, file.input.root) = (vec![format!("{mount}/clips")], Some(mount.into()));
            Job::resolve(file).unwrap()
        };
        let frozen = at("/mnt/a");
        assert_eq!(frozen.fingerprint(), at("/mnt/b").fingerprint(), "below a root its place does not matter");
        assert_ne!(frozen.fingerprint(), base.fingerprint());
        let read_back = JobFile::from_tables(frozen.identity()["job"].clone()).and_then(Job::resolve).unwrap();
        assert_eq!(read_back.fingerprint(), frozen.fingerprint());
        let mut file = toml();
        file.seed = 7;
        let other = Job::resolve(file).unwrap();
        assert_eq!(differences(&base.identity(), &other.identity()), ["seed: 0, here 7"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fails = |text: &str| {
            let e = JobFile::tables(text, "j.toml").and_then(JobFile::from_tables).and_then(Job::resolve).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{text}: {e}");
            e.message
        };
        assert!(fails("[sample]\nall = true\ncount = 3").contains("one of"));
        assert!(fails("[sample]\nevery = \"1x\"").contains("sample.every: `1x`"));
        assert!(fails("quality = \"best\"").contains("quality: "));
        assert!(fails("[inputs]\nuri = [\"x\"]").contains("inputs"));
        assert!(fails("variants = 0").contains("variants"));
        assert!(fails("threads = 5000").contains("at most"));
        assert!(fails("[input]\nfield = [\"a=JPG\"]").contains("KEY.JPG is the sample"));
        assert!(fails("device = \"tpu\"").contains("tpu"));
        assert!(fails("detect = [\"none.onnx\"]").contains("detect none.onnx"));
        assert!(fails("[[detect]]\nmodel = \"m.onnx\"\nthen = [{ hide = {} }]").contains("hide"));
        assert!(fails("[output]\nmetadata = [\"parquet\", \"coco\"]").contains("metadata coco"));
        assert!(fails("[output]\nmetadata = [\"xml\"]").contains("xml"));
        assert!(fails("[output]\nformat = \"tensors\"\nencode = \"png\"").contains("tensors"));
        assert!(fails("ops = [\"resize:256\"]\n[output]\nformat = \"tensors\"").contains("one size"));
        let forbidden = "device = \"cuda\"\nfallback = \"forbid\"";
        let e = JobFile::tables(forbidden, "j.toml").and_then(JobFile::from_tables).and_then(Job::resolve).unwrap_err();
        assert_eq!(e.exit_code(), 69);
    }
}
