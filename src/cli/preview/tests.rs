use serde_json::json;

use super::*;
use crate::sink::record::{Details, Detection, Media, Record};
use crate::sink::{Format, Sample, ShardWriter};

/// Size of the samples: eleven times that fills a cell.
const SIZE: (u32, u32) = (32, 24);
/// Where the pictures of three samples are on their sheet.
const CELLS: [(u32, u32); 3] = [(12, 42), (376, 42), (12, 372)];
/// On the sheet, from a picture's corner: within the box's left, right, upper and lower line.
const RING: [(u32, u32); 4] = [(88, 100), (263, 150), (150, 66), (170, 197)];
/// The colour of class 1.
const MARK: [u8; 3] = [64, 224, 96];

/// How the samples of a test are.
#[derive(Clone, Copy)]
struct Kind {
    format: Format,
    encoding: Encoding,
    dtype: Dtype,
    layout: Layout,
    clip: bool,
    normalised: bool,
    boxes: bool,
}

impl Default for Kind {
    fn default() -> Self {
        Kind {
            format: Format::Webdataset,
            encoding: Encoding::Png,
            dtype: Dtype::U8,
            layout: Layout::Hwc,
            clip: false,
            normalised: false,
            boxes: false,
        }
    }
}

/// The colour of sample `i` at a pixel: red, green and blue quarters, and one of its own.
fn color(i: usize, x: u32, y: u32) -> [u8; 3] {
    match (x < SIZE.0 / 2, y < SIZE.1 / 2) {
        (true, true) => [255, 0, 0],
        (false, true) => [0, 255, 0],
        (true, false) => [0, 0, 255],
        (false, false) => [200, 100, 40 + 60 * i as u8],
    }
}

fn tensor(kind: Kind, at: impl Fn(u32, u32) -> [u8; 3]) -> Tensor {
    let (w, h) = SIZE;
    let pixels: Vec<[u8; 3]> = (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    let levels: Vec<u8> = match kind.layout {
        Layout::Hwc => pixels.into_iter().flatten().collect(),
        Layout::Chw => (0..3).flat_map(|c| pixels.iter().map(move |p| p[c])).collect(),
    };
    let float = |level: u8| {
        let unit = f32::from(level) / 255.0;
        if kind.normalised { (unit - 0.5) / 0.25 } else { unit }
    };
    let element = |level: u8| match kind.dtype {
        Dtype::U8 => vec![level],
        Dtype::F16 => half::f16::from_f32(float(level)).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f32(float(level)).to_le_bytes().to_vec(),
        Dtype::F32 => float(level).to_le_bytes().to_vec(),
    };
    let data = levels.into_iter().flat_map(element).collect();
    Tensor { width: w, height: h, dtype: kind.dtype, layout: kind.layout, data }
}

fn sample(kind: Kind, i: usize) -> Sample {
    let mut frames = vec![tensor(kind, |x, y| color(i, x, y))];
    if kind.clip {
        frames.push(tensor(kind, |_, _| [255, 255, 255]));
    }
    let key = format!("00112233445566{i:02x}-000001500000");
    let detection = Detection {
        class: 1,
        label: Some("a<b>".into()),
        score: 0.5,
        box_: [8.0, 6.0, 24.0, 18.0],
        ..Default::default()
    };
    let record = Record {
        key: key.clone(),
        uri: format!("s3://bucket/raw/clip <{i}>.mp4"),
        media: Media::Video,
        time_s: 1.5,
        width: SIZE.0,
        height: SIZE.1,
        detections: if kind.boxes { vec![detection] } else { Vec::new() },
        ..Default::default()
    };
    let data = if kind.format == Format::Tensors {
        crate::sink::encode::raw(frames.clone())
    } else {
        encode(&frames, kind.clip, &kind.encoding).unwrap()
    };
    let shape = crate::sink::encode::shape(&frames, kind.clip).unwrap();
    Sample { key, ext: kind.encoding.ext(), data, shape, dtype: kind.dtype, record, fields: Vec::new() }
}

fn write(out: &Path, split: Option<&str>, task: u64, kind: Kind, samples: std::ops::Range<usize>) {
    let mut writer =
        ShardWriter::begin(&Output::at(out), split, task, "w", kind.format, &[], Details::default()).unwrap();
    samples.for_each(|i| writer.write(sample(kind, i)).unwrap());
    writer.finish().unwrap().publish().unwrap();
}

/// The sheet of three samples of a kind.
fn sheet_of(kind: Kind) -> image::RgbImage {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 7, kind, 0..3);
    read(&preview(&Output::at(dir.path()), Some(&dir.path().join("sheet.png")), 40).unwrap())
}

