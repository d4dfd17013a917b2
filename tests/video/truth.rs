//! Every frame of every file against FFmpeg's own program: how many, when, and which samples; the same with one thread and
//! with two; and what became of every packet.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use framemill::bytes::{ByteSource, FileSource};
use framemill::decode::video::{Counters, VideoOptions, VideoReader};

use crate::md5::md5;
use crate::support::*;

/// Time and checksum of each frame.
type Frames = Vec<(i64, String)>;

/// FFmpeg's list of one file.
fn list(media: &Path, file: &str) -> Option<Frames> {
    let name = format!("groundtruth/framemd5/{}.tsv", file.replace('/', "__"));
    let text = std::fs::read_to_string(media.join(name)).ok()?;
    let rows = text.lines().filter(|l| !l.starts_with('#'));
    Some(rows.filter_map(|l| l.split_once('\t')).map(|(pts, sum)| (pts.parse().unwrap(), sum.to_string())).collect())
}

/// Checksums of a video stream's frames by FFmpeg's program as it is installed, with the inverse transform that is ours.
fn sums(file: &Path, stream: usize) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-flags", "bitexact", "-idct", "simple", "-noautorotate", "-copyts", "-i"])
        .arg(file)
        .args(["-map", &format!("0:v:{stream}"), "-vsync", "passthrough", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(',').next().unwrap().trim().to_string()).collect()
}

/// Number of the first frame whose time or samples differ.
fn first_difference(ours: &Frames, theirs: &Frames) -> Option<usize> {
    (0..ours.len().max(theirs.len())).find(|&i| ours.get(i) != theirs.get(i))
}

/// Reads a file to its end; checksums only where they are asked for.
fn read(media: &Path, file: &str, options: &VideoOptions, summed: bool) -> (Frames, Counters) {
    let mut reader = open(media, file, options).unwrap();
    let mut all = Vec::new();
    while let Some(meta) = reader.advance().unwrap() {
        let sum = if summed { md5(&packed(&reader.frame().unwrap())) } else { String::new() };
        all.push((meta.pts.expect("a time"), sum));
    }
    assert!(!reader.damaged(), "{file}: {:?}", reader.first_error());
    (all, reader.counters())
}

/// What a ledger that balances says, and every loss is explained.
fn balanced(file: &str, counters: &Counters, frames: usize) {
    assert_eq!(counters.decoded, frames as u64, "{file}: every frame is counted");
    assert_eq!(counters.packets, counters.packets_fed, "{file}: nothing is held at the end");
    assert_eq!(counters.packets + counters.extra, counters.decoded + counters.lost.total(), "{file}: {counters:?}");
    assert_eq!(counters.lost.unexplained, 0, "{file}: {counters:?}");
}

#[test]
fn frames_times_and_samples_are_those_of_ffmpeg() {
    let Some(media) = media() else { return };
    let (mut files, mut compared, mut lost, mut failures) = (0, 0, 0, Vec::new());
    // A photo under a video's name is read as a photo.
    for record in records(&media).iter().filter(|r| r.clean && r.frames > 0 && !r.file.contains("jpeg_named")) {
        let file = &record.file;
        let reader = open(&media, file, &threads(2)).unwrap();
        let info = reader.info();
        assert_eq!((info.codec.as_str(), info.time_base), (record.codec.as_str(), record.time_base), "{file}");
        assert_eq!(info.video_streams, record.streams, "{file}");
        // Of the longest film the times alone, where not everything is asked for.
        let summed = record.frames <= 2000 || full();
        let (ours, counters) = read(&media, file, &threads(2), summed);
        let ends = (ours.first().map(|f| f.0), ours.last().map(|f| f.0));
        if (ours.len(), ends) != (record.frames, (record.first, record.last)) {
            failures.push(format!("{file}: {} frames {ends:?}, expected {record:?}", ours.len()));
        }
        balanced(file, &counters, ours.len());
        assert_eq!(counters.packets, record.packets, "{file}: packets are those that ffprobe counts");
        assert_eq!(counters.corrupt + counters.discarded + counters.seeks + counters.lost.damaged, 0, "{file}");
        lost += counters.lost.total();
        files += 1;
        if !summed {
            continue;
        }
        // Samples are prescribed by the standard for these; the others depend on the inverse transform.
        let exact = ["h264", "hevc", "vp8", "vp9", "av1"].contains(&record.codec.as_str());
        let listed = list(&media, file);
        // Of a long film there is no list: its samples are compared with those of the program, its times by their ends.
        let sums_alone = !exact || listed.is_none();
        let mut theirs = listed.unwrap_or_else(|| ours.clone());
        if sums_alone {
            let pinned = sums(&media.join(file), 0);
            assert_eq!(pinned.len(), theirs.len(), "{file}");
            theirs.iter_mut().zip(pinned).for_each(|(frame, sum)| frame.1 = sum);
        }
        if let Some(at) = first_difference(&ours, &theirs) {
            failures.push(format!("{file}: frame {at} differs: {:?}", ours.get(at)));
        }
        if record.frames <= 700 || full() {
            let (alone, one) = read(&media, file, &threads(1), true);
            if let Some(at) = first_difference(&ours, &alone) {
                failures.push(format!("{file}: frame {at} differs with one thread"));
            }
            assert_eq!(one, counters, "{file}: counts with one thread");
        }
        compared += theirs.len();
        if theirs.len() > 1 {
            // Negative controls: one frame less, one bit of a checksum, one tick.
            let wrong = |change: fn(&mut Frames)| {
                let mut wrong = ours.clone();
                change(&mut wrong);
                first_difference(&wrong, &theirs)
            };
            assert!(wrong(|f| drop(f.swap_remove(0))).is_some());
            assert_eq!(wrong(|f| f[1].1 = f[1].1.chars().rev().collect()), Some(1));
            assert_eq!(wrong(|f| f[1].0 += 1), Some(1));
        }
    }
    println!("{files} files, samples of {compared} frames compared, {lost} packets without a picture explained");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(files > 70 && compared > 8000 && lost > 15, "{files} files, {compared} frames, {lost} packets");
}

