//! Pictures out of `.npy` and safetensors files, as the tensors sink and the encoders write them. Headers are read with
//! care: the files may have been changed since.

use std::io::Read;

use half::{bf16, f16};
use serde_json::Value;

use super::MAX_PIXELS;
use super::samples::Raw;
use crate::sink::tensors::Container;
use crate::tensor::Dtype;

/// Longest header that is read.
const MAX_HEADER: u64 = 1 << 20;

/// What stands before an array's elements.
#[derive(Debug, PartialEq)]
pub struct Head {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where the elements begin in the file.
    at: u64,
}

impl Head {
    /// Reads up to the first element.
    pub fn read(from: &mut impl Read, container: Container) -> Result<Head, String> {
        match container {
            Container::Npy => npy(from),
            Container::Safetensors => safetensors(from),
        }
    }

    /// The array of row `row`, and where its elements begin in the file.
    pub fn row(&self, row: usize) -> Result<(Head, u64), String> {
        let (rows, shape) = self.shape.split_first().ok_or("the array has no rows")?;
        if row >= *rows {
            return Err(format!("the array has {rows} rows, fewer than the table"));
        }
        let bytes = bytes(self.dtype, shape)?;
        let at = bytes.checked_mul(row as u64).and_then(|n| n.checked_add(self.at)).ok_or("the array is too large")?;
        Ok((Head { dtype: self.dtype, shape: shape.to_vec(), at }, at))
    }

    /// The picture whose elements come next in `from`, the first of a clip. `record` tells the axes apart where the shape
    /// alone does not.
    pub fn picture(&self, from: &mut impl Read, record: &Value) -> Result<Raw, String> {
        let mut notes = Vec::new();
        let picture = match self.shape.as_slice() {
            [frames, picture @ ..] if picture.len() == 3 && *frames > 0 => {
                notes.push(format!("clip of {frames}"));
                picture
            }
            picture => picture,
        };
        let side = |name: &str| record.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let (width, height, chw) = match *picture {
            [3, h, w] if (Some(w), Some(h)) == (side("width"), side("height")) => (w, h, true),
            [h, w, 3] => (w, h, false),
            [3, h, w] => (w, h, true),
            _ => return Err(format!("the array's shape {:?} is none of a picture or clip", self.shape)),
        };
        let pixels = bytes(Dtype::U8, &[width, height])?;
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(format!("the picture of {width}x{height} is empty or too large"));
        }
        let length = bytes(self.dtype, picture)?;
        let mut data = Vec::new();
        from.take(length).read_to_end(&mut data).map_err(|e| e.to_string())?;
        if data.len() as u64 != length {
            return Err("the array's file is cut off".into());
        }
        let (levels, stretched) = levels(self.dtype, &data);
        if stretched {
            notes.push("normalised".into());
        }
        let rgb = if chw { interleave(&levels) } else { levels };
        // Both fit: their product is at most MAX_PIXELS.
        Ok(Raw { width: width as u32, height: height as u32, rgb, notes })
    }
}

fn interleave(planes: &[u8]) -> Vec<u8> {
    let (r, gb) = planes.split_at(planes.len() / 3);
    let (g, b) = gb.split_at(gb.len() / 2);
    r.iter().zip(g).zip(b).flat_map(|((r, g), b)| [*r, *g, *b]).collect()
}

/// The elements as 0..=255, and whether they were stretched for it.
fn levels(dtype: Dtype, data: &[u8]) -> (Vec<u8>, bool) {
    let values: Vec<f32> = match dtype {
        Dtype::U8 => return (data.to_vec(), false),
        Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::Bf16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    let (low, high) = values
        .iter()
        .filter(|v| v.is_finite())
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let stretched = low < 0.0 || high > 1.0;
    let (low, high) = if stretched { (low, high) } else { (0.0, 1.0) };
    // In f64 the span of two f32 is finite; a span of nothing gives black. The conversion takes NaN to 0.
    let (low, span) = (f64::from(low), (f64::from(high) - f64::from(low)).max(f64::MIN_POSITIVE));
    let level = |v: &f32| libm::round((f64::from(*v) - low) / span * 255.0).clamp(0.0, 255.0) as u8;
    (values.iter().map(level).collect(), stretched)
}

/// Bytes of an array.
fn bytes(dtype: Dtype, shape: &[usize]) -> Result<u64, String> {
    shape
        .iter()
        .try_fold(dtype.size() as u64, |n, axis| n.checked_mul(*axis as u64))
        .ok_or_else(|| format!("the array's shape {shape:?} is too large"))
}

fn exactly<const N: usize>(from: &mut impl Read) -> Result<[u8; N], String> {
    let mut out = [0; N];
    from.read_exact(&mut out).map_err(|e| format!("the array's header cannot be read: {e}"))?;
    Ok(out)
}

fn text(from: &mut impl Read, length: u64) -> Result<String, String> {
    if length > MAX_HEADER {
        return Err("the array's header is too long".into());
    }
    let mut out = String::new();
    from.take(length).read_to_string(&mut out).map_err(|e| format!("the array's header cannot be read: {e}"))?;
    if out.len() as u64 == length { Ok(out) } else { Err("the array's header is cut off".into()) }
}

fn npy(from: &mut impl Read) -> Result<Head, String> {
    let broken = || "the .npy header is not one that framemill writes".to_string();
    let [magic @ .., 1, 0] = exactly::<8>(from)? else { return Err(broken()) };
    if magic != *b"\x93NUMPY" {
        return Err(broken());
    }
    let length = u64::from(u16::from_le_bytes(exactly(from)?));
    let dict = text(from, length)?;
    let after = |key: &str| dict.split_once(key).map(|(_, rest)| rest.trim_start());
    let dtype = match after("'descr':").and_then(|rest| rest.split('\'').nth(1)) {
        Some("|u1") => Dtype::U8,
        Some("<f2") => Dtype::F16,
        Some("<f4") => Dtype::F32,
        _ => return Err(broken()),
    };
    if !after("'fortran_order':").is_some_and(|rest| rest.starts_with("False")) {
        return Err(broken());
    }
    let axes = after("'shape':").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).ok_or_else(broken)?.0;
    let axes = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let shape = axes.map(|axis| axis.parse().map_err(|_| broken())).collect::<Result<_, _>>()?;
    Ok(Head { dtype, shape, at: 10 + length })
}

