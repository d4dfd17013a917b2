//! ICC profiles to sRGB, by LittleCMS without plug-ins (its core is plain integer and f64 code on every machine).
//!
//! Intent: perceptual where the profile's header asks for it, else relative colorimetric. (Saturation and absolute intents
//! are for print and proofs, and would tint white.) A profile that is within 1/255 of sRGB on a grid of colours is sRGB,
//! and the pixels stay as they are.
//!
//! Making a transform costs about a millisecond and photos share profiles, so each thread keeps the last ones, by the
//! profile's SHA-256.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use lcms2::{InfoType, Intent, Locale, PixelFormat, Profile, Transform};
use sha2::{Digest, Sha256};

use super::Stored;
use super::pixels::Samples;

/// Transforms that a thread keeps; when it is full, all go.
const CACHE: usize = 64;
/// Largest difference to sRGB, in 255ths, that counts as none.
const SRGB_TOLERANCE: u8 = 1;

/// Ready conversions by sample layout and SHA-256 of the profile.
type Conversions = HashMap<(Layout, [u8; 32]), Rc<Conversion>>;

thread_local! {
    static CONVERSIONS: RefCell<Conversions> = RefCell::new(HashMap::new());
}

/// What the profile must describe and the transform must read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Layout {
    Gray,
    Rgb,
    Rgba,
    Cmyk,
}

