//! Heads: from a model's output tensors to detections, in pixels of the model's input.
//!
//! Each head is a pure function. Boxes are `[x1, y1, x2, y2]`, where x = 0 is the left edge of the first pixel; scores are
//! 0 to 1; nothing is suppressed or limited yet, but what is below the score is left out. Where a layout comes from is told
//! with each head.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One object in the model's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Class index as the model numbers them.
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the model's input.
    pub bounds: [f32; 4],
    /// Points in pixels of the model's input.
    pub points: Vec<[f32; 2]>,
}

/// One output tensor of one picture: the shape without the batch's axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name in the model.
    pub name: String,
    /// Shape of one picture's part.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub data: Vec<f32>,
}

/// What a model says of one output: its name and shape with the batch's axis; -1 where a side is open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Declared {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
}

/// How a model's outputs are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// YOLOX (Megvii-BaseDetection/YOLOX, `demo_postprocess`): `[N, 5 + C]` for strides 8, 16, 32, row by row. Centre
    /// relative to the cell, logarithm of the size, objectness and classes as probabilities.
    Yolox,
    /// YOLOv5 and YOLOv7 (ultralytics/yolov5, `Detect` as exported): `[3 N, 5 + C]`, decoded: centre and size in pixels,
    /// objectness, with `points` the points, then the classes.
    Yolov5,
    /// YOLOv8, v9, 11 (ultralytics): `[4 + C, N]`, decoded: centre and size in pixels, then the classes. What lies behind the
    /// classes (mask coefficients) is left alone.
    Yolov8,
    /// Free of NMS (YOLOv10, YOLO26, exports with NMS inside): `[K, 6]`, corners in pixels, score, class.
    End2end,
    /// NanoDet (RangiLyu/nanodet before Plus): for each stride scores `[N, C]` and distances `[N, 4 * 8]` from the cell's
    /// centre, each the mean of a distribution over 0..=7 strides.
    Nanodet,
    /// NanoDet-Plus: one `[N, C + 32]` for strides 8, 16, 32, 64; cells are anchored at their top left.
    NanodetPlus,
    /// Scores `[N, C]` and decoded, normalised corners `[N, 4]` (Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB): class 0
    /// is the background and is not counted.
    Ssd,
    /// YuNet (ShiqiYu/libfacedetection.train, OpenCV's `FaceDetectorYN`): `cls_S`, `obj_S`, `bbox_S`, `kps_S` for strides
    /// 8, 16, 32; five points: right and left eye, nose, right and left corner of the mouth.
    Yunet,
    /// DETR (facebookresearch/detr): logits `[Q, C + 1]`, of which the last is "no object", and normalised centres and sizes.
    Detr,
    /// RT-DETR (lyuwenyu/RT-DETR as Hugging Face exports it): logits `[Q, C]`, each through a sigmoid; or as ultralytics
    /// exports it, `[Q, 4 + C]` in one, already probabilities. Normalised centres and sizes.
    Rtdetr,
    /// TensorFlow's SSD post-processing: boxes `[K, 4]` as normalised y1, x1, y2, x2, classes `[K]`, scores `[K]`, count.
    TfSsd,
    /// FastestDet (dog-qiuqiu/FastestDet): `[5 + C, H, W]`, objectness, tanh of the offset, sigmoid of the size, classes.
    Fastestdet,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Layout; 12] = [
        Layout::Yolox,
        Layout::Yolov5,
        Layout::Yolov8,
        Layout::End2end,
        Layout::Nanodet,
        Layout::NanodetPlus,
        Layout::Ssd,
        Layout::Yunet,
        Layout::Detr,
        Layout::Rtdetr,
        Layout::TfSsd,
        Layout::Fastestdet,
    ];

    /// The name in jobs.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Yolox => "yolox",
            Layout::Yolov5 => "yolov5",
            Layout::Yolov8 => "yolov8",
            Layout::End2end => "end2end",
            Layout::Nanodet => "nanodet",
            Layout::NanodetPlus => "nanodet_plus",
            Layout::Ssd => "ssd",
            Layout::Yunet => "yunet",
            Layout::Detr => "detr",
            Layout::Rtdetr => "rtdetr",
            Layout::TfSsd => "tf_ssd",
            Layout::Fastestdet => "fastestdet",
        }
    }
}

