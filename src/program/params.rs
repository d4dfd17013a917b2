//! The parameter blocks that device backends share: plain words that a kernel reads as they lie here.
//!
//! Invariants: every field is 32 bits wide, so that a block has no padding in any language; a test holds the shaders'
//! layouts and constants against these.

use bytemuck::{Pod, Zeroable};

/// Where there is nothing: no source, no table.
pub const NONE: u32 = u32::MAX;

/// [`Pass::kind`]: each pixel is read as it is.
pub const COPY: u32 = 0;
/// [`Pass::kind`]: each pixel is a weighted sum along its row.
pub const HORIZONTAL: u32 = 1;
/// [`Pass::kind`]: each pixel is a weighted sum along its column.
pub const VERTICAL: u32 = 2;
/// [`Pass::kind`]: rows of the frame's planes, each weighed at its own scale; not yet RGB.
pub const PLANES_HORIZONTAL: u32 = 3;
/// [`Pass::kind`]: columns of what [`PLANES_HORIZONTAL`] made, then RGB.
pub const PLANES_VERTICAL: u32 = 4;
/// [`Pass::kind`]: weighted means along rows, reflected at the edges; leaves two words a pixel.
pub const BLUR_HORIZONTAL: u32 = 5;
/// [`Pass::kind`]: weighted means along columns of what [`BLUR_HORIZONTAL`] left.
pub const BLUR_VERTICAL: u32 = 6;
/// [`Pass::kind`]: each pixel from the four around a tabulated position.
pub const AFFINE: u32 = 7;

/// [`Source::kind`]: each channel is a plane of its own.
pub const PLAIN: u32 = 0;
/// [`Source::kind`]: luma and two chroma planes.
pub const YCC: u32 = 1;

/// [`Action::kind`]: the pixel comes from another place, or is the colour around the picture.
pub const MOVE: u32 = 0;
/// [`Action::kind`]: a rectangle becomes one colour; its corner is `x[2]`, `y[2]`.
pub const ERASE: u32 = 1;
/// [`Action::kind`]: luma in all channels.
pub const GRAYSCALE: u32 = 2;
/// [`Action::kind`]: drawn to or away from black.
pub const BLEND_BLACK: u32 = 3;
/// [`Action::kind`]: drawn to or away from the pixel's luma.
pub const BLEND_LUMA: u32 = 4;
/// [`Action::kind`]: drawn to or away from the picture's mean luma, whose sum is `table` and whose pixels are `size`.
pub const BLEND_MEAN: u32 = 5;
/// [`Action::kind`]: turned in hue.
pub const HUE: u32 = 6;
/// [`Action::kind`]: each channel through the 256 values at `table`.
pub const TABLE: u32 = 7;
/// [`Action::kind`]: through the cube at `table`: 3 x 256 positions, then `size`^3 nodes.
pub const CUBE: u32 = 8;

/// Weights of output positions from `first` on. In the tables lie, for each position, its first input and how many it
/// has, and from `weights` on `stride` weights each.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Taps {
    /// Where starts and lengths begin in the tables.
    pub table: u32,
    /// Where the weights begin in the tables.
    pub weights: u32,
    /// Weights from one position to the next.
    pub stride: u32,
    /// The first position that has weights.
    pub first: i32,
    /// The first row of the plane that is kept between the two passes over planes.
    pub row: i32,
    /// Where the weights' digits begin in the tables: each weight is the sum of three signed bytes times 1, 256 and 65536,
    /// and four of one digit are a word, for inputs from a multiple of four on. For each group of four inputs lie there
    /// the lowest digits of all positions, then the middle ones, then the highest.
    pub digits: u32,
    /// Groups of each position; 0 where there are no digits.
    pub groups: u32,
    /// Positions that have weights.
    pub count: u32,
}

/// Chroma interpolation along one axis ([`crate::program::yuv::Axis`]).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Axis {
    /// log2 of the subsampling.
    pub sub: u32,
    /// Weights are in units of `2^-bits`.
    pub bits: u32,
    /// Subtracted from twice the luma position.
    pub offset: i32,
    /// The last chroma sample.
    pub last: i32,
}

