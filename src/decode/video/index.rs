//! [`PacketIndex`]: every packet of a video stream in decoding order, read once without decoding. It tells whether a
//! video may be cut and jumped in, and where decoding must begin to give certain frames.
//!
//! Only MP4/MOV and Matroska/WebM are indexed: elsewhere time stamps are guessed from what came before, or seeking is
//! not exact (measured on TS, PS, FLV, MXF, AVI).

use std::sync::Arc;

use crate::bytes::ByteSource;
use crate::error::Result;
use crate::ffi::av::{Input, Packet, Read};

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Presentation time in ticks.
    pub pts: i64,
    /// Decoding time in ticks.
    pub dts: Option<i64>,
    /// Byte position, negative where unknown.
    pub position: i64,
    /// The container calls it a key sample.
    pub key: bool,
    /// Decoded for others' sake only.
    pub discard: bool,
}

/// A key sample and what precedes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Its place in decoding order.
    pub at: usize,
    /// Its presentation time.
    pub pts: i64,
    /// Latest presentation time of all packets before it in decoding order.
    before: i64,
}

/// All packets of a stream whose presentation times neither repeat, lack nor run backwards.
pub(super) struct PacketIndex {
    entries: Vec<Entry>,
    keys: Vec<Key>,
    /// (pts, place in decoding order), ascending.
    by_pts: Vec<(i64, usize)>,
    /// Seeking goes by presentation time (Matroska), not decoding time (MP4).
    seeks_by_pts: bool,
    end: Option<i64>,
}

/// When the last frame ends, as packets tell it.
#[derive(Default)]
struct Ending {
    /// Presentation time and duration of the latest.
    last: Option<(i64, i64)>,
    /// Presentation time of the one before it.
    before: Option<i64>,
}

impl Ending {
    fn see(&mut self, pts: i64, duration: i64) {
        match self.last {
            Some((last, _)) if pts <= last => self.before = self.before.max(Some(pts).filter(|pts| *pts < last)),
            last => (self.last, self.before) = (Some((pts, duration)), last.map(|(pts, _)| pts)),
        }
    }

    /// In ticks. A frame without a duration lasts as long as the one before it.
    fn ticks(&self) -> Option<i64> {
        let (last, duration) = self.last?;
        let duration = if duration > 0 { duration } else { last.checked_sub(self.before?)? };
        last.checked_add(duration)
    }
}

/// When the last frame of `stream` that is shown ends, in ticks: all packets are read, and none decoded. `None` where they
/// do not tell.
pub(super) fn end(source: Arc<dyn ByteSource>, stream: usize, max_pixels: u64) -> Result<Option<i64>> {
    let mut input = Input::open(source, max_pixels)?;
    input.select(stream);
    let (mut packet, mut ending) = (Packet::new()?, Ending::default());
    while input.read(&mut packet)? == Read::Packet {
        // ASF tells no presentation times of frames that are out of order; the last frame is decoded last, or nearly.
        let time = packet.pts().or(packet.dts());
        if let (true, Some(time), false) = (packet.stream() == stream, time, packet.discard()) {
            ending.see(time, packet.duration());
        }
    }
    Ok(ending.ticks())
}

impl PacketIndex {
    /// Reads all packets of `stream`. `delay` is how many frames the decoder holds back to put them in order; `None`
    /// where the container or the stream is not fit.
    pub fn scan(source: Arc<dyn ByteSource>, stream: usize, max_pixels: u64, delay: i32) -> Result<Option<Self>> {
        let mut input = Input::header(source.clone())?;
        // The sample table of an MP4 that is not fragmented is in its header; payloads, which may be far away, need not be
        // read.
        let tabled = input.container().contains("mp4") && !has_fragments(&*source)?;
        if !tabled {
            input = Input::open(source, max_pixels)?;
        }
        Self::read(&mut input, stream, tabled, delay)
    }