/// A layout, and what of it the shapes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The layout.
    pub layout: Layout,
    /// Points of each object, for [`Layout::Yolov5`].
    pub points: usize,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.layout.name())?;
        if self.points > 0 { write!(f, ":points={}", self.points) } else { Ok(()) }
    }
}

impl FromStr for Head {
    type Err = Error;
    /// A layout's name (`yolov7`, `yolov9` and `yolo11` stand for their likes), for `yolov5` with `:points=N` behind it.
    fn from_str(text: &str) -> Result<Head> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let plain = match name.trim() {
            "yolov7" => "yolov5",
            "yolov9" | "yolov11" | "yolo11" => "yolov8",
            "yolov10" | "yolo26" => "end2end",
            "ultraface" => "ssd",
            "rt_detr" => "rtdetr",
            name => name,
        };
        let layout = Layout::ALL.into_iter().find(|l| l.name() == plain).ok_or_else(|| unknown(text))?;
        let points = match rest.strip_prefix("points=") {
            _ if rest.is_empty() => 0,
            Some(n) if layout == Layout::Yolov5 => n.parse().ok().filter(|n| *n <= 100).ok_or_else(|| unknown(text))?,
            _ => return Err(unknown(text)),
        };
        Ok(Head { layout, points })
    }
}

fn unknown(text: &str) -> Error {
    let names = Layout::ALL.map(Layout::name).join(", ");
    Error::usage(format!("unknown head {text:?}: expected one of {names}; yolov5 takes points, as in yolov5:points=4"))
}

/// Cells of all strides in an input of `w` x `h`.
fn cells((w, h): (u32, u32), strides: &[u32]) -> i64 {
    strides.iter().map(|s| i64::from(w.div_ceil(*s)) * i64::from(h.div_ceil(*s))).sum()
}

impl Head {
    /// Finds the layout in what a model declares of its outputs, for an input of `size` (width, height). `labels` is how many
    /// classes the job names, 0 where it names none.
    ///
    /// # Errors
    /// Usage, listing the outputs and how to name the head, where none or more than one layout fits.
    pub fn recognise(outputs: &[Declared], size: (u32, u32), labels: usize) -> Result<Head> {
        let found = |layout| Ok(Head { layout, points: 0 });
        let named = |part: &str| outputs.iter().any(|o| o.name.to_ascii_lowercase().contains(part));
        if ["cls_8", "obj_8", "bbox_8", "kps_8"].iter().all(|n| outputs.iter().any(|o| o.name == *n)) {
            return found(Layout::Yunet);
        }
        if named("cls_pred_stride_") && named("dis_pred_stride_") {
            return found(Layout::Nanodet);
        }
        if named("detection_boxes") && named("detection_scores") && named("detection_classes") {
            return found(Layout::TfSsd);
        }
        if named("logits") && named("pred_boxes") {
            return Err(Error::usage(format!(
                "logits and pred_boxes are either DETR's or RT-DETR's, and nothing in the model tells which: name the head, \
                 detr or rtdetr; its outputs are {}",
                listed(outputs)
            )));
        }
        if let [a, b] = outputs
            && named("scores")
            && named("boxes")
            && a.shape.len() == 3
            && b.shape.len() == 3
        {
            return found(Layout::Ssd);
        }
        // Ultralytics' segmentation has the prototypes of its masks behind the boxes.
        let boxes = match outputs {
            [one] => Some(one),
            [one, protos] if one.shape.len() == 3 && protos.shape.len() == 4 => Some(one),
            _ => None,
        };
        let (three, four) = (cells(size, &[8, 16, 32]), cells(size, &[8, 16, 32, 64]));
        match boxes.map(|o| o.shape.as_slice()) {
            Some([_, k, 6]) if *k <= 1000 && *k != three => found(Layout::End2end),
            Some([_, n, c]) if *n == three && *c > 5 => found(Layout::Yolox),
            Some([_, n, c]) if (*n == 3 * three || *n == 3 * four) && *c > 5 => {
                // Faces have five points and one class, plates four and two: or are they all classes?
                let points = match c {
                    15 => 4,
                    16 => 5,
                    _ => return found(Layout::Yolov5),
                };
                match *c as usize - 5 {
                    classes if labels == classes => found(Layout::Yolov5),
                    rest if labels == rest - 2 * points => Ok(Head { layout: Layout::Yolov5, points }),
                    _ => Err(Error::usage(format!(
                        "its {c} columns may be {} classes, or {points} points and {} classes: name the head, yolov5 or \
                         yolov5:points={points}, or the labels",
                        c - 5,
                        c - 5 - 2 * points as i64
                    ))),
                }
            }
            Some([_, n, c]) if *n == four && *c > 32 => found(Layout::NanodetPlus),
            Some([_, c, n]) if (*n == three || *n == four) && *c > 4 => found(Layout::Yolov8),
            Some([_, c, h, w]) if *c > 5 && (*w, *h) == (i64::from(size.0 / 16), i64::from(size.1 / 16)) => {
                found(Layout::Fastestdet)
            }
            Some([_, 300, c]) if *c > 6 => found(Layout::Rtdetr),
            _ => Err(Error::usage(format!(
                "the layout of its outputs is not known: {}; name the head, one of {}",
                listed(outputs),
                Layout::ALL.map(Layout::name).join(", ")
            ))),
        }
    }

