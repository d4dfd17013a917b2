//! The marker segments before a JPEG's first scan: size, layout, EXIF, ICC profile; and a copy of the file without the
//! oddities that libjpeg-turbo's header reader only warns of.

/// What the segments before the first scan say. Slices borrow from the file.
#[derive(Default)]
pub struct Segments<'a> {
    /// The frame header, if one came.
    pub frame: Option<FrameHeader>,
    /// Content of the first EXIF segment (a TIFF structure).
    pub exif: Option<&'a [u8]>,
    /// ICC segments: (number, count, bytes), in file order.
    icc: Vec<(u8, u8, &'a [u8])>,
    /// A JFIF segment was there: three components are YCbCr.
    jfif: bool,
    /// Adobe's colour transform: 0 none, 1 YCbCr, 2 YCCK.
    pub adobe_transform: Option<u8>,
    /// The segments' whole bytes, from marker to end, in order, up to and with the first start of scan.
    parts: Vec<(u8, &'a [u8])>,
    /// Where the first scan's entropy-coded data begin.
    pub scan_at: Option<usize>,
}

/// Start of frame.
pub struct FrameHeader {
    /// Marker code, 0xC0..=0xCF: decides the coding process.
    pub marker: u8,
    /// Bits a sample.
    pub precision: u8,
    /// Samples a line.
    pub width: u16,
    /// Lines; 0 means that a later segment tells.
    pub height: u16,
    /// (identifier, horizontal and vertical sampling factor) of each component.
    pub components: Vec<(u8, u8, u8)>,
}

impl<'a> Segments<'a> {
    /// Walks the segments of `data`, leniently: what cannot be read ends the walk.
    pub fn parse(data: &'a [u8]) -> Self {
        let mut out = Segments::default();
        let mut at = 2;
        while let Some(marker_at) = next_marker(data, at) {
            let marker = data[marker_at + 1];
            // TEM and RSTn stand alone; a second SOI or an EOI here is as good as the end.
            if matches!(marker, 0x01 | 0xD0..=0xD7) {
                at = marker_at + 2;
                continue;
            }
            if matches!(marker, 0xD8 | 0xD9) {
                break;
            }
            let Some(len) = data.get(marker_at + 2..marker_at + 4) else { break };
            let end = marker_at + 2 + usize::from(u16::from_be_bytes([len[0], len[1]]));
            let Some(content) = data.get(marker_at + 4..end) else { break };
            out.parts.push((marker, &data[marker_at..end]));
            out.take(marker, content);
            if marker == 0xDA {
                out.scan_at = Some(end);
                break;
            }
            at = end;
        }
        out
    }

    fn take(&mut self, marker: u8, content: &'a [u8]) {
        match marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF if self.frame.is_none() => self.frame = FrameHeader::parse(marker, content),
            0xE0 if content.starts_with(b"JFIF\0") => self.jfif = true,
            0xE1 if self.exif.is_none() => self.exif = content.strip_prefix(b"Exif\0\0"),
            0xE2 => {
                if let Some([number, count, bytes @ ..]) = content.strip_prefix(b"ICC_PROFILE\0") {
                    self.icc.push((*number, *count, bytes));
                }
            }
            0xEE if content.len() >= 12 && content.starts_with(b"Adobe") => self.adobe_transform = Some(content[11]),
            _ => {}
        }
    }

    /// The picture is one scan that names no table but those that the file itself defines before it.
    pub fn self_contained(&self) -> bool {
        let bodies = |wanted: u8| self.parts.iter().filter(move |p| p.0 == wanted).map(|p| p.1.get(4..).unwrap_or(&[]));
        let Some(frame) = self.frame.as_ref().filter(|f| matches!(f.marker, 0xC0 | 0xC1)) else { return false };
        let [Some(sizes), Some([count, scan @ ..])] = [bodies(frame.marker).next(), bodies(0xDA).next()] else {
            return false;
        };
        let quantisation: Vec<u8> = bodies(0xDB).flat_map(|b| tables(b, |b| 1 + (64 << (b[0] >> 4 & 1)))).collect();
        let huffman: Vec<u8> = bodies(0xC4).flat_map(|b| tables(b, |b| 17 + sum(&b[1..]))).collect();
        let mut components = sizes.get(6..).unwrap_or(&[]).chunks_exact(3);
        let mut parts = scan.chunks_exact(2).take(usize::from(*count));
        usize::from(*count) == frame.components.len()
            && components.all(|c| quantisation.iter().any(|t| t & 15 == c[2]))
            && parts.all(|p| huffman.contains(&(p[1] >> 4)) && huffman.contains(&(0x10 | (p[1] & 15))))
    }

    /// Three components that are RGB, by libjpeg's rule (`default_decompress_parms`): JFIF says no, then Adobe's
    /// transform decides, then the identifiers "RGB" do.
    pub fn stores_rgb(&self) -> bool {
        let named_rgb = || {
            let ids = self.frame.as_ref().map(|f| f.components.iter().map(|c| c.0).collect::<Vec<_>>());
            ids.is_some_and(|ids| ids == b"RGB")
        };
        !self.jfif && self.adobe_transform.map_or_else(named_rgb, |t| t == 0)
    }

    /// The ICC profile joined from its segments; an error says what is missing.
    pub fn icc(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(&(_, count, _)) = self.icc.first() else { return Ok(None) };
        let mut parts = self.icc.clone();
        parts.sort_by_key(|(number, ..)| *number);
        let whole = parts.len() == usize::from(count)
            && parts.iter().enumerate().all(|(i, (number, c, _))| usize::from(*number) == i + 1 && *c == count);
        if !whole {
            return Err(format!("the ICC profile is in {count} parts of which {} were found", parts.len()));
        }
        Ok(Some(parts.iter().flat_map(|(_, _, bytes)| bytes.iter().copied()).collect()))
    }

    /// `data` without what stands between or in its header segments to no use: bytes before a marker, an unknown JFIF
    /// version, an unknown Adobe transform (libjpeg reads it as YCbCr or YCCK), broken ICC parts. `None` if there is no
    /// scan.
    pub fn repaired(&self, data: &[u8]) -> Option<Vec<u8>> {
        let rest = data.get(self.scan_at?..)?;
        let mut out = Vec::with_capacity(data.len());
        out.extend_from_slice(&[0xFF, 0xD8]);
        for (marker, part) in &self.parts {
            match marker {
                0xEE if self.adobe_transform.is_some_and(|t| t > 2) && part.len() >= 16 => {
                    let four = self.frame.as_ref().is_some_and(|f| f.components.len() == 4);
                    out.extend_from_slice(&part[..15]);
                    out.push(if four { 2 } else { 1 });
                    out.extend_from_slice(&part[16..]);
                }
                // JFIF tells that three components are YCbCr; the version says nothing about pixels.
                0xE0 if part.len() >= 11 && part[4..].starts_with(b"JFIF\0") => {
                    out.extend_from_slice(&part[..9]);
                    out.extend_from_slice(&[1, 1]);
                    out.extend_from_slice(&part[11..]);
                }
                0xE1..=0xED | 0xEF | 0xFE => {}
                _ => out.extend_from_slice(part),
            }
        }
        out.extend_from_slice(rest);
        Some(out)
    }
}

