//! [`Nals`]: what the headers of H.264's and HEVC's NAL units tell without decoding: where decoding can begin, and what
//! nothing else refers to.

/// Which of the two codecs, and how a packet frames its NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nals {
    codec: Codec,
    /// Bytes of the length before each unit; 0 where start codes separate them.
    length_size: usize,
    /// HEVC: highest temporal layer, where the configuration states it.
    top_layer: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    H264,
    Hevc,
}

impl Nals {
    /// `None` for other codecs and for a configuration (`avcC`, `hvcC`) that breaks off.
    pub fn new(codec: &str, extradata: &[u8]) -> Option<Nals> {
        let configured = extradata.first() == Some(&1);
        let (codec, length_at) = match codec {
            "h264" => (Codec::H264, 4),
            "hevc" => (Codec::Hevc, 21),
            _ => return None,
        };
        if !configured {
            return Some(Nals { codec, length_size: 0, top_layer: None });
        }
        let lengths = *extradata.get(length_at)?;
        let layers = (lengths >> 3) & 7;
        Some(Nals {
            codec,
            length_size: usize::from(lengths & 3) + 1,
            top_layer: (codec == Codec::Hevc && layers > 0).then(|| layers - 1),
        })
    }

    /// The first two bytes of each unit of a packet; `None` where the lengths do not fit together.
    fn headers(&self, packet: &[u8]) -> Option<Vec<[u8; 2]>> {
        let head = |unit: &[u8]| Some([*unit.first()?, unit.get(1).copied().unwrap_or(0)]);
        if self.length_size == 0 {
            let starts = packet.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]);
            return starts.map(|(at, _)| head(&packet[at + 3..])).collect();
        }
        let (mut rest, mut all) = (packet, Vec::new());
        while !rest.is_empty() {
            let length = rest.get(..self.length_size)?.iter().fold(0, |n, &b| n << 8 | usize::from(b));
            let unit = rest.get(self.length_size..self.length_size.checked_add(length)?)?;
            all.push(head(unit)?);
            rest = &rest[self.length_size + length..];
        }
        Some(all)
    }

    /// True where a packet begins a coded video sequence anew: nothing decoded later needs what came before it.
    pub fn clean_start(&self, packet: &[u8]) -> bool {
        let Some(headers) = self.headers(packet) else { return false };
        let mut pictures = headers.iter().filter(|h| self.is_picture(h)).peekable();
        pictures.peek().is_some()
            && pictures.all(|h| match self.codec {
                // Only IDR pictures empty the decoder's store of references.
                Codec::H264 => h[0] & 31 == 5,
                Codec::Hevc => matches!(hevc_type(h), 19 | 20),
            })
    }

    /// True where a packet holds one picture that no other refers to and nothing besides that lasts (parameter sets).
    pub fn disposable(&self, packet: &[u8]) -> bool {
        let Some(headers) = self.headers(packet) else { return false };
        headers.iter().any(|h| self.is_picture(h))
            && headers.iter().all(|h| match self.codec {
                // Slices (not of IDR pictures) with nal_ref_idc 0; SEI, delimiter and filler.
                Codec::H264 => matches!(h[0] & 31, 1) && h[0] >> 5 & 3 == 0 || matches!(h[0] & 31, 6 | 9 | 12),
                // Sub-layer non-reference pictures of the highest layer; delimiter, filler and SEI.
                Codec::Hevc => match hevc_type(h) {
                    0 | 2 | 4 | 6 | 8 => self.top_layer == Some((h[1] & 7).saturating_sub(1)),
                    35 | 38 | 39 | 40 => true,
                    _ => false,
                },
            })
    }

    fn is_picture(&self, header: &[u8; 2]) -> bool {
        match self.codec {
            Codec::H264 => matches!(header[0] & 31, 1..=5),
            Codec::Hevc => hevc_type(header) < 32,
        }
    }
}

fn hevc_type(header: &[u8; 2]) -> u8 {
    header[0] >> 1 & 63
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: [u8; 5] = [1, 100, 0, 31, 0xff];

    fn packet(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes()[..], u].concat()).collect()
    }

    #[test]
    fn h264_units_are_told_apart() {
        let nals = Nals::new("h264", &AVCC).unwrap();
        let (idr, reference, free, sps, sei) = ([0x65, 9], [0x41, 9], [0x01, 9], [0x67, 9], [0x06, 9]);
        assert!(nals.clean_start(&packet(&[&sps, &sei, &idr])));
        assert!(!nals.clean_start(&packet(&[&sps, &reference])));
        assert!(!nals.clean_start(&packet(&[&sps])));
        assert!(nals.disposable(&packet(&[&sei, &free, &free])));
        assert!(!nals.disposable(&packet(&[&free, &reference])));
        assert!(!nals.disposable(&packet(&[&sps, &free])), "parameter sets last");
        assert!(!nals.disposable(&packet(&[&sei])));
        let mut torn = packet(&[&free]);
        torn.pop();
        assert!(!nals.disposable(&torn) && !nals.clean_start(&torn));
    }

    #[test]
    fn hevc_units_are_told_apart() {
        let mut hvcc = [0; 23];
        (hvcc[0], hvcc[21]) = (1, 1 << 3 | 3);
        let nals = Nals::new("hevc", &hvcc).unwrap();
        let unit = |kind: u8, layer: u8| [kind << 1, layer + 1];
        assert!(nals.clean_start(&packet(&[&unit(19, 0)])));
        assert!(!nals.clean_start(&packet(&[&unit(21, 0)])), "a CRA picture may have leading ones");
        assert!(nals.disposable(&packet(&[&unit(39, 0), &unit(0, 0)])));
        assert!(!nals.disposable(&packet(&[&unit(1, 0)])));
        assert!(!nals.disposable(&packet(&[&unit(0, 1)])), "a layer that the configuration does not state");
        hvcc[21] = 3;
        assert!(!Nals::new("hevc", &hvcc).unwrap().disposable(&packet(&[&unit(0, 0)])), "layers unknown");
    }

    #[test]
    fn start_codes_are_read() {
        let nals = Nals::new("h264", &[]).unwrap();
        assert!(nals.clean_start(&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 1]));
        assert!(Nals::new("vp9", &[]).is_none());
    }
}
