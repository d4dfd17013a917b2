//! EXIF: orientation and capture time. Broken EXIF is common and never a reason to refuse a photo.

use ::exif::{In, Reader, Tag, Value};

use crate::geometry::Orientation;

/// The tags that are used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exif {
    /// Orientation; upright where none or none of the eight is given.
    pub orientation: Orientation,
    /// `DateTimeOriginal` as ISO 8601, with `OffsetTimeOriginal` where it is given.
    pub captured_at: Option<String>,
}

/// Reads a TIFF structure, as it stands in an EXIF segment with or without the "Exif\0\0" before it.
pub fn parse(mut block: Vec<u8>) -> Exif {
    if block.starts_with(b"Exif\0\0") {
        block.drain(..6);
    }
    let parsed = Reader::new().continue_on_error(true).read_raw(block).or_else(|e| e.distill_partial_result(|_| {}));
    let Ok(fields) = parsed else { return Exif::default() };
    let orientation = fields
        .get_field(Tag::Orientation, In::PRIMARY)
        .and_then(|f| f.value.get_uint(0))
        .and_then(Orientation::from_exif)
        .unwrap_or_default();
    let text = |tag| match &fields.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(parts) => Some(String::from_utf8_lossy(parts.first()?).trim().to_string()),
        _ => None,
    };
    let captured_at = text(Tag::DateTimeOriginal).and_then(|time| {
        let offset = text(Tag::OffsetTimeOriginal).filter(|o| is_offset(o)).unwrap_or_default();
        Some(iso8601(&time)? + &offset)
    });
    Exif { orientation, captured_at }
}

/// "2024:05:06 07:08:09" as "2024-05-06T07:08:09"; `None` for blanks and what is no time.
fn iso8601(exif: &str) -> Option<String> {
    let shape = "dddd:dd:dd dd:dd:dd";
    if !fits(exif, shape) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| exif[range].parse::<u32>().ok();
    let (month, day) = (number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let real = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    real.then(|| format!("{}-{}-{}T{}", &exif[..4], &exif[5..7], &exif[8..10], &exif[11..]))
}

/// "+02:00", "-08:30" or "Z".
fn is_offset(text: &str) -> bool {
    text == "Z" || fits(text, "+dd:dd") || fits(text, "-dd:dd")
}

/// `text` has the form of `shape`, where a `d` stands for a digit.
fn fits(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(t, s)| if s == b'd' { t.is_ascii_digit() } else { t == s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_or_nothing() {
        assert_eq!(iso8601("2024:05:06 07:08:09").as_deref(), Some("2024-05-06T07:08:09"));
        for none in [
            "    :  :     :  :  ",
            "0000:00:00 00:00:00",
            "2024:13:01 00:00:00",
            "2024-05-06",
            "",
            "2024:05:06 07:08:0é",
        ] {
            assert_eq!(iso8601(none), None, "{none}");
        }
        assert!(is_offset("+02:00") && is_offset("Z") && !is_offset("+2:00") && !is_offset(""));
    }

    #[test]
    fn garbage_is_upright() {
        for block in
            [vec![], vec![0; 8], b"II*\0\xFF\xFF\xFF\xFF".to_vec(), b"Exif\0\0MM\0*\0\0\0\x08\xFF\xFF".to_vec()]
        {
            assert_eq!(parse(block), Exif::default());
        }
    }
}
