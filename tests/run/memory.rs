//! Memory does not grow with the length or the number of inputs, or with the number of decoders that were opened.

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

/// A soak in miniature: every decoder and demuxer is opened again and again.
#[test]
fn thousands_of_videos_take_no_more_memory_than_a_few() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let truth = std::fs::read_to_string(media.join("groundtruth/decode_summary.tsv")).unwrap();
    // Also what is damaged, interlaced or no video: these take other ways.
    let small = |name: &str| {
        std::fs::metadata(media.join(name))
            .is_ok_and(|m| m.len() < if full() { 1 << 20 } else { 100_000 })
            .then(|| media.join(name))
    };
    let names = truth.lines().filter(|l| !l.starts_with('#')).skip(1).filter_map(|l| small(l.split('\t').next()?));
    let films: Vec<_> =
        names.chain(std::fs::read_dir(fixtures().join("clips")).unwrap().map(|e| e.unwrap().path())).collect();
    let peak = |files: usize| {
        let list = dir.path().join(format!("{files}.csv"));
        let mut text = String::from("uri,id\n");
        for (i, film) in films.iter().cycle().take(files).enumerate() {
            writeln!(text, "{},{i}", film.display()).unwrap();
        }
        std::fs::write(&list, text).unwrap();
        let (out, memory) = (dir.path().join(format!("soak-{files}")), MEMORY.to_string());
        let more =
            ["--device", "cpu", "--id-column", "id", "--count", "2", "--threads", "2", "--memory", &memory, "--json"];
        let output = framemill(&job(&[list.to_str().unwrap()], out.to_str().unwrap(), &more));
        assert!(output.status.success(), "{}", errors(&output));
        let report = report(&output);
        let inputs = &report["inputs"];
        assert_eq!(inputs["done"].as_u64().unwrap() + inputs["rejected"].as_u64().unwrap(), files as u64);
        assert!(inputs["done"].as_u64() > Some(files as u64 / 2), "{inputs}");
        report["peak_memory"].as_u64().unwrap()
    };
    // Twice each, so that the largest two have met.
    let (few, many) = (films.len() * 2, if full() { 2000 } else { films.len() * 6 });
    let (first, last) = (peak(few), peak(many));
    // How much it is depends on the largest two: a decoder whose pictures are more than its part of the budget runs alone.
    println!("{} kinds of files; peak memory: {first} bytes for {few}, {last} for {many}", films.len());
    assert!(last < first + GROWTH, "{first} bytes for {few} files, {last} for {many}");
}
