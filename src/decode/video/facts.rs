//! What decides which decoder a stream gets.

use crate::decode::route::Facts;
use crate::ffi::av::Stream;

/// What is known of `stream` before it is decoded.
pub(super) fn facts(stream: &Stream, duration_s: Option<f64>) -> Facts {
    let by_rate = || {
        let (num, den) = stream.rate?;
        Some((duration_s? * f64::from(num) / f64::from(den)) as u64)
    };
    Facts {
        codec: stream.codec.clone(),
        profile: stream.profile,
        pixel_format: stream.pixel_format.clone(),
        size: stream.size,
        frames: stream.frames.or_else(by_rate),
        film_grain: stream.codec == "av1" && film_grain(&stream.extradata).unwrap_or(true),
    }
}

/// Whether an AV1 configuration record allows film grain; `None` where it does not tell.
fn film_grain(record: &[u8]) -> Option<bool> {
    /// OBU_SEQUENCE_HEADER with a size and without an extension.
    const SEQUENCE_HEADER: u8 = 1 << 3 | 1 << 1;
    let (&header, rest) = record.get(4..)?.split_first()?;
    if header != SEQUENCE_HEADER {
        return None;
    }
    // A sequence header is far shorter than 128 bytes, so its size is one byte.
    let (&size, rest) = rest.split_first()?;
    let payload = rest.get(..usize::from(size))?;
    // `film_grain_params_present` is the last bit before the trailing ones: a one and zeros.
    let end = payload.iter().rposition(|&b| b != 0)?;
    match payload[end].trailing_zeros() {
        7 => Some(payload.get(end.checked_sub(1)?)? & 1 == 1),
        n => Some(payload[end] >> (n + 1) & 1 == 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn film_grain_is_the_last_bit_of_the_sequence_header() {
        let record = |payload: &[u8]| [&[0x81, 0, 0, 0, 0x0A, payload.len() as u8], payload].concat();
        assert_eq!(film_grain(&record(&[0x00, 0b0000_0110])), Some(true));
        assert_eq!(film_grain(&record(&[0x00, 0b0000_0010])), Some(false));
        assert_eq!(film_grain(&record(&[0x01, 0x80])), Some(true));
        assert_eq!(film_grain(&record(&[0x02, 0x80])), Some(false));
        assert_eq!(film_grain(&record(&[0x00, 0b1100_0000, 0])), Some(true), "padding");
        for broken in [&[][..], &[0x81, 0, 0, 0], &[0x81, 0, 0, 0, 0x12, 1, 6], &[0x81, 0, 0, 0, 0x0A, 9, 6]] {
            assert_eq!(film_grain(broken), None, "{broken:?}");
        }
    }
}