    /// Where the packets are `tabled` nothing is read for them.
    fn read(input: &mut Input, stream: usize, tabled: bool, delay: i32) -> Result<Option<Self>> {
        let matroska = input.container().contains("matroska");
        if !matroska && !input.container().contains("mp4") {
            return Ok(None);
        }
        input.select(stream);
        if tabled {
            input.blank(stream);
        }
        let (mut packet, mut entries, mut ending) = (Packet::new()?, Vec::new(), Ending::default());
        while input.read(&mut packet)? == Read::Packet {
            if packet.stream() != stream || packet.is_empty() {
                continue;
            }
            let Some(pts) = packet.pts() else { return Ok(None) };
            if !packet.discard() {
                ending.see(pts, packet.duration());
            }
            entries.push(Entry {
                pts,
                dts: packet.dts(),
                position: packet.position(),
                key: packet.key(),
                discard: packet.discard(),
            });
        }
        let index = Self::new(entries, delay, matroska);
        Ok(index.map(|index| PacketIndex { end: ending.ticks(), ..index }))
    }

    /// Presentation times only rise, though there is something between key samples.
    pub fn rises(&self) -> bool {
        self.keys.len() < self.entries.len() && self.entries.windows(2).all(|w| w[0].pts < w[1].pts)
    }

    /// When the last frame that is shown ends, in ticks.
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Checks the packets; `None` where they are not regular.
    fn new(entries: Vec<Entry>, delay: i32, seeks_by_pts: bool) -> Option<Self> {
        let mut by_pts: Vec<(i64, usize)> = entries.iter().enumerate().map(|(i, e)| (e.pts, i)).collect();
        by_pts.sort_unstable();
        let repeats = by_pts.windows(2).any(|w| w[0].0 == w[1].0);
        let mut last = None;
        let steady = entries.iter().filter_map(|e| e.dts).all(|dts| last.replace(dts).is_none_or(|l| l < dts));
        if repeats || !steady || !in_order(&entries, usize::try_from(delay).unwrap_or(0)) {
            return None;
        }
        let (mut keys, mut before) = (Vec::new(), i64::MIN);
        for (at, e) in entries.iter().enumerate() {
            if e.key {
                keys.push(Key { at, pts: e.pts, before });
            }
            before = before.max(e.pts);
        }
        let index = PacketIndex { entries, keys, by_pts, seeks_by_pts, end: None };
        (!index.keys.is_empty()).then_some(index)
    }

    /// Presentation times of the shown key samples, ascending.
    pub fn keyframes(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.keys.iter().filter(|k| !self.entries[k.at].discard).map(|k| k.pts).collect();
        all.sort_unstable();
        all
    }

    /// How many packets are of frames that are shown.
    pub fn shown(&self) -> u64 {
        self.entries.iter().filter(|e| !e.discard).count() as u64
    }

    /// The packet at a place in decoding order.
    pub fn entry(&self, at: usize) -> Entry {
        self.entries[at]
    }

    /// What to give the demuxer to seek to this packet.
    pub fn seek_stamp(&self, at: usize) -> i64 {
        let e = self.entries[at];
        if self.seeks_by_pts { e.pts } else { e.dts.unwrap_or(e.pts) }
    }

    /// The place in decoding order of a packet that was read.
    pub fn find(&self, pts: Option<i64>, position: i64) -> Option<usize> {
        self.place(pts?).filter(|&at| self.entries[at].position == position)
    }

    /// The place in decoding order of the packet of the frame shown at `pts`.
    pub fn place(&self, pts: i64) -> Option<usize> {
        Some(self.by_pts[self.by_pts.binary_search_by_key(&pts, |&(p, _)| p).ok()?].1)
    }

    /// Times of the frames shown next before and next behind the one at `pts`.
    pub fn neighbours(&self, pts: i64) -> (Option<i64>, Option<i64>) {
        let before = &self.by_pts[..self.by_pts.partition_point(|&(p, _)| p < pts)];
        let before = before.iter().rev().find(|&&(_, at)| !self.entries[at].discard);
        (before.map(|&(pts, _)| pts), self.shown_behind(pts).next())
    }

