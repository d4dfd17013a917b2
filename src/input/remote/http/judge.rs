//! What an answer means for the input: its status, its headers and its first bytes.

use super::client::{Asked, Stop, Why};
use crate::decode::image::{MediaKind, SNIFF_BYTES, sniff};
use crate::error::{Error, RejectKind};

/// Sorts statuses into good, bad and passing ones.
pub(super) fn status(uri: &str, asked: &Asked) -> Result<(), Stop> {
    let status = asked.status();
    let kind = match status {
        200..300 => return Ok(()),
        408 | 425 | 429 | 500.. => return Err(Stop::Again(Why::busy(status, asked.retry_after()))),
        416 => return Err(Stop::NoRanges),
        401 | 402 | 403 | 451 => RejectKind::Forbidden,
        _ => RejectKind::Missing,
    };
    Err(Stop::Final(Error::input(kind, format!("{uri}: the server answers HTTP {status}"))))
}

/// Directives of X-Robots-Tag by which owners say that they do not want their pictures used.
const DIRECTIVES: [&str; 5] = ["noai", "noimageai", "noindex", "noimageindex", "none"];

/// Refuses what its owner has opted out.
pub(super) fn opt_out(uri: &str, asked: &Asked, honour: bool) -> Result<(), Stop> {
    if !honour {
        return Ok(());
    }
    let said = asked.headers("x-robots-tag").find_map(|value| directive(value).map(str::to_string));
    let reserved = asked.headers("tdm-reservation").any(|value| value.trim() == "1");
    let Some(said) = said.map(|said| format!("X-Robots-Tag: {said}")).or(reserved.then(|| "TDM-Reservation: 1".into()))
    else {
        return Ok(());
    };
    let text = format!(
        "{uri}: its owner does not want it used ({said}); opt_out = \"ignore\" in [input.http] reads it all the same"
    );
    Err(Stop::Final(Error::input(RejectKind::OptOut, text)))
}

/// The directive that opts out, if the header is for everyone or for us: `noai`, or `framemill: noai, noindex`.
fn directive(value: &str) -> Option<&str> {
    let (agent, directives) = value.split_once(':').map_or((None, value), |(agent, rest)| (Some(agent.trim()), rest));
    if agent.is_some_and(|agent| !agent.eq_ignore_ascii_case("framemill") && agent != "*") {
        return None;
    }
    directives.split(',').map(str::trim).find(|d| DIRECTIVES.iter().any(|known| d.eq_ignore_ascii_case(known)))
}

/// Refuses what is larger than the job allows.
pub(in super::super) fn size(uri: &str, bytes: u64, limit: u64) -> Result<(), Stop> {
    if bytes <= limit {
        return Ok(());
    }
    let text = format!("{uri}: it has {bytes} bytes, more than max_bytes in [input.http] allows ({limit})");
    Err(Stop::Final(Error::input(RejectKind::TooLarge, text)))
}

/// Refuses pages in the place of pictures. What it is read as is for the bytes to say, so a photo under a wrong label is
/// a photo.
pub(super) fn content(uri: &str, kind: Option<&str>, head: &[u8]) -> Result<(), Stop> {
    const PAGES: [&str; 6] =
        ["text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml", "text/css"];
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim).unwrap_or_default();
    let page = PAGES.iter().any(|page| kind.eq_ignore_ascii_case(page));
    if !page || sniff(&head[..head.len().min(SNIFF_BYTES)]) != MediaKind::Other {
        return Ok(());
    }
    Err(Stop::Final(Error::input(RejectKind::NotMedia, format!("{uri}: the server sent {kind}, no picture or video"))))
}

/// Refuses what the server compressed although nobody asked it to; what is a photo as it came is one.
pub(super) fn encoding(uri: &str, encoding: Option<&str>, head: &[u8]) -> Result<(), Stop> {
    const COMPRESSED: [&str; 5] = ["gzip", "x-gzip", "deflate", "br", "zstd"];
    let encoding = encoding.unwrap_or_default().trim();
    let compressed = COMPRESSED.iter().any(|known| encoding.eq_ignore_ascii_case(known));
    if !compressed || sniff(&head[..head.len().min(SNIFF_BYTES)]) != MediaKind::Other {
        return Ok(());
    }
    let text = format!("{uri}: the server sent it compressed (Content-Encoding: {encoding}), which was not asked for");
    Err(Stop::Final(Error::input(RejectKind::Unsupported, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opting_out_is_heard_where_it_is_for_us() {
        for value in ["noai", "NoAI", "all, noimageai", "framemill: noindex", "*: none", "noindex, nofollow"] {
            assert!(directive(value).is_some(), "{value}");
        }
        for value in ["all", "googlebot: noindex", "max-snippet: 50", "nofollow", ""] {
            assert!(directive(value).is_none(), "{value}");
        }
    }

    #[test]
    fn pages_are_refused_and_mislabelled_photos_are_not() {
        let refused = |kind, head: &[u8]| content("u", Some(kind), head).is_err();
        assert!(refused("text/html; charset=utf-8", b"<html>") && refused("Application/JSON", b"{}"));
        assert!(!refused("text/html", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert!(!refused("text/plain", b"G@") && !refused("application/octet-stream", b"<html>"));
    }

    #[test]
    fn what_is_compressed_on_the_way_is_refused() {
        let refused = |kind, head: &[u8]| encoding("u", Some(kind), head).is_err();
        assert!(refused("gzip", b"\x1f\x8b\x08") && refused("BR", b"?"));
        assert!(!refused("gzip", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert!(!refused("identity", b"?") && !refused("aws-chunked", b"?") && encoding("u", None, b"?").is_ok());
    }
}
