//! Photos through the library's API: real files against recorded ground truth, Pillow as the reference decoder, hostile
//! files.

#[path = "common/media.rs"]
mod outside;
#[path = "photos/pillow.rs"]
mod pillow;

use std::path::{Path, PathBuf};

use framemill::decode::image::{MediaKind, Photo, PhotoOptions, decode, sniff};
use framemill::error::{Error, RejectKind};
use framemill::geometry::Orientation;
use outside::{full, media};

fn plain() -> PhotoOptions {
    PhotoOptions { icc_convert: false, ..PhotoOptions::default() }
}

fn read(path: &Path, opts: &PhotoOptions) -> Result<Photo, Error> {
    decode(&std::fs::read(path).unwrap(), &path.display().to_string(), opts)
}

fn rgb(photo: &Photo) -> &[u8] {
    &photo.frame.planes[0].data
}

/// Largest and number of differences; None where the sizes differ.
fn differences(a: &[u8], b: &[u8]) -> Option<(u8, usize)> {
    (a.len() == b.len()).then(|| {
        let each = || a.iter().zip(b).map(|(x, y)| x.abs_diff(*y));
        (each().max().unwrap_or(0), each().filter(|d| *d > 0).count())
    })
}

/// One line of groundtruth/images.tsv.
struct Truth {
    path: PathBuf,
    name: String,
    format: String,
    mode: String,
    size: Option<(u32, u32)>,
    orientation: Option<u32>,
    status: String,
    mean: Option<[f64; 3]>,
}

fn ground_truth(media: &Path) -> Vec<Truth> {
    let text = std::fs::read_to_string(media.join("groundtruth/images.tsv")).unwrap();
    let rows = text.lines().filter(|l| !l.starts_with('#')).skip(1);
    rows.map(|row| {
        let columns: Vec<&str> = row.split('\t').chain(std::iter::repeat("")).take(10).collect();
        let numbers = |text: &str, by: char| text.split(by).filter_map(|n| n.parse::<f64>().ok()).collect::<Vec<_>>();
        let size = numbers(columns[3], 'x');
        let mean = numbers(columns[9], ',');
        Truth {
            path: media.join(columns[0]),
            name: columns[0].to_string(),
            format: columns[1].to_string(),
            mode: columns[2].to_string(),
            size: (size.len() == 2).then(|| (size[0] as u32, size[1] as u32)),
            orientation: columns[4].parse().ok(),
            status: columns[8].to_string(),
            mean: (mean.len() == 3).then(|| [mean[0], mean[1], mean[2]]),
        }
    })
    .collect()
}

fn mean(photo: &Photo) -> [f64; 3] {
    let mut sums = [0u64; 3];
    for p in rgb(photo).chunks_exact(3) {
        (0..3).for_each(|c| sums[c] += u64::from(p[c]));
    }
    sums.map(|s| s as f64 / (rgb(photo).len() / 3) as f64)
}

/// What the container decodes to may differ by a rounding between libheif's converters and Pillow's.
const ROUNDING: f64 = 0.25;

#[test]
fn real_photos_have_the_recorded_size_orientation_and_mean() {
    let Some(media) = media() else { return };
    let (mut compared, mut worst, mut control) = (0, 0.0f64, 0);
    for (i, t) in ground_truth(&media).iter().enumerate() {
        let coco = t.name.contains("coco");
        // Alpha is composed over a background here and dropped there; damage is the corrupt set's subject.
        let comparable = t.status == "ok" && !t.name.contains("corrupt") && !t.mode.contains('A');
        if !comparable || (coco && !full() && i % 8 != 0) || matches!(t.format.as_str(), "JPEG2000" | "P") {
            continue;
        }
        let photo = match read(&t.path, &plain()) {
            Ok(photo) => photo,
            Err(e) if e.reject == Some(RejectKind::Unsupported) => {
                println!("{}: {e}", t.name);
                continue;
            }
            Err(e) => panic!("{}: {e}", t.name),
        };
        assert_eq!(t.size, Some((photo.frame.width, photo.frame.height)), "{}", t.name);
        let turned = t.orientation.unwrap_or(1) != 1;
        assert!(!turned || photo.frame.orientation != Orientation::default(), "{}", t.name);
        let transparent = photo.pixel_format.contains('a') && photo.pixel_format != "gray" || t.mode == "P";
        if let (Some(want), false) = (t.mean, transparent) {
            let have = mean(&photo);
            let d = (0..3).map(|c| (have[c] - want[c]).abs()).fold(0.0, f64::max);
            // Pillow shortens 10-bit AVIF to 8 bits before it converts to RGB; one rounding is kept here.
            let allowed = if t.name.contains("10bit") { 2.0 } else { ROUNDING };
            assert!(d < allowed, "{}: mean {have:?}, expected {want:?}", t.name);
            control += usize::from((have[0] - want[2]).abs() > ROUNDING);
            worst = worst.max(d);
            compared += 1;
        }
    }
    println!("{compared} photos, greatest difference of a mean {worst:.4}");
    assert!(compared > 50 && control > 20, "compared {compared}; swapped channels were noticed {control} times");
}

