//! A picture, or a window of one, as three planes of bytes.

use std::cell::RefCell;

use half::{bf16, f16};

use super::simd::{self, Level, ROOM, Rows};
use crate::op::FlipAxis;
use crate::program::Output;
use crate::program::window::Window;
use crate::tensor::{Dtype, Layout, Tensor};

/// Pillow's `convert("L")`: ITU-R 601-2 luma with 16 bits, rounded.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    let sum = i32::from(r) * 19595 + i32::from(g) * 38470 + i32::from(b) * 7471 + 0x8000;
    (sum >> 16) as u8
}

/// Three planes; each row is followed by room that a vectorised loop may read.
pub struct Picture {
    pub w: usize,
    pub h: usize,
    pub planes: [Vec<u8>; 3],
}

thread_local! {
    /// Buffers of this thread's earlier pictures.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

const SPARES: usize = 12;

/// A buffer of `n` values, whatever they are.
fn buffer(n: usize) -> Vec<u8> {
    let mut buffer = SPARE.with_borrow_mut(|spare| {
        let fit = spare.iter().position(|b| b.len() >= n);
        fit.map(|i| spare.swap_remove(i)).or_else(|| spare.pop()).unwrap_or_default()
    });
    if buffer.len() < n {
        buffer.resize(n, 0);
    }
    buffer
}

impl Picture {
    /// A picture whose values are to be written.
    pub fn new(w: usize, h: usize) -> Picture {
        let n = Self::stride_of(w) * h;
        Picture { w, h, planes: [buffer(n), buffer(n), buffer(n)] }
    }

    pub fn filled(w: usize, h: usize, color: [u8; 3]) -> Picture {
        let mut out = Picture::new(w, h);
        for (plane, value) in out.planes.iter_mut().zip(color) {
            plane.fill(value);
        }
        out
    }

    /// Gives its buffers to the thread's next picture.
    pub fn recycle(self) {
        SPARE.with_borrow_mut(|spare| {
            for plane in self.planes {
                if spare.len() < SPARES {
                    spare.push(plane);
                }
            }
        });
    }

    fn stride_of(w: usize) -> usize {
        w + ROOM
    }

    pub fn stride(&self) -> usize {
        Self::stride_of(self.w)
    }

    pub fn row(&self, channel: usize, y: usize) -> &[u8] {
        &self.planes[channel][y * self.stride()..][..self.w]
    }

    /// All rows of each plane.
    pub fn rows_of(&self) -> [Rows<'_>; 3] {
        let stride = self.stride();
        self.planes.each_ref().map(|plane| Rows { data: plane, stride, from: 0 })
    }

    pub fn rows_mut(&mut self, y: usize) -> [&mut [u8]; 3] {
        let (w, at) = (self.w, y * self.stride());
        self.planes.each_mut().map(|plane| &mut plane[at..][..w])
    }

    /// Copies `part` to (x, y).
    pub fn put(&mut self, part: &Picture, x: usize, y: usize) {
        for row in 0..part.h {
            for (channel, out) in self.rows_mut(y + row).into_iter().enumerate() {
                out[x..x + part.w].copy_from_slice(part.row(channel, row));
            }
        }
    }

    pub fn flip(&mut self, axis: FlipAxis) {
        match axis {
            FlipAxis::H => {
                for y in 0..self.h {
                    self.rows_mut(y).into_iter().for_each(<[u8]>::reverse);
                }
            }
            FlipAxis::V => {
                let stride = self.stride();
                for plane in &mut self.planes {
                    for y in 0..self.h / 2 {
                        let (top, bottom) = plane.split_at_mut((self.h - 1 - y) * stride);
                        top[y * stride..][..self.w].swap_with_slice(&mut bottom[..self.w]);
                    }
                }
            }
        }
    }

    /// Turned clockwise.
    pub fn turned(&self, turns: u8) -> Picture {
        let (w, h) = if turns % 2 == 1 { (self.h, self.w) } else { (self.w, self.h) };
        let mut out = Picture::new(w, h);
        for y in 0..h {
            for (channel, row) in out.rows_mut(y).into_iter().enumerate() {
                let plane = &self.planes[channel];
                for (x, value) in row.iter_mut().enumerate() {
                    let (from_x, from_y) = match turns {
                        1 => (y, self.h - 1 - x),
                        2 => (self.w - 1 - x, self.h - 1 - y),
                        3 => (self.w - 1 - y, x),
                        _ => (x, y),
                    };
                    *value = plane[from_y * self.stride() + from_x];
                }
            }
        }
        out
    }

    /// The part `window` of it.
    pub fn cut(self, window: Window) -> Picture {
        if window == (Window { x: 0, y: 0, w: self.w, h: self.h }) {
            return self;
        }
        let mut out = Picture::new(window.w, window.h);
        for y in 0..window.h {
            for (channel, row) in out.rows_mut(y).into_iter().enumerate() {
                row.copy_from_slice(&self.row(channel, window.y + y)[window.x..][..window.w]);
            }
        }
        self.recycle();
        out
    }

    /// Paints `window`, a part of it, with one colour.
    pub fn paint(&mut self, window: Window, color: [u8; 3]) {
        for y in window.y..window.y + window.h {
            for (row, value) in self.rows_mut(y).into_iter().zip(color) {
                row[window.x..][..window.w].fill(value);
            }
        }
    }

    /// Luma in all channels.
    pub fn grayscale(&mut self) {
        for y in 0..self.h {
            let [r, g, b] = self.rows_mut(y);
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let luma = luma(*r, *g, *b);
                (*r, *g, *b) = (luma, luma, luma);
            }
        }
    }

    /// As the output wants it.
    pub fn pack(&self, level: Level, output: &Output) -> Tensor {
        let (dtype, layout, table) = (output.dtype, output.layout, &output.table);
        let data = match (dtype, layout) {
            (Dtype::U8, Layout::Hwc) => self.interleaved(level),
            (Dtype::U8, Layout::Chw) => self.elements(layout, |_, v| [v]),
            (Dtype::F32, _) => self.elements(layout, |c, v| table[c * 256 + usize::from(v)].to_le_bytes()),
            (Dtype::F16, _) => {
                self.elements(layout, |c, v| f16::from_f32(table[c * 256 + usize::from(v)]).to_le_bytes())
            }
            (Dtype::Bf16, _) => {
                self.elements(layout, |c, v| bf16::from_f32(table[c * 256 + usize::from(v)]).to_le_bytes())
            }
        };
        Tensor { width: self.w as u32, height: self.h as u32, dtype, layout, data }
    }

    fn interleaved(&self, level: Level) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.w * self.h * 3);
        let mut row = Vec::new();
        for y in 0..self.h {
            data.extend_from_slice(simd::pixels(level, self.rows_of(), y, self.w, &mut row));
        }
        data
    }

    /// Each value as `element` of its channel gives it.
    fn elements<const N: usize>(&self, layout: Layout, element: impl Fn(usize, u8) -> [u8; N]) -> Vec<u8> {
        let tables: [[[u8; N]; 256]; 3] = std::array::from_fn(|c| std::array::from_fn(|v| element(c, v as u8)));
        let mut data = Vec::with_capacity(self.w * self.h * 3 * N);
        match layout {
            Layout::Chw => {
                let mut line = vec![[0; N]; self.w];
                for (channel, table) in tables.iter().enumerate() {
                    for y in 0..self.h {
                        for (out, v) in line.iter_mut().zip(self.row(channel, y)) {
                            *out = table[usize::from(*v)];
                        }
                        data.extend_from_slice(line.as_flattened());
                    }
                }
            }
            Layout::Hwc => {
                let mut line = vec![[[0; N]; 3]; self.w];
                for y in 0..self.h {
                    let [r, g, b] = [0, 1, 2].map(|channel| self.row(channel, y));
                    for (((out, r), g), b) in line.iter_mut().zip(r).zip(g).zip(b) {
                        *out = [tables[0][usize::from(*r)], tables[1][usize::from(*g)], tables[2][usize::from(*b)]];
                    }
                    data.extend_from_slice(line.as_flattened().as_flattened());
                }
            }
        }
        data
    }
}