    /// How many classes a model with these outputs has, where they tell.
    pub fn classes(&self, outputs: &[Declared]) -> Option<usize> {
        let ending = |part: &str| outputs.iter().find(|o| o.name.ends_with(part));
        let last = |o: Option<&Declared>| o.and_then(|o| o.shape.last().copied());
        let second = |o: Option<&Declared>| o.and_then(|o| o.shape.get(1).copied());
        let first = outputs.first();
        let masks = outputs.get(1).filter(|o| o.shape.len() == 4).map_or(0, |o| o.shape[1]);
        let count = match self.layout {
            Layout::Yolox => last(first)? - 5,
            Layout::Yolov5 => last(first)? - 5 - 2 * self.points as i64,
            Layout::Yolov8 => second(first)? - 4 - masks,
            Layout::Nanodet => last(ending("cls_pred_stride_8"))?,
            Layout::NanodetPlus => last(first)? - 4 * BINS as i64,
            Layout::Ssd => last(ending("scores"))? - 1,
            Layout::Yunet => 1,
            Layout::Detr => last(ending("logits"))? - 1,
            Layout::Rtdetr if outputs.len() == 1 => last(first)? - 4,
            Layout::Rtdetr => last(ending("logits"))?,
            Layout::Fastestdet => second(first)? - 5,
            Layout::End2end | Layout::TfSsd => return None,
        };
        usize::try_from(count).ok().filter(|n| *n > 0)
    }

    /// What the model found in one picture, at `score` or above. `size` is the input's (width, height).
    ///
    /// # Errors
    /// Usage where the outputs are not laid out as the head has it.
    pub fn decode(&self, outputs: &[Output], size: (u32, u32), score: f32) -> Result<Vec<Found>> {
        let found = match self.layout {
            Layout::Yolox => yolox(outputs, size, score),
            Layout::Yolov5 => yolov5(outputs, self.points, score),
            Layout::Yolov8 => yolov8(outputs, score),
            Layout::End2end => end2end(outputs, score),
            Layout::Nanodet => nanodet(outputs, size, score),
            Layout::NanodetPlus => nanodet_plus(outputs, size, score),
            Layout::Ssd => ssd(outputs, size, score),
            Layout::Yunet => yunet(outputs, size, score),
            Layout::Detr => detr(outputs, size, score),
            Layout::Rtdetr => rtdetr(outputs, size, score),
            Layout::TfSsd => tf_ssd(outputs, size, score),
            Layout::Fastestdet => fastestdet(outputs, size, score),
        };
        found.ok_or_else(|| {
            let shapes: Vec<Declared> = outputs
                .iter()
                .map(|o| {
                    let shape = std::iter::once(-1).chain(o.shape.iter().map(|n| *n as i64)).collect();
                    Declared { name: o.name.clone(), shape }
                })
                .collect();
            Error::usage(format!(
                "its outputs are not those of the head {self}: {}; name another head, one of {}",
                listed(&shapes),
                Layout::ALL.map(Layout::name).join(", ")
            ))
        })
    }
}