#[test]
fn made_photos_equal_pillow() {
    let Some(python) = pillow::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let paths = pillow::make(&python, folder.path());
    let (mut equal, mut control) = (0, 0);
    pillow::ask(&python, "decode", &paths, |path, reference| {
        let name = path.file_name().unwrap().to_string_lossy();
        let photo = read(path, &plain()).unwrap_or_else(|e| panic!("{e}"));
        let reference = reference.unwrap_or_else(|| panic!("Pillow cannot read {name}"));
        assert_eq!((photo.frame.width, photo.frame.height), (reference.width, reference.height), "{name}");
        let (most, many) = differences(rgb(&photo), &reference.rgb).unwrap();
        // Composing alpha rounds to nearest here; Pillow's approximation may be one off.
        assert!(most <= 1, "{name}: {many} values differ, by up to {most}");
        equal += usize::from(most == 0);
        control += usize::from(differences(rgb(&photo), &vec![0; reference.rgb.len()]).unwrap().0 > 1);
    });
    println!("{equal} of {} files equal Pillow to the byte, the others within 1", paths.len());
    assert!(equal * 3 > paths.len() * 2 && control * 4 > paths.len() * 3, "{equal} equal, {control} noticed");
}

#[test]
fn profiles_are_converted_as_by_littlecms() {
    let (Some(python), Some(media)) = (pillow::python(), media()) else { return };
    let names = ["image/sharp/p3.png", "image/immich/orychophragmus_violaceus.jpg", "image/sharp/Landscape_2.jpg"];
    let paths: Vec<PathBuf> = names.iter().map(|n| media.join(n)).filter(|p| p.exists()).collect();
    let mut control = 0;
    pillow::ask(&python, "icc", &paths, |path, reference| {
        let photo = read(path, &PhotoOptions::default()).unwrap();
        let reference = reference.unwrap();
        let (most, many) = differences(rgb(&photo), &reference.rgb).unwrap();
        println!("{}: {:?}: {many} values differ, by up to {most}", path.display(), photo.icc);
        assert!(most <= 2, "{}", path.display());
        control += usize::from(differences(rgb(&read(path, &plain()).unwrap()), &reference.rgb).unwrap().0 > 2);
    });
    assert!(paths.is_empty() || control > 0, "the unconverted pictures were taken for converted ones");
}

