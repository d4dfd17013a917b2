//! Pictures of high dynamic range (PQ and HLG) to SDR BT.709, as one table from 12-bit codes to 8-bit ones.
//!
//! Made on the host in f64 from ITU-R BT.2100 (PQ's EOTF, HLG's inverse OETF and OOTF for a display of 1000 cd/m2 and
//! gamma 1.2), the curve, the primaries' matrix to BT.709 (what lies outside is clipped) and BT.1886's inverse (gamma 2.4).
//! SDR white is 203 cd/m2, the reference white of ITU-R BT.2408.

use std::sync::Arc;

use super::lut::Cube;
use crate::color::Color;
use crate::error::{Error, RejectKind, Result};
use crate::op::Curve;

/// Bits of the codes that go in.
pub const DEPTH: u32 = 12;
/// Largest code.
pub const MOST: i32 = (1 << DEPTH) - 1;
/// Nodes along each axis. Between them grays are off by less than half a step of 255, colours by 0.2 in the mean; most
/// where a dark channel of a saturated colour meets the vertical start of the gamma curve (a test measures it).
const NODES: usize = 65;
/// SDR white, and the brightest that SDR shows, in cd/m2.
const WHITE: f64 = 203.0;
/// Peak of a display that HLG is shown on, in cd/m2.
const HLG_PEAK: f64 = 1000.0;

/// What a `tonemap` operation asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tonemap {
    /// The curve.
    pub curve: Curve,
    /// The brightest that is told apart, in cd/m2.
    pub peak: f64,
}

/// A picture's transfer characteristic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Pq,
    Hlg,
}

impl Tonemap {
    /// The table for pictures of `color`; `None` for those that are not of high dynamic range, which stay as they are.
    ///
    /// # Errors
    /// An input's, [`RejectKind::Op`], for primaries that are not known here.
    pub fn cube(&self, color: &Color) -> Result<Option<Arc<Cube>>> {
        let transfer = match color.transfer.as_str() {
            "smpte2084" => Transfer::Pq,
            "arib-std-b67" => Transfer::Hlg,
            _ => return Ok(None),
        };
        let chromaticities = match color.primaries.as_str() {
            "bt2020" => BT2020,
            "smpte432" => DISPLAY_P3,
            "bt709" => BT709,
            other => {
                return Err(Error::input(
                    RejectKind::Op,
                    format!("tonemap knows the primaries bt2020, smpte432 and bt709, not {other}; leave it out"),
                ));
            }
        };
        let to_709 = product(inverse(to_xyz(BT709)), to_xyz(chromaticities));
        let luma = to_xyz(chromaticities)[1];
        let place = |i: usize| i as f64 / (NODES - 1) as f64;
        let nodes: Vec<[f64; 3]> = (0..NODES.pow(3))
            .map(|i| [i % NODES, i / NODES % NODES, i / NODES / NODES].map(place))
            .map(|signal| self.sdr(transfer, luma, to_709, signal))
            .collect();
        let places: Vec<f64> = (0..=MOST).map(|code| f64::from(code) / f64::from(MOST)).collect();
        Ok(Some(Arc::new(Cube::new(NODES, [places.clone(), places.clone(), places], &nodes))))
    }

    /// One colour's SDR signal, 0 to 1 where SDR can show it. `luma` are the weights of the linear channels in luminance.
    fn sdr(&self, transfer: Transfer, luma: [f64; 3], to_709: Matrix, signal: [f64; 3]) -> [f64; 3] {
        let light = match transfer {
            Transfer::Pq => signal.map(pq_light),
            Transfer::Hlg => hlg_light(signal, luma),
        };
        let brightest = light[0].max(light[1]).max(light[2]);
        // All channels by one factor, so that the hue stays.
        let factor = if brightest > 0.0 { self.mapped(brightest) / brightest / WHITE } else { 0.0 };
        // Not clipped here but after the interpolation, which would smear the kink over a cell; what is less than 0 goes on
        // as its mirror image does.
        apply(to_709, light.map(|v| v * factor)).map(|v| libm::copysign(libm::pow(v.abs(), 1.0 / 2.4), v))
    }