fn safetensors(from: &mut impl Read) -> Result<Head, String> {
    let broken = || "the safetensors header is not one that framemill writes".to_string();
    let length = u64::from_le_bytes(exactly(from)?);
    let header: Value = serde_json::from_str(&text(from, length)?).map_err(|_| broken())?;
    let data = &header["data"];
    let dtype = match data["dtype"].as_str() {
        Some("U8") => Dtype::U8,
        Some("F16") => Dtype::F16,
        Some("BF16") => Dtype::Bf16,
        Some("F32") => Dtype::F32,
        _ => return Err(broken()),
    };
    if data["data_offsets"][0].as_u64() != Some(0) {
        return Err(broken());
    }
    let axis = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
    let shape = data["shape"].as_array().and_then(|axes| axes.iter().map(axis).collect()).ok_or_else(broken)?;
    Ok(Head { dtype, shape, at: 8 + length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn headers_are_read_as_they_are_written() {
        for container in [Container::Npy, Container::Safetensors] {
            for dtype in [Dtype::U8, Dtype::F16, Dtype::Bf16, Dtype::F32] {
                let Ok(bytes) = container.header(dtype, &[7, 2, 5, 3]) else { continue };
                let head = Head::read(&mut bytes.as_slice(), container).unwrap();
                assert_eq!(head, Head { dtype, shape: vec![7, 2, 5, 3], at: bytes.len() as u64 });
                let (row, at) = head.row(2).unwrap();
                assert_eq!((row.shape.as_slice(), at), (&[2, 5, 3][..], head.at + 60 * dtype.size() as u64));
                assert!(head.row(7).is_err());
                for cut in 0..bytes.len() {
                    assert!(Head::read(&mut &bytes[..cut], container).is_err(), "{container:?} {cut}");
                }
            }
        }
    }

    #[test]
    fn hostile_headers_neither_panic_nor_allocate() {
        let huge = Container::Npy.header(Dtype::F32, &[usize::MAX / 16, 1, 3]).unwrap();
        let head = Head::read(&mut huge.as_slice(), Container::Npy).unwrap();
        assert!(head.picture(&mut std::io::empty(), &Value::Null).is_err());
        let long = [u64::MAX.to_le_bytes(), [b' '; 8]].concat();
        assert!(Head::read(&mut long.as_slice(), Container::Safetensors).is_err());
        let overflowing = Head { dtype: Dtype::F32, shape: vec![9, usize::MAX, usize::MAX, 3], at: 0 };
        assert!(overflowing.row(1).is_err());
        let cut = Head { dtype: Dtype::U8, shape: vec![2, 2, 3], at: 0 };
        assert!(cut.picture(&mut [0; 11].as_slice(), &Value::Null).unwrap_err().contains("cut off"));
        assert!(cut.picture(&mut [0; 12].as_slice(), &Value::Null).is_ok());
        let fortran = String::from_utf8_lossy(&Container::Npy.header(Dtype::U8, &[2, 2, 3]).unwrap()[1..])
            .replace("False", "True ");
        assert!(npy(&mut [b"\x93", fortran.as_bytes()].concat().as_slice()).is_err());
    }

    #[test]
    fn the_record_tells_the_axes_apart() {
        let head = Head { dtype: Dtype::U8, shape: vec![3, 2, 3], at: 0 };
        let data = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18u8];
        let size = |w: u32, h: u32| json!({"width": w, "height": h});
        let chw = head.picture(&mut data.as_slice(), &size(3, 2)).unwrap();
        assert_eq!(((chw.width, chw.height), &chw.rgb[..3]), ((3, 2), &[1, 7, 13][..]));
        let hwc = head.picture(&mut data.as_slice(), &size(2, 3)).unwrap();
        assert_eq!(((hwc.width, hwc.height), &hwc.rgb[..3]), ((2, 3), &[1, 2, 3][..]));
    }

    #[test]
    fn floats_are_shown_or_stretched() {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(levels(Dtype::F32, &bytes(&[0.25, 0.5, 0.75])), (vec![64, 128, 191], false));
        assert_eq!(levels(Dtype::F32, &bytes(&[-2.0, 0.0, 2.0])), (vec![0, 128, 255], true));
        assert_eq!(levels(Dtype::F32, &bytes(&[f32::NAN, 0.0, f32::INFINITY])), (vec![0, 0, 255], false));
        assert_eq!(levels(Dtype::F32, &bytes(&[f32::NAN; 3])), (vec![0; 3], false));
        assert_eq!(levels(Dtype::F32, &bytes(&[7.0; 3])), (vec![0; 3], true));
        assert_eq!(levels(Dtype::F32, &bytes(&[f32::MIN, f32::MAX, 0.0])), (vec![0, 255, 128], true));
    }
}
