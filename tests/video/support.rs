//! What the video tests share: the media folder, what FFmpeg's program recorded of it, reading and comparing frames.

use std::path::Path;
use std::sync::Arc;

use framemill::bytes::{ByteSource, FileSource};
use framemill::decode::video::{FrameMeta, VideoOptions, VideoReader};
use framemill::error::Error;
use framemill::frame::{Frame, PixelFormat};
use sha2::{Digest, Sha256};

#[path = "../common/media.rs"]
mod outside;
#[path = "../common/random.rs"]
mod random;
pub use outside::{full, media};
pub use random::Random;

/// What FFmpeg's program said of one file (`decode_summary.tsv`).
#[derive(Debug, Clone)]
pub struct Record {
    pub file: String,
    pub codec: String,
    pub streams: usize,
    pub frames: usize,
    pub packets: u64,
    pub time_base: (i32, i32),
    pub first: Option<i64>,
    pub last: Option<i64>,
    /// It decoded to the end without a message.
    pub clean: bool,
}

/// All records.
pub fn records(media: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(media.join("groundtruth/decode_summary.tsv")).unwrap();
    let rows = text.lines().filter(|l| !l.starts_with('#')).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('\t').collect();
        let time_base = cells[5].split_once('/').map(|(n, d)| (n.parse().unwrap(), d.parse().unwrap()));
        // The first video stream's are counted as `pk86`.
        let video = cells.get(11).and_then(|text| text.split(" | ").find(|part| part.contains("V:")));
        let packets = video.and_then(|text| text.split(' ').find_map(|word| word.strip_prefix("pk")?.parse().ok()));
        Record {
            file: cells[0].to_string(),
            codec: cells[2].to_string(),
            streams: cells[3].parse().unwrap(),
            frames: cells[4].parse().unwrap_or(0),
            packets: packets.unwrap_or(0),
            time_base: time_base.unwrap_or((0, 1)),
            first: cells[6].parse().ok(),
            last: cells[7].parse().ok(),
            clean: cells[8] == "0" && cells[9] == "0",
        }
    })
    .collect()
}

/// Clean files of moderate length; every one with `FRAMEMILL_TEST_FULL=1`.
pub fn clean(media: &Path) -> Vec<Record> {
    let all = records(media).into_iter().filter(|r| r.clean && r.frames > 0);
    all.filter(|r| full() || r.frames <= 700).collect()
}

/// Opens a file of the media folder.
pub fn open(media: &Path, file: &str, options: &VideoOptions) -> Result<VideoReader, Error> {
    let source: Arc<dyn ByteSource> = Arc::new(FileSource::open(&media.join(file)).unwrap());
    VideoReader::open(source, file, options)
}

/// One or more threads, else as by default.
pub fn threads(threads: usize) -> VideoOptions {
    VideoOptions { threads, ..VideoOptions::default() }
}

/// The samples of all planes without padding.
pub fn packed(frame: &Frame) -> Vec<u8> {
    let (w, h) = (frame.width as usize, frame.height as usize);
    let mut out = Vec::new();
    for (i, plane) in frame.planes.iter().enumerate() {
        let (row, rows) = match frame.format {
            PixelFormat::Rgb8 => (w * 3, h),
            PixelFormat::Gray { depth } | PixelFormat::Gbr { depth } => (w << usize::from(depth > 8), h),
            PixelFormat::Yuv { depth, sub_w, sub_h } => {
                let (sub_w, sub_h) = if i > 0 { (sub_w, sub_h) } else { (0, 0) };
                (w.div_ceil(1 << sub_w) << usize::from(depth > 8), h.div_ceil(1 << sub_h))
            }
        };
        (0..rows).for_each(|y| out.extend_from_slice(&plane.data[y * plane.stride..][..row]));
    }
    out
}

/// What is compared of a frame: its time, key flag and a digest of its samples, size and format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub pts: Option<i64>,
    pub keyframe: bool,
    pub digest: [u8; 32],
}

/// Looks at the current frame.
pub fn see(reader: &VideoReader, meta: FrameMeta) -> Result<Seen, Error> {
    let frame = reader.frame()?;
    let mut hash = Sha256::new();
    hash.update(format!("{}x{} {:?}", frame.width, frame.height, frame.format));
    hash.update(packed(&frame));
    Ok(Seen { pts: meta.pts, keyframe: meta.keyframe, digest: hash.finalize().into() })
}

/// The frames from here to the end.
pub fn rest(reader: &mut VideoReader) -> Result<Vec<Seen>, Error> {
    let mut all = Vec::new();
    while let Some(meta) = reader.advance()? {
        all.push(see(reader, meta)?);
    }
    Ok(all)
}
