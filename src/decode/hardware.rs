//! The hardware decoders of this machine: each is looked for once in a process, when first asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "ffmpeg")]
use crate::ffi::av::HwDevice;
use crate::ffi::nv::Capability;

use super::route::{self, Demand, Facts, Kind, Route, TEST_DECODER};

/// A hardware decoder that is there.
#[derive(Debug)]
pub struct Hardware {
    /// What it is.
    pub kind: Kind,
    /// The device's name, where it has one.
    pub name: String,
    /// What it can do; `None` where it does not tell: then it is tried.
    pub capabilities: Option<Vec<Capability>>,
    /// Why `auto` does not take it.
    pub not_by_itself: Option<&'static str>,
    /// The device, or how the test decoder fails.
    #[cfg(feature = "ffmpeg")]
    pub(super) device: Device,
}

/// What decodes.
#[cfg(feature = "ffmpeg")]
#[derive(Debug)]
pub(super) enum Device {
    Real(HwDevice),
    Test(Fault),
}

/// How the test decoder fails: at a picture, counted from 0 since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// It does not open.
    Refuse,
    /// A picture is missing.
    Drop(u64),
    /// A picture is flagged as damaged.
    Corrupt(u64),
    /// From a picture on it gives errors alone.
    Die(u64),
}

impl Fault {
    /// Reads `none`, `refuse`, `drop:N`, `corrupt:N` or `die:N`.
    fn read(text: &str) -> Option<Fault> {
        let (word, number) = text.split_once(':').unwrap_or((text, "0"));
        let number = number.parse().ok()?;
        Some(match word {
            "none" => Fault::None,
            "refuse" => Fault::Refuse,
            "drop" => Fault::Drop(number),
            "corrupt" => Fault::Corrupt(number),
            "die" => Fault::Die(number),
            _ => return None,
        })
    }
}

/// Why kinds other than NVIDIA's are never chosen by themselves.
const UNPROVEN: &str = "unproven on hardware: it is used where it is asked for by name";

/// Why NVDEC is not chosen by itself with an FFmpeg that does not look for damage.
#[cfg(feature = "ffmpeg")]
const UNTOLD: &str = "this FFmpeg does not tell which pictures NVDEC could not decode: use the program that \
    scripts/portable.sh builds, or ask for --decoder nvdec";

/// What was found so far.
type Found = BTreeMap<Kind, Result<Arc<Hardware>, String>>;

/// The decoder of a kind.
///
/// # Errors
/// Why it is not there, as text.
pub fn find(kind: Kind) -> Result<Arc<Hardware>, String> {
    static FOUND: Mutex<Found> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(kind).or_insert_with(|| open(kind).map(Arc::new)).clone()
}

/// Where a stream is decoded, with the hardware for it.
pub fn choose(facts: &Facts, demand: Demand) -> (Route, Option<Arc<Hardware>>) {
    let (kind, auto) = match demand {
        Demand::Software => return (Route::software("demanded"), None),
        Demand::Auto => (Kind::Nvdec, true),
        Demand::Hardware(kind) => (kind, false),
    };
    // Drivers are only loaded where a device could decide anything.
    let fit = route::route(facts, kind, None, auto);
    if fit.hardware.is_none() {
        return (fit, None);
    }
    let hardware = match find(kind) {
        Ok(hardware) => hardware,
        Err(why) => return (Route::software(format!("{} is not there: {why}", kind.name())), None),
    };
    if let (true, Some(why)) = (auto, hardware.not_by_itself) {
        return (Route::software(why), None);
    }
    let route = route::route(facts, kind, hardware.capabilities.as_deref(), auto);
    let hardware = route.hardware.map(|_| hardware);
    (route, hardware)
}

#[cfg(not(feature = "ffmpeg"))]
fn open(_: Kind) -> Result<Hardware, String> {
    Err("built without ffmpeg".into())
}

#[cfg(feature = "ffmpeg")]
fn open(kind: Kind) -> Result<Hardware, String> {
    let unproven = |name| {
        let device = Device::Real(HwDevice::open(name)?);
        Ok(Hardware { kind, name: String::new(), capabilities: None, not_by_itself: Some(UNPROVEN), device })
    };
    match kind {
        Kind::Nvdec => {
            let gpu = crate::ffi::nv::ask()?;
            let device = Device::Real(HwDevice::cuda(gpu.context)?);
            let not_by_itself = if crate::ffi::av::nvdec_tells_damage() { None } else { Some(UNTOLD) };
            Ok(Hardware { kind, name: gpu.name, capabilities: Some(gpu.capabilities), not_by_itself, device })
        }
        Kind::Vaapi => unproven(c"vaapi"),
        Kind::Vulkan => unproven(c"vulkan"),
        Kind::VideoToolbox => unproven(c"videotoolbox"),
        Kind::D3d11va => unproven(c"d3d11va"),
        Kind::Qsv => Err("FFmpeg has no hwaccel for it, which is what this version drives; Intel's decoders are \
                          reached with --decoder vaapi"
            .into()),
        Kind::Test => {
            let text = std::env::var(TEST_DECODER).unwrap_or_default();
            let fault = Fault::read(&text).ok_or_else(|| format!("{TEST_DECODER}={text} is no fault"))?;
            let device = Device::Test(fault);
            Ok(Hardware { kind, name: String::new(), capabilities: None, not_by_itself: Some(UNPROVEN), device })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_why() {
        let why = find(Kind::Qsv).unwrap_err();
        assert!(why.contains("vaapi") || why.contains("built without"), "{why}");
    }

    #[test]
    fn faults_are_read() {
        assert_eq!(Fault::read("drop:7"), Some(Fault::Drop(7)));
        assert_eq!(Fault::read("refuse"), Some(Fault::Refuse));
        assert_eq!((Fault::read("drop:x"), Fault::read("")), (None, None));
    }
}
