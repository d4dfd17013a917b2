//! Is this device computing the right bytes? A few pictures of every kind, in a second or so.
//!
//! Each result is held against the CPU backend's on this machine and against a digest that was recorded elsewhere, so
//! that neither a device nor a CPU can be wrong unnoticed. The CPU backend itself is tested against Pillow and zimg.

use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::cpu::Cpu;
use super::{Backend, Item, Processed};
use crate::color::{Color, Matrix, Range, Siting};
use crate::error::Result;
use crate::frame::{Frame, PixelFormat, Plane};
use crate::op::Op;
use crate::program::yuv::Chroma;
use crate::program::{DrawKey, Program, Quality, Settings};

/// One list of operations on all pictures, with the digest of the results.
struct Case {
    ops: &'static [&'static str],
    quality: Quality,
    chroma: Chroma,
    digest: &'static str,
}

const fn case(ops: &'static [&'static str], digest: &'static str) -> Case {
    Case { ops, quality: Quality::Exact, chroma: Chroma::Linear, digest }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case(&[], "7d24f41f92cff26e"),
    case(&["resize:w=31,h=23", "normalize:imagenet"], "29ea1e12a1f9916f"),
    case(&["resize:short=40,filter=bicubic", "center_crop:w=29,h=33", "flip:h", "normalize:imagenet", "to:f16"], "f106ed29117039cb"),
    case(&["resize:w=80,h=9,filter=lanczos", "to:dtype=bf16,layout=hwc"], "a1f9de7231541860"),
    case(&["letterbox:w=50,h=51,fill=204060,filter=box", "rotate90", "to:layout=chw"], "2d641289545f4465"),
    case(&["resize:w=90,h=70,filter=hamming", "crop:x=7,y=5,w=41,h=37", "resize:w=17,h=20,filter=nearest", "grayscale"], "5714d8414e7c35ff"),
    case(&["pad:w=100,h=90", "flip:v", "grayscale", "resize:w=37,h=21", "to:f32"], "50a71a80f5183b00"),
    case(&["resize:w=40,h=30", "color_jitter:brightness=0.4,contrast=0.5,saturation=0.6,hue=0.2", "normalize:imagenet"], "9e62d0e978dbc9b6"),
    case(&["color_jitter:contrast=0.9,hue=0.5", "resize:w=30,h=31", "random_affine:degrees=30,translate=0.1,0.2,scale=0.7,1.3"], "96e9f24ec7a4e77b"),
    case(&["random_resized_crop:w=32,h=28", "gaussian_blur:kernel=5,sigma=1.2", "random_erasing:p=1,value=80"], "b68c1e6902a5849c"),
    case(&["tonemap", "resize:w=24,h=25"], "da02a77bf98be850"),
    Case { quality: Quality::Fast, ..case(&["resize:w=33,h=26,filter=bicubic"], "204770eb45773604") },
    Case { chroma: Chroma::Nearest, ..case(&["resize:w=21,h=35"], "7f5bdfb09c69bc40") },
];

/// Noise of a format and size: the same everywhere.
pub fn noise(format: PixelFormat, (width, height): (u32, u32), color: Color, seed: u64) -> Frame {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u16
    };
    let (bytes, mask) = match format.depth() {
        8 => (1, 0xff),
        depth => (2, ((1u32 << depth) - 1) as u16),
    };
    let (w, h) = (width as usize, height as usize);
    let sizes = match format {
        PixelFormat::Rgb8 => vec![(3 * w, h)],
        PixelFormat::Gray { .. } => vec![(w, h)],
        PixelFormat::Gbr { .. } => vec![(w, h); 3],
        PixelFormat::Yuv { sub_w, sub_h, .. } => {
            let chroma = (w.div_ceil(1 << sub_w), h.div_ceil(1 << sub_h));
            vec![(w, h), chroma, chroma]
        }
    };
    let plane = |(w, h): (usize, usize)| {
        let data: Vec<u8> = (0..w * h).flat_map(|_| (next() & mask).to_le_bytes().into_iter().take(bytes)).collect();
        Plane { data: data.into(), stride: w * bytes }
    };
    Frame {
        width,
        height,
        format,
        planes: sizes.into_iter().map(plane).collect(),
        color,
        ..Frame::rgb(1, 1, vec![0; 3])
    }
}