fn read(path: &str) -> image::RgbImage {
    let decoded = image::load_from_memory(&std::fs::read(path).unwrap()).or_else(|_| decode_jpeg(Path::new(path)));
    decoded.unwrap().to_rgb8()
}

fn decode_jpeg(path: &Path) -> Result<image::DynamicImage> {
    let photo = crate::decode::image::decode(&std::fs::read(path).unwrap(), "sheet", &Default::default())?;
    let frame = photo.frame;
    let data = frame.planes[0].data.to_vec();
    Ok(image::RgbImage::from_raw(frame.width, frame.height, data).unwrap().into())
}

fn near(a: [u8; 3], b: [u8; 3], tolerance: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= tolerance)
}

/// Whether all quarters of sample `i` are where the sheet has its picture, seen at their middles and corners.
fn shows(sheet: &image::RgbImage, cell: (u32, u32), i: usize, tolerance: u8) -> bool {
    let points = [4, 40, 170, 180, 300, 347].into_iter().flat_map(|x| [4, 30, 126, 137, 230, 259].map(|y| (x, y)));
    points
        .into_iter()
        .all(|(x, y)| near(sheet.get_pixel(cell.0 + x, cell.1 + y).0, color(i, x / 11, y / 11), tolerance))
}

fn all_kinds() -> Vec<(Kind, u8)> {
    let mut kinds = Vec::new();
    for format in [Format::Webdataset, Format::Images] {
        for (encoding, tolerance) in [
            (Encoding::Jpeg(95), 12),
            (Encoding::Png, 0),
            (Encoding::Webp(None), 0),
            (Encoding::Npy, 0),
            (Encoding::Safetensors, 0),
        ] {
            kinds.push((Kind { format, encoding, ..Kind::default() }, tolerance));
        }
    }
    for format in Format::ALL {
        for dtype in [Dtype::U8, Dtype::F16, Dtype::Bf16, Dtype::F32] {
            for layout in [Layout::Hwc, Layout::Chw] {
                for normalised in [false, true] {
                    for clip in [false, true] {
                        let encoding = if dtype == Dtype::Bf16 { Encoding::Safetensors } else { Encoding::Npy };
                        let kind = Kind { format, encoding, dtype, layout, clip, normalised, boxes: false };
                        kinds.push((kind, if dtype == Dtype::Bf16 { 2 } else { u8::from(dtype == Dtype::F16) }));
                    }
                }
            }
        }
    }
    kinds
}

#[test]
fn every_form_of_sample_is_shown_in_its_colours_and_place() {
    for (kind, tolerance) in all_kinds() {
        let Kind { format, encoding, dtype, layout, clip, normalised, .. } = kind;
        let what = format!("{format} {encoding} {dtype:?} {layout:?} clip {clip} normalised {normalised}");
        let sheet = sheet_of(kind);
        assert_eq!(sheet.dimensions(), (740, 702), "{what}");
        for (i, cell) in CELLS.into_iter().enumerate() {
            assert!(shows(&sheet, cell, i, tolerance), "{what}: sample {i}");
            // The same look finds another sample, or a place a little beside, wrong.
            assert!(!shows(&sheet, cell, (i + 1) % 3, tolerance), "{what}: sample {i}");
            assert!(!shows(&sheet, (cell.0 + 9, cell.1), i, tolerance), "{what}: sample {i}");
        }
    }
}

#[test]
fn boxes_are_drawn_where_they_are_and_only_then() {
    for format in Format::ALL {
        let encoding = if format == Format::Tensors { Encoding::Npy } else { Encoding::Png };
        let with = sheet_of(Kind { format, encoding, boxes: true, ..Kind::default() });
        let without = sheet_of(Kind { format, encoding, ..Kind::default() });
        for (i, cell) in CELLS.into_iter().enumerate() {
            for (x, y) in RING {
                let pixel = |sheet: &image::RgbImage| sheet.get_pixel(cell.0 + x, cell.1 + y).0;
                assert_eq!((pixel(&with), pixel(&without)), (MARK, color(i, x / 11, y / 11)), "{format} {x} {y}");
            }
            // Inside is the picture, above the line the label's tag.
            assert_eq!(with.get_pixel(cell.0 + 150, cell.1 + 120).0, color(i, 13, 10));
            let tag = (88..150).flat_map(|x| (55..66).map(move |y| (x, y)));
            let dark = tag.filter(|(x, y)| with.get_pixel(cell.0 + x, cell.1 + y).0 == [0; 3]).count();
            assert!(dark > 20, "{format}: {dark} dots of text");
        }
    }
}

