//! Whether a picture file holds an animation, of which a photo is but the first picture.

/// Looks at the file's structure alone; what cannot be followed counts as a still.
pub fn is_animation(codec: &str, data: &[u8]) -> bool {
    match codec {
        "gif" => gif(data).unwrap_or(false),
        "png" => png(data).unwrap_or(false),
        // The extended header's flag (WebP container specification).
        "webp" => data.get(12..16) == Some(b"VP8X") && data.get(20).is_some_and(|flags| flags & 2 != 0),
        // Image sequences' brands (ISO/IEC 23008-12, AVIF).
        "heic" | "avif" => matches!(data.get(8..12), Some(b"avis" | b"msf1" | b"hevc" | b"hevx")),
        _ => false,
    }
}

/// A second image descriptor (GIF89a).
fn gif(data: &[u8]) -> Option<bool> {
    /// Bytes of the colour table that flags tell of.
    fn table(flags: u8) -> usize {
        if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
    }
    let mut at = 13 + table(*data.get(10)?);
    let mut images = 0;
    loop {
        let before_blocks = match data.get(at)? {
            0x21 => 2,
            0x2C => {
                images += 1;
                if images == 2 {
                    return Some(true);
                }
                11 + table(*data.get(at + 9)?)
            }
            _ => return Some(false),
        };
        at += before_blocks;
        loop {
            let len = usize::from(*data.get(at)?);
            at += 1 + len;
            if len == 0 {
                break;
            }
        }
    }
}

/// The animation's control chunk, which stands before the picture's data (PNG, third edition), and more than one frame.
fn png(data: &[u8]) -> Option<bool> {
    let number = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let mut at = 8;
    loop {
        match data.get(at + 4..at + 8)? {
            b"acTL" => return Some(number(at + 8)? > 1),
            b"IDAT" | b"IEND" => return Some(false),
            _ => at = at.checked_add(12)?.checked_add(number(at)? as usize)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pictures of one pixel; the first has a table of its own and stands behind an extension.
    const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF\
        \x21\xF9\x04\0\0\0\0\0\
        \x2C\0\0\0\0\x01\0\x01\0\x80\0\0\0\xFF\xFF\xFF\x02\x02\x44\x01\0\
        \x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3B";

    #[test]
    fn two_pictures_are_an_animation_and_one_is_none() {
        assert!(is_animation("gif", GIF));
        let one = [&GIF[..GIF.len() - 16], b"\x3B"].concat();
        assert!(!is_animation("gif", &one));
        let chunk =
            |name: &[u8; 4], data: &[u8]| [&(data.len() as u32).to_be_bytes()[..], name, data, &[0; 4]].concat();
        let png = |frames: u32| {
            let control = [frames.to_be_bytes(), [0; 4]].concat();
            [&b"\x89PNG\r\n\x1A\n"[..], &chunk(b"IHDR", &[0; 13]), &chunk(b"acTL", &control), &chunk(b"IDAT", b"x")]
                .concat()
        };
        assert!(is_animation("png", &png(2)) && !is_animation("png", &png(1)));
        // What cannot be followed is a still: up to the second descriptor, and to the number of frames.
        for (codec, whole, known) in [("gif", GIF.to_vec(), GIF.len() - 15), ("png", png(2), 8 + 25 + 12)] {
            let first = (0..=whole.len()).find(|cut| is_animation(codec, &whole[..*cut]));
            assert_eq!(first, Some(known), "{codec}");
            assert!(!["webp", "heic", "avif", "jpeg"].iter().any(|other| is_animation(other, &whole)));
        }
    }
}
