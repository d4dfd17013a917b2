//! Which files of a folder are media: by their names where those are telling, else by their first bytes.
//!
//! Only the choice what to list rests on names, because reading the head of each of a million files is slow; what a file
//! is decoded as never does.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::decode::image::{MediaKind, SNIFF_BYTES, sniff};

const PHOTOS: &[&str] = &[
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "hif", "j2k", "jfif", "jif", "jp2", "jpe", "jpeg", "jpg",
    "jxl", "png", "tif", "tiff", "webp",
];

const VIDEOS: &[&str] = &[
    "264", "265", "3g2", "3gp", "3gp2", "3gpp", "amv", "asf", "av1", "avc", "avi", "bik", "dav", "divx", "dv", "f4v",
    "flc", "fli", "flv", "gxf", "h261", "h263", "h264", "h265", "heics", "hevc", "insv", "ismv", "ivf", "jpgv", "m1v",
    "m2p", "m2t", "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mk3d", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg",
    "mpv", "mxf", "nsv", "nut", "obu", "ogm", "ogv", "ogx", "qt", "rm", "rmvb", "roq", "vc1", "vdr", "vob", "webm",
    "wmv", "wtv", "xvid", "y4m",
];

/// MPEG transport streams share these with program source code.
const VIDEOS_OR_TEXT: &[&str] = &["mts", "ts"];

/// Never pictures, or not on their own.
const OTHERS: &[&str] = &[
    "7z",
    "aac",
    "ac3",
    "aif",
    "aiff",
    "amr",
    "arrow",
    "ass",
    "avro",
    "bash",
    "bat",
    "bz2",
    "c",
    "cc",
    "cfg",
    "ckpt",
    "conf",
    "cpp",
    "css",
    "csv",
    "cube",
    "db",
    "dll",
    "dockerfile",
    "doc",
    "docx",
    "dts",
    "exe",
    "feather",
    "flac",
    "gz",
    "h",
    "h5",
    "hdf5",
    "hpp",
    "htm",
    "html",
    "idx",
    "ini",
    "ipynb",
    "jar",
    "java",
    "js",
    "json",
    "json5",
    "jsonl",
    "lock",
    "log",
    "lrc",
    "m3u",
    "m3u8",
    "m4a",
    "m4b",
    "mat",
    "md",
    "md5",
    "mid",
    "midi",
    "mka",
    "mp3",
    "mpd",
    "msgpack",
    "ndjson",
    "nfo",
    "npy",
    "npz",
    "oga",
    "onnx",
    "opus",
    "parquet",
    "pb",
    "pbtxt",
    "pdf",
    "pickle",
    "pkl",
    "pls",
    "ppt",
    "pptx",
    "pt",
    "pth",
    "py",
    "pyc",
    "rar",
    "rs",
    "rst",
    "rtf",
    "safetensors",
    "sbv",
    "sfv",
    "sh",
    "sha1",
    "sha256",
    "so",
    "sql",
    "sqlite",
    "srt",
    "ssa",
    "sub",
    "svg",
    "tar",
    "tfrecord",
    "tgz",
    "thm",
    "toml",
    "torrent",
    "tsv",
    "txt",
    "url",
    "vtt",
    "wav",
    "weights",
    "whl",
    "wma",
    "xls",
    "xlsx",
    "xml",
    "xmp",
    "xsd",
    "xz",
    "yaml",
    "yml",
    "zip",
    "zst",
];

/// The ending of the last part of `name`, in lower case.
fn ending(name: &[u8]) -> Option<String> {
    let name = name.rsplit(|b| *b == b'/').next().unwrap_or(name);
    let dot = name.iter().rposition(|b| *b == b'.')?;
    std::str::from_utf8(&name[dot + 1..]).ok().map(str::to_ascii_lowercase)
}

/// True for names that end like a still photo.
pub(super) fn photo_name(name: &[u8]) -> bool {
    ending(name).is_some_and(|ending| PHOTOS.contains(&ending.as_str()))
}

