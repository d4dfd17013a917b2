//! Reading from a sought place against reading from the start: the same times, flags and samples.

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