    /// Times of the frames shown behind the one at `pts`, ascending.
    pub fn shown_behind(&self, pts: i64) -> impl Iterator<Item = i64> {
        let behind = &self.by_pts[self.by_pts.partition_point(|&(p, _)| p <= pts)..];
        behind.iter().filter(|&&(_, at)| !self.entries[at].discard).map(|&(pts, _)| pts)
    }

    /// True where all packets begin within `bytes`.
    pub fn fits(&self, bytes: u64) -> bool {
        self.entries.iter().all(|e| u64::try_from(e.position).is_ok_and(|at| at < bytes))
    }

    /// Number, among the key samples, of the last one that is not after `target` (`strictly`: that is before it), is
    /// shown, and behind which all packets of frames from `target` on lie.
    pub fn key_for(&self, target: i64, strictly: bool) -> Option<usize> {
        let fits = |k: &Key| (k.pts < target || (k.pts == target && !strictly)) && k.before < target;
        // `before` only grows, so halving the interval finds how far it fits; key times are looked at one by one.
        let n = self.keys.partition_point(|k| k.before < target);
        (0..n).rev().find(|&k| fits(&self.keys[k]) && !self.entries[self.keys[k].at].discard)
    }

    /// The key sample of that number.
    pub fn key(&self, number: usize) -> Key {
        self.keys[number]
    }
}

/// True where a decoder that holds back `delay` frames gives them in ascending order of their presentation times.
fn in_order(entries: &[Entry], delay: usize) -> bool {
    // A frame may be overtaken in decoding order by at most `delay` later ones, all of them near.
    const NEAR: usize = 64;
    let mut oldest = i64::MIN;
    for (i, e) in entries.iter().enumerate() {
        let near = i.saturating_sub(NEAR);
        if near > 0 {
            oldest = oldest.max(entries[near - 1].pts);
        }
        let overtaken = entries[near..i].iter().filter(|p| p.pts > e.pts).count();
        if overtaken > delay || oldest > e.pts {
            return false;
        }
    }
    true
}

/// True where an MP4 has parts of its sample table outside `moov`, or where its boxes do not fit together.
fn has_fragments(source: &dyn ByteSource) -> Result<bool> {
    let (mut at, end) = (0u64, source.len());
    // Hostile files can have many boxes; none of an honest unfragmented file has more than a few.
    for _ in 0..1000 {
        if at >= end {
            return Ok(false);
        }
        let mut head = [0; 16];
        if !fill(source, at, &mut head)? {
            return Ok(true);
        }
        let size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        if head[4..8] == *b"moof" {
            return Ok(true);
        }
        let size = match size {
            0 => return Ok(false),
            1 => u64::from_be_bytes([head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15]]),
            size => size,
        };
        match at.checked_add(size) {
            Some(next) if size >= 8 => at = next,
            _ => return Ok(true),
        }
    }
    Ok(true)
}

