//! The table of scenes: one Parquet file a shard, one row a scene, in the order of the shard's inputs and of time.
//!
//! The same rows give the same bytes, as in the record table beside it.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::table::{properties, write_failed};
use crate::error::{Error, Result};

/// One scene of a video. Times are since the stream's start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scene {
    /// The asset's identity, 16 hex digits, as in records.
    pub asset: String,
    /// The input as given, without its query.
    pub uri: String,
    /// Its number in the video, from 0.
    pub scene: i64,
    /// Time of its first frame in seconds.
    pub start_s: f64,
    /// Time of the first frame behind it in seconds; at the end of a video its last frame counts as long as the one before.
    pub end_s: f64,
    /// Presentation time stamp of its first frame.
    pub start_pts: i64,
    /// Presentation time stamp behind it.
    pub end_pts: i64,
    /// Seconds a tick, as `1/90000`.
    pub time_base: String,
    /// Frames in it.
    pub frames: i64,
    /// How much changed where it begins; `None` for the first scene.
    pub score: Option<f64>,
    /// How it begins: `cut` or `gradual`; `None` for the first scene.
    pub change: Option<&'static str>,
    /// Presentation time stamp of the frame that stands for it: with `asset`, this finds its record.
    pub sample_pts: i64,
}

/// Writes `scenes` as a whole table.
pub(super) fn write<W: Write + Send>(inner: W, scenes: &[Scene]) -> Result<W> {
    let text =
        |get: fn(&Scene) -> Option<&str>| -> ArrayRef { Arc::new(scenes.iter().map(get).collect::<StringArray>()) };
    let whole = |get: fn(&Scene) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(scenes.iter().map(get))) };
    let real =
        |get: fn(&Scene) -> Option<f64>| -> ArrayRef { Arc::new(scenes.iter().map(get).collect::<Float64Array>()) };
    let columns = [
        ("asset", text(|s| Some(&s.asset)), false),
        ("uri", text(|s| Some(&s.uri)), false),
        ("scene", whole(|s| s.scene), false),
        ("start_s", real(|s| Some(s.start_s)), false),
        ("end_s", real(|s| Some(s.end_s)), false),
        ("start_pts", whole(|s| s.start_pts), false),
        ("end_pts", whole(|s| s.end_pts), false),
        ("time_base", text(|s| Some(&s.time_base)), false),
        ("frames", whole(|s| s.frames), false),
        ("score", real(|s| s.score), true),
        ("change", text(|s| s.change), true),
        ("sample_pts", whole(|s| s.sample_pts), false),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|e| Error::bug(format!("scenes do not make a table: {e}")))?;
    let mut writer = ArrowWriter::try_new(inner, batch.schema(), Some(properties())).map_err(write_failed)?;
    writer.write(&batch).map_err(write_failed)?;
    writer.flush().map_err(write_failed)?;
    writer.sync().map_err(|e| write_failed(e.into()))?;
    writer.into_inner().map_err(|e| write_failed(std::io::Error::other(e.to_string()).into()))
}

/// Whether an object of this path is a table of scenes.
pub fn is_table(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with("scenes-") && name.ends_with(".parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_scenes_give_the_same_bytes_and_come_back() {
        let scenes: Vec<Scene> = (0..3)
            .map(|i| Scene {
                asset: "a".into(),
                scene: i,
                start_s: i as f64 / 3.0,
                score: (i > 0).then_some(12.5),
                change: (i > 0).then_some("cut"),
                ..Scene::default()
            })
            .collect();
        let bytes = write(Vec::new(), &scenes).unwrap();
        assert_eq!(bytes, write(Vec::new(), &scenes).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scenes-000000.parquet");
        std::fs::write(&path, bytes).unwrap();
        let rows = super::super::table::read_rows(&path).unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows[0]["score"].is_null() && rows[0]["change"].is_null());
        assert_eq!((&rows[2]["score"], &rows[2]["change"]), (&12.5.into(), &"cut".into()));
        assert_eq!(rows[1]["start_s"], 1.0 / 3.0);
        assert!(is_table("train/scenes-000001.parquet") && !is_table("scenes/shard-000001.parquet"));
    }
}