    /// What becomes of the brightest channel's light, in cd/m2.
    fn mapped(&self, light: f64) -> f64 {
        match self.curve {
            // What exceeds white is cut off channel by channel, in the end.
            Curve::Clip => light,
            Curve::Bt2390 => knee(light, self.peak),
        }
    }
}

/// The EETF of ITU-R BT.2390, 5.4.1, from black and `peak` to black and [`WHITE`].
fn knee(light: f64, peak: f64) -> f64 {
    let top = pq_signal(peak);
    let most = pq_signal(WHITE) / top;
    if most >= 1.0 {
        return light.min(WHITE);
    }
    let start = 1.5 * most - 0.5;
    let e1 = (pq_signal(light) / top).min(1.0);
    let e2 = if e1 < start {
        e1
    } else {
        let t = (e1 - start) / (1.0 - start);
        let (t2, t3) = (t * t, t * t * t);
        (2.0 * t3 - 3.0 * t2 + 1.0) * start + (t3 - 2.0 * t2 + t) * (1.0 - start) + (3.0 * t2 - 2.0 * t3) * most
    };
    pq_light(e2 * top)
}

// SMPTE ST 2084.
const M1: f64 = 2610.0 / 16384.0;
const M2: f64 = 2523.0 / 4096.0 * 128.0;
const C1: f64 = 3424.0 / 4096.0;
const C2: f64 = 2413.0 / 4096.0 * 32.0;
const C3: f64 = 2392.0 / 4096.0 * 32.0;

/// PQ's EOTF: cd/m2 of a signal from 0 to 1.
fn pq_light(signal: f64) -> f64 {
    let power = libm::pow(signal, 1.0 / M2);
    10_000.0 * libm::pow((power - C1).max(0.0) / (C2 - C3 * power), 1.0 / M1)
}

/// PQ's inverse EOTF.
fn pq_signal(light: f64) -> f64 {
    let power = libm::pow(light / 10_000.0, M1);
    libm::pow((C1 + C2 * power) / (1.0 + C3 * power), M2)
}

/// HLG's EOTF: cd/m2 on a display of [`HLG_PEAK`].
fn hlg_light(signal: [f64; 3], luma: [f64; 3]) -> [f64; 3] {
    const A: f64 = 0.178_832_77;
    const B: f64 = 1.0 - 4.0 * A;
    let c = 0.5 - A * libm::log(4.0 * A);
    let scene = signal.map(|v| if v <= 0.5 { v * v / 3.0 } else { (libm::exp((v - c) / A) + B) / 12.0 });
    let luminance: f64 = scene.iter().zip(luma).map(|(v, k)| v * k).sum();
    let gain = if luminance > 0.0 { HLG_PEAK * libm::pow(luminance, 0.2) } else { 0.0 };
    scene.map(|v| v * gain)
}

type Matrix = [[f64; 3]; 3];
/// x and y of red, green and blue; white is D65.
type Chromaticities = [[f64; 2]; 3];

const BT709: Chromaticities = [[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]];
const BT2020: Chromaticities = [[0.708, 0.292], [0.170, 0.797], [0.131, 0.046]];
const DISPLAY_P3: Chromaticities = [[0.680, 0.320], [0.265, 0.690], [0.150, 0.060]];
const D65: [f64; 2] = [0.3127, 0.3290];

/// Linear RGB to CIE XYZ, white's Y being 1.
fn to_xyz(primaries: Chromaticities) -> Matrix {
    let xyz = |[x, y]: [f64; 2]| [x / y, 1.0, (1.0 - x - y) / y];
    let [r, g, b] = primaries.map(xyz);
    let columns: Matrix = [0, 1, 2].map(|i| [r[i], g[i], b[i]]);
    let scale = apply(inverse(columns), xyz(D65));
    columns.map(|row| [row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]])
}

fn apply(m: Matrix, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

fn product(a: Matrix, b: Matrix) -> Matrix {
    a.map(|row| [0, 1, 2].map(|j| row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]))
}

fn inverse(m: Matrix) -> Matrix {
    let minor = |i: usize, j: usize| {
        let ((a, b), (c, d)) = (((i + 1) % 3, (i + 2) % 3), ((j + 1) % 3, (j + 2) % 3));
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| minor(j, i) / determinant))
}