#[test]
fn captions_say_what_is_shown() {
    let shown = |record: Value, notes: &[&str]| Shown {
        record,
        split: Some("train".into()),
        picture: Ok(Thumb {
            pixels: plain(1, 1, [0; 3]),
            sample: (1, 1),
            notes: notes.iter().map(|n| n.to_string()).collect(),
        }),
    };
    let video = json!({"key": "k-1", "uri": "a/b.mp4", "media": "video", "time_s": 3723.5});
    assert_eq!(
        caption(&shown(video, &["clip of 8", "normalised"])),
        ["b.mp4", "k-1", "1:02:03.500, train, clip of 8, normalised"]
    );
    let photo = json!({"key": "k-0", "uri": "c.jpg", "media": "image", "time_s": 0.0});
    assert_eq!(caption(&shown(photo, &[])), ["c.jpg", "k-0", "train"]);
    assert_eq!([0.0, 0.3, 59.9999, -0.25].map(clock), ["0:00.000", "0:00.300", "0:59.999", "-0:00.250"]);

    // The words reach the sheet: it changes with them, and with nothing else.
    let kind = Kind { format: Format::Tensors, encoding: Encoding::Npy, dtype: Dtype::F32, ..Kind::default() };
    let (scaled, stretched) = (sheet_of(kind), sheet_of(Kind { normalised: true, ..kind }));
    let differing = |ys: std::ops::Range<u32>| {
        ys.flat_map(|y| (0..740).map(move |x| (x, y)))
            .filter(|(x, y)| scaled.get_pixel(*x, *y) != stretched.get_pixel(*x, *y))
            .count()
    };
    // Above the pictures stands the name of the folder, which is another each time.
    assert_eq!(differing(42..345), 0);
    assert!(differing(345..372) > 100);
}

#[test]
fn samples_are_spread_evenly_over_shards_and_splits() {
    assert_eq!(spread(3, 3), [0, 1, 2]);
    assert_eq!(spread(40, 2), [0, 1]);
    assert_eq!(spread(2, 100), [25, 75]);
    assert_eq!(spread(3, usize::MAX).len(), 3);
    let dir = tempfile::tempdir().unwrap();
    let kind = Kind::default();
    write(dir.path(), Some("val"), 2, kind, 0..1);
    write(dir.path(), Some("train"), 0, kind, 1..2);
    write(dir.path(), Some("train"), 1, kind, 2..3);
    let names = |shards: &[Shard]| shards.iter().map(|s| (s.split.clone().unwrap(), s.rows)).collect::<Vec<_>>();
    let found = shards(&Output::at(dir.path())).unwrap();
    assert_eq!(names(&found), [("train".to_string(), 1), ("train".to_string(), 1), ("val".to_string(), 1)]);
    let sheet = read(&preview(&Output::at(dir.path()), Some(&dir.path().join("a.png")), 3).unwrap());
    for (cell, i) in CELLS.into_iter().zip([1, 2, 0]) {
        assert!(shows(&sheet, cell, i, 0), "{i}");
    }
    // One of three: the middle one.
    let sheet = read(&preview(&Output::at(dir.path()), Some(&dir.path().join("b.png")), 1).unwrap());
    assert!(shows(&sheet, CELLS[0], 2, 0));
}

#[test]
fn the_ending_chooses_the_form_and_jpeg_is_the_default() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 0, Kind::default(), 0..3);
    let path = preview(&Output::at(dir.path()), None, 40).unwrap();
    assert_eq!(Path::new(&path), dir.path().join("_framemill/preview.jpg"));
    assert!(shows(&decode_jpeg(Path::new(&path)).unwrap().to_rgb8(), CELLS[2], 2, 12));
    let upper = preview(&Output::at(dir.path()), Some(&dir.path().join("A.PNG")), 40).unwrap();
    assert!(std::fs::read(upper).unwrap().starts_with(b"\x89PNG"));
    for name in ["a.gif", "a", "png"] {
        let error = preview(&Output::at(dir.path()), Some(Path::new(name)), 40).unwrap_err();
        assert!(error.exit_code() == 2 && error.message.contains(".html"), "{error}");
    }
    assert_eq!(preview(&Output::at(dir.path()), None, 0).unwrap_err().exit_code(), 2);
}

