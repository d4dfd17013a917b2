// The parameter blocks of src/program/params.rs, which says what each field means; a test compares both.
//
// All shaders are one module. They compute on 32-bit integers alone, and look up what needs more: no float, no division.

const NONE: u32 = 0xffffffffu;
const COPY: u32 = 0u;
const HORIZONTAL: u32 = 1u;
const VERTICAL: u32 = 2u;
const PLANES_HORIZONTAL: u32 = 3u;
const PLANES_VERTICAL: u32 = 4u;
const BLUR_HORIZONTAL: u32 = 5u;
const BLUR_VERTICAL: u32 = 6u;
const AFFINE: u32 = 7u;
const PLAIN: u32 = 0u;
const YCC: u32 = 1u;
const MOVE: u32 = 0u;
const ERASE: u32 = 1u;
const GRAYSCALE: u32 = 2u;
const BLEND_BLACK: u32 = 3u;
const BLEND_LUMA: u32 = 4u;
const BLEND_MEAN: u32 = 5u;
const HUE: u32 = 6u;
const TABLE: u32 = 7u;
const CUBE: u32 = 8u;

struct Taps {
    table: u32,
    weights: u32,
    stride: u32,
    first: i32,
    row: i32,
    digits: u32,
    groups: u32,
    count: u32,
}

struct Axis {
    sub: u32,
    bits: u32,
    offset: i32,
    last: i32,
}

struct Source {
    kind: u32,
    offset: array<u32, 3>,
    stride: array<u32, 3>,
    step: u32,
    chroma_step: u32,
    low: u32,
    address: array<u32, 2>,
    mask: u32,
    table: u32,
    last: i32,
    x: Axis,
    y: Axis,
    shift: u32,
    most: i32,
    tone: u32,
    nodes: u32,
    matrix: array<i32, 9>,
    constant: array<i32, 3>,
}

struct Action {
    kind: u32,
    x: array<i32, 3>,
    y: array<i32, 3>,
    width: i32,
    height: i32,
    fill: u32,
    amount: i32,
    table: u32,
    size: u32,
}

struct Pass {
    kind: u32,
    x: i32,
    y: i32,
    width: u32,
    height: u32,
    to: u32,
    to_row: u32,
    to_plane: u32,
    write_first: u32,
    write_end: u32,
    source: u32,
    read_first: u32,
    read_end: u32,
    input: u32,
    input_row: u32,
    input_x: i32,
    input_y: i32,
    taps: Taps,
    chroma: Taps,
    element: u32,
    planar: u32,
    table: u32,
    side_x: i32,
    side_y: i32,
    fill: u32,
    sum: u32,
}

@group(0) @binding(0) var<storage, read> passes: array<Pass>;
@group(0) @binding(1) var<storage, read> sources: array<Source>;
@group(0) @binding(2) var<storage, read> actions: array<Action>;
@group(0) @binding(3) var<storage, read> tables: array<u32>;
@group(0) @binding(4) var<storage, read> pixels: array<u32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(6) var<storage, read_write> tensors: array<u32>;
@group(0) @binding(7) var<storage, read_write> sums: array<atomic<u32>>;

// Red in the lowest byte.
fn packed(v: vec3<i32>) -> u32 {
    return u32(v.x) | (u32(v.y) << 8u) | (u32(v.z) << 16u);
}

fn unpacked(word: u32) -> vec3<i32> {
    return vec3<i32>(i32(word & 0xffu), i32((word >> 8u) & 0xffu), i32((word >> 16u) & 0xffu));
}

fn byte_range(v: vec3<i32>) -> vec3<i32> {
    return clamp(v, vec3<i32>(0), vec3<i32>(255));
}
