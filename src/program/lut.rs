//! Colour tables from `.cube` files (Adobe, "Cube LUT specification 1.0", 2013; the input ranges are Resolve's).
//!
//! What is read is checked in full; an error names file and line.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Step, fixed};
use crate::error::{Error, Result};

/// Bits of a position's fraction between two nodes, which are the weights' bits too.
pub const FRACTION: u32 = 14;
/// Bits of a node's fraction.
pub const NODE_FRACTION: u32 = 7;
/// Largest absolute value of a node, where 1 is white. 4 * 255 * 2^7 * 2^14, and half a unit of the final shift by 21
/// bits, 2^20, still fits below 2^31.
pub const NODE_MOST: f64 = 4.0;

/// A three-dimensional table that is interpolated tetrahedrally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cube {
    /// Nodes along each axis.
    pub size: usize,
    /// For each code of each channel its place among the nodes, with [`FRACTION`] bits.
    pub positions: [Vec<i32>; 3],
    /// Red, green and blue of each node, 0..=255 with [`NODE_FRACTION`] bits; the red axis runs fastest.
    pub nodes: Vec<[i32; 3]>,
}

impl Cube {
    /// For codes whose place on each axis, 0 to 1, is given; `nodes` are of 0 to 1 (black to white).
    pub(super) fn new(size: usize, places: [Vec<f64>; 3], nodes: &[[f64; 3]]) -> Cube {
        let node = |v: f64| fixed(v.clamp(-NODE_MOST, NODE_MOST) * 255.0, NODE_FRACTION);
        Cube {
            size,
            positions: places.map(|axis| axis.iter().map(|at| fixed(at * (size - 1) as f64, FRACTION)).collect()),
            nodes: nodes.iter().map(|rgb| rgb.map(node)).collect(),
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Lut {
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// What it compiles to.
    pub step: Step,
}

impl Lut {
    /// Reads a file.
    ///
    /// # Errors
    /// Usage, naming the file, and the line where there is one.
    pub fn load(path: &str) -> Result<Lut> {
        // Nothing but files is read, but a URL may be given, and be signed.
        let shown = if path.contains("://") { path.split('?').next().unwrap_or_default() } else { path };
        let bytes = std::fs::read(path).map_err(|e| Error::usage(format!("lut {shown}: it cannot be read: {e}")))?;
        let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let table = Table::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| match e.line {
            Some(line) => Error::usage(format!("lut {path}, line {line}: {}", e.what)),
            None => Error::usage(format!("lut {path}: {}", e.what)),
        })?;
        Ok(Lut { digest, step: table.step() })
    }
}

/// What is wrong, and in which line if in one.
#[derive(Debug)]
struct Fault {
    line: Option<usize>,
    what: String,
}

/// A file's content.
#[derive(Debug)]
struct Table {
    cubic: bool,
    size: usize,
    domain: [[f64; 3]; 2],
    rows: Vec<[f64; 3]>,
}

impl Table {
    fn parse(text: &str) -> Result<Table, Fault> {
        let mut size: Option<(bool, usize)> = None;
        let mut domain = [[0.0; 3], [1.0; 3]];
        let mut rows = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let fail = |what: String| Fault { line: Some(i + 1), what };
            let line = line.trim();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match word {
                "" | "TITLE" => {}
                _ if word.starts_with('#') => {}
                "LUT_1D_SIZE" | "LUT_3D_SIZE" => {
                    let cubic = word == "LUT_3D_SIZE";
                    let most = if cubic { 256 } else { 65_536 };
                    if size.is_some() {
                        return Err(fail("a second size; one table, 1D or 3D, is expected".into()));
                    }
                    let n = rest.trim().parse().ok().filter(|n| (2..=most).contains(n));
                    size = Some((cubic, n.ok_or_else(|| fail(format!("{word} {rest}: expected 2 to {most}")))?));
                }
                "DOMAIN_MIN" => domain[0] = numbers(rest).map_err(fail)?,
                "DOMAIN_MAX" => domain[1] = numbers(rest).map_err(fail)?,
                "LUT_1D_INPUT_RANGE" | "LUT_3D_INPUT_RANGE" => {
                    domain = numbers::<2>(rest).map_err(fail)?.map(|v| [v; 3]);
                }
                _ if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    return Err(fail(format!("{word} is no keyword of a .cube file that is understood here")));
                }
                _ => {
                    let Some((cubic, n)) = size else {
                        return Err(fail("numbers before LUT_1D_SIZE or LUT_3D_SIZE".into()));
                    };
                    let expected = if cubic { n.pow(3) } else { n };
                    if rows.len() == expected {
                        return Err(fail(format!("more than the {expected} lines of numbers that the size promises")));
                    }
                    rows.push(numbers(line).map_err(fail)?);
                }
            }
        }
        let whole = |what: String| Fault { line: None, what };
        let (cubic, size) = size.ok_or_else(|| whole("it has no LUT_1D_SIZE and no LUT_3D_SIZE".into()))?;
        let expected = if cubic { size.pow(3) } else { size };
        if rows.len() < expected {
            return Err(whole(format!("it ends after {} of {expected} lines of numbers", rows.len())));
        }
        if (0..3).any(|channel| domain[0][channel] >= domain[1][channel]) {
            return Err(whole(format!("its domain from {:?} to {:?} is empty", domain[0], domain[1])));
        }
        Ok(Table { cubic, size, domain, rows })
    }

