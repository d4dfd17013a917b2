//! What a file is, by its first bytes.

use super::isobmff;

/// How much of a file [`sniff`] may want to see.
pub const SNIFF_BYTES: usize = 64 << 10;

/// What the first bytes of a file announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A photo or animation that [`super::decode`] reads, with its codec's name.
    Photo(&'static str),
    /// Anything else: a video perhaps, or no media.
    Other,
}

/// Tells photos from everything else by the first [`SNIFF_BYTES`] of the content (fewer do for short files).
pub fn sniff(head: &[u8]) -> MediaKind {
    let codec = match head {
        [0xFF, 0xD8, 0xFF, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "gif",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "tiff",
        [b'B', b'M', ..] if is_bmp(head) => "bmp",
        _ => match isobmff::still_codec(head) {
            Some(codec) => codec,
            None => return MediaKind::Other,
        },
    };
    MediaKind::Photo(codec)
}

/// "BM" alone is too short a mark: the information header must have one of its known sizes, too.
fn is_bmp(head: &[u8]) -> bool {
    let Some(size) = head.get(14..18) else { return false };
    matches!(u32::from_le_bytes([size[0], size[1], size[2], size[3]]), 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ftyp(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Vec<u8> {
        let mut out = (16 + 4 * compatible.len() as u32).to_be_bytes().to_vec();
        out.extend_from_slice(b"ftyp");
        out.extend_from_slice(major);
        out.extend_from_slice(&[0; 4]);
        for brand in compatible {
            out.extend_from_slice(*brand);
        }
        out
    }

    #[test]
    fn photos_are_known_by_content() {
        let bmp = [b"BM".as_slice(), &[0; 12], &40u32.to_le_bytes()].concat();
        let cases: [(&[u8], &str); 9] = [
            (b"\xFF\xD8\xFF\xE0", "jpeg"),
            (b"\x89PNG\r\n\x1A\n", "png"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "webp"),
            (b"GIF89a", "gif"),
            (b"GIF87a", "gif"),
            (b"II*\0", "tiff"),
            (b"MM\0*", "tiff"),
            (b"II+\0", "tiff"),
            (&bmp, "bmp"),
        ];
        for (head, codec) in cases {
            assert_eq!(sniff(head), MediaKind::Photo(codec), "{head:?}");
        }
        // Negative controls: one byte off is none of them.
        for head in [b"\xFF\xD8\xFE\xE0".as_slice(), b"RIFF\x10\0\0\0WAVEfmt ", b"GIF88a", b"BMW is a car maker", b""] {
            assert_eq!(sniff(head), MediaKind::Other, "{head:?}");
        }
    }

    #[test]
    fn iso_files_are_told_apart_by_brands() {
        let photo = |major, compatible: &[&[u8; 4]]| sniff(&ftyp(major, compatible));
        assert_eq!(photo(b"heic", &[b"mif1"]), MediaKind::Photo("heic"));
        assert_eq!(photo(b"mif1", &[b"heic"]), MediaKind::Photo("heic"));
        assert_eq!(photo(b"avif", &[]), MediaKind::Photo("avif"));
        assert_eq!(photo(b"mif1", &[b"miaf", b"avif"]), MediaKind::Photo("avif"));
        assert_eq!(photo(b"avis", &[b"avif", b"msf1"]), MediaKind::Photo("avif"));
        assert_eq!(photo(b"msf1", &[b"hevc", b"mif1", b"heic"]), MediaKind::Photo("heic"));
        // Sequences without a still, and videos, are not photos.
        assert_eq!(photo(b"msf1", &[b"hevc"]), MediaKind::Other);
        assert_eq!(photo(b"avis", &[b"msf1"]), MediaKind::Other);
        assert_eq!(photo(b"qt  ", &[]), MediaKind::Other);
        assert_eq!(photo(b"isom", &[b"mp41", b"avc1"]), MediaKind::Other);
        // A box shorter than its head, or cut off, is no reason to panic.
        for cut in 0..24 {
            let _ = sniff(&ftyp(b"heic", &[b"mif1", b"heic"])[..cut]);
        }
        assert_eq!(sniff(b"\0\0\0\x04ftypheic"), MediaKind::Other);
    }
}
