//! The record: everything that is known of one sample, one row of the table and one JSON beside the data.
//!
//! Every record of a dataset has the same fields in the same order; what is not known is null, never left out, so that
//! readers meet one schema in every shard.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rle::Rle;

/// What the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// Frames of a video.
    #[default]
    Video,
    /// A photo.
    Image,
}

impl Media {
    /// The name written in records.
    pub fn name(self) -> &'static str {
        match self {
            Media::Video => "video",
            Media::Image => "image",
        }
    }
}

/// One object found by a detector.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Detection {
    /// Name of the detector.
    pub model: String,
    /// Class index as the model numbers them.
    pub class: i64,
    /// The class's name, where labels are known.
    pub label: Option<String>,
    /// Confidence, 0..=1.
    pub score: f64,
    /// [x1, y1, x2, y2] in pixels of the written sample.
    #[serde(rename = "box")]
    pub box_: [f64; 4],
    /// The same in pixels of the upright source frame.
    pub source_box: [f64; 4],
    /// (x, y) points in pixels of the written sample; empty where the model gives none.
    pub landmarks: Vec<[f64; 2]>,
    /// Its mask in the written sample, null where the model gives none; as with those below, left out where no detector
    /// of the job gives such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "told")]
    pub mask: Option<Option<Rle>>,
    /// What stands for it, null where the model gives no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "told")]
    pub embedding: Option<Option<Vec<f32>>>,
    /// The place, in this list, of the object in which it was found; null where it was found in the whole picture, or that
    /// object is not to be seen in the sample.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "told")]
    pub of: Option<Option<i64>>,
    /// The frame of the clip in which it was found, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<i64>,
}

/// What is written, null or not: what is not written at all is the default.
fn told<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What the detectors of a job tell of an object beyond what all do. It is the same in all records of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Details {
    /// [`Detection::mask`].
    pub masks: bool,
    /// [`Detection::embedding`].
    pub embeddings: bool,
    /// [`Detection::of`].
    pub parents: bool,
    /// [`Detection::frame`].
    pub frames: bool,
}

/// Everything about one sample. The field order is the order of the JSON and of the table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// `ASSET-TIME`, unique in the dataset.
    pub key: String,
    /// The input as given, without its query.
    pub uri: String,
    /// The asset's identity, 16 hex digits.
    pub asset: String,
    /// Video or image.
    pub media: Media,
    /// Size of the input file in bytes.
    pub bytes: Option<u64>,
    /// Digest of the input file, where all of it was read.
    pub source_sha256: Option<String>,
    /// The store's version of the input, where it has one.
    pub etag: Option<String>,
    /// When the picture was taken, as the file says.
    pub captured_at: Option<String>,
    /// Codec name (FFmpeg's for video).
    pub codec: String,
    /// Pixel format of the decoded source.
    pub pixel_format: String,
    /// Matrix coefficients used.
    pub color_matrix: String,
    /// Quantisation range used.
    pub color_range: String,
    /// Colour primaries.
    pub color_primaries: String,
    /// Transfer characteristic.
    pub color_transfer: String,
    /// Chroma siting used; null where chroma is not subsampled.
    pub chroma_location: Option<String>,
    /// Names of the tags that were not in the stream and were assumed.
    pub color_assumed: Vec<String>,
    /// The embedded colour profile and what was done with it; null where there is none.
    pub icc: Option<String>,
    /// Clockwise degrees that were applied to show the picture upright.
    pub rotation: i32,
    /// Seconds since the stream's start.
    pub time_s: f64,
    /// Presentation time stamp in units of `time_base`.
    pub pts: i64,
    /// Seconds a tick, as `1/90000`.
    pub time_base: String,
    /// The container or codec calls it a key frame.
    pub keyframe: bool,
    /// Width of the upright source in pixels.
    pub source_width: u32,
    /// Height of the upright source in pixels.
    pub source_height: u32,
    /// Width of the written sample in pixels.
    pub width: u32,
    /// Height of the written sample in pixels.
    pub height: u32,
    /// 2x3 affine map from output to source pixels, row by row.
    pub transform: [f64; 6],
    /// What the random operations drew; null where there are none.
    pub augment: Value,
    /// What the detectors found.
    pub detections: Vec<Detection>,
    /// What was wrong with the source although this sample came out of it; null where nothing was.
    pub warning: Option<String>,
    /// Digest of the sample's encoded bytes; null with the tensors format.
    pub sha256: Option<String>,
    /// Values of the list's own columns, in the order of the schema.
    #[serde(skip)]
    pub columns: Vec<Cell>,
}