#[test]
fn folders_without_samples_are_named_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    for name in ["empty", "file", "nowhere"] {
        let path = dir.path().join(name);
        let error = preview(&Output::at(&path), None, 40).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.message.contains(&*path.to_string_lossy()), "{error}");
        assert!(error.message.contains("shard-000000.parquet"), "{error}");
    }
    assert!(std::fs::read_dir(dir.path().join("empty")).unwrap().next().is_none(), "nothing is left behind");
    std::fs::create_dir_all(dir.path().join("begun/_framemill")).unwrap();
    let error = preview(&Output::at(&dir.path().join("begun")), None, 40).unwrap_err();
    assert!(error.exit_code() == 2 && error.message.contains("no sample yet"), "{error}");
}

#[test]
fn what_cannot_be_read_says_so_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 0, Kind { format: Format::Images, ..Kind::default() }, 0..3);
    let folder = dir.path().join("images/000000");
    let file = |i: usize| folder.join(format!("00112233445566{i:02x}-000001500000.png"));
    std::fs::write(file(1), "no picture").unwrap();
    let sheet = read(&preview(&Output::at(dir.path()), Some(&dir.path().join("a.png")), 40).unwrap());
    assert!(shows(&sheet, CELLS[0], 0, 0) && shows(&sheet, CELLS[2], 2, 0));
    assert_eq!(sheet.get_pixel(CELLS[1].0 + 2, CELLS[1].1 + 2).0, [72, 24, 24]);
    for i in [0, 2] {
        std::fs::remove_file(file(i)).unwrap();
    }
    let error = preview(&Output::at(dir.path()), None, 40).unwrap_err();
    assert!(error.exit_code() == 74 && error.message.contains("missing in images/000000"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 0, Kind::default(), 0..3);
    let tar = dir.path().join("shard-000000.tar");
    let whole = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    let sheet = read(&preview(&Output::at(dir.path()), Some(&dir.path().join("a.png")), 40).unwrap());
    assert!(shows(&sheet, CELLS[0], 0, 0) && !shows(&sheet, CELLS[2], 2, 0));
    std::fs::remove_file(&tar).unwrap();
    let error = preview(&Output::at(dir.path()), None, 40).unwrap_err();
    assert!(error.message.contains("the data of shard-000000.parquet is missing"), "{error}");
}

#[test]
fn a_field_that_looks_like_a_picture_is_not_shown() {
    for format in [Format::Webdataset, Format::Images] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer =
            ShardWriter::begin(&Output::at(dir.path()), None, 0, "w", format, &[], Details::default()).unwrap();
        let mut one = sample(Kind { encoding: Encoding::Jpeg(95), format, ..Kind::default() }, 0);
        one.fields = vec![("png".into(), b"a mask".to_vec()), ("seg.png".into(), b"another".to_vec())];
        writer.write(one).unwrap();
        writer.finish().unwrap().publish().unwrap();
        let sheet = read(&preview(&Output::at(dir.path()), Some(&dir.path().join("a.png")), 40).unwrap());
        assert!(shows(&sheet, CELLS[0], 0, 12), "{format}");
    }
}

#[test]
fn large_samples_are_shrunk_and_odd_boxes_do_not_matter() {
    let raw = samples::Raw { width: 2000, height: 500, rgb: [9, 99, 199].repeat(1_000_000), notes: Vec::new() };
    let thumb = shrink(&Cpu::new(), raw, sheet::PICTURE).unwrap();
    assert_eq!((thumb.pixels.width, thumb.pixels.height, thumb.sample), (352, 88, (2000, 500)));
    assert!(thumb.pixels.data.chunks(3).all(|p| p == [9, 99, 199]));
    let thin = samples::Raw { width: 20_000, height: 1, rgb: vec![7; 60_000], notes: Vec::new() };
    assert_eq!(shrink(&Cpu::new(), thin, sheet::PICTURE).unwrap().pixels.height, 1);
    let one = samples::Raw { width: 1, height: 1, rgb: vec![7; 3], notes: Vec::new() };
    assert_eq!(shrink(&Cpu::new(), one, sheet::PICTURE).unwrap().pixels.width, 264);

    let boxes =
        [[-50.0, -9.0, 9000.0, 9000.0], [1e300, 1e300, 1e301, 1e301], [5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 1.0, 1.0]];
    let detections: Vec<Value> = boxes.iter().map(|b| json!({"class": i64::MIN, "box": b, "score": null})).collect();
    let broken = [json!({"box": [1, 2, 3]}), json!({"box": [1, 2, null, 4]}), json!(7)];
    let record = json!({"detections": ([detections, broken.to_vec()].concat())});
    assert_eq!(marks(&record).len(), 4);
    let pixels = plain(3, 1, [1; 3]);
    let shown = Shown { record, split: None, picture: Ok(Thumb { pixels, sample: (3, 1), notes: Vec::new() }) };
    let sheet = sheet::render("", std::slice::from_ref(&shown));
    assert_eq!(sheet.data.len() as u32, sheet.width * sheet.height * 3);
    assert!(page::render("", &[shown]).is_ok());
}