/// Whether an object of a store is media, by its name and size alone: transport streams are made of packets of one size.
#[cfg_attr(not(feature = "cloud"), allow(dead_code))]
pub(super) fn is_media_name(name: &str, bytes: u64) -> bool {
    let ending = ending(name.as_bytes());
    let among = |names: &[&str]| ending.as_deref().is_some_and(|ending| names.contains(&ending));
    among(PHOTOS)
        || among(VIDEOS)
        || (among(VIDEOS_OR_TEXT) && (bytes.is_multiple_of(188) || bytes.is_multiple_of(192)))
}

/// Whether a file found in a folder is media. Reads it only if its name does not tell; one that cannot be read then is
/// none. An empty file with a media name is media: it is reported as empty later, not passed over.
pub(super) fn is_media(path: &Path) -> bool {
    let ending = ending(path.as_os_str().as_encoded_bytes());
    let among = |names: &[&str]| ending.as_deref().is_some_and(|ending| names.contains(&ending));
    if among(PHOTOS) || among(VIDEOS) {
        true
    } else if among(OTHERS) {
        false
    } else if among(VIDEOS_OR_TEXT) {
        head(path).is_none_or(|head| !is_text(&head))
    } else {
        head(path).is_some_and(|head| looks_like_media(&head))
    }
}

fn head(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    File::open(path).ok()?.take(SNIFF_BYTES as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Source code rather than a transport stream: printable, and not nothing.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character cut in two by the end of what was read.
        Err(e) => e.error_len().is_none(),
    };
    let control = |b: &u8| *b < 0x20 && !b"\t\n\r\x0C".contains(b);
    !head.is_empty() && whole && !head.iter().any(control)
}

/// Whether the first bytes of a file are those of a photo or of a container or raw stream with pictures.
fn looks_like_media(head: &[u8]) -> bool {
    let has = |mark: &[u8]| head.windows(mark.len()).take(4096).any(|window| window == mark);
    match head {
        _ if sniff(head) != MediaKind::Other => true,
        // ISO media, but for audio; QuickTime may begin with other boxes.
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => !brand.starts_with(b"M4A ") && !brand.starts_with(b"M4B "),
        [0, _, _, _, b'm', b'o', b'o', b'v', ..] | [_, _, _, _, b'm', b'd', b'a', b't', ..] => true,
        [0, 0, 0, 8, b'w', b'i', b'd', b'e', ..] => true,
        // Matroska and WebM.
        [0x1A, 0x45, 0xDF, 0xA3, ..] => true,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => true,
        [b'F', b'L', b'V', 1, ..] => true,
        // Ogg is mostly audio; the codecs of its streams stand in the first pages.
        [b'O', b'g', b'g', b'S', ..] => has(b"theora") || has(b"OVP80") || has(b"BBCD\0"),
        [0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11, ..] => true,
        // MXF.
        [0x06, 0x0E, 0x2B, 0x34, ..] => true,
        [b'.', b'R', b'M', b'F', ..] => true,
        _ if head.starts_with(b"nut/multimedia container") => true,
        [b'D', b'K', b'I', b'F', ..] => true,
        _ if head.starts_with(b"YUV4MPEG2 ") => true,
        // AV1: a temporal delimiter, then a sequence header.
        [0x12, 0, 0x0A, ..] => true,
        [0, 0, 1, rest @ ..] | [0, 0, 0, 1, rest @ ..] if starts_stream(rest) => true,
        _ => packets(head, 0, 188) || packets(head, 4, 192),
    }
}

/// What follows the first start code is the beginning of MPEG-1, 2 or 4, VC-1, H.264 or HEVC.
fn starts_stream(rest: &[u8]) -> bool {
    match rest {
        // Pack header, system header, sequence header, MPEG-4 visual object sequence and object; VC-1 sequence header.
        [0xBA | 0xBB | 0xB3 | 0xB0 | 0xB5 | 0x0F, ..] => true,
        // HEVC in its base layer: parameter sets, delimiter, SEI.
        [0x40 | 0x42 | 0x46 | 0x4E, 1, ..] => true,
        // H.264: SEI, sequence parameter set, delimiter.
        [first, ..] => first & 0x80 == 0 && matches!(first & 0x1F, 6 | 7 | 9),
        [] => false,
    }
}

