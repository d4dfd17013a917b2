//! What detectors found, as a column: a list of structs in each row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use super::{element, fixed, impossible, list, strings};
use crate::error::Result;
use crate::sink::record::{Details, Detection, Record};
use crate::sink::rle::Rle;

/// A field of a struct: name, values, may be null.
type Member = (&'static str, ArrayRef, bool);

/// About what an object takes in memory.
pub fn rough_size(d: &Detection) -> usize {
    let mask = d.mask.iter().flatten().map(|m| 32 + m.counts.len()).sum::<usize>();
    let embedding = d.embedding.iter().flatten().map(|e| 4 * e.len()).sum::<usize>();
    128 + 16 * d.landmarks.len() + mask + embedding
}

/// The detections of each row. Fields that are details are there where the job has them.
pub fn detections(rows: &[Record], details: Details) -> Result<ArrayRef> {
    let all: Vec<&Detection> = rows.iter().flat_map(|r| &r.detections).collect();
    let points = fixed(all.iter().flat_map(|d| d.landmarks.iter().copied()))?;
    let mut members: Vec<Member> = vec![
        ("model", strings(all.iter().map(|d| Some(d.model.as_str()))), false),
        ("class", Arc::new(Int64Array::from_iter_values(all.iter().map(|d| d.class))), false),
        ("label", strings(all.iter().map(|d| d.label.as_deref())), true),
        ("score", Arc::new(Float64Array::from_iter_values(all.iter().map(|d| d.score))), false),
        ("box", fixed(all.iter().map(|d| d.box_))?, false),
        ("source_box", fixed(all.iter().map(|d| d.source_box))?, false),
        ("landmarks", list(all.iter().map(|d| d.landmarks.len()), points)?, false),
    ];
    if details.masks {
        members.push(("mask", masks(&all)?, true));
    }
    if details.embeddings {
        members.push(("embedding", embeddings(&all)?, true));
    }
    if details.parents {
        members.push(("of", Arc::new(all.iter().map(|d| d.of.flatten()).collect::<Int64Array>()), true));
    }
    if details.frames {
        let frames = all.iter().map(|d| d.frame.unwrap_or(0));
        members.push(("frame", Arc::new(Int64Array::from_iter_values(frames)), false));
    }
    list(rows.iter().map(|r| r.detections.len()), Arc::new(structs(members, None)?))
}

fn structs(members: Vec<Member>, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let fields: Fields =
        members.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    StructArray::try_new(fields, members.into_iter().map(|(_, array, _)| array).collect(), nulls).map_err(impossible)
}

/// `{size: [height, width], counts}`, COCO's form.
fn masks(all: &[&Detection]) -> Result<ArrayRef> {
    let masks: Vec<Option<&Rle>> = all.iter().map(|d| d.mask.as_ref().and_then(Option::as_ref)).collect();
    let sizes = masks.iter().flat_map(|m| m.map_or([0; 2], |m| m.size).map(i64::from));
    let sizes = Arc::new(Int64Array::from_iter_values(sizes));
    let sizes = FixedSizeListArray::try_new(element(DataType::Int64, false), 2, sizes, None).map_err(impossible)?;
    let counts = StringArray::from_iter_values(masks.iter().map(|m| m.map_or("", |m| &m.counts)));
    let nulls = NullBuffer::from_iter(masks.iter().map(Option::is_some));
    let members: Vec<Member> = vec![("size", Arc::new(sizes), false), ("counts", Arc::new(counts), false)];
    Ok(Arc::new(structs(members, Some(nulls))?))
}

/// Lists of 32-bit floats.
fn embeddings(all: &[&Detection]) -> Result<ArrayRef> {
    let vectors: Vec<Option<&Vec<f32>>> = all.iter().map(|d| d.embedding.as_ref().and_then(Option::as_ref)).collect();
    let values = Float32Array::from_iter_values(vectors.iter().flatten().flat_map(|v| v.iter().copied()));
    let offsets = OffsetBuffer::from_lengths(vectors.iter().map(|v| v.map_or(0, Vec::len)));
    let nulls = NullBuffer::from_iter(vectors.iter().map(Option::is_some));
    let field = element(DataType::Float32, false);
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(values), Some(nulls)).map_err(impossible)?))
}
