//! From chosen frames to samples: the Program, the record, the encoding.

use std::sync::Arc;

use serde_json::Value;

use super::decode::Work;
use crate::backend::{Item, Processed};
use crate::detect::Detector;
use crate::detect::spec::{Frames, On};
use crate::error::{Error, Result};
use crate::frame::{Frame, PixelFormat};
use crate::geometry::Transform;
use crate::job::Job;
use crate::program::DrawKey;
use crate::sink::encode::{encode, raw, shape};
use crate::sink::record::{Cell, Record};
use crate::sink::{Format, Sample};
use crate::tensor::Tensor;

/// Where a frame of a sample lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// From the sample to the upright source.
    pub transform: Transform,
    /// Size of that source.
    pub source: (u32, u32),
}

/// A sample before it is encoded.
#[derive(Clone, Default)]
pub(super) struct Made {
    pub tensors: Vec<Tensor>,
    pub record: Record,
    pub fields: Vec<(String, Vec<u8>)>,
    /// Where each of its frames lies.
    pub places: Vec<Place>,
    /// What each detector is to look at: of each frame that it sees. Nothing where it sees another's objects.
    pub views: Vec<Vec<Result<Processed>>>,
    /// The frames themselves, where a detector is to see parts of them.
    pub frames: Vec<Arc<Frame>>,
    /// By which it is kept.
    pub rank: Rank,
}

/// By which samples are kept where only the best are: crops go with the whole sample that they were cut from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rank {
    /// The whole sample's place among those of its picture.
    pub whole: u32,
    /// How strong the strongest object is by which it is ranked.
    pub score: f64,
}

/// How many frames of `work` a detector sees.
pub(super) fn seen(work: &Work, detector: &Detector) -> usize {
    match (&detector.on, detector.frames) {
        (On::Objects(_), _) => 0,
        (_, Frames::First) => work.frames.len().min(1),
        (_, Frames::All) => work.frames.len(),
    }
}

/// How many [`items`] `work` has.
pub(super) fn count(job: &Job, work: &Work) -> usize {
    let views: usize = job.detectors.iter().map(|detector| seen(work, detector)).sum();
    job.file.variants as usize * (work.frames.len() + views)
}

/// All that is made of `work`'s frames: the samples, then what each detector is to look at; of each all frames for the first
/// variant, for the second, and so on.
pub(super) fn items<'a>(job: &'a Job, work: &Work) -> Vec<Item<'a>> {
    let views = job.detectors.iter().map(|detector| (&detector.program, seen(work, detector)));
    let mut items = Vec::with_capacity(count(job, work));
    for (program, frames) in std::iter::once((&job.program, work.frames.len())).chain(views) {
        for variant in 0..job.file.variants {
            let key = DrawKey { asset: work.unit.identity, time_us: work.time_us, variant };
            items.extend(work.frames[..frames].iter().map(|frame| Item { program, frame: frame.clone(), key }));
        }
    }
    items
}

/// The frames of `work` in host memory, for detectors that see parts of them: a decoder's own device memory is short.
pub(super) fn kept(job: &Job, work: &Work) -> Result<Vec<Arc<Frame>>> {
    if !job.detectors.iter().any(|d| matches!(d.on, On::Objects(_))) {
        return Ok(Vec::new());
    }
    let keep = |frame: &Arc<Frame>| match frame.surface {
        None => Ok(frame.clone()),
        Some(_) => frame.on_host().map(|frame| Arc::new(frame.into_owned())),
    };
    work.frames.iter().map(keep).collect::<Result<_>>().map_err(|e: Error| e.context(place(work)))
}

/// What came of the first [`items`] of `work`, its samples: one result for each variant.
pub(super) fn make(
    job: &Job,
    work: &Work,
    columns: &[String],
    mut results: impl Iterator<Item = Result<Processed>>,
) -> Vec<Result<Made>> {
    let one = |variant| {
        // All of a variant's frames are taken, whatever one of them came to.
        let frames: Vec<Result<Processed>> = results.by_ref().take(work.frames.len()).collect();
        let frames = frames.into_iter().collect::<Result<Vec<_>>>().map_err(|e| e.context(place(work)))?;
        assemble(job, work, columns, variant, frames)
    };
    (0..job.file.variants).map(one).collect()
}

