//! Files that were changed at random, through demuxers and decoders: none crashes, hangs or panics the program; what it
//! makes of one is the same every time and with any number of threads; the ledger of packets balances; and a seek, or a choice
//! of frames, gives what reading from the start gives, or damage is seen.
//!
//! The fixtures are the corpus, and small outside media where there are. Cases are numbered: a number is a file, whatever the
//! machine. They run in a process of their own, which is followed from here. `FRAMEMILL_TEST_FUZZ=FROM..TO` runs others than
//! the usual ones.
#![cfg(feature = "ffmpeg")]

#[path = "common/media.rs"]
mod outside;
#[path = "common/random.rs"]
mod random;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use framemill::bytes::ByteSource;
use framemill::decode::image::{self, MediaKind, PhotoOptions, SNIFF_BYTES, sniff};
use framemill::decode::video::{VideoOptions, VideoReader};
use framemill::error::Error;
use framemill::frame::{Frame, PixelFormat};
use outside::{full, media};
use random::Random;
use sha2::{Digest, Sha256};

/// Pictures larger than this are refused, so that a changed size costs no more than it must.
const PIXELS: u64 = 1 << 20;
/// Frames of a file that are looked at.
const FRAMES: usize = 160;
/// Address space of the process that runs cases: what asks for more ends it, and is found.
const SPACE: u64 = 6 << 30;
/// CPU seconds that one case may take. A case takes a fraction of one.
const PATIENCE: f64 = 120.0;

/// A file in memory.
struct Bytes(Vec<u8>);

impl ByteSource for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// Files to be changed.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut folders = ["clips", "broken", "photos"].map(|f| own.join(f)).to_vec();
    folders.extend(media().into_iter().flat_map(|m| ["video", "image/sharp"].map(|f| m.join(f))));
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.metadata().unwrap().len() < 200_000 {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files.into_iter().map(|f| (f.display().to_string(), std::fs::read(f).unwrap())).collect()
}

/// Changes a file in a few places: half of them where the names of boxes and tables stand, or near its start.
fn change(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let name = |w: &[u8]| w.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let names: Vec<usize> = (0..data.len().saturating_sub(4)).filter(|&i| name(&data[i..i + 4])).collect();
    for _ in 0..1 + random.below(6) {
        let n = data.len() as u64;
        if n < 8 {
            return;
        }
        let at = match random.below(4) {
            0 if !names.is_empty() => {
                (names[random.below(names.len() as u64) as usize] as u64 + random.below(40)).saturating_sub(4)
            }
            1 => random.below(n.min(4096)),
            _ => random.below(n),
        };
        let at = (at as usize).min(data.len() - 5);
        let order = random.below(12);
        let size = (1 + random.below(1 << order)) as usize;
        let end = (at + size).min(data.len());
        match random.below(10) {
            0 | 1 => data[at] ^= 1 << random.below(8),
            2 => data[at] = random.below(256) as u8,
            3 | 4 => {
                let all = [
                    0,
                    1,
                    2,
                    0x7F,
                    0xFF,
                    0x7FFF_FFFF,
                    0x8000_0000,
                    0xFFFF_FFFF,
                    n as u32,
                    random.below(1 << 32) as u32,
                ];
                let value = all[random.below(all.len() as u64) as usize];
                data[at..at + 4].copy_from_slice(&if random.below(4) == 0 {
                    value.to_le_bytes()
                } else {
                    value.to_be_bytes()
                });
            }
            5 => data[at..end].fill(random.below(2) as u8 * 255),
            6 => drop(data.drain(at..end)),
            7 => {
                let copy = data[at..end].to_vec();
                let to = random.below(n) as usize;
                data.splice(to..to, copy);
            }
            8 if !other.is_empty() => {
                let from = random.below(other.len() as u64) as usize;
                let part = other[from..(from + size).min(other.len())].to_vec();
                data.splice(at..end, part);
            }
            _ if random.below(3) == 0 => data.truncate(at),
            _ => data[at..end].iter_mut().for_each(|b| *b ^= random.below(256) as u8),
        }
    }
}

