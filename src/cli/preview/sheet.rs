//! The contact sheet: a grid of pictures with three lines of text below each, under one line about them all.

use super::font::{self, ADVANCE, HEIGHT, WIDTH};
use super::{MAX_PIXELS, Shown, Thumb, caption, marks, plain};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Within what a sample's picture is shown: four to three, and wide enough for a key in letters of double size.
pub const PICTURE: (u32, u32) = (352, 264);
/// Between cells, and around all of them.
const GAP: u32 = 12;
/// From one line of text to the next.
const LINE: u32 = 18;
/// Dots of the font are squares of this side.
const DOT: u32 = 2;
const BACKGROUND: [u8; 3] = [24, 24, 24];
const TEXT: [u8; 3] = [224, 224, 224];
const FAINT: [u8; 3] = [144, 144, 144];
const FAULT: [u8; 3] = [72, 24, 24];

/// Where things are on a sheet of some number of samples.
struct Grid {
    columns: u32,
    rows: u32,
}

impl Grid {
    /// About square cells of about a screen's shape.
    fn new(samples: usize) -> Grid {
        let n = u32::try_from(samples).unwrap_or(u32::MAX).max(1);
        let columns = (libm::ceil(libm::sqrt(f64::from(n) * 1.25)) as u32).min(n);
        Grid { columns, rows: n.div_ceil(columns) }
    }

    fn cell() -> (u32, u32) {
        (PICTURE.0 + GAP, PICTURE.1 + 3 * LINE + GAP)
    }

    fn size(&self) -> (u64, u64) {
        let (w, h) = Self::cell();
        (
            u64::from(GAP) + u64::from(self.columns) * u64::from(w),
            u64::from(self.top()) + u64::from(self.rows) * u64::from(h),
        )
    }

    /// Above the first row.
    fn top(&self) -> u32 {
        LINE + 2 * GAP
    }

    /// The top left corner of a sample's cell.
    fn at(&self, i: usize) -> (u32, u32) {
        let (w, h) = Self::cell();
        let i = i as u32;
        (GAP + i % self.columns * w, self.top() + i / self.columns * h)
    }
}

/// A usage error for more samples than a sheet can hold.
pub fn check(samples: usize) -> Result<()> {
    /// A JPEG's longest side.
    const SIDE: u64 = 65_500;
    let (w, h) = Grid::new(samples).size();
    if w.max(h) <= SIDE && w * h <= MAX_PIXELS {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{samples} samples do not fit on one sheet: ask for fewer, or for a page that ends in .html"
    )))
}

/// Draws the sheet; [`check`] has let the number of samples pass.
pub fn render(title: &str, shown: &[Shown]) -> Tensor {
    let grid = Grid::new(shown.len());
    let (w, h) = grid.size();
    let mut canvas = Canvas(plain(w as u32, h as u32, BACKGROUND));
    let characters = (w as usize - 2 * GAP as usize) / (ADVANCE * DOT as usize);
    canvas.text((GAP, GAP), DOT, TEXT, &shorten(title, characters));
    for (i, sample) in shown.iter().enumerate() {
        let (x, y) = grid.at(i);
        match &sample.picture {
            Ok(thumb) => {
                let pixels = with_marks(thumb, sample);
                canvas.paste(place((x, y), &pixels), &pixels);
            }
            Err(why) => canvas.fault((x, y), why),
        }
        let fits = PICTURE.0 as usize / (ADVANCE * DOT as usize);
        let lines = caption(sample);
        for (n, (line, color)) in lines.iter().zip([TEXT, FAINT, TEXT]).enumerate() {
            canvas.text((x, y + PICTURE.1 + 5 + n as u32 * LINE), DOT, color, &shorten(line, fits));
        }
    }
    canvas.0
}

/// Where a picture stands in the cell at `at`: in the middle, on the caption.
fn place(at: (u32, u32), picture: &Tensor) -> (u32, u32) {
    (at.0 + (PICTURE.0 - picture.width) / 2, at.1 + PICTURE.1 - picture.height)
}

/// The picture with its masks, its boxes and their labels.
fn with_marks(thumb: &Thumb, sample: &Shown) -> Tensor {
    let mut canvas = Canvas(thumb.pixels.clone());
    let (w, h) = (thumb.pixels.width, thumb.pixels.height);
    let scale = |value: f64, from: u32, to: u32| {
        // Boxes may reach beyond the picture; the conversion takes NaN to 0.
        (value * f64::from(to) / f64::from(from)).round().clamp(0.0, f64::from(to)) as u32
    };
    for mark in marks(&sample.record) {
        for [x, y, rows] in &mark.columns {
            let (left, right) = (scale(*x as f64, thumb.sample.0, w), scale((x + 1) as f64, thumb.sample.0, w));
            let (top, bottom) = (scale(*y as f64, thumb.sample.1, h), scale((y + rows) as f64, thumb.sample.1, h));
            canvas.tint((left, top), (right - left, bottom - top), mark.color);
        }
        let [x1, y1, x2, y2] = mark.corners;
        let (x1, x2) = (scale(x1, thumb.sample.0, w), scale(x2, thumb.sample.0, w));
        let (y1, y2) = (scale(y1, thumb.sample.1, h), scale(y2, thumb.sample.1, h));
        if x1 > x2 || y1 > y2 {
            continue;
        }
        // A box of no area, or on the very edge, is still to be seen.
        let (x1, y1) = (x1.min(w.saturating_sub(2)), y1.min(h.saturating_sub(2)));
        let (x2, y2) = (x2.max(x1 + 2), y2.max(y1 + 2));
        canvas.fill((x1, y1), (x2 - x1, 2), mark.color);
        canvas.fill((x1, y2 - 2), (x2 - x1, 2), mark.color);
        canvas.fill((x1, y1), (2, y2 - y1), mark.color);
        canvas.fill((x2 - 2, y1), (2, y2 - y1), mark.color);
        let tag = (mark.label.chars().count() as u32 * ADVANCE as u32 + 3, HEIGHT as u32 + 4);
        // Above the box where there is room, else inside it, and never beyond the right edge.
        let y = if y1 >= tag.1 { y1 - tag.1 } else { y1 };
        let x = x1.min(w.saturating_sub(tag.0));
        canvas.fill((x, y), tag, mark.color);
        canvas.text((x + 2, y + 2), 1, [0, 0, 0], &mark.label);
    }
    canvas.0
}

