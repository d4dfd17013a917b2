//! Reading from a sought place against reading from the start: the same times, flags and samples.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;

use framemill::bytes::{ByteSource, FileSource};
use framemill::decode::video::VideoReader;

use crate::support::*;

/// Seeks a file; more with `FRAMEMILL_TEST_FULL=1`.
fn rounds() -> u64 {
    if full() { 8 } else { 2 }
}

#[test]
fn seeking_gives_the_frames_of_reading_from_the_start() {
    let Some(media) = media() else { return };
    let (mut files, mut seeks, mut controls, mut failures) = (0, 0, 0, Vec::new());
    let mut random = Random(7);
    for record in clean(&media).iter().filter(|r| r.frames <= 300 || full()) {
        if record.file.contains("corrupt/") {
            continue;
        }
        let all = rest(&mut open(&media, &record.file, &threads(2)).unwrap()).unwrap();
        files += 1;
        for _ in 0..rounds() {
            let Some(floor) = all[random.below(all.len() as u64) as usize].pts else { continue };
            let wanted: Vec<&Seen> = all.iter().filter(|f| f.pts.is_some_and(|p| p >= floor)).collect();
            let mut reader = open(&media, &record.file, &threads(1)).unwrap();
            reader.seek_before(floor).unwrap();
            let sought = rest(&mut reader).unwrap();
            // Where times run backwards a file is read from the start, from the first frame that is late enough.
            if !sought.iter().filter(|f| f.pts.is_some_and(|p| p >= floor)).eq(wanted.iter().copied()) {
                failures.push(format!(
                    "{}: from {floor}: {} frames, expected {}",
                    record.file,
                    sought.len(),
                    wanted.len()
                ));
            }
            seeks += 1;
            controls += usize::from(wanted.len() > 1 && sought[1..] != sought[..sought.len() - 1]);
        }
    }
    println!("{files} files, {seeks} seeks");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(files > 30 && controls > 30, "{files} files; a shifted list was noticed {controls} times");
}

/// Any set of wanted frames is given as reading from the start gives it, and the decoder is fed less for it; whoever decodes
/// does not matter to what is counted.
#[test]
fn wanted_frames_are_those_of_reading_from_the_start() {
    let Some(media) = media() else { return };
    let mut random = Random(11);
    let (mut files, mut frames, mut ended) = (0, 0, 0);
    let (mut jumped, mut disposed, mut controls) = (0, 0, 0);
    for record in clean(&media).iter().filter(|r| (30..=300).contains(&r.frames) || full() && r.frames > 30) {
        let mut whole = open(&media, &record.file, &threads(2)).unwrap();
        let all = rest(&mut whole).unwrap();
        let times: Option<Vec<i64>> = all.iter().map(|f| f.pts).collect();
        let Some(times) = times.filter(|t| t.windows(2).all(|w| w[0] < w[1])) else { continue };
        for round in 0..rounds() {
            // Few of them, or most of them.
            let share = if round % 2 == 0 { 1 + random.below(20) } else { 800 };
            let wanted: Arc<HashSet<i64>> =
                Arc::new(times.iter().copied().filter(|_| random.below(1000) < share).collect());
            let mut counted = Vec::new();
            for count in [1, 3] {
                let mut reader = open(&media, &record.file, &threads(count)).unwrap();
                let set = wanted.clone();
                reader.spare(Box::new(move |_, pts, _| set.contains(&pts))).unwrap();
                let mut given = Vec::new();
                let mut last = None;
                while let Some(meta) = reader.advance().unwrap() {
                    assert!(last < meta.pts, "{}: {:?} comes again", record.file, meta.pts);
                    last = meta.pts;
                    if meta.pts.is_some_and(|pts| wanted.contains(&pts)) {
                        given.push(see(&reader, meta).unwrap());
                    }
                }
                let expected: Vec<&Seen> = all.iter().filter(|f| wanted.contains(&f.pts.unwrap())).collect();
                assert!(given.iter().eq(expected.iter().copied()), "{}: {wanted:?}", record.file);
                controls += usize::from(given.len() > 1 && given[1..] != given[..given.len() - 1]);
                assert!(!reader.damaged(), "{}: {:?}", record.file, reader.first_error());
                let (counters, least) = (reader.counters(), whole.counters().packets);
                assert_eq!(
                    counters.packets + counters.extra,
                    counters.decoded + counters.lost.total(),
                    "{}: {counters:?}",
                    record.file
                );
                if let Some(left) = reader.left_out() {
                    assert!(last < Some(left) && times.contains(&left), "{}: {left} behind {last:?}", record.file);
                    ended += 1;
                }
                jumped += usize::from(counters.packets < least);
                disposed += usize::from(counters.lost.unwanted > 0);
                frames += given.len();
                counted.push((counters.packets, counters.decoded, counters.lost, counters.seeks));
            }
            assert_eq!(counted[0], counted[1], "{}: 1 and 3 threads", record.file);
        }
        files += 1;
    }
    assert!(controls > 30, "a shifted list was noticed {controls} times");
    println!(
        "{files} files, {frames} frames; {jumped} readings in part, {disposed} without disposable ones, {ended} ended early"
    );
    assert!(
        files > 30 && frames > 2000 && jumped > 20 && disposed > 20 && ended > 20,
        "{files} {frames} {jumped} {disposed} {ended}"
    );
}

/// A wanted frame that does not come is told, since those around it were left out.
#[test]
fn a_wanted_frame_that_does_not_come_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(["-v", "error"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let source = ["-nostdin", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2", "-c:v", "libx265"];
    let encoder = ["-x265-params", "bframes=3:log-level=none", "-pix_fmt", "yuv420p"];
    run("ffmpeg", &[&source[..], &encoder, &[path.to_str().unwrap()]].concat());
    let shown = run("ffprobe", &["-show_entries", "packet=pts,pos", "-of", "csv=p=0", path.to_str().unwrap()]);
    let mut bytes = std::fs::read(&path).unwrap();
    // A picture that no other refers to, as the header behind the length says.
    let packets = shown.lines().map(|line| line.split_once(',').unwrap());
    let packets = packets.map(|(pts, at)| (pts.parse::<i64>().unwrap(), at.parse::<usize>().unwrap() + 4));
    let (wanted, header) = packets.skip(10).find(|&(_, at)| bytes[at] >> 1 == 0).unwrap();
    let read = || {
        let source: Arc<dyn ByteSource> = Arc::new(FileSource::open(&path).unwrap());
        let mut reader = VideoReader::open(source, "clip", &threads(1)).unwrap();
        reader.spare(Box::new(move |_, pts, _| pts == wanted)).unwrap();
        let mut last = None;
        while let Some(meta) = reader.advance().unwrap() {
            last = meta.pts;
        }
        (last, reader.counters().lost.unwanted, reader.first_error())
    };
    let (last, unwanted, error) = read();
    assert!(last == Some(wanted) && unwanted > 0 && error.is_none(), "{last:?} {unwanted} {error:?}");
    // Filler in its place is no error to the decoder.
    bytes[header] = 38 << 1;
    std::fs::write(&path, &bytes).unwrap();
    let (last, _, error) = read();
    assert!(last != Some(wanted) && error.as_deref().is_some_and(|e| e.contains("wanted frame")), "{last:?} {error:?}");
}