fn digest(frame: &Frame) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{}x{} {:?} {:?} {:?}",
        frame.width, frame.height, frame.format, frame.color, frame.orientation
    ));
    let (w, h) = (frame.width as usize, frame.height as usize);
    for (i, plane) in frame.planes.iter().enumerate() {
        let (row, rows) = match frame.format {
            PixelFormat::Rgb8 => (w * 3, h),
            PixelFormat::Gray { depth } | PixelFormat::Gbr { depth } => (w << usize::from(depth > 8), h),
            PixelFormat::Yuv { depth, sub_w, sub_h } => {
                let (sub_w, sub_h) = if i > 0 { (sub_w, sub_h) } else { (0, 0) };
                (w.div_ceil(1 << sub_w) << usize::from(depth > 8), h.div_ceil(1 << sub_h))
            }
        };
        (0..rows).for_each(|y| hash.update(&plane.data[y * plane.stride..][..row]));
    }
    hash.finalize().into()
}

/// Time and samples of a frame; the error of one that cannot be converted.
type Seen = (Option<i64>, Result<[u8; 32], String>);

/// What reading came to: its frames, and how it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    frames: Vec<Seen>,
    end: Option<String>,
    damaged: bool,
}

fn options(threads: usize, careful: bool) -> VideoOptions {
    VideoOptions { threads, concealment_fixed: careful, max_pixels: PIXELS, ..VideoOptions::default() }
}

/// Reads on to the end or to the last frame that is looked at.
fn read_on(reader: &mut VideoReader) -> Outcome {
    let mut frames = Vec::new();
    let mut end = None;
    while frames.len() < FRAMES {
        match reader.advance() {
            Ok(Some(meta)) => frames.push((meta.pts, reader.frame().map(|f| digest(&f)).map_err(|e| e.message))),
            Ok(None) => break,
            Err(e) => {
                end = Some(e.message);
                break;
            }
        }
    }
    let counters = reader.counters();
    assert_eq!(
        counters.packets + counters.extra,
        counters.decoded + counters.lost.total(),
        "the ledger does not balance: {counters:?}"
    );
    Outcome { frames, end, damaged: reader.damaged() }
}

fn read(source: &Arc<dyn ByteSource>, options: &VideoOptions) -> Result<Outcome, Error> {
    Ok(read_on(&mut VideoReader::open(source.clone(), "case", options)?))
}

/// As a run does it: where several threads see damage, one tells whether it is in what was asked for; then only what one
/// thread decodes with care counts.
fn judged(source: &Arc<dyn ByteSource>, threads: usize) -> Result<Outcome, String> {
    let message = |e: Error| e.message;
    let unsound = |outcome: &Outcome| outcome.damaged || outcome.end.is_some();
    let mut outcome = read(source, &options(threads, false)).map_err(message)?;
    if unsound(&outcome) && threads > 1 {
        outcome = read(source, &options(1, false)).map_err(message)?;
    }
    if unsound(&outcome) { read(source, &options(1, true)).map_err(message) } else { Ok(outcome) }
}

/// Where two outcomes differ.
fn difference(a: &Result<Outcome, String>, b: &Result<Outcome, String>) -> Option<String> {
    if a == b {
        return None;
    }
    let (Ok(a), Ok(b)) = (a, b) else {
        let text = |o: &Result<Outcome, String>| o.as_ref().map(|o| o.frames.len()).map_err(String::clone);
        return Some(format!("{:?}, then {:?}", text(a), text(b)));
    };
    let at = a.frames.iter().zip(&b.frames).position(|(a, b)| a != b);
    let told = |o: &Outcome| format!("{} frames, end {:?}, damaged {}", o.frames.len(), o.end, o.damaged);
    Some(format!("{}, then {}; first difference at {at:?}", told(a), told(b)))
}