fn sum(counts: &[u8]) -> usize {
    counts.iter().take(16).map(|n| usize::from(*n)).sum()
}

/// First bytes of the tables that stand one behind the other in a segment; `size` is a table's.
fn tables(mut rest: &[u8], size: impl Fn(&[u8]) -> usize) -> Vec<u8> {
    let mut found = Vec::new();
    while let Some(&first) = rest.first() {
        let Some(behind) = rest.get(size(rest)..) else { break };
        found.push(first);
        rest = behind;
    }
    found
}

/// Offset of the next 0xFF that a marker code follows.
fn next_marker(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += data.get(at..)?.iter().position(|b| *b == 0xFF)?;
        match data.get(at + 1)? {
            0xFF => at += 1,
            0 => at += 2,
            _ => return Some(at),
        }
    }
}

impl FrameHeader {
    fn parse(marker: u8, content: &[u8]) -> Option<Self> {
        let [precision, h1, h0, w1, w0, count, components @ ..] = content else { return None };
        let components: Vec<_> =
            components.chunks_exact(3).take(usize::from(*count)).map(|c| (c[0], c[1] >> 4, c[1] & 15)).collect();
        (components.len() == usize::from(*count)).then_some(FrameHeader {
            marker,
            precision: *precision,
            width: u16::from_be_bytes([*w1, *w0]),
            height: u16::from_be_bytes([*h1, *h0]),
            components,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_borrow_tables_are_told() {
        let read = |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos").join(name);
            std::fs::read(path).unwrap()
        };
        let contained = |data: &[u8]| Segments::parse(data).self_contained();
        let (gray, cmyk) = (read("gray.jpg"), read("cmyk.jpg"));
        assert!(contained(&gray) && contained(&cmyk) && contained(&read("orientation6.jpg")));
        assert!(!contained(&read("progressive.jpg")), "its later scans are not looked at");
        for (marker, name) in [(0xC4, "Huffman"), (0xDB, "quantisation")] {
            for photo in [&gray, &cmyk] {
                let mut without = photo.clone();
                let at = without.windows(2).position(|w| w == [0xFF, marker]).unwrap();
                let len = usize::from(u16::from_be_bytes([without[at + 2], without[at + 3]]));
                without.drain(at..at + 2 + len);
                assert!(!contained(&without), "{name}");
            }
        }
        assert!(!contained(&[]) && !contained(&[0xFF, 0xD8, 0xFF, 0xDB, 0, 3, 0]));
    }
}