#[test]
fn other_streams_and_our_own_clips_are_those_of_ffmpeg() {
    let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips");
    let names = std::fs::read_dir(&clips).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<_> = names.map(|name| (clips.clone(), name, 0)).collect();
    if let Some(media) = media() {
        let several = records(&media).into_iter().filter(|r| r.streams > 1);
        all.extend(several.map(|r| (media.clone(), r.file, 1)));
    }
    let mut compared = 0;
    for (folder, file, stream) in &all {
        // A track without a sample has no frame and is no error.
        let empty = file.contains("empty_track");
        let theirs = if empty { Vec::new() } else { sums(&folder.join(file), *stream) };
        for threads in [1, 2] {
            let options = VideoOptions { stream: Some(*stream), threads, ..VideoOptions::default() };
            let (ours, counters) = read(folder, file, &options, true);
            balanced(file, &counters, ours.len());
            let ours: Vec<_> = ours.into_iter().map(|f| f.1).collect();
            assert_eq!(ours, theirs, "{file}, stream {stream}, {threads} threads");
            assert!(empty || ours[1..] != theirs[..theirs.len() - 1], "{file}: the control");
        }
        compared += theirs.len();
    }
    println!("{} streams, {compared} frames", all.len());
    assert!(compared > 150, "{compared}");
}

#[test]
fn what_is_no_video_says_so() {
    let Some(media) = media() else { return };
    let mut refused = 0;
    for record in records(&media).iter().filter(|r| r.frames == 0) {
        let found = open(&media, &record.file, &threads(1)).and_then(|mut reader| reader.advance());
        let Err(error) = found else { panic!("{}: {found:?}", record.file) };
        assert!(error.reject.is_some() && error.message.contains(&record.file), "{}: {error}", record.file);
        refused += 1;
    }
    assert!(refused > 8, "{refused}");
}

#[test]
fn damaged_files_balance_too() {
    let Some(media) = media() else { return };
    let careful = VideoOptions { concealment_fixed: true, ..threads(1) };
    let (mut files, mut lost) = (0, 0);
    for record in records(&media).iter().filter(|r| r.file.contains("corrupt/") && !r.clean && r.frames > 0) {
        let read = || {
            let mut reader = open(&media, &record.file, &careful).unwrap();
            let seen = rest(&mut reader).unwrap();
            assert!(reader.damaged(), "{}", record.file);
            (seen, reader.counters())
        };
        let (seen, counters) = read();
        balanced(&record.file, &counters, seen.len());
        assert!(read() == (seen, counters), "{}: the same every time", record.file);
        lost += counters.lost.damaged;
        files += 1;
    }
    println!("{files} damaged files, {lost} packets did not decode");
    assert!(files > 7 && lost > 20, "{files} files, {lost} packets");
}

/// One bit a pixel: white is 1 in one of the formats, 0 in the other.
#[test]
fn pictures_of_one_bit_are_those_of_ffmpeg() {
    let dir = tempfile::tempdir().unwrap();
    let ffmpeg = |args: &[&str]| {
        let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for format in ["monow", "monob"] {
        let path = dir.path().join(format).with_extension("nut");
        let path = path.to_str().unwrap();
        let source = ["-f", "lavfi", "-i", "testsrc=d=0.2:s=66x48:r=10", "-c:v", "rawvideo"];
        ffmpeg(&[&source[..], &["-pix_fmt", format, path]].concat());
        let expected = ffmpeg(&["-i", path, "-pix_fmt", "gray", "-f", "rawvideo", "-"]);
        let source: Arc<dyn ByteSource> = Arc::new(FileSource::open(Path::new(path)).unwrap());
        let mut reader = VideoReader::open(source, path, &threads(1)).unwrap();
        let mut found = Vec::new();
        while reader.advance().unwrap().is_some() {
            found.extend(packed(&reader.frame().unwrap()));
        }
        assert!(found.contains(&0) && found.contains(&255));
        assert!(found == expected, "{format}: {} bytes, expected {}", found.len(), expected.len());
    }
}
