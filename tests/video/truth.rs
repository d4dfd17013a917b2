//! Every frame of every file against FFmpeg's own program: how many, when, and which samples.

use crate::md5::md5;
use crate::support::*;

/// FFmpeg's list of one file: time and checksum of each frame.
fn list(media: &std::path::Path, file: &str) -> Option<Vec<(i64, String)>> {
    let name = format!("groundtruth/framemd5/{}.tsv", file.replace('/', "__"));
    let text = std::fs::read_to_string(media.join(name)).ok()?;
    let rows = text.lines().filter(|l| !l.starts_with('#'));
    Some(rows.filter_map(|l| l.split_once('\t')).map(|(pts, sum)| (pts.parse().unwrap(), sum.to_string())).collect())
}

/// Number of the first frame whose time or samples differ.
fn first_difference(ours: &[(i64, String)], theirs: &[(i64, String)], sums: bool) -> Option<usize> {
    let longer = ours.len().max(theirs.len());
    (0..longer).find(|&i| match (ours.get(i), theirs.get(i)) {
        (Some(a), Some(b)) => a.0 != b.0 || (sums && a.1 != b.1),
        _ => true,
    })
}

#[test]
fn frames_times_and_samples_are_those_of_ffmpeg() {
    let Some(media) = media() else { return };
    let (mut files, mut compared, mut failures) = (0, 0, Vec::new());
    for record in records(&media).iter().filter(|r| r.clean && r.frames > 0) {
        // A photo under a video's name is read as a photo; damaged files are another test's subject.
        if (record.frames > 2000 && !full()) || record.file.contains("corrupt/") {
            continue;
        }
        let mut reader = match open(&media, &record.file, &threads(2)) {
            Ok(reader) => reader,
            Err(e) => {
                failures.push(e.to_string());
                continue;
            }
        };
        let info = reader.info().clone();
        assert_eq!((info.codec.as_str(), info.time_base), (record.codec.as_str(), record.time_base), "{}", record.file);
        assert_eq!(info.video_streams, record.streams, "{}", record.file);
        let theirs = list(&media, &record.file);
        // Samples are prescribed by the standard for these; the others depend on the inverse transform.
        let exact = ["h264", "hevc", "vp8", "vp9", "av1"].contains(&record.codec.as_str());
        let mut ours = Vec::new();
        while let Some(meta) = reader.advance().unwrap() {
            let sum = if exact && theirs.is_some() { md5(&packed(&reader.frame().unwrap())) } else { String::new() };
            ours.push((meta.pts.expect("a time"), sum));
        }
        files += 1;
        let ends = (ours.first().map(|f| f.0), ours.last().map(|f| f.0));
        if (ours.len(), ends) != (record.frames, (record.first, record.last)) {
            let text = format!("{}: {} frames {ends:?}, expected {record:?}", record.file, ours.len());
            failures.push(text);
        }
        if let Some(at) = theirs.as_ref().and_then(|t| first_difference(&ours, t, exact)) {
            failures.push(format!("{}: frame {at} differs: {:?}", record.file, ours.get(at)));
        }
        if reader.damaged() || reader.first_error().is_some() {
            failures.push(format!("{}: damaged: {:?}", record.file, reader.first_error()));
        }
        let counters = reader.counters();
        assert_eq!(counters.decoded, ours.len() as u64, "{}: every frame is counted", record.file);
        assert_eq!(counters.corrupt + counters.discarded + counters.seeks, 0, "{}", record.file);
        if let Some(theirs) = theirs.filter(|t| exact && t.len() > 1) {
            compared += theirs.len();
            // Negative controls: one frame less, one bit of a checksum, one tick.
            let mut wrong = ours.clone();
            wrong.swap_remove(0);
            assert!(first_difference(&wrong, &theirs, true).is_some());
            wrong = ours.clone();
            wrong[1].1 = wrong[1].1.chars().rev().collect();
            assert_eq!(first_difference(&wrong, &theirs, true), Some(1));
            wrong = ours;
            wrong[1].0 += 1;
            assert_eq!(first_difference(&wrong, &theirs, true), Some(1));
        }
    }
    println!("{files} files, samples of {compared} frames compared");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(files > 50 && compared > 3000, "{files} files, {compared} frames");
}