/// Pictures of every kind of source.
fn pictures() -> Vec<Frame> {
    let yuv = |depth, sub_w, sub_h| PixelFormat::Yuv { depth, sub_w, sub_h };
    let color = |matrix, range, siting| Color { matrix, range, siting, ..Color::srgb() };
    let bt709 = color(Matrix::Bt709, Range::Limited, Siting::Left);
    let (transfer, primaries) = ("smpte2084".to_string(), "bt2020".to_string());
    let bt2020 = Color { transfer, primaries, ..color(Matrix::Bt2020, Range::Limited, Siting::TopLeft) };
    let jpeg = color(Matrix::Bt601, Range::Full, Siting::Center);
    vec![
        noise(PixelFormat::Rgb8, (61, 47), Color::srgb(), 1),
        noise(yuv(8, 1, 1), (65, 50), bt709.clone(), 2),
        noise(yuv(8, 1, 1), (43, 77), jpeg, 3),
        noise(yuv(10, 1, 1), (58, 45), bt2020, 4),
        noise(yuv(8, 1, 0), (49, 52), bt709.clone(), 5),
        noise(yuv(12, 0, 0), (47, 43), bt709.clone(), 6),
        noise(PixelFormat::Gray { depth: 8 }, (51, 48), bt709, 7),
        noise(PixelFormat::Gbr { depth: 10 }, (45, 54), Color::srgb(), 8),
    ]
}

/// What a self-test found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Pictures that were compared.
    pub pictures: usize,
    /// What was wrong; empty where all is well.
    pub faults: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Runs all cases on `backend`.
pub fn run(backend: &dyn Backend) -> Verdict {
    let begun = Instant::now();
    let pictures: Vec<Arc<Frame>> = pictures().into_iter().map(Arc::new).collect();
    let mut verdict = Verdict::default();
    for case in CASES {
        verdict.pictures += pictures.len();
        if let Err(fault) = check(backend, case, &pictures) {
            let ops = if case.ops.is_empty() { "conversion".to_string() } else { case.ops.join(" ") };
            verdict.faults.push(format!("{ops}: {fault}"));
        }
    }
    verdict.seconds = begun.elapsed().as_secs_f64();
    verdict
}

fn check(backend: &dyn Backend, case: &Case, pictures: &[Arc<Frame>]) -> Result<(), String> {
    let failed = |e: crate::error::Error| e.message;
    let ops: Result<Vec<Op>> = case.ops.iter().map(|op| Op::parse(op)).collect();
    let settings = Settings { quality: case.quality, chroma: case.chroma, ..Settings::default() };
    let program = Program::compile(&ops.map_err(failed)?, settings).map_err(failed)?;
    let item = |frame: &Arc<Frame>| Item { program: &program, frame: frame.clone(), key: DrawKey::default() };
    let results = |backend: &dyn Backend| {
        let results = backend.submit(pictures.iter().map(item).collect())();
        results.into_iter().collect::<Result<Vec<_>>>().map_err(failed)
    };
    let (own, reference) = (results(backend)?, results(&Cpu::new())?);
    let wrong = |(own, reference): (&Processed, &Processed)| own.tensor != reference.tensor;
    if let Some(at) = own.iter().zip(&reference).position(wrong) {
        let frame = &pictures[at];
        return Err(format!(
            "the picture of {}x{} in {:?} differs from the CPU's",
            frame.width, frame.height, frame.format
        ));
    }
    let mut digest = Sha256::new();
    own.iter().for_each(|p| digest.update(&p.tensor.data));
    let digest: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    if digest != case.digest {
        return Err(format!("digest {digest}, expected {}: this processor computes other bytes as well", case.digest));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Pace, Pending};

    #[test]
    fn the_cpu_passes() {
        let verdict = run(&Cpu::new());
        assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
        assert_eq!(verdict.pictures, CASES.len() * pictures().len());
    }

    /// The CPU with one bit wrong in the last picture.
    struct Wrong;

    impl Backend for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }
        fn pace(&self) -> Pace {
            Cpu::new().pace()
        }
        fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
            Box::new(move || {
                let mut results = Cpu::new().submit(items)();
                if let Some(Ok(last)) = results.last_mut() {
                    last.tensor.data[0] ^= 1;
                }
                results
            })
        }
    }

    #[test]
    fn one_wrong_bit_is_seen() {
        assert_eq!(run(&Wrong).faults.len(), CASES.len());
    }
}