/// Seeks and jumps against reading from the start, where no damage is seen.
fn sought(source: &Arc<dyn ByteSource>, whole: &Outcome, random: &mut Random) {
    let times: Vec<i64> = whole.frames.iter().filter_map(|f| f.0).collect();
    for jump in [false, true] {
        let Some(&floor) = times.get(random.below(times.len() as u64) as usize) else { return };
        let Ok(mut reader) = VideoReader::open(source.clone(), "case", &options(1, false)) else { return };
        let mut first = Vec::new();
        let went = if jump {
            let meta = reader.advance().unwrap_or_default();
            first.extend(meta.map(|m| (m.pts, reader.frame().map(|f| digest(&f)).map_err(|e| e.message))));
            reader.wanted_seek(floor).map(|_| ())
        } else {
            reader.seek_before(floor)
        };
        let mut found = read_on(&mut reader);
        found.frames.splice(0..0, first);
        if went.is_err() || found.damaged || found.end.is_some() || whole.damaged || whole.end.is_some() {
            continue;
        }
        let behind = |outcome: &Outcome| -> Vec<Seen> {
            outcome.frames.iter().filter(|f| f.0.is_some_and(|pts| pts >= floor)).cloned().collect()
        };
        let (all, some) = (behind(whole), behind(&found));
        // Where a file is longer than is looked at, one of them goes further.
        let cut = whole.frames.len() == FRAMES;
        let at = (0..all.len().min(some.len())).find(|&i| all[i] != some[i]);
        assert!(
            at.is_none() && (cut || all.len() == some.len()),
            "from {floor} (jump: {jump}) {} frames instead of {}, first difference at {at:?}",
            some.len(),
            all.len()
        );
    }
}

/// Some frames, with whatever is not needed for them left out, against reading from the start, where no damage is seen; they
/// are compared where damage is `sure` to be.
fn wanted(source: &Arc<dyn ByteSource>, whole: &Outcome, random: &mut Random, sure: bool) {
    let share = 1 + random.below(6);
    let chosen: HashSet<i64> = whole.frames.iter().filter_map(|f| f.0).filter(|_| random.below(share) == 0).collect();
    let Ok(mut reader) = VideoReader::open(source.clone(), "case", &options(1, false)) else { return };
    let set = chosen.clone();
    if reader.spare(Box::new(move |_, pts, _| set.contains(&pts))).is_err() {
        return;
    }
    let part = whole.frames.iter().filter_map(|f| f.0).find(|_| random.below(8) == 0);
    if part.is_some_and(|pts| reader.begin_at(pts).is_err()) {
        return;
    }
    let found = read_on(&mut reader);
    let sound = |outcome: &Outcome| !outcome.damaged && outcome.end.is_none();
    if !sure || !sound(&found) || !sound(whole) || whole.frames.len() == FRAMES {
        return;
    }
    let of = |outcome: &Outcome| -> Vec<Seen> {
        let due = |f: &&Seen| f.0.is_some_and(|pts| chosen.contains(&pts) && part.is_none_or(|part| pts >= part));
        outcome.frames.iter().filter(due).cloned().collect()
    };
    let (all, some) = (of(whole), of(&found));
    let at = (0..all.len().min(some.len())).find(|&i| all[i] != some[i]);
    assert!(
        at.is_none() && all.len() == some.len(),
        "{} of {} wanted frames from {part:?} on, first difference at {at:?}",
        some.len(),
        all.len()
    );
}

/// Everything that must hold of a case.
fn case(number: u64, corpus: &[(String, Vec<u8>)]) {
    let mut random = Random(number.wrapping_mul(0x9E37_79B9) ^ 0x5EED);
    let (_, seed) = &corpus[random.below(corpus.len() as u64) as usize];
    let (_, other) = &corpus[random.below(corpus.len() as u64) as usize];
    let mut data = seed.clone();
    change(&mut data, other, &mut random);
    if let Some(folder) = std::env::var_os("FRAMEMILL_TEST_FUZZ_KEEP") {
        std::fs::write(Path::new(&folder).join(number.to_string()), &data).unwrap();
    }
    if let MediaKind::Photo(_) = sniff(&data[..data.len().min(SNIFF_BYTES)]) {
        let options = PhotoOptions { max_pixels: PIXELS, ..PhotoOptions::default() };
        let photo =
            || image::decode(&data, "case", &options).map(|p| (digest(&p.frame), p.warning)).map_err(|e| e.message);
        assert_eq!(photo(), photo(), "a photo is not the same every time");
        return;
    }
    let source: Arc<dyn ByteSource> = Arc::new(Bytes(data));
    let one = judged(&source, 1);
    // FFmpeg does not notice all damage to HEVC's slices, and then gives whatever lay in a frame's memory: other samples with
    // more threads, or with fewer frames.
    let silent = VideoReader::open(source.clone(), "case", &options(1, false)).is_ok_and(|r| r.info().codec == "hevc");
    for threads in if silent { vec![1] } else { vec![1, 3] } {
        let other = difference(&one, &judged(&source, threads));
        assert!(other.is_none(), "with {threads} threads another result: {}", other.unwrap_or_default());
    }
    if let Ok(whole) = &one {
        sought(&source, whole, &mut random);
        wanted(&source, whole, &mut random, !silent);
    }
}