/// Names and shapes, for people.
pub fn listed(outputs: &[Declared]) -> String {
    let side = |n: &i64| if *n < 0 { "?".to_string() } else { n.to_string() };
    let one = |o: &Declared| format!("{} [{}]", o.name, o.shape.iter().map(side).collect::<Vec<_>>().join(", "));
    outputs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The index and value of the largest; `None` of nothing.
fn best(values: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    let larger = |best: Option<(usize, f32)>, (i, v): (usize, f32)| match best {
        Some((_, b)) if b >= v => best,
        _ => Some((i, v)),
    };
    values.enumerate().fold(None, larger)
}

fn centred(cx: f32, cy: f32, w: f32, h: f32) -> [f32; 4] {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// The output whose name ends so, as rows of so many columns.
fn rows<'a>(outputs: &'a [Output], name: &str, columns: Option<usize>) -> Option<(&'a [f32], usize)> {
    let output = outputs.iter().find(|o| o.name.ends_with(name))?;
    table(output, columns)
}

fn table(output: &Output, columns: Option<usize>) -> Option<(&[f32], usize)> {
    let [n, c] = output.shape[..] else { return None };
    (c > 0 && n * c == output.data.len() && columns.is_none_or(|want| want == c)).then_some((&output.data[..], c))
}

/// The cells of the strides, row by row: column, row, stride.
fn grid((w, h): (u32, u32), strides: &[u32]) -> impl Iterator<Item = (f32, f32, f32)> {
    strides.iter().flat_map(move |s| {
        let columns = w.div_ceil(*s);
        (0..h.div_ceil(*s)).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, *s as f32)))
    })
}

const STRIDES: [u32; 3] = [8, 16, 32];

fn yolox(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (data, columns) = table(outputs.first()?, None)?;
    if columns < 6 || (data.len() / columns) as i64 != cells(size, &STRIDES) {
        return None;
    }
    let one = |(row, (x, y, s)): (&[f32], (f32, f32, f32))| {
        let (class, probability) = best(row[5..].iter().copied())?;
        let score_here = row[4] * probability;
        (score_here >= score).then(|| {
            let (w, h) = (libm::expf(row[2]) * s, libm::expf(row[3]) * s);
            let bounds = centred((row[0] + x) * s, (row[1] + y) * s, w, h);
            Found { class, score: score_here, bounds, points: Vec::new() }
        })
    };
    Some(data.chunks_exact(columns).zip(grid(size, &STRIDES)).filter_map(one).collect())
}

fn yolov5(outputs: &[Output], points: usize, score: f32) -> Option<Vec<Found>> {
    let (data, columns) = table(outputs.first()?, None)?;
    let classes = 5 + 2 * points;
    if columns <= classes {
        return None;
    }
    let one = |row: &[f32]| {
        let (class, probability) = best(row[classes..].iter().copied())?;
        let score_here = row[4] * probability;
        (score_here >= score).then(|| {
            let points = row[5..classes].chunks_exact(2).map(|p| [p[0], p[1]]).collect();
            Found { class, score: score_here, bounds: centred(row[0], row[1], row[2], row[3]), points }
        })
    };
    Some(data.chunks_exact(columns).filter_map(one).collect())
}

fn yolov8(outputs: &[Output], score: f32) -> Option<Vec<Found>> {
    let output = outputs.first()?;
    let [channels, n] = output.shape[..] else { return None };
    let masks = outputs.get(1).filter(|o| o.shape.len() == 3).map_or(0, |o| o.shape[0]);
    let classes = channels.checked_sub(4 + masks).filter(|c| *c > 0)?;
    if channels * n != output.data.len() {
        return None;
    }
    let at = |channel: usize, i: usize| output.data[channel * n + i];
    let one = |i: usize| {
        let (class, probability) = best((0..classes).map(|c| at(4 + c, i)))?;
        let bounds = || centred(at(0, i), at(1, i), at(2, i), at(3, i));
        (probability >= score).then(|| Found { class, score: probability, bounds: bounds(), points: Vec::new() })
    };
    Some((0..n).filter_map(one).collect())
}

