//! Affine maps as tables of fixed-point positions.

use std::f64::consts::PI;

use crate::geometry::Transform;

/// Bits of a position's fraction. Two weights of 11 bits on a value of 8 make 30.
pub const FRACTION: u32 = 11;

/// Where a pixel's neighbours lie: x and y on the input's grid of pixel centres.
pub type Position = [i32; 2];

/// torchvision's `_get_inverse_affine_matrix` about the middle of a picture of `w` x `h`: the result's continuous
/// coordinates to the input's. Angles are in degrees.
pub fn inverse((w, h): (u32, u32), angle: f64, translate: [f64; 2], scale: f64, shear: [f64; 2]) -> Transform {
    let radians = |degrees: f64| degrees * PI / 180.0;
    let (rot, [sx, sy]) = (radians(angle), shear.map(radians));
    let (sin, cos, tan) = (libm::sin, libm::cos, libm::tan);
    let a = cos(rot - sy) / cos(sy);
    let b = -cos(rot - sy) * tan(sx) / cos(sy) - sin(rot);
    let c = sin(rot - sy) / cos(sy);
    let d = -sin(rot - sy) * tan(sx) / cos(sy) + cos(rot);
    let [a, b, c, d] = [d / scale, -b / scale, -c / scale, a / scale];
    let (middle_x, middle_y) = (f64::from(w) * 0.5, f64::from(h) * 0.5);
    let (x, y) = (-middle_x - translate[0], -middle_y - translate[1]);
    Transform([a, b, a * x + b * y + middle_x, c, d, c * x + d * y + middle_y])
}

/// The map as two tables: the position of pixel (x, y) is `columns[x] + rows[y]`. Each entry is rounded once, so that a
/// position is off by at most one unit however large the picture is.
///
/// `None` where an entry exceeds 30 bits; two such sum within an `i32`.
pub fn tables(map: Transform, (w, h): (u32, u32)) -> Option<(Vec<Position>, Vec<Position>)> {
    let [a, b, c, d, e, f] = map.0;
    let entry = |real: [f64; 2]| {
        let scaled = real.map(|v| libm::round(v * f64::from(1u32 << FRACTION)));
        scaled.iter().all(|v| v.abs() < f64::from(1u32 << 30)).then(|| scaled.map(|v| v as i32))
    };
    let center = |i: u32| f64::from(i) + 0.5;
    let columns = (0..w).map(|x| entry([a * center(x), d * center(x)])).collect::<Option<_>>()?;
    // Half a pixel less: from continuous coordinates to the grid of centres.
    let rows = (0..h).map(|y| entry([b * center(y) + c - 0.5, e * center(y) + f - 0.5])).collect::<Option<_>>()?;
    Some((columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_leaves_pixels_where_they_are() {
        let (columns, rows) = tables(inverse((5, 4), 0.0, [0.0; 2], 1.0, [0.0; 2]), (5, 4)).unwrap();
        for (x, column) in columns.iter().enumerate() {
            for (y, row) in rows.iter().enumerate() {
                assert_eq!([column[0] + row[0], column[1] + row[1]], [(x as i32) << 11, (y as i32) << 11]);
            }
        }
    }

    #[test]
    fn a_quarter_turn_is_clockwise() {
        // The result's top left comes from the input's bottom left.
        let (x, y) = inverse((4, 4), 90.0, [0.0; 2], 1.0, [0.0; 2]).apply(0.0, 0.0);
        assert!((x - 0.0).abs() < 1e-9 && (y - 4.0).abs() < 1e-9, "{x} {y}");
        // Moved by (1, 2): what is there came from as far up and left.
        let (x, y) = inverse((4, 4), 0.0, [1.0, 2.0], 1.0, [0.0; 2]).apply(1.0, 2.0);
        assert!(x.abs() < 1e-9 && y.abs() < 1e-9, "{x} {y}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(tables(inverse((65_536, 65_536), 30.0, [0.0; 2], 1.0, [20.0, 10.0]), (65_536, 65_536)).is_some());
        assert!(tables(inverse((4000, 4000), 30.0, [0.0; 2], 0.001, [0.0; 2]), (4000, 4000)).is_none());
    }
}
