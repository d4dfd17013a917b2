//! Reading from a sought place against reading from the start: the same times, flags and samples.

use framemill::decode::video::Only;

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

/// What sparse sampling does: one wanted frame, then the next, with nothing decoded behind either.
#[test]
fn single_frames_are_those_of_reading_from_the_start() {
    let Some(media) = media() else { return };
    let mut random = Random(11);
    let (mut files, mut frames, mut spared, mut went_on) = (0, 0, 0, 0);
    for record in clean(&media).iter().filter(|r| (60..=300).contains(&r.frames) || full() && r.frames > 60) {
        let mut whole = open(&media, &record.file, &threads(2)).unwrap();
        let all = rest(&mut whole).unwrap();
        let times: Option<Vec<i64>> = all.iter().map(|f| f.pts).collect();
        let Some(times) = times.filter(|t| t.windows(2).all(|w| w[0] < w[1])) else { continue };
        let mut reader = open(&media, &record.file, &threads(1 + random.below(2) as usize)).unwrap();
        let step = (times[times.len() - 1] - times[0]) / (2 + random.below(6) as i64);
        let (mut wanted, mut last) = (times[0], None);
        while let Some(meta) = reader.advance().unwrap() {
            let pts = meta.pts.unwrap();
            assert!(last.is_none_or(|last| last < pts), "{}: {pts} comes again", record.file);
            last = Some(pts);
            if pts >= wanted {
                let expected = all.iter().find(|f| f.pts >= Some(wanted)).unwrap();
                assert_eq!(see(&reader, meta).unwrap(), *expected, "{}: {wanted}", record.file);
                frames += 1;
                // Now and then somebody wants what comes behind after all.
                if random.below(4) == 0 {
                    let at = times.iter().position(|t| *t == pts).unwrap();
                    for expected in all[at + 1..].iter().take(3) {
                        let meta = reader.advance().unwrap().unwrap();
                        assert_eq!(see(&reader, meta).unwrap(), *expected, "{}: behind {wanted}", record.file);
                        last = meta.pts;
                        went_on += 1;
                    }
                }
                wanted += step * (1 + (last.unwrap() - wanted) / step);
            }
            reader.wanted_seek(wanted, Some(Only { from: wanted, until: wanted + step })).unwrap();
        }
        assert!(wanted > times[times.len() - 1], "{}: ended before {wanted}", record.file);
        spared += usize::from(reader.counters().packets < whole.counters().packets);
        files += 1;
    }
    println!("{files} files, {frames} frames, {went_on} behind them; {spared} read in part");
    assert!(files > 20 && frames > 80 && went_on > 20 && spared > 5, "{files} {frames} {went_on} {spared}");
}