    fn step(&self) -> Step {
        let [from, to] = self.domain;
        let place = |channel: usize, byte: u8| {
            ((f64::from(byte) / 255.0 - from[channel]) / (to[channel] - from[channel])).clamp(0.0, 1.0)
        };
        if self.cubic {
            let places = [0, 1, 2].map(|channel| (0..=255).map(|byte| place(channel, byte)).collect());
            return Step::Cube(Arc::new(Cube::new(self.size, places, &self.rows)));
        }
        let value = |channel: usize, byte: u8| {
            let at = place(channel, byte) * (self.size - 1) as f64;
            let below = (at as usize).min(self.size - 2);
            let (a, b) = (self.rows[below][channel], self.rows[below + 1][channel]);
            libm::round((a + (b - a) * (at - below as f64)).clamp(0.0, 1.0) * 255.0) as u8
        };
        Step::Table(Arc::new([0, 1, 2].map(|channel| std::array::from_fn(|byte| value(channel, byte as u8)))))
    }
}

/// Just `N` finite numbers.
fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let list: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let count = text.split_whitespace().count();
    match <[f64; N]>::try_from(list) {
        Ok(numbers) if count == N && numbers.iter().all(|v| v.is_finite()) => Ok(numbers),
        _ => Err(format!("{}: expected {N} numbers", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (Option<usize>, String) {
        let fault = Table::parse(text).expect_err(text);
        (fault.line, fault.what)
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(fault("LUT_3D_SIZE 1").0, Some(1));
        assert_eq!(fault("# x\nLUT_1D_SIZE 2\n0 0 0\n0 0\n").0, Some(4));
        assert_eq!(fault("LUT_1D_SIZE 2\n0 0 0\n0 0 nan\n").0, Some(3));
        assert_eq!(fault("LUT_1D_SIZE 2\n0 0 0\n1 1 1\n1 1 1").0, Some(4));
        assert_eq!(fault("LUT_1D_SIZE 2\nLUT_3D_SIZE 2").0, Some(2));
        assert_eq!(fault("LUT_1D_SIZE 2\nLUT_IN_VIDEO_RANGE\n").0, Some(2));
        assert_eq!(fault("0 0 0\n").0, Some(1));
        assert_eq!(fault("LUT_3D_SIZE 2\n0 0 0\n"), (None, "it ends after 1 of 8 lines of numbers".into()));
        assert_eq!(fault("TITLE \"x\"").0, None);
        assert!(fault("LUT_1D_SIZE 2\nDOMAIN_MIN 0 1 0\n0 0 0\n1 1 1").1.contains("domain"));
    }

    #[test]
    fn one_dimension_becomes_a_table_of_bytes() {
        let text = "TITLE \"half\"\n# comment\nLUT_1D_SIZE 3\r\nDOMAIN_MAX 2 1 1\n0 0 1\n0.25 0.5 0.5\n2 1 0\n";
        let Step::Table(table) = Table::parse(text).unwrap().step() else { panic!("another step") };
        // Red ends in the middle of its domain; blue is turned round; green is the identity.
        assert_eq!((table[0][0], table[0][255]), (0, 64));
        assert!((0..=255).all(|v| table[1][v as usize] == v && table[2][v as usize] == 255 - v));
    }

    #[test]
    fn nodes_and_positions_fit() {
        let most = i64::from(fixed(NODE_MOST * 255.0, NODE_FRACTION));
        assert!((most << FRACTION) + (1 << (FRACTION + NODE_FRACTION - 1)) <= i64::from(i32::MAX));
        let text = "LUT_3D_SIZE 2\n".to_string() + &"-9 0 9\n".repeat(8);
        let Step::Cube(cube) = Table::parse(&text).unwrap().step() else { panic!("another step") };
        assert_eq!(cube.nodes[0].map(i64::from), [-most, 0, most]);
        assert_eq!((cube.positions[0][0], cube.positions[2][255]), (0, 1 << FRACTION));
    }
}
