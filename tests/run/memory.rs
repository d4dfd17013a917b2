//! Memory does not grow with the length or the number of inputs.

use std::fmt::Write;

use crate::support::*;

/// What README promises on top of `--memory`, in bytes, with 2 threads.
const CONSTANT: u64 = 100_000_000 + 2 * 2_000_000;
/// What a longer run may take more than a short one: allocators and table writers are not still at once.
const GROWTH: u64 = 24_000_000;
const MEMORY: u64 = 32_000_000;

#[test]
fn eight_times_as_much_takes_no_more_memory() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut photos: Vec<_> =
        std::fs::read_dir(media.join("image/coco/val2017")).unwrap().map(|e| e.unwrap().path()).collect();
    photos.retain(|p| p.extension().is_some_and(|e| e == "jpg"));
    photos.sort();
    photos.truncate(40);
    photos.push(media.join("derived/shots_public.mp4"));
    let peak = |times: usize| {
        let list = dir.path().join(format!("{times}.csv"));
        let mut text = String::from("uri,id\n");
        for round in 0..times {
            for (i, photo) in photos.iter().enumerate() {
                writeln!(text, "{},{round}-{i}", photo.display()).unwrap();
            }
        }
        std::fs::write(&list, text).unwrap();
        let out = dir.path().join(times.to_string());
        let memory = MEMORY.to_string();
        // A GPU's driver takes memory of its own.
        let more = [
            "--device",
            "cpu",
            "--id-column",
            "id",
            "--every",
            "500ms",
            "--threads",
            "2",
            "--memory",
            &memory,
            "--json",
        ];
        let output = framemill(&job(&[list.to_str().unwrap()], out.to_str().unwrap(), &more));
        assert!(output.status.success(), "{}", errors(&output));
        let report = report(&output);
        assert_eq!(report["inputs"]["done"], times * photos.len());
        report["peak_memory"].as_u64().unwrap()
    };
    let (once, more) = (peak(2), peak(16));
    println!("peak memory: {once} bytes for 2 rounds, {more} for 16, with --memory {MEMORY}");
    assert!(more < once + GROWTH, "{once} bytes, then {more}");
    assert!(more < MEMORY + CONSTANT, "{more} bytes");
}