/// The process that runs cases; nothing where it is not asked for.
#[test]
fn runs_cases_for_the_test_that_follows_them() {
    let Some(range) = std::env::var("FRAMEMILL_TEST_FUZZ_CHILD").ok().and_then(|text| parse(&text)) else { return };
    let limit = rustix::process::Rlimit { current: Some(SPACE), maximum: Some(SPACE) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let corpus = corpus();
    for number in range {
        println!("case {number}");
        std::io::stdout().flush().unwrap();
        case(number, &corpus);
    }
    println!("case done");
}

fn parse(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// CPU seconds of a process.
fn cpu(child: &Child) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields.get(11..13).into_iter().flatten().filter_map(|f| f.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Runs cases until one fails; which one, and how.
fn follow(range: Range<u64>) -> Option<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runs_cases_for_the_test_that_follows_them", "--nocapture"])
        .env("FRAMEMILL_TEST_FUZZ_CHILD", format!("{}..{}", range.start, range.end))
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, errors) = (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let now = Arc::new(AtomicU64::new(range.start));
    let seen = now.clone();
    let reader = std::thread::spawn(move || {
        let mut done = false;
        for line in lines.lines().map_while(Result::ok) {
            match line.strip_prefix("case ").map(str::parse) {
                Some(Ok(number)) => seen.store(number, Ordering::Relaxed),
                Some(Err(_)) => done = true,
                None => {}
            }
        }
        done
    });
    let mut begun = (range.start, 0.0);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.to_string();
        }
        let (case, used) = (now.load(Ordering::Relaxed), cpu(&child));
        if case != begun.0 {
            begun = (case, used);
        } else if used - begun.1 > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            break format!("no end after {PATIENCE} s");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let (done, errors) = (reader.join().unwrap(), errors.join().unwrap());
    let last: Vec<&str> = errors.lines().filter(|l| !l.is_empty()).collect();
    (!done).then(|| {
        (now.load(Ordering::Relaxed), format!("{status}: {}", last[last.len().saturating_sub(6)..].join(" / ")))
    })
}

#[test]
fn changed_files_do_no_harm() {
    let given =
        std::env::var("FRAMEMILL_TEST_FUZZ").ok().map(|text| parse(&text).expect("FRAMEMILL_TEST_FUZZ is FROM..TO"));
    let range = given.unwrap_or(0..if full() { 4000 } else { 120 });
    let (mut from, mut found) = (range.start, Vec::new());
    while from < range.end && found.len() < 40 {
        let Some((case, how)) = follow(from..range.end) else { break };
        println!("case {case}: {how}");
        found.push(format!("case {case}: {how}"));
        from = case + 1;
    }
    println!("cases {}..{}", range.start, range.end);
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

/// The control: what a case asserts is asserted here, not only in another process.
#[test]
fn a_failing_case_is_found() {
    let all = corpus();
    let (_, clip) = all.iter().find(|(name, _)| name.ends_with("clips/h264.mp4")).unwrap();
    let source: Arc<dyn ByteSource> = Arc::new(Bytes(clip.clone()));
    let whole = judged(&source, 2).unwrap();
    assert!(whole.frames.len() > 20 && !whole.damaged && whole.end.is_none());
    sought(&source, &whole, &mut Random(1));
    let mut wrong = Outcome { frames: whole.frames.clone(), end: None, damaged: false };
    let last = wrong.frames.len() - 1;
    wrong.frames[last].1 = Ok([0; 32]);
    let met = std::panic::catch_unwind(AssertUnwindSafe(|| sought(&source, &wrong, &mut Random(1))));
    assert!(met.is_err(), "a frame of other samples was not noticed");
    (0..20).for_each(|seed| wanted(&source, &whole, &mut Random(seed), true));
    let noticed = |seed: &u64| {
        std::panic::catch_unwind(AssertUnwindSafe(|| wanted(&source, &wrong, &mut Random(*seed), true))).is_err()
    };
    assert!((0..20).filter(noticed).count() > 2, "a chosen frame of other samples was not noticed");
    let mut cut = clip.clone();
    cut.truncate(clip.len() / 2);
    change(&mut cut, &[], &mut Random(5));
    assert_ne!(&cut, clip);
}
