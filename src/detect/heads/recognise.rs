//! Which head a model has, by what it declares of its outputs.

use super::{BINS, Declared, Head, Layout, cells, listed};
use crate::error::{Error, Result};

impl Head {
    /// Finds the layout in what a model declares of its outputs, for an input of `size` (width, height). `labels` is how many
    /// classes the job names, 0 where it names none.
    ///
    /// # Errors
    /// Usage, listing the outputs and how to name the head, where none or more than one layout fits.
    pub fn recognise(outputs: &[Declared], size: (u32, u32), labels: usize) -> Result<Head> {
        let found = |layout| Ok(Head::of(layout));
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
        let masks = outputs.get(1).filter(|o| o.shape.len() == 4).map_or(0, |o| o.shape[1]);
        let (three, four) = (cells(size, &[8, 16, 32]), cells(size, &[8, 16, 32, 64]));
        match boxes.map(|o| o.shape.as_slice()) {
            Some([_, k, c]) if *c == 6 + masks && *k <= 1000 && *k != three => found(Layout::End2end),
            Some([_, n, c]) if masks > 0 && (*n == 3 * three || *n == 3 * four) && *c > 5 + masks => {
                found(Layout::Yolov5)
            }
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
                    rest if labels == rest - 2 * points => Ok(Head { points, ..Head::of(Layout::Yolov5) }),
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
            Some([_, c] | [_, c, 1, 1]) if *c > 0 => whole(outputs, *c, labels),
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
            Layout::Yolov5 => last(first)? - 5 - 2 * self.points as i64 - masks,
            Layout::Yolov8 => second(first)? - 4 - masks,
            Layout::Nanodet => last(ending("cls_pred_stride_8"))?,
            Layout::NanodetPlus => last(first)? - 4 * BINS as i64,
            Layout::Ssd => last(ending("scores"))? - 1,
            Layout::Yunet => 1,
            Layout::Detr => last(ending("logits"))? - 1,
            Layout::Rtdetr if outputs.len() == 1 => last(first)? - 4,
            Layout::Rtdetr => last(ending("logits"))?,
            Layout::Fastestdet => second(first)? - 5,
            Layout::Classify => first?.shape.iter().skip(1).product(),
            Layout::End2end | Layout::TfSsd | Layout::Embed => return None,
        };
        usize::try_from(count).ok().filter(|n| *n > 0)
    }
}

/// A picture has one row of `count` values: its classes, or what stands for it.
fn whole(outputs: &[Declared], count: i64, labels: usize) -> Result<Head> {
    /// ImageNet's classes, with and without one for the background.
    const IMAGENET: [i64; 2] = [1000, 1001];
    let named = |parts: &[&str]| outputs.iter().any(|o| parts.iter().any(|p| o.name.to_ascii_lowercase().contains(p)));
    if labels as i64 == count || IMAGENET.contains(&count) || named(&["logit", "prob", "softmax", "class"]) {
        return Ok(Head::of(Layout::Classify));
    }
    if named(&["embed", "feat"]) {
        return Ok(Head::of(Layout::Embed));
    }
    Err(Error::usage(format!(
        "its {count} values a picture may be classes or an embedding: name the head, classify or embed, or give the labels; \
         its outputs are {}",
        listed(outputs)
    )))
}