/// The bytes behind the first data: URI.
fn embedded(html: &str) -> Vec<u8> {
    let text = html.split("base64,").nth(1).unwrap().split('"').next().unwrap();
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<u8> =
        text.trim_end_matches('=').bytes().map(digit).flat_map(|d| (0..6).rev().map(move |i| d >> i & 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}

#[test]
fn pages_hold_all_they_need_and_escape_what_they_show() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 0, Kind { boxes: true, ..Kind::default() }, 0..3);
    let path = preview(&Output::at(dir.path()), Some(&dir.path().join("page.html")), 2).unwrap();
    let html = std::fs::read_to_string(path).unwrap();
    assert_eq!(html.matches("<figure>").count(), 2);
    assert_eq!(html.matches("src=\"data:image/jpeg;base64,").count(), 2);
    assert!(html.contains("<rect x=\"8\" y=\"6\" width=\"16\" height=\"12\""), "the box is not drawn");
    assert!(html.contains("a&lt;b&gt; 0.50") && html.contains("clip &lt;0&gt;.mp4") && html.contains("0:01.500"));
    assert!(html.contains("<td>source_sha256</td>"), "the record is not all there");
    for bad in ["<b>.", "a<b>", "clip <", "<script", "http:", "https:", "//cdn", "<link"] {
        assert!(!html.contains(bad), "{bad}");
    }
    let photo = crate::decode::image::decode(&embedded(&html), "embedded", &Default::default()).unwrap();
    assert_eq!((photo.frame.width, photo.frame.height), (512, 384));
    for (x, y) in [(3, 3), (28, 3), (3, 20), (28, 20)] {
        let at = ((y * 16 + 8) * 512 + x * 16 + 8) * 3;
        let pixel = &photo.frame.planes[0].data[at..at + 3];
        assert!(near([pixel[0], pixel[1], pixel[2]], color(0, x as u32, y as u32), 4), "{x} {y}");
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None, 0, Kind::default(), 0..3);
    let path = preview(&Output::at(dir.path()), Some(&dir.path().join("page.html")), 2).unwrap();
    assert!(!std::fs::read_to_string(path).unwrap().contains("<rect"), "a box is drawn where there is none");
}

#[test]
fn masks_are_drawn_over_the_picture_and_vectors_are_not() {
    use crate::sink::rle::Rle;
    // A run from the first column goes on in the second.
    let mask = Rle::of((4, 3), [0, 0, 4, 3], |x, y| 3 * x + y >= 2 && 3 * x + y < 5);
    assert_eq!(columns(&mask), [[0, 2, 1], [1, 0, 2]]);
    let record = json!({ "detections": [
        { "class": 1, "score": 0.5, "box": [0, 0, 4, 3], "mask": mask, "embedding": null },
        { "class": 0, "score": 1.0, "box": [0, 0, 4, 3], "mask": null, "embedding": [0.5] },
        { "class": 0, "score": 1.0, "box": [0, 0, 4, 3], "frame": 1 },
    ] });
    let drawn = marks(&record);
    assert_eq!((drawn.len(), &drawn[0].columns[..]), (1, &[[0, 2, 1], [1, 0, 2]][..]));
    let thumb = Thumb { pixels: plain(40, 30, [200; 3]), sample: (4, 3), notes: Vec::new() };
    let sheet = sheet::render("", &[Shown { record, split: None, picture: Ok(thumb) }]);
    let tinted = MARK.map(|v| v.midpoint(200));
    let count = sheet.data.as_chunks::<3>().0.iter().filter(|pixel| **pixel == tinted).count();
    // Three pixels of the sample, 10 x 10 each, less what the box's lines and the label cover.
    assert!((100..300).contains(&count), "{count}");
}
