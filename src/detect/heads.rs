//! Heads: from a model's output tensors to detections, in pixels of the model's input.
//!
//! Each head is a pure function. Boxes are `[x1, y1, x2, y2]`, where x = 0 is the left edge of the first pixel; scores are
//! 0 to 1; nothing is suppressed or limited yet, but what is below the score is left out. Where a layout comes from is told
//! with each head.

mod decoded;
mod grids;
pub mod masks;
mod recognise;
mod whole;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One object in the model's input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Class index as the model numbers them.
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the model's input.
    pub bounds: [f32; 4],
    /// Points in pixels of the model's input.
    pub points: Vec<[f32; 2]>,
    /// How much of each of the picture's prototypes is in its mask; empty where the model has none.
    pub coefficients: Vec<f32>,
    /// Its mask, once [`masks::attach`] has made it.
    pub mask: Option<masks::Patch>,
    /// What stands for the picture; empty where the model gives no such thing.
    pub embedding: Vec<f32>,
}

impl Found {
    /// An object with a box alone.
    pub fn of(class: usize, score: f32, bounds: [f32; 4]) -> Found {
        Found { class, score, bounds, ..Found::default() }
    }
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
    /// objectness, with `points` the points, then the classes; behind them coefficients of masks, with their prototypes
    /// `[M, h, w]` as a second output.
    Yolov5,
    /// YOLOv8, v9, 11 (ultralytics): `[4 + C, N]`, decoded: centre and size in pixels, then the classes, then coefficients of
    /// masks as with YOLOv5.
    Yolov8,
    /// Free of NMS (YOLOv10, YOLO26, exports with NMS inside): `[K, 6]`, corners in pixels, score, class, then coefficients
    /// of masks as with YOLOv5.
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
    /// A classifier: logits or probabilities `[C]` of the whole picture.
    Classify,
    /// A vector `[D]` that stands for the whole picture.
    Embed,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Layout; 14] = [
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
        Layout::Classify,
        Layout::Embed,
    ];

    /// Whether it tells something of the whole picture instead of objects in it.
    pub fn is_whole(self) -> bool {
        matches!(self, Layout::Classify | Layout::Embed)
    }

    /// What its classes are called where they are always the same, so that a job may name them without labels.
    pub fn classes(self) -> Vec<String> {
        if self == Layout::Yunet { vec!["face".into()] } else { Vec::new() }
    }

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
            Layout::Classify => "classify",
            Layout::Embed => "embed",
        }
    }
}

/// What a classifier's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scores {
    /// Told by the values: see [`Layout::Classify`].
    #[default]
    Unsaid,
    /// Numbers that a softmax, or of a single class a sigmoid, makes probabilities.
    Logits,
    /// Shares of 0 to 1.
    Probabilities,
}

/// A layout, and what of it the shapes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The layout.
    pub layout: Layout,
    /// Points of each object, for [`Layout::Yolov5`].
    pub points: usize,
    /// What the values are, for [`Layout::Classify`].
    pub scores: Scores,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.layout.name())?;
        match self.scores {
            Scores::Logits => f.write_str(":logits")?,
            Scores::Probabilities => f.write_str(":probabilities")?,
            Scores::Unsaid => {}
        }
        if self.points > 0 { write!(f, ":points={}", self.points) } else { Ok(()) }
    }
}

impl FromStr for Head {
    type Err = Error;
    /// A layout's name (`yolov7`, `yolov9` and `yolo11` stand for their likes), for `yolov5` with `:points=N` behind it, for
    /// `classify` with `:logits` or `:probabilities`.
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
        let head = Head::of(layout);
        match (layout, rest) {
            (_, "") => Ok(head),
            (Layout::Classify, "logits") => Ok(Head { scores: Scores::Logits, ..head }),
            (Layout::Classify, "probabilities") => Ok(Head { scores: Scores::Probabilities, ..head }),
            (Layout::Yolov5, _) => {
                let points = rest.strip_prefix("points=").and_then(|n| n.parse().ok()).filter(|n| *n <= 100);
                Ok(Head { points: points.ok_or_else(|| unknown(text))?, ..head })
            }
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> Error {
    let names = Layout::ALL.map(Layout::name).join(", ");
    Error::usage(format!(
        "unknown head {text:?}: expected one of {names}; yolov5 takes points, as in yolov5:points=4, classify what its values \
         are, as in classify:logits or classify:probabilities"
    ))
}

/// Cells of all strides in an input of `w` x `h`.
fn cells((w, h): (u32, u32), strides: &[u32]) -> i64 {
    strides.iter().map(|s| i64::from(w.div_ceil(*s)) * i64::from(h.div_ceil(*s))).sum()
}

impl Head {
    /// The layout alone.
    pub fn of(layout: Layout) -> Head {
        Head { layout, points: 0, scores: Scores::default() }
    }

    /// What the model found in one picture, at `score` or above. `size` is the input's (width, height).
    ///
    /// # Errors
    /// Usage where the outputs are not laid out as the head has it.
    pub fn decode(&self, outputs: &[Output], size: (u32, u32), score: f32) -> Result<Vec<Found>> {
        let found = match self.layout {
            Layout::Yolox => grids::yolox(outputs, size, score),
            Layout::Yolov5 => decoded::yolov5(outputs, self.points, score),
            Layout::Yolov8 => decoded::yolov8(outputs, score),
            Layout::End2end => decoded::end2end(outputs, score),
            Layout::Nanodet => grids::nanodet(outputs, size, score),
            Layout::NanodetPlus => grids::nanodet_plus(outputs, size, score),
            Layout::Ssd => decoded::ssd(outputs, size, score),
            Layout::Yunet => grids::yunet(outputs, size, score),
            Layout::Detr => decoded::detr(outputs, size, score),
            Layout::Rtdetr => decoded::rtdetr(outputs, size, score),
            Layout::TfSsd => decoded::tf_ssd(outputs, size, score),
            Layout::Fastestdet => grids::fastestdet(outputs, size, score),
            Layout::Classify => whole::classify(outputs, size, self.scores, score),
            Layout::Embed => whole::embed(outputs, size),
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

/// Bins of a distance's distribution.
const BINS: usize = 8;

fn scaled(b: &[f32], (w, h): (u32, u32)) -> [f32; 4] {
    let (w, h) = (w as f32, h as f32);
    centred(b[0] * w, b[1] * h, b[2] * w, b[3] * h)
}

#[cfg(test)]
mod tests;
