//! HEIC, HEIF and AVIF by libheif, which applies the file's own crop, rotation and mirroring: the frame is upright
//! whatever EXIF says.
//!
//! Decoding is strict: of a damaged picture the decoder would leave parts unset, other ones each time.

use std::sync::OnceLock;

use libheif_rs::{
    ColorPrimaries, HeifContext, HeifError, HeifErrorCode, ImageHandle, ItemId, LibHeif, TransferCharacteristics,
};

use super::pixels::Samples;
use super::{Fault, PhotoOptions, Stored, buffer, check_size, exif, isobmff};
use crate::ffi::heif as strict;
use crate::geometry::Orientation;

/// The library, set up once for the process: its plug-ins must not be unloaded under another thread.
fn library() -> &'static LibHeif {
    static LIBRARY: OnceLock<LibHeif> = OnceLock::new();
    LIBRARY.get_or_init(LibHeif::new)
}

/// The library's version.
pub fn version() -> String {
    let [major, minor, patch] = library().version();
    format!("{major}.{minor}.{patch}")
}

/// Decodes the primary picture.
pub fn read(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    library();
    let mut context = HeifContext::read_from_bytes(data).map_err(fault)?;
    // The caller has a thread for each photo; more only get in each other's way.
    context.set_max_decoding_threads(0);
    let handle = context.primary_image_handle().map_err(fault)?;
    check_size(handle.width().into(), handle.height().into(), opts)?;
    let (alpha, deep) = (handle.has_alpha_channel(), handle.luma_bits_per_pixel() > 8);
    let plane = strict::decode(data, alpha, deep).map_err(Fault::corrupt)?;
    check_size(plane.width.into(), plane.height.into(), opts)?;
    let channels = if alpha { 4 } else { 3 };
    let bytes = rows(&plane, channels, deep)?;
    let samples = match (alpha, handle.is_premultiplied_alpha()) {
        (false, _) => Samples::Rgb(bytes),
        (true, false) => Samples::Rgba(bytes),
        (true, true) => return Err(Fault::unsupported("alpha that is multiplied into the colour is not supported")),
    };
    let format = isobmff::pixel_format(data, alpha).unwrap_or_else(|| "unknown".into());
    let mut stored = Stored::new(plane.width, plane.height, samples, format);
    stored.icc = handle.color_profile_raw().map(|profile| profile.data).filter(|data| !data.is_empty());
    if stored.icc.is_none() {
        name_colors(&handle, &mut stored);
    }
    stored.exif = exif_block(&handle).map(exif::parse).unwrap_or_default();
    stored.exif.orientation = Orientation::UPRIGHT;
    Ok(stored)
}

/// The plane without row padding, deeper samples rounded to 8 bit.
fn rows(plane: &strict::Picture, channels: usize, deep: bool) -> Result<Vec<u8>, Fault> {
    let (width, height) = (plane.width as usize, plane.height as usize);
    let mut out = buffer(plane.width, plane.height, channels)?;
    let row_bytes = width * channels * if deep { 2 } else { 1 };
    if plane.stride < row_bytes || plane.data.len() < plane.stride * (height - 1) + row_bytes {
        return Err(Fault::corrupt("libheif gave fewer pixels than it announced"));
    }
    let max = (1u32 << plane.bits.clamp(8, 16)) - 1;
    for (from, to) in plane.data.chunks(plane.stride).zip(out.chunks_exact_mut(width * channels)) {
        if deep {
            for (two, one) in from[..row_bytes].chunks_exact(2).zip(to) {
                let v = u32::from(u16::from_le_bytes([two[0], two[1]])).min(max);
                *one = ((v * 255 + max / 2) / max) as u8;
            }
        } else {
            to.copy_from_slice(&from[..row_bytes]);
        }
    }
    Ok(out)
}

/// Without an ICC profile the colour tags say what the numbers mean. Only sRGB's are taken as they are; others are
/// named in the frame's colour and in a warning, for nothing converts them.
fn name_colors(handle: &ImageHandle, stored: &mut Stored) {
    let Some(tags) = handle.color_profile_nclx() else { return };
    let primaries = match tags.color_primaries() {
        ColorPrimaries::Unspecified | ColorPrimaries::ITU_R_BT_709_5 => None,
        ColorPrimaries::ITU_R_BT_2020_2_and_2100_0 => Some("bt2020"),
        ColorPrimaries::SMPTE_EG_432_1 => Some("smpte432"),
        ColorPrimaries::SMPTE_RP_431_2 => Some("smpte431"),
        ColorPrimaries::ITU_R_BT_601_6 => Some("smpte170m"),
        ColorPrimaries::ITU_R_BT_470_6_System_B_G => Some("bt470bg"),
        _ => Some("unknown"),
    };
    let transfer = match tags.transfer_characteristics() {
        TransferCharacteristics::Unspecified | TransferCharacteristics::IEC_61966_2_1 => None,
        TransferCharacteristics::ITU_R_BT_709_5 => Some("bt709"),
        TransferCharacteristics::ITU_R_BT_601_6 => Some("smpte170m"),
        TransferCharacteristics::ITU_R_BT_2100_0_PQ => Some("smpte2084"),
        TransferCharacteristics::ITU_R_BT_2100_0_HLG => Some("arib-std-b67"),
        TransferCharacteristics::Linear => Some("linear"),
        TransferCharacteristics::ITU_R_BT_2020_2_10bit => Some("bt2020-10"),
        TransferCharacteristics::ITU_R_BT_2020_2_12bit => Some("bt2020-12"),
        _ => Some("unknown"),
    };
    if let Some(name) = primaries {
        stored.color.primaries = name.into();
    }
    if let Some(name) = transfer {
        stored.color.transfer = name.into();
    }
    if primaries.is_some() || transfer.is_some() {
        let (primaries, transfer) = (&stored.color.primaries, &stored.color.transfer);
        stored
            .warnings
            .push(format!("its colours ({primaries} primaries, {transfer} transfer) are not converted to sRGB"));
    }
}

/// The EXIF block, from its TIFF header on.
fn exif_block(handle: &ImageHandle) -> Option<Vec<u8>> {
    let mut ids: [ItemId; 1] = [0];
    if handle.metadata_block_ids(&mut ids, b"Exif") == 0 {
        return None;
    }
    let mut block = handle.metadata(ids[0]).ok()?;
    // Four bytes say how far the TIFF header is.
    let skip = u32::from_be_bytes(block.get(..4)?.try_into().ok()?) as usize;
    let start = skip.checked_add(4).filter(|start| *start < block.len())?;
    block.drain(..start);
    Some(block)
}

/// libheif's error as a reason to refuse the file.
fn fault(error: HeifError) -> Fault {
    match error.code {
        HeifErrorCode::UnsupportedFileType | HeifErrorCode::UnsupportedFeature => Fault::unsupported(error.message),
        _ => Fault::corrupt(error.message),
    }
}
