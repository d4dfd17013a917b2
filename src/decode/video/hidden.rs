//! Packets whose pictures are not shown, so that no frame comes of them, as codecs say so in their first bits.

/// Longest MPEG-4 packet that may say that there is no picture, in bytes, as FFmpeg has it.
const NOTHING: usize = 19;

/// No picture of the packet is shown.
pub(super) fn hidden(codec: &str, data: &[u8]) -> bool {
    match codec {
        "vp8" => data.first().is_some_and(|tag| tag & 0x10 == 0),
        "vp9" => !data.is_empty() && vp9_frames(data).all(vp9_hidden),
        // A stand-in for the second of two pictures that share a packet.
        "mpeg4" => data.len() <= NOTHING && data.starts_with(&[0, 0, 1, 0xB6]),
        _ => false,
    }
}

/// The frames of a packet, which may be a superframe.
fn vp9_frames(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let index = superframe(data);
    let whole = index.is_none().then_some(data);
    let mut rest = data;
    let parts = index.unwrap_or_default().into_iter().map_while(move |size| {
        let (frame, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some(frame)
    });
    whole.into_iter().chain(parts)
}

/// Sizes of a superframe's frames.
fn superframe(data: &[u8]) -> Option<Vec<usize>> {
    let marker = *data.last()?;
    let (width, frames) = (usize::from(marker >> 3 & 3) + 1, usize::from(marker & 7) + 1);
    let start = data.len().checked_sub(2 + width * frames)?;
    if marker >> 5 != 0b110 || data[start] != marker {
        return None;
    }
    let sizes = data[start + 1..data.len() - 1].chunks(width);
    Some(sizes.map(|size| size.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))).collect())
}

fn vp9_hidden(frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else { return true };
    let bit = |n: u32| first >> (7 - n) & 1 == 1;
    // Profile 3 has a reserved bit.
    let at = if bit(2) && bit(3) { 5 } else { 4 };
    let (existing, shown) = (bit(at), bit(at + 2));
    first >> 6 == 0b10 && !existing && !shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_says_which_pictures_are_shown() {
        assert!(hidden("vp8", &[0x00]) && !hidden("vp8", &[0x10]) && !hidden("vp8", &[]) && !hidden("h264", &[0]));
    }

    #[test]
    fn vp9_is_hidden_where_all_its_frames_are() {
        let (away, shown, again) = (0b1000_0000, 0b1000_0010, 0b1000_1000);
        assert!(hidden("vp9", &[away, 1, 2]) && !hidden("vp9", &[shown]) && !hidden("vp9", &[again]));
        assert!(hidden("vp9", &[0b1011_0000]) && !hidden("vp9", &[0b1011_0001]), "profile 3");
        let two = |a, b| [a, 9, b, 0b1100_0001, 2, 1, 0b1100_0001];
        assert!(hidden("vp9", &two(away, away)) && !hidden("vp9", &two(away, shown)) && !hidden("vp9", &[]));
    }

    #[test]
    fn mpeg4_may_say_that_there_is_no_picture() {
        assert!(hidden("mpeg4", &[0, 0, 1, 0xB6, 0x5F]) && !hidden("mpeg4", &[0, 0, 1, 0xB0, 1]));
        assert!(!hidden("mpeg4", &[&[0, 0, 1, 0xB6][..], &[7; 40]].concat()));
    }
}