fn end2end(outputs: &[Output], score: f32) -> Option<Vec<Found>> {
    let (data, _) = table(outputs.first()?, Some(6))?;
    let one = |row: &[f32]| {
        // Some exports fill up with rows of -1.
        (row[4] >= score && row[5] >= 0.0).then(|| Found {
            class: row[5] as usize,
            score: row[4],
            bounds: [row[0], row[1], row[2], row[3]],
            points: Vec::new(),
        })
    };
    Some(data.chunks_exact(6).filter_map(one).collect())
}

/// Bins of a distance's distribution.
const BINS: usize = 8;

/// Mean of the distribution whose logits these are, in strides.
fn expectation(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut mean) = (0.0, 0.0);
    for (i, logit) in logits.iter().enumerate() {
        let weight = libm::expf(logit - top);
        sum += weight;
        mean += weight * i as f32;
    }
    mean / sum
}

fn distances(row: &[f32], cx: f32, cy: f32, s: f32) -> [f32; 4] {
    let d = |side: usize| expectation(&row[side * BINS..(side + 1) * BINS]) * s;
    [cx - d(0), cy - d(1), cx + d(2), cy + d(3)]
}

fn nanodet(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for s in STRIDES {
        let (scores, classes) = rows(outputs, &format!("cls_pred_stride_{s}"), None)?;
        let (boxes, columns) = rows(outputs, &format!("dis_pred_stride_{s}"), Some(4 * BINS))?;
        if scores.len() / classes != boxes.len() / columns || (boxes.len() / columns) as i64 != cells(size, &[s]) {
            return None;
        }
        for ((row, dist), (x, y, s)) in
            scores.chunks_exact(classes).zip(boxes.chunks_exact(columns)).zip(grid(size, &[s]))
        {
            let Some((class, probability)) = best(row.iter().copied()).filter(|(_, p)| *p >= score) else { continue };
            let half = (s - 1.0) / 2.0;
            let bounds = distances(dist, x * s + half, y * s + half, s);
            found.push(Found { class, score: probability, bounds, points: Vec::new() });
        }
    }
    Some(found)
}

fn nanodet_plus(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    const ALL: [u32; 4] = [8, 16, 32, 64];
    let (data, columns) = table(outputs.first()?, None)?;
    let classes = columns.checked_sub(4 * BINS).filter(|c| *c > 0)?;
    if (data.len() / columns) as i64 != cells(size, &ALL) {
        return None;
    }
    let one = |(row, (x, y, s)): (&[f32], (f32, f32, f32))| {
        let (class, probability) = best(row[..classes].iter().copied())?;
        let bounds = || distances(&row[classes..], x * s, y * s, s);
        (probability >= score).then(|| Found { class, score: probability, bounds: bounds(), points: Vec::new() })
    };
    Some(data.chunks_exact(columns).zip(grid(size, &ALL)).filter_map(one).collect())
}

fn ssd(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (scores, classes) = rows(outputs, "scores", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if classes < 2 || scores.len() / classes != boxes.len() / 4 {
        return None;
    }
    let (w, h) = (w as f32, h as f32);
    let mut found = Vec::new();
    for (row, b) in scores.chunks_exact(classes).zip(boxes.chunks_exact(4)) {
        // Each class by itself, as the reference does it: one prior may hold two.
        for (class, probability) in row[1..].iter().enumerate().filter(|(_, p)| **p >= score) {
            let bounds = [b[0] * w, b[1] * h, b[2] * w, b[3] * h];
            found.push(Found { class, score: *probability, bounds, points: Vec::new() });
        }
    }
    Some(found)
}

fn yunet(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for s in STRIDES {
        let part = |name: &str, columns: usize| rows(outputs, &format!("{name}_{s}"), Some(columns)).map(|r| r.0);
        let (cls, obj, boxes, points) = (part("cls", 1)?, part("obj", 1)?, part("bbox", 4)?, part("kps", 10)?);
        if [obj.len(), boxes.len() / 4, points.len() / 10, cells(size, &[s]) as usize].iter().any(|n| *n != cls.len()) {
            return None;
        }
        for (i, (x, y, s)) in grid(size, &[s]).enumerate() {
            let score_here = (cls[i].clamp(0.0, 1.0) * obj[i].clamp(0.0, 1.0)).sqrt();
            if score_here < score {
                continue;
            }
            let (b, k, px, py) = (&boxes[4 * i..4 * i + 4], &points[10 * i..10 * i + 10], x * s, y * s);
            let bounds = centred(b[0] * s + px, b[1] * s + py, libm::expf(b[2]) * s, libm::expf(b[3]) * s);
            let points = k.chunks_exact(2).map(|p| [p[0] * s + px, p[1] * s + py]).collect();
            found.push(Found { class: 0, score: score_here, bounds, points });
        }
    }
    Some(found)
}

fn scaled(b: &[f32], (w, h): (u32, u32)) -> [f32; 4] {
    let (w, h) = (w as f32, h as f32);
    centred(b[0] * w, b[1] * h, b[2] * w, b[3] * h)
}

fn detr(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (logits, classes) = rows(outputs, "logits", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if classes < 2 || logits.len() / classes != boxes.len() / 4 {
        return None;
    }
    let one = |(row, b): (&[f32], &[f32])| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|v| libm::expf(v - top)).sum();
        let (class, logit) = best(row[..classes - 1].iter().copied())?;
        let probability = libm::expf(logit - top) / sum;
        let bounds = || scaled(b, size);
        (probability >= score).then(|| Found { class, score: probability, bounds: bounds(), points: Vec::new() })
    };
    Some(logits.chunks_exact(classes).zip(boxes.chunks_exact(4)).filter_map(one).collect())
}

