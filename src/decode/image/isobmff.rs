//! The little of the ISO base media file format that HEIF needs here: brands, and the sample layout that libheif's API
//! does not tell.

/// The boxes in `data`, as (type, content), until the first that does not fit.
fn boxes(mut data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let head = data.get(..8)?;
        let kind = [head[4], head[5], head[6], head[7]];
        let (start, end) = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => (8, data.len()),
            1 => {
                let large = data.get(8..16)?;
                (16, usize::try_from(u64::from_be_bytes(large.try_into().ok()?)).ok()?)
            }
            size => (8, size as usize),
        };
        let content = data.get(start..end)?;
        data = &data[end..];
        Some((kind, content))
    })
}

/// `heic` or `avif` where `head` opens a file that holds a still picture, by its brands; `None` for videos, and for
/// sequences without a still.
pub fn still_codec(head: &[u8]) -> Option<&'static str> {
    let (kind, content) = boxes(head).next()?;
    if &kind != b"ftyp" || content.len() < 8 {
        return None;
    }
    let major = &content[..4];
    let brands: Vec<&[u8]> = std::iter::once(major).chain(content[8..].chunks_exact(4)).collect();
    let still = |brand: &[u8]| matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"mif2" | b"avif");
    let sequence = |brand: &[u8]| matches!(brand, b"msf1" | b"hevc" | b"hevx" | b"hevm" | b"hevs" | b"avis");
    // A video may list an image brand as compatible (motion photos do): the major brand has the say.
    let holds_still = still(major) || sequence(major) && brands.iter().any(|b| still(b));
    if !holds_still {
        return None;
    }
    let av1 = brands.iter().any(|b| matches!(*b, b"avif" | b"avis"));
    let hevc = brands.iter().any(|b| matches!(*b, b"heic" | b"heix" | b"heim" | b"heis"));
    Some(if major == b"avif" || major == b"avis" || (av1 && !hevc) { "avif" } else { "heic" })
}

/// Sample layout of the first coded picture that is not monochrome (an alpha plane is), else of the first: FFmpeg's
/// name, from the decoder configuration in the item properties.
pub fn pixel_format(data: &[u8], alpha: bool) -> Option<String> {
    let find = |data, name: &[u8; 4]| boxes(data).find(|(kind, _)| kind == name).map(|(_, content)| content);
    let properties = find(find(find(data, b"meta")?.get(4..)?, b"iprp")?, b"ipco")?;
    let layouts: Vec<(u8, u8)> = boxes(properties).filter_map(|(kind, content)| layout(&kind, content)).collect();
    let (chroma, depth) = layouts.iter().find(|(chroma, _)| *chroma != 0).or(layouts.first())?;
    let name = match (chroma, alpha) {
        (0, false) => "gray",
        (0, true) => "ya",
        (1, false) => "yuv420p",
        (1, true) => "yuva420p",
        (2, false) => "yuv422p",
        (2, true) => "yuva422p",
        (_, false) => "yuv444p",
        (_, true) => "yuva444p",
    };
    Some(match depth {
        8 if name == "ya" => "ya8".into(),
        8 => name.into(),
        depth => format!("{name}{depth}le"),
    })
}

/// (H.273 chroma format: 0 gray, 1 4:2:0, 2 4:2:2, 3 4:4:4; bits a sample) of a decoder configuration box.
fn layout(kind: &[u8; 4], content: &[u8]) -> Option<(u8, u8)> {
    match kind {
        b"hvcC" => Some((content.get(16)? & 3, 8 + (content.get(17)? & 7))),
        b"av1C" => {
            let flags = content.get(2)?;
            let depth = match (flags >> 6 & 1, flags >> 5 & 1) {
                (0, _) => 8,
                (_, 0) => 10,
                _ => 12,
            };
            let chroma = match (flags >> 4 & 1, flags >> 3 & 1, flags >> 2 & 1) {
                (1, ..) => 0,
                (_, 1, 1) => 1,
                (_, 1, 0) => 2,
                _ => 3,
            };
            Some((chroma, depth))
        }
        _ => None,
    }
}