/// A profile, ready for use.
enum Conversion {
    /// sRGB within the tolerance: nothing to do.
    Srgb,
    /// Not usable, for this reason.
    Broken(String),
    /// Another colour space.
    To { name: String, intent: &'static str, transform: Kind },
}

enum Kind {
    /// sRGB of every gray level.
    Gray(Box<[[u8; 3]; 256]>),
    Rgb(Transform<[u8; 3], [u8; 3]>),
    Rgba(Transform<[u8; 4], [u8; 4]>),
    Cmyk(Transform<[u8; 4], [u8; 3]>),
}

/// Converts `stored`'s samples from `profile` to sRGB if `convert`; says which profile that was unless it was sRGB. A
/// profile that cannot be used is warned of.
pub fn apply(stored: &mut Stored, profile: &[u8], convert: bool) -> Option<String> {
    let space = profile.get(16..20).unwrap_or_default();
    let layout = match (&stored.samples, space) {
        // One channel as three: a gray profile is a table, and an RGB profile applies to neutral colours, too.
        (Samples::Rgb(_) | Samples::Rgba(_), b"GRAY") if stored.gray => Layout::Gray,
        (Samples::Rgb(_), b"RGB ") => Layout::Rgb,
        (Samples::Rgba(_), b"RGB ") => Layout::Rgba,
        (Samples::Cmyk(_), b"CMYK") => Layout::Cmyk,
        _ => {
            let space = String::from_utf8_lossy(space).trim().to_string();
            stored.warnings.push(format!(
                "the ICC profile is for \"{space}\" and the samples are {}; ignored",
                stored.pixel_format
            ));
            return None;
        }
    };
    match &*conversion(profile, layout) {
        Conversion::Srgb => None,
        Conversion::Broken(why) => {
            let why = why.lines().next().unwrap_or_default().trim_end_matches('.');
            stored.warnings.push(format!("broken ICC profile ({why}); ignored"));
            None
        }
        Conversion::To { name, .. } if !convert => Some(format!("{name} (ignored)")),
        Conversion::To { name, intent, transform } => {
            transform.run(&mut stored.samples);
            Some(format!("{name} (converted, {intent})"))
        }
    }
}

fn conversion(profile: &[u8], layout: Layout) -> Rc<Conversion> {
    let key = (layout, Sha256::digest(profile).into());
    CONVERSIONS.with_borrow_mut(|cache| {
        if let Some(ready) = cache.get(&key) {
            return ready.clone();
        }
        if cache.len() >= CACHE {
            cache.clear();
        }
        let made = Rc::new(Conversion::new(profile, layout).unwrap_or_else(|e| Conversion::Broken(e.to_string())));
        cache.insert(key, made.clone());
        made
    })
}

impl Conversion {
    fn new(bytes: &[u8], layout: Layout) -> Result<Self, lcms2::Error> {
        let from = Profile::new_icc(bytes)?;
        let to = Profile::new_srgb();
        // Read by hand: the crate's enumeration has no room for what a hostile header may say.
        let (intent, intent_name) = match bytes.get(64..68) {
            Some([0, 0, 0, 0]) => (Intent::Perceptual, "perceptual"),
            _ => (Intent::RelativeColorimetric, "relative colorimetric"),
        };
        let (transform, srgb) = match layout {
            Layout::Gray => {
                let transform = Transform::new(&from, PixelFormat::GRAY_8, &to, PixelFormat::RGB_8, intent)?;
                let levels: [u8; 256] = std::array::from_fn(|v| v as u8);
                let mut table = Box::new([[0; 3]; 256]);
                transform.transform_pixels(&levels, &mut *table);
                let same = levels.iter().zip(table.iter()).all(|(v, rgb)| near(&[*v; 3], rgb));
                (Kind::Gray(table), same)
            }
            Layout::Rgb => {
                let transform = Transform::new(&from, PixelFormat::RGB_8, &to, PixelFormat::RGB_8, intent)?;
                let same = same_on_grid(|grid| transform.transform_in_place(grid));
                (Kind::Rgb(transform), same)
            }
            Layout::Rgba => {
                let transform = Transform::new(&from, PixelFormat::RGBA_8, &to, PixelFormat::RGBA_8, intent)?;
                let same = same_on_grid(|grid| {
                    let mut four: Vec<[u8; 4]> = grid.iter().map(|[r, g, b]| [*r, *g, *b, 255]).collect();
                    transform.transform_in_place(&mut four);
                    grid.iter_mut().zip(four).for_each(|(to, [r, g, b, _])| *to = [r, g, b]);
                });
                (Kind::Rgba(transform), same)
            }
            Layout::Cmyk => {
                let transform = Transform::new(&from, PixelFormat::CMYK_8, &to, PixelFormat::RGB_8, intent)?;
                (Kind::Cmyk(transform), false)
            }
        };
        if srgb {
            return Ok(Conversion::Srgb);
        }
        Ok(Conversion::To { name: description(&from), intent: intent_name, transform })
    }
}

impl Kind {
    fn run(&self, samples: &mut Samples) {
        match (self, &mut *samples) {
            (Kind::Gray(table), Samples::Rgb(data)) => {
                data.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&table[usize::from(p[0])]));
            }
            (Kind::Gray(table), Samples::Rgba(data)) => {
                for p in data.chunks_exact_mut(4) {
                    let rgb = table[usize::from(p[0])];
                    p[..3].copy_from_slice(&rgb);
                }
            }
            (Kind::Rgb(transform), Samples::Rgb(data)) => transform.transform_in_place(bytemuck::cast_slice_mut(data)),
            // LittleCMS leaves the fourth byte alone unless told to copy it; in place that keeps it.
            (Kind::Rgba(transform), Samples::Rgba(data)) => {
                transform.transform_in_place(bytemuck::cast_slice_mut(data))
            }
            (Kind::Cmyk(transform), Samples::Cmyk(data)) => {
                let mut rgb = vec![0; data.len() / 4 * 3];
                transform.transform_pixels(bytemuck::cast_slice(data), bytemuck::cast_slice_mut(&mut rgb));
                *samples = Samples::Rgb(rgb);
            }
            // `apply` picks the layout by the samples.
            _ => unreachable!("a conversion for other samples"),
        }
    }
}

fn near(a: &[u8; 3], b: &[u8; 3]) -> bool {
    a.iter().zip(b).all(|(x, y)| x.abs_diff(*y) <= SRGB_TOLERANCE)
}