fn assemble(job: &Job, work: &Work, columns: &[String], variant: u32, frames: Vec<Processed>) -> Result<Made> {
    let places = frames.iter().map(|f| Place { transform: f.transform, source: f.source_size }).collect();
    let mut frames = frames.into_iter();
    let mut first = frames.next().ok_or_else(|| Error::bug("a sample without a frame"))?;
    let mut tensors = vec![std::mem::replace(&mut first.tensor, empty())];
    tensors.extend(frames.map(|frame| frame.tensor));
    let record = record(job, work, &first, &tensors[0], variant);
    let fields = job.file.input.field.iter().filter_map(|field| {
        let i = columns.iter().position(|c| *c == field.column)?;
        let text = match work.unit.cells.get(i)? {
            Cell::Null => String::new(),
            Cell::Text(text) => text.clone(),
            other => Value::from(other).to_string(),
        };
        Some((field.ext.clone(), text.into_bytes()))
    });
    Ok(Made { tensors, record, fields: fields.collect(), places, ..Made::default() })
}

fn empty() -> Tensor {
    use crate::tensor::{Dtype, Layout};
    Tensor { width: 0, height: 0, dtype: Dtype::U8, layout: Layout::Hwc, data: Vec::new() }
}

fn place(work: &Work) -> String {
    format!("{} at {} s", work.unit.place(), work.time_s)
}

/// `ASSET-TIME`, with what tells equal times and variants apart.
fn key(job: &Job, work: &Work, variant: u32) -> String {
    let time = match work.time_us {
        t if t < 0 => format!("n{:011}", t.unsigned_abs()),
        t => format!("{t:012}"),
    };
    let mut key = format!("{}-{time}", work.unit.asset());
    if work.repeat > 0 {
        key += &format!("-{}", work.repeat);
    }
    if job.file.variants > 1 {
        key += &format!("-a{variant}");
    }
    key
}

fn record(job: &Job, work: &Work, processed: &Processed, tensor: &Tensor, variant: u32) -> Record {
    let frame = &work.decoded;
    let subsampled = matches!(frame.format, PixelFormat::Yuv { sub_w, sub_h, .. } if sub_w + sub_h > 0);
    Record {
        key: key(job, work, variant),
        color_matrix: frame.color.matrix.name().into(),
        color_range: frame.color.range.name().into(),
        color_primaries: frame.color.primaries.clone(),
        color_transfer: frame.color.transfer.clone(),
        chroma_location: subsampled.then(|| frame.color.siting.name().to_string()),
        color_assumed: frame.color.assumed.iter().map(|s| s.to_string()).collect(),
        rotation: i32::from(frame.orientation.turns % 4) * 90,
        time_s: work.time_s,
        pts: frame.pts,
        time_base: format!("{}/{}", frame.time_base.0, frame.time_base.1),
        keyframe: frame.keyframe,
        source_width: processed.source_size.0,
        source_height: processed.source_size.1,
        width: tensor.width,
        height: tensor.height,
        transform: processed.transform.0,
        augment: processed.augment.clone(),
        warning: work.damage.map(|d| d.text().to_string()).or_else(|| work.source.warning.clone()),
        ..(*work.source).clone()
    }
}

/// Encodes a sample as the job's format wants it.
pub(super) fn finish(job: &Job, made: Made) -> Result<(Rank, Sample)> {
    let Made { tensors, record, fields, rank, .. } = made;
    let clip = job.sampling.clip.is_some();
    let shape = shape(&tensors, clip).map_err(|e| e.context(&record.uri))?;
    let dtype = tensors[0].dtype;
    let data = match job.file.output.format {
        Format::Tensors => raw(tensors),
        _ => encode(&tensors, clip, &job.encoding).map_err(|e| e.context(&record.uri))?,
    };
    let mut sample = Sample { key: record.key.clone(), ext: job.encoding.ext(), data, shape, dtype, record, fields };
    if job.file.output.format != Format::Tensors {
        sample.seal();
    }
    Ok((rank, sample))
}