fn rtdetr(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let one = |probabilities: &mut dyn Iterator<Item = f32>, b: &[f32]| {
        let (class, probability) = best(probabilities)?;
        let bounds = || scaled(b, size);
        (probability >= score).then(|| Found { class, score: probability, bounds: bounds(), points: Vec::new() })
    };
    if let [output] = outputs {
        let (data, columns) = table(output, None).filter(|(_, c)| *c > 4)?;
        return Some(
            data.chunks_exact(columns).filter_map(|row| one(&mut row[4..].iter().copied(), &row[..4])).collect(),
        );
    }
    let (logits, classes) = rows(outputs, "logits", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if logits.len() / classes != boxes.len() / 4 {
        return None;
    }
    let pairs = logits.chunks_exact(classes).zip(boxes.chunks_exact(4));
    Some(pairs.filter_map(|(row, b)| one(&mut row.iter().map(|v| sigmoid(*v)), b)).collect())
}

fn tf_ssd(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let part = |name: &str| outputs.iter().find(|o| o.name.to_ascii_lowercase().contains(name));
    let (boxes, classes) = (part("detection_boxes")?, part("detection_classes")?);
    let (scores, count) = (part("detection_scores")?, part("num_detections"));
    let n = scores.data.len();
    if boxes.data.len() != 4 * n || classes.data.len() != n {
        return None;
    }
    let count = count.and_then(|o| o.data.first()).map_or(n, |c| (*c as usize).min(n));
    let (w, h) = (w as f32, h as f32);
    let one = |i: usize| {
        let b = &boxes.data[4 * i..4 * i + 4];
        (scores.data[i] >= score && classes.data[i] >= 0.0).then(|| Found {
            class: classes.data[i] as usize,
            score: scores.data[i],
            bounds: [b[1] * w, b[0] * h, b[3] * w, b[2] * h],
            points: Vec::new(),
        })
    };
    Some((0..count).filter_map(one).collect())
}

fn fastestdet(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let output = outputs.first()?;
    let [channels, rows, columns] = output.shape[..] else { return None };
    if channels < 6 || channels * rows * columns != output.data.len() {
        return None;
    }
    let at = |channel: usize, i: usize| output.data[channel * rows * columns + i];
    let one = |i: usize| {
        let (class, probability) = best((5..channels).map(|c| at(c, i)))?;
        // The reference weighs the two so.
        let score_here = libm::powf(at(0, i).max(0.0), 0.6) * libm::powf(probability.max(0.0), 0.4);
        (score_here >= score).then(|| {
            let cx = ((i % columns) as f32 + libm::tanhf(at(1, i))) / columns as f32;
            let cy = ((i / columns) as f32 + libm::tanhf(at(2, i))) / rows as f32;
            let bounds = scaled(&[cx, cy, sigmoid(at(3, i)), sigmoid(at(4, i))], (w, h));
            Found { class, score: score_here, bounds, points: Vec::new() }
        })
    };
    Some((0..rows * columns).filter_map(one).collect())
}

#[cfg(test)]
mod tests;