/// The transform changes no colour of a 17x17x17 grid and no gray by more than the tolerance.
fn same_on_grid(transform: impl FnOnce(&mut [[u8; 3]])) -> bool {
    let step = |i: u32| (i * 255 / 16) as u8;
    let mut grid: Vec<[u8; 3]> = (0..17 * 17 * 17).map(|i| [step(i % 17), step(i / 17 % 17), step(i / 289)]).collect();
    grid.extend((0..=255).map(|v| [v; 3]));
    let mut moved = grid.clone();
    transform(&mut moved);
    grid.iter().zip(&moved).all(|(a, b)| near(a, b))
}

/// The profile's description, or "unnamed"; the crate panics on characters that do not exist.
fn description(profile: &Profile) -> String {
    let text = catch_unwind(AssertUnwindSafe(|| profile.info(InfoType::Description, Locale::none())));
    let name = text.ok().flatten().map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
    name.unwrap_or_else(|| "unnamed profile".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(rgb: Vec<u8>) -> Stored {
        Stored::new(rgb.len() as u32 / 3, 1, Samples::Rgb(rgb), "rgb24")
    }

    fn rgb(stored: &Stored) -> &[u8] {
        let Samples::Rgb(data) = &stored.samples else { panic!("not RGB") };
        data
    }

    #[test]
    fn srgb_is_left_alone_and_another_is_not() {
        let srgb = Profile::new_srgb().icc().unwrap();
        let mut photo = stored(vec![200, 10, 30]);
        assert_eq!(apply(&mut photo, &srgb, true), None);
        assert_eq!(rgb(&photo), [200, 10, 30]);

        let white = lcms2::CIExyY { x: 0.3127, y: 0.3290, Y: 1.0 };
        let primaries = lcms2::CIExyYTRIPLE {
            Red: lcms2::CIExyY { x: 0.64, y: 0.33, Y: 1.0 },
            Green: lcms2::CIExyY { x: 0.21, y: 0.71, Y: 1.0 },
            Blue: lcms2::CIExyY { x: 0.15, y: 0.06, Y: 1.0 },
        };
        let curve = lcms2::ToneCurve::new(2.2);
        let wide = Profile::new_rgb(&white, &primaries, &[&curve, &curve, &curve]).unwrap().icc().unwrap();
        let said = apply(&mut photo, &wide, true).unwrap();
        assert!(said.ends_with("(converted, perceptual)"), "{said}");
        assert_ne!(rgb(&photo), [200, 10, 30]);
        let mut photo = stored(vec![200, 10, 30]);
        assert!(apply(&mut photo, &wide, false).unwrap().ends_with("(ignored)"));
        assert_eq!(rgb(&photo), [200, 10, 30]);
    }

    #[test]
    fn broken_profiles_are_warned_of() {
        let mut headed = vec![0; 200];
        headed[16..20].copy_from_slice(b"RGB ");
        for profile in [vec![], vec![7; 40], headed] {
            let mut photo = stored(vec![1, 2, 3]);
            assert_eq!(apply(&mut photo, &profile, true), None);
            assert_eq!(photo.warnings.len(), 1);
            assert_eq!(rgb(&photo), [1, 2, 3]);
        }
    }

    #[test]
    fn a_gray_profile_is_for_gray_pictures() {
        let white = lcms2::CIExyY { x: 0.3127, y: 0.3290, Y: 1.0 };
        let linear = Profile::new_gray(&white, &lcms2::ToneCurve::new(1.0)).unwrap().icc().unwrap();
        let mut gray = stored(vec![64, 64, 64]);
        gray.gray = true;
        assert!(apply(&mut gray, &linear, true).is_some());
        // 64/255 linear light is 137 in sRGB.
        assert!(rgb(&gray).iter().all(|v| v.abs_diff(137) <= 1), "{:?}", rgb(&gray));
        let mut color = stored(vec![64, 64, 65]);
        assert_eq!(apply(&mut color, &linear, true), None);
        assert_eq!(color.warnings.len(), 1);
    }
}