/// Fills `buffer` from `at` on, with zeros behind the end; false where not even 8 bytes are there.
fn fill(source: &dyn ByteSource, at: u64, buffer: &mut [u8]) -> Result<bool> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read_at(at + done as u64, &mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                let text = format!("reading failed: {error} (at byte {at})");
                return Err(crate::error::Error::input(crate::error::RejectKind::Io, text));
            }
        }
    }
    Ok(done >= 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(list: &[(i64, bool)]) -> Vec<Entry> {
        let entry = |(i, &(pts, key)): (usize, &(i64, bool))| Entry {
            pts,
            dts: Some(i as i64 - 2),
            position: i as i64 * 100,
            key,
            discard: false,
        };
        list.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn an_open_gop_needs_the_key_before() {
        // I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8
        let list = [(0, true), (3, false), (1, false), (2, false), (6, true), (4, false), (5, false), (9, false)];
        let index = PacketIndex::new(packets(&list), 1, false).unwrap();
        let place = |target, strictly| index.key_for(target, strictly).map(|k| index.key(k).pts);
        assert_eq!(place(5, false), Some(0), "4 and 5 hang on what precedes the second key");
        assert_eq!(place(6, false), Some(6));
        assert_eq!(place(6, true), Some(0));
        assert_eq!(place(7, true), Some(6));
        assert_eq!(place(0, true), None);
    }

    #[test]
    fn only_shown_frames_are_neighbours() {
        let mut list = packets(&[(0, true), (3, false), (1, false), (2, false), (6, true)]);
        list[3].discard = true;
        let index = PacketIndex::new(list, 1, false).unwrap();
        let beside = [0, 1, 2, 3, 6].map(|pts| index.neighbours(pts));
        let (first, last) = ((None, Some(1)), (Some(3), None));
        assert_eq!(beside, [first, (Some(0), Some(3)), (Some(1), Some(3)), (Some(1), Some(6)), last], "2 is not shown");
        assert!(index.shown_behind(0).eq([1, 3, 6]));
        assert!(index.fits(401) && !index.fits(400), "the last packet begins at 400");
    }

    #[test]
    fn irregular_packets_are_not_indexed() {
        let good = [(0, true), (2, false), (1, false), (3, false)];
        assert!(PacketIndex::new(packets(&good), 1, false).is_some());
        assert!(PacketIndex::new(packets(&good), 0, false).is_none(), "more reordering than the decoder does");
        let repeated = [(0, true), (2, false), (2, false)];
        assert!(PacketIndex::new(packets(&repeated), 2, false).is_none());
        let mut backwards = packets(&good);
        backwards[2].dts = Some(-1);
        assert!(PacketIndex::new(backwards, 1, false).is_none());
        assert!(PacketIndex::new(packets(&[(0, false)]), 1, false).is_none(), "no key");
    }

    /// What a container's table says of packets is what reading and parsing them says.
    #[test]
    fn tables_agree_with_packets() {
        use crate::bytes::FileSource;
        let outside = std::env::var_os("FRAMEMILL_TEST_MEDIA").map(std::path::PathBuf::from);
        let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips");
        let mut folders: Vec<_> = [own].into_iter().chain(outside).collect();
        let mut compared = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let open = || FileSource::open(&path).map(|f| Arc::new(f) as Arc<dyn ByteSource>).unwrap();
                let Ok(mut tabled) = Input::header(open()) else { continue };
                if !tabled.container().contains("mp4") || has_fragments(&*open()).unwrap() {
                    continue;
                }
                let Ok(mut parsed) = Input::open(open(), 1 << 30) else { continue };
                for stream in 0..tabled.streams().len().min(1) {
                    let by_table = PacketIndex::read(&mut tabled, stream, true, 16).unwrap();
                    let Ok(by_packets) = PacketIndex::read(&mut parsed, stream, false, 16) else { continue };
                    let entries = |index: Option<PacketIndex>| index.map(|i| i.entries);
                    let (a, b) = (entries(by_table), entries(by_packets));
                    let first = a.iter().flatten().zip(b.iter().flatten()).find(|(a, b)| a != b);
                    assert!(a == b, "{}: {first:?}", path.display());
                    compared += usize::from(a.is_some());
                }
            }
        }
        println!("{compared} tables compared");
        assert!(compared >= 3, "{compared}");
    }

    #[test]
    fn fragments_are_seen() {
        let file = |types: &[&[u8; 4]]| -> Vec<u8> {
            types.iter().flat_map(|t| [&[0, 0, 0, 16][..], &t[..], &[0; 8][..]].concat()).collect()
        };
        assert!(!has_fragments(&file(&[b"ftyp", b"moov", b"mdat"])).unwrap());
        assert!(has_fragments(&file(&[b"ftyp", b"moov", b"moof", b"mdat"])).unwrap());
        assert!(has_fragments(&vec![0, 0, 0, 3, 1, 1, 1, 1, 0]).unwrap());
    }
}