/// At most `length` characters: the beginning, two dots, the end.
fn shorten(text: &str, length: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= length || length < 4 {
        return all.into_iter().take(length).collect();
    }
    let end = (length - 2) / 2;
    let begin = length - 2 - end;
    all[..begin].iter().chain(&['.', '.']).chain(&all[all.len() - end..]).collect()
}

/// A picture to draw on; what lies outside is not drawn.
struct Canvas(Tensor);

impl Canvas {
    fn fill(&mut self, (x, y): (u32, u32), (w, h): (u32, u32), color: [u8; 3]) {
        let (x2, y2) = ((x + w).min(self.0.width), (y + h).min(self.0.height));
        for row in y..y2 {
            if x < x2 {
                let start = (row as usize * self.0.width as usize + x as usize) * 3;
                let line = &mut self.0.data[start..start + (x2 - x) as usize * 3];
                line.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&color));
            }
        }
    }

    /// Half of the colour, half of what is there.
    fn tint(&mut self, (x, y): (u32, u32), (w, h): (u32, u32), color: [u8; 3]) {
        let (x2, y2) = ((x + w).min(self.0.width), (y + h).min(self.0.height));
        for (row, column) in (y..y2).flat_map(|row| (x..x2).map(move |column| (row, column))) {
            let start = (row as usize * self.0.width as usize + column as usize) * 3;
            for (value, color) in self.0.data[start..start + 3].iter_mut().zip(color) {
                *value = value.midpoint(color);
            }
        }
    }

    fn paste(&mut self, (x, y): (u32, u32), picture: &Tensor) {
        let (from, to) = (picture.width as usize * 3, self.0.width as usize * 3);
        for (row, line) in picture.data.chunks_exact(from).enumerate() {
            let start = (y as usize + row) * to + x as usize * 3;
            self.0.data[start..start + from].copy_from_slice(line);
        }
    }

    fn text(&mut self, (x, y): (u32, u32), dot: u32, color: [u8; 3], text: &str) {
        for (i, c) in text.chars().enumerate() {
            let left = x + i as u32 * ADVANCE as u32 * dot;
            for (row, bits) in font::glyph(c).into_iter().enumerate() {
                for column in (0..WIDTH).filter(|column| bits >> (WIDTH - 1 - column) & 1 == 1) {
                    self.fill((left + column as u32 * dot, y + row as u32 * dot), (dot, dot), color);
                }
            }
        }
    }

    /// In place of a picture: why there is none.
    fn fault(&mut self, (x, y): (u32, u32), why: &str) {
        self.fill((x, y), PICTURE, FAULT);
        let width = (PICTURE.0 - GAP) as usize / (ADVANCE * DOT as usize);
        let height = ((PICTURE.1 - GAP) / LINE) as usize;
        let letters: Vec<char> = why.chars().collect();
        for (n, line) in letters.chunks(width).take(height).enumerate() {
            let line: String = line.iter().collect();
            self.text((x + GAP / 2, y + GAP / 2 + n as u32 * LINE), DOT, TEXT, &line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shorten("abcdefghij", 10), "abcdefghij");
        assert_eq!(shorten("abcdefghijk", 10), "abcd..hijk");
        assert_eq!(shorten("abcdef", 3), "abc");
    }

    #[test]
    fn cells_lie_beside_each_other_on_the_sheet() {
        for n in [1, 2, 3, 7, 40, 100] {
            let grid = Grid::new(n);
            let (w, h) = grid.size();
            for i in 0..n {
                let (x, y) = grid.at(i);
                assert!(u64::from(x + PICTURE.0) < w && u64::from(y + PICTURE.1 + 3 * LINE) < h, "{n} {i}");
                assert!((0..i).all(|j| grid.at(j) != (x, y)));
            }
            assert!(check(n).is_ok());
        }
        assert_eq!(check(100_000).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn drawing_ends_at_the_edges() {
        let mut canvas = Canvas(plain(8, 8, [0; 3]));
        canvas.text((5, 5), 2, [255; 3], "MMM");
        canvas.fill((20, 20), (5, 5), [255; 3]);
        canvas.fill((7, 0), (9, 1), [9; 3]);
        assert_eq!(canvas.0.data.chunks(3).filter(|p| p == &[9; 3]).count(), 1);
    }
}