#[test]
fn files_that_are_no_photo_say_why() {
    let Some(media) = media() else { return };
    for (name, kind) in [
        ("derived/corrupt/empty.jpg", RejectKind::Empty),
        ("derived/corrupt/zeros.jpg", RejectKind::NotMedia),
        ("image/sharp/65536-uint32-limit.png", RejectKind::TooLarge),
    ] {
        let error = read(&media.join(name), &plain()).err().unwrap_or_else(|| panic!("{name} was decoded"));
        assert_eq!(error.reject, Some(kind), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let named_png = std::fs::read(media.join("derived/corrupt/jpeg_named.png")).unwrap();
    assert_eq!(sniff(&named_png), MediaKind::Photo("jpeg"));
}

#[test]
fn the_rows_of_a_cut_webp_are_kept() {
    let Some(media) = media() else { return };
    let photo = read(&media.join("derived/corrupt/4.trunc50.webp"), &plain()).unwrap();
    let warning = photo.warning.as_deref().unwrap_or_default();
    assert!(warning.contains("decoded partially") && warning.contains("of 772 rows"), "{warning}");
    let whole = std::fs::read(media.join("derived/corrupt/4.trunc50.webp")).unwrap();
    assert_eq!(decode(&whole[..40], "a header", &plain()).unwrap_err().reject, Some(RejectKind::Corrupt));
    // Against the whole picture, by its other decoder.
    let original = std::fs::read_dir(media.join("image"))
        .unwrap()
        .flatten()
        .map(|folder| folder.path().join("4.webp"))
        .find(|path| path.exists());
    let Some(original) = original else { return println!("skipped: the whole picture is not there") };
    let expected = read(&original, &plain()).unwrap();
    let row = photo.frame.width as usize * 3;
    let rows = |photo: &Photo| rgb(photo).chunks(row).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (kept, all) = (rows(&photo), rows(&expected));
    let same = kept.iter().zip(&all).take_while(|(a, b)| a == b).count();
    println!("{same} of {} rows are the whole picture's", all.len());
    assert!(same > all.len() / 4 && same < all.len(), "{same}");
    assert!(kept[kept.len() - 1].iter().all(|b| *b == 0), "what is lost is empty");
}

#[test]
fn the_rows_of_a_png_before_its_damage_are_kept() {
    let Some(media) = media() else { return };
    // With alpha, with 16 bit, and with one bit.
    for name in
        ["sharp/alpha-premultiply-1024x768-paper.png", "torchcodec/gradient_16bit.png", "sharp/50020484-00001.png"]
    {
        let whole = std::fs::read(media.join("image").join(name)).unwrap();
        let expected = decode(&whole, name, &plain()).unwrap();
        let photo = decode(&whole[..whole.len() / 2], name, &plain()).unwrap();
        assert!(photo.warning.as_deref().is_some_and(|w| w.contains("decoded partially")), "{:?}", photo.warning);
        assert_eq!(expected.warning, None);
        let row = photo.frame.width as usize * 3;
        let rows = |photo: &Photo| rgb(photo).chunks(row).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (kept, all) = (rows(&photo), rows(&expected));
        let same = kept.iter().zip(&all).take_while(|(a, b)| a == b).count();
        assert!(same > all.len() / 8 && same < all.len(), "{name}: {same} of {} rows", all.len());
        assert!(kept[same + 1..].iter().flatten().all(|b| *b == 0), "{name}: what is lost is empty");
    }
    // Of an interlaced one the pixels that came are in their places, and stand for those that did not.
    let interlaced = std::fs::read(media.join("image/torchcodec/gradient_interlaced.png")).unwrap();
    let error = decode(&interlaced[..40], "interlaced", &plain()).unwrap_err();
    assert_eq!(error.reject, Some(RejectKind::Corrupt), "a header alone: {error}");
    let whole = decode(&interlaced, "interlaced", &plain()).unwrap();
    let photo = decode(&interlaced[..interlaced.len() / 2], "interlaced", &plain()).unwrap();
    assert!(photo.warning.as_deref().is_some_and(|w| w.contains("decoded partially")), "{:?}", photo.warning);
    let pixels = |photo: &Photo| rgb(photo).chunks_exact(3).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (kept, all, width) = (pixels(&photo), pixels(&whole), photo.frame.width as usize);
    let at = |x: usize, y: usize| y * width + x;
    for y in (0..photo.frame.height as usize).step_by(8) {
        for x in (0..width).step_by(8) {
            assert_eq!(kept[at(x, y)], all[at(x, y)], "the first pass, at {x}, {y}");
        }
    }
    let same = kept.iter().zip(&all).filter(|(a, b)| a == b).count();
    println!("{same} of {} pixels are the whole picture's", all.len());
    assert!(same > all.len() / 8 && same < all.len(), "{same} of {}", all.len());
    let mean =
        |pixels: &[Vec<u8>]| pixels.iter().flatten().map(|v| f64::from(*v)).sum::<f64>() / all.len() as f64 / 3.0;
    assert!((mean(&kept) - mean(&all)).abs() < 8.0, "{} for {}: holes between the pixels", mean(&kept), mean(&all));
}

/// Whatever a file is cut to, a picture that is not the whole one says so; and formats that can give a part do.
#[test]
fn what_is_cut_off_is_said_and_the_rest_is_kept() {
    let Some(python) = pillow::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut kept, mut told) = (Vec::new(), 0);
    for path in pillow::make(&python, folder.path()) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let data = std::fs::read(&path).unwrap();
        let whole = decode(&data, &name, &plain()).unwrap();
        assert!(!whole.damaged, "{name}: {:?}", whole.warning);
        for cut in [data.len() / 2, data.len() * 9 / 10, data.len() - 1] {
            let Ok(photo) = decode(&data[..cut], &name, &plain()) else { continue };
            let same = rgb(&photo) == rgb(&whole) && photo.frame.orientation == whole.frame.orientation;
            let told_so = photo.warning.is_some() && photo.damaged;
            assert!(same || told_so, "{name} cut to {cut} of {} looks whole", data.len());
            told += usize::from(!same);
            let equal = rgb(&photo).iter().zip(rgb(&whole)).filter(|(a, b)| a == b).count();
            if cut == data.len() * 9 / 10 && !same && equal * 2 > rgb(&whole).len() {
                kept.push(name.clone());
            }
        }
    }
    println!("{told} cut pictures say what they lack; more than half is kept of {}", kept.join(", "));
    assert!(told > 30, "{told}");
    // The directory of these stands before the pixels, or they have none.
    for name in ["tiff_rgb", "tiff_rows", "tiff_cmyk", "bmp_rgb", "png_rgb", "jpeg_444", "webp_lossless"] {
        assert!(kept.iter().any(|k| k == name), "nothing is kept of {name}");
    }
}