/// A frame in device memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Source {
    /// [`PLAIN`] or [`YCC`].
    pub kind: u32,
    /// First byte of each component.
    pub offset: [u32; 3],
    /// Bytes from row to row of each component.
    pub stride: [u32; 3],
    /// Bytes from sample to sample of the first component.
    pub step: u32,
    /// The same of the others.
    pub chroma_step: u32,
    /// Bits below a sample's lowest.
    pub low: u32,
    /// Address of the frame in the device's memory, its low and its high half; zero where it is among the uploaded pixels.
    /// Only CUDA's kernels look at it.
    pub address: [u32; 2],
    /// Bits that belong to a sample.
    pub mask: u32,
    /// Where the values of [`PLAIN`] samples lie in the tables; [`NONE`] where samples are these values.
    pub table: u32,
    /// The last row of the first component.
    pub last: i32,
    /// Chroma along rows.
    pub x: Axis,
    /// Chroma along columns.
    pub y: Axis,
    /// Bits of the coefficients' fraction that are shifted away.
    pub shift: u32,
    /// The largest value that comes out of the coefficients.
    pub most: i32,
    /// Where the cube lies that values go through at last: 3 x 4096 positions, then nodes; [`NONE`] for no cube.
    pub tone: u32,
    /// Its nodes along each axis.
    pub nodes: u32,
    /// Coefficients of (Y, Cb, Cr) for R, for G, for B.
    pub matrix: [i32; 9],
    /// What is added to each channel's sum.
    pub constant: [i32; 3],
}

/// One step on the way of a pixel, in the order of the Program's.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Action {
    /// [`MOVE`] or a colour operation.
    pub kind: u32,
    /// [`MOVE`]: column of the input is `x[0] * column + x[1] * row + x[2]`.
    pub x: [i32; 3],
    /// [`MOVE`]: row of the input, in the same way.
    pub y: [i32; 3],
    /// [`MOVE`]: width of the input; beyond it there is only `fill`. [`ERASE`]: width of the rectangle.
    pub width: i32,
    /// The same for the height.
    pub height: i32,
    /// The colour around or of the rectangle, red in the lowest byte.
    pub fill: u32,
    /// Factor of a blend, shift of a hue.
    pub amount: i32,
    /// What is looked up.
    pub table: u32,
    /// How much of it there is.
    pub size: u32,
}

/// One pass over one picture.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pass {
    /// How a pixel comes about.
    pub kind: u32,
    /// Left edge of the part that is made.
    pub x: i32,
    /// Top edge of the part that is made.
    pub y: i32,
    /// Width of the part that is made.
    pub width: u32,
    /// Height of the part that is made.
    pub height: u32,
    /// First word that is written.
    pub to: u32,
    /// Words from row to row.
    pub to_row: u32,
    /// Words from plane to plane (channels of their own only).
    pub to_plane: u32,
    /// Actions on what the pass has made: the first ...
    pub write_first: u32,
    /// ... and the one behind the last.
    pub write_end: u32,
    /// The frame that is read; [`NONE`] for what the pass before wrote.
    pub source: u32,
    /// Actions on what is read: the first ...
    pub read_first: u32,
    /// ... and the one behind the last.
    pub read_end: u32,
    /// What the pass before wrote: its first word.
    pub input: u32,
    /// Words from row to row of it.
    pub input_row: u32,
    /// Left edge of the part that it made.
    pub input_x: i32,
    /// Top edge of the part that it made.
    pub input_y: i32,
    /// Weights; those of luma where planes are weighed.
    pub taps: Taps,
    /// Weights of chroma planes.
    pub chroma: Taps,
    /// Bytes of an element of the finished tensor.
    pub element: u32,
    /// Whether each channel is a plane of its own in the finished tensor.
    pub planar: u32,
    /// Where the elements' bits lie in the tables; [`NONE`] where bytes are written as they are.
    pub table: u32,
    /// Width of the picture that is read, where its edges matter.
    pub side_x: i32,
    /// Height of the picture that is read, where its edges matter.
    pub side_y: i32,
    /// [`AFFINE`]: the colour outside of it, red in the lowest byte.
    pub fill: u32,
    /// The sum that the pass adds its pixels' luma to, leaving nothing else; [`NONE`] for all other passes.
    pub sum: u32,
}

/// A count or place as a kernel's word. What does not fit is too large for any device, and is refused by its size.
pub fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Every constant that kernels share, by its name.
pub const KINDS: &[(&str, u32)] = &[
    ("COPY", COPY),
    ("HORIZONTAL", HORIZONTAL),
    ("VERTICAL", VERTICAL),
    ("PLANES_HORIZONTAL", PLANES_HORIZONTAL),
    ("PLANES_VERTICAL", PLANES_VERTICAL),
    ("BLUR_HORIZONTAL", BLUR_HORIZONTAL),
    ("BLUR_VERTICAL", BLUR_VERTICAL),
    ("AFFINE", AFFINE),
    ("PLAIN", PLAIN),
    ("YCC", YCC),
    ("MOVE", MOVE),
    ("ERASE", ERASE),
    ("GRAYSCALE", GRAYSCALE),
    ("BLEND_BLACK", BLEND_BLACK),
    ("BLEND_LUMA", BLEND_LUMA),
    ("BLEND_MEAN", BLEND_MEAN),
    ("HUE", HUE),
    ("TABLE", TABLE),
    ("CUBE", CUBE),
];