/// Type of a column that the input list brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit signed integer.
    Integer,
    /// 64-bit float.
    Float,
    /// True or false.
    Boolean,
}

/// A column that the input list brings along.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the list.
    pub name: String,
    /// Its type, the same in every shard.
    pub kind: ColumnType,
}

/// One value of such a column.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing there.
    #[default]
    Null,
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(String),
}

impl From<&Cell> for Value {
    fn from(cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Boolean(v) => Value::from(*v),
            Cell::Integer(v) => Value::from(*v),
            Cell::Float(v) => Value::from(*v),
            Cell::Text(v) => Value::from(v.as_str()),
        }
    }
}

impl Record {
    /// The record as one flat JSON object: its own fields first, then the list's columns under their output names (see
    /// [`output_names`]). A column without a value is null. Floats that JSON cannot hold (NaN, infinities) are null.
    pub fn to_json(&self, columns: &[Column]) -> Value {
        // A struct of plain fields with string keys always serialises to an object.
        let mut object = match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        for (i, name) in output_names(columns).into_iter().enumerate() {
            object.insert(name, self.columns.get(i).map_or(Value::Null, Value::from));
        }
        Value::Object(object)
    }
}

/// Names of the record's own fields, in order.
pub fn field_names() -> Vec<String> {
    match serde_json::to_value(Record::default()) {
        Ok(Value::Object(object)) => object.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// The names under which the list's columns are written: their own, with `input_` before it as often as needed where a
/// record field or an earlier column is called the same. Names are compared without case, as SQL does.
pub fn output_names(columns: &[Column]) -> Vec<String> {
    let mut taken: HashSet<String> = field_names().into_iter().collect();
    columns
        .iter()
        .map(|column| {
            let mut name = column.name.clone();
            while !taken.insert(name.to_lowercase()) {
                name.insert_str(0, "input_");
            }
            name
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: ColumnType) -> Column {
        Column { name: name.into(), kind }
    }

    #[test]
    fn fields_come_in_the_documented_order() {
        let expected = "key uri asset media bytes source_sha256 etag captured_at codec pixel_format color_matrix \
             color_range color_primaries color_transfer chroma_location color_assumed icc rotation time_s pts time_base \
             keyframe source_width source_height width height transform augment detections warning sha256";
        assert_eq!(field_names().join(" "), expected);
    }

    #[test]
    fn columns_follow_and_clashes_get_a_prefix() {
        let columns = [
            column("city", ColumnType::Text),
            column("Key", ColumnType::Integer),
            column("key", ColumnType::Float),
            column("city", ColumnType::Boolean),
        ];
        assert_eq!(output_names(&columns), ["city", "input_Key", "input_input_key", "input_city"]);
        let record = Record {
            key: "k".into(),
            columns: vec![Cell::Text("Ulm".into()), Cell::Integer(3), Cell::Null],
            ..Default::default()
        };
        let json = record.to_json(&columns);
        assert_eq!(json["key"], "k");
        assert_eq!(json["city"], "Ulm");
        assert_eq!(json["input_Key"], 3);
        assert!(json["input_input_key"].is_null() && json["input_city"].is_null());
        assert!(json["etag"].is_null() && json.as_object().is_some_and(|o| o.contains_key("etag")));
    }

    #[test]
    fn cells_keep_their_type_through_json() {
        for cell in [
            Cell::Null,
            Cell::Boolean(true),
            Cell::Integer(7),
            Cell::Float(7.0),
            Cell::Float(0.1),
            Cell::Text("7".into()),
        ] {
            let text = serde_json::to_string(&cell).unwrap();
            assert_eq!(serde_json::from_str::<Cell>(&text).unwrap(), cell, "{text}");
        }
    }
}