#[test]
fn a_webp_that_lost_its_orientation_says_so() {
    let Some(python) = pillow::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    pillow::make(&python, folder.path());
    let data = std::fs::read(folder.path().join("webp_exif.webp")).unwrap();
    let whole = decode(&data, "photo", &plain()).unwrap();
    assert!(whole.frame.orientation != Orientation::default() && whole.warning.is_none(), "{:?}", whole.warning);
    let cut = decode(&data[..data.len() - 1], "photo", &plain()).unwrap();
    assert_eq!(rgb(&cut), rgb(&whole));
    assert!(cut.warning.as_deref().is_some_and(|w| w.contains("EXIF")), "{:?}", cut.warning);
}

#[test]
fn a_profile_that_cannot_be_used_is_no_damage() {
    let Some(python) = pillow::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    pillow::make(&python, folder.path());
    let read = |name: &str| read(&folder.path().join(name), &PhotoOptions::default()).unwrap();
    let (odd, plain) = (read("png_profile.png"), read("png_rgb.png"));
    assert!(!odd.damaged && odd.warning.as_deref().is_some_and(|w| w.contains("profile")), "{:?}", odd.warning);
    assert_eq!(rgb(&odd), rgb(&plain));
}

/// Decompressors are kept from picture to picture.
#[test]
fn a_photo_without_tables_is_not_read_with_those_of_another() {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos/gray.jpg");
    let whole = std::fs::read(photo).unwrap();
    for marker in [0xDB, 0xC4] {
        let at = whole.windows(2).position(|w| w == [0xFF, marker]).unwrap();
        let len = usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        let mut bare = whole.clone();
        bare.drain(at..at + 2 + len);
        let read = |data: &[u8]| decode(data, "photo", &plain()).map(|p| p.frame.planes[0].data.to_vec());
        let message = |read: Result<Vec<u8>, Error>| read.map_err(|e| e.message);
        let alone = std::thread::scope(|scope| scope.spawn(|| message(read(&bare))).join().unwrap());
        assert!(read(&whole).is_ok());
        assert_eq!(message(read(&bare)), alone, "without {marker:X}");
    }
}