/// Sync bytes of a transport stream in each of the first packets.
fn packets(head: &[u8], offset: usize, size: usize) -> bool {
    head.len() >= offset + 188 && head[offset..].iter().step_by(size).take(8).all(|b| *b == 0x47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_do_not_overlap() {
        let all: Vec<&str> = [PHOTOS, VIDEOS, VIDEOS_OR_TEXT, OTHERS].concat();
        let unique: std::collections::HashSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), unique.len());
    }

    #[test]
    fn names_decide_where_they_tell() {
        let dir = tempfile::tempdir().unwrap();
        // None of these exists: nothing is read.
        for name in ["a.JPG", "b.Mp4", "c.h265", "d.tar.webm", "x.ts/e.heic"] {
            assert!(is_media(&dir.path().join(name)), "{name}");
        }
        for name in ["a.json", "b.TXT", "c.mp4.npy", "d.parquet", "none", "none.xyz"] {
            assert!(!is_media(&dir.path().join(name)), "{name}");
        }
        assert!(photo_name(b"/x.mp4/a.JPeG") && photo_name(b"a.heic") && photo_name(b"\xFF.png"));
        assert!(!photo_name(b"/x.jpg/a") && !photo_name(b"a.mp4") && !photo_name(b"jpg"));
    }

    #[test]
    fn content_decides_where_names_do_not() {
        let mut ts = vec![0xFF; 188 * 5];
        ts.iter_mut().step_by(188).for_each(|b| *b = 0x47);
        let mut m2ts = vec![0; 192 * 3];
        m2ts.iter_mut().skip(4).step_by(192).for_each(|b| *b = 0x47);
        let mut broken = ts.clone();
        broken[188 * 2] = 0;
        let media: [&[u8]; 20] = [
            b"\xFF\xD8\xFF\xE0",
            b"\0\0\0\x20ftypisom",
            b"\0\0\x10\0moov",
            b"\0\0\0\x08wide",
            b"\x1A\x45\xDF\xA3",
            b"RIFF\0\0\0\0AVI LIST",
            b"FLV\x01\x05",
            b"OggS\0\x02........\x80theora",
            b"\x30\x26\xB2\x75\x8E\x66\xCF\x11",
            b"DKIF\0\0",
            b"YUV4MPEG2 W2 H2",
            b"\x12\0\x0A\x0B",
            b"\0\0\x01\xBA",
            b"\0\0\x01\xB3",
            b"\0\0\0\x01\x67\x64",
            b"\0\0\x01\x09\xF0",
            b"\0\0\0\x01\x40\x01",
            b"\0\0\x01\x46\x01",
            &ts,
            &m2ts,
        ];
        for head in media {
            assert!(looks_like_media(head), "{head:?}");
        }
        let others: [&[u8]; 12] = [
            b"",
            b"hello",
            b"G",
            b"\0\0\x01\0\x01\0",
            b"\0\0\x01",
            b"RIFF\0\0\0\0WAVEfmt ",
            b"OggS\0\x02........\x01vorbis",
            b"\0\0\0\x20ftypM4A ",
            b"PK\x03\x04",
            b"\x7FELF",
            &broken,
            &ts[..187],
        ];
        for head in others {
            assert!(!looks_like_media(head), "{head:?}");
        }
    }

    #[test]
    fn transport_streams_are_told_from_source_code() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, media) in [
            ("a.ts", b"export const x = 1;\n".as_slice(), false),
            ("b.ts", b"G\x00\x11\xFF damaged", true),
            ("c.ts", b"", true),
            ("d.mts", b"export {}\n", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_media(&path), media, "{name}");
        }
    }
}
